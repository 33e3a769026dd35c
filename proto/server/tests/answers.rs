//! What every HTTP listener answers the same way: problems, request ids, health, metrics.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use actix_web::middleware::from_fn;
use actix_web::test::{self, TestRequest};
use actix_web::{App, Error, HttpResponse, web};
use proptest::prelude::*;
use roost_proto::error::{Code, Problem};
use roost_proto::id::{NamespaceId, RequestId, RoomName};
use roost_proto::lookup::LookupRequest;
use roost_server::problem::{self, ApiError, JsonBody, MAX_BODY_BYTES};
use roost_server::{Metrics, Readiness, request_id};
use serde_json::{Value, json};

#[actix_web::test]
async fn a_body_that_cannot_be_read_is_answered_with_the_field_that_is_wrong() {
    let deep = format!("{{\"avoid\":{}", "[".repeat(8_000));
    let deep_and_unknown = format!("{{\"x\":{}{}}}", "[".repeat(7_000), "]".repeat(7_000));
    let rows: &[(&str, Code, &str)] = &[
        ("{", Code::BadRequest, "body: EOF while parsing an object"),
        ("[]", Code::BadRequest, "body: expected a JSON object"),
        ("null", Code::BadRequest, "body: expected a JSON object"),
        (
            "{\"alternatives\":\"two\"}",
            Code::BadRequest,
            "body alternatives: invalid type: string \"two\", expected u8",
        ),
        ("{\"alternatives\":300}", Code::BadRequest, "body alternatives: invalid value: integer `300`, expected u8"),
        ("{\"client_ip\":\"here\"}", Code::BadRequest, "body client_ip: invalid IP address syntax"),
        ("{\"avoid\":[\"a\",\"B\"]}", Code::BadId, "body avoid[1]: node \"B\": expected 1 to 63 characters"),
        ("{\"region\":\"/\"}", Code::BadId, "body region: region \"/\": expected labels"),
        (&deep, Code::BadRequest, "body: expected at most 32 levels of nesting"),
        (&deep_and_unknown, Code::BadRequest, "body: expected at most 32 levels of nesting"),
    ];
    for (body, code, detail) in rows {
        let (status, problem) = lookup(body.as_bytes().to_vec()).await;
        assert_eq!((status, problem.code), (400, *code), "{body:.60}");
        assert!(problem.detail.starts_with(detail), "{body:.60}: {}", problem.detail);
        assert!(problem.request_id.is_some());
    }
}

#[actix_web::test]
async fn a_body_is_optional_and_what_it_says_beyond_is_ignored() {
    let app = test::init_service(app()).await;
    let brackets = format!("{{\"x\":\"\\\"{}\"}}", "[".repeat(40));
    let siblings = format!("{{\"x\":[{}[]]}}", "[],".repeat(40));
    for body in ["", "{}", " {\"alternatives\":2,\"colour\":\"red\"}", &brackets, &siblings] {
        let request =
            TestRequest::post().uri("/v1/namespaces/default/rooms/a/lookup").set_payload(body.to_owned()).to_request();
        assert_eq!(test::call_service(&app, request).await.status(), 200, "{body}");
    }
}

#[actix_web::test]
async fn a_body_over_the_limit_is_refused() {
    let fits = format!("{{\"x\":\"{}\"}}", "x".repeat(MAX_BODY_BYTES - 8));
    assert_eq!(fits.len(), MAX_BODY_BYTES);
    let app = test::init_service(app()).await;
    let request =
        TestRequest::post().uri("/v1/namespaces/default/rooms/a/lookup").set_payload(fits.clone()).to_request();
    assert_eq!(test::call_service(&app, request).await.status(), 200);
    let (status, problem) = lookup(format!("{fits} ").into_bytes()).await;
    assert_eq!((status, problem.code), (413, Code::BodyTooLarge));
    assert_eq!(problem.detail, "body: expected at most 16384 bytes");
}

#[actix_web::test]
async fn a_path_that_names_no_valid_id_is_a_bad_id() {
    let app = test::init_service(app()).await;
    for path in ["/v1/namespaces/No/rooms/a/lookup", "/v1/namespaces/a/rooms/%0a/lookup"] {
        let response = test::call_service(&app, TestRequest::post().uri(path).to_request()).await;
        let (status, problem) = read(response).await;
        assert_eq!((status, problem.code), (400, Code::BadId), "{path}");
        assert!(problem.detail.contains(": expected "), "{}", problem.detail);
    }
    let path = "/v1/namespaces/a/rooms/%C3%9Cber%20%2F%207/lookup";
    let body = test::call_and_read_body(&app, TestRequest::post().uri(path).to_request()).await;
    assert_eq!(body, "Über / 7");
}

#[actix_web::test]
async fn a_query_that_cannot_be_read_is_a_bad_request() {
    let app = test::init_service(app()).await;
    let response = test::call_service(&app, TestRequest::get().uri("/page?limit=many").to_request()).await;
    let (status, problem) = read(response).await;
    assert_eq!((status, problem.code), (400, Code::BadRequest));
    assert!(problem.detail.starts_with("query: "), "{}", problem.detail);
}

#[actix_web::test]
async fn what_is_not_served_is_a_problem_too() {
    let app = test::init_service(app()).await;
    let (status, problem) = read(test::call_service(&app, TestRequest::get().uri("/nowhere").to_request()).await).await;
    assert_eq!((status, problem.code), (404, Code::NotFound));

    let response = test::call_service(&app, TestRequest::delete().uri("/healthz").to_request()).await;
    assert_eq!(response.headers().get(ALLOW).unwrap(), "GET, HEAD");
    let (status, problem) = read(response).await;
    assert_eq!((status, problem.code), (405, Code::MethodNotAllowed));
}

#[actix_web::test]
async fn what_may_pass_by_itself_says_when_to_come_back() {
    let app = test::init_service(app()).await;
    for &code in Code::ALL {
        let response = test::call_service(&app, TestRequest::get().uri(&format!("/fail/{code}")).to_request()).await;
        assert_eq!(response.headers().contains_key(RETRY_AFTER), code.retryable(), "{code}");
        assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), problem::CONTENT_TYPE);
        let (status, problem) = read(response).await;
        assert_eq!((status, problem.status, problem.code), (code.status(), code.status(), code));
    }
}

#[actix_web::test]
async fn the_request_id_is_kept_made_or_replaced_and_given_back() {
    let app = test::init_service(app()).await;
    let call = async |given: Option<&str>, body: &str| {
        let mut request = TestRequest::post().uri("/v1/namespaces/default/rooms/a/lookup").set_payload(body.to_owned());
        if let Some(given) = given {
            request = request.insert_header((request_id::HEADER, given));
        }
        let response = test::call_service(&app, request.to_request()).await;
        String::from_utf8(response.headers().get(request_id::HEADER).unwrap().as_bytes().to_vec()).unwrap()
    };
    assert_eq!(call(Some("mine"), "").await, "mine");
    assert_eq!(call(Some("mine"), "{\"request_id\":\"the body's\"}").await, "the body's");
    assert_eq!(call(None, "{\"request_id\":\"Anfrage 7 ü\"}").await, "Anfrage 7 ü");
    assert_ne!(call(None, "").await, call(None, "").await);
    assert_ne!(call(Some(&"x".repeat(256)), "").await.len(), 256);
    assert_eq!(call(Some("mine"), "{").await, "mine");

    let request = TestRequest::get().uri("/nowhere").insert_header((request_id::HEADER, "mine")).to_request();
    let (_, problem) = read(test::call_service(&app, request).await).await;
    assert_eq!(problem.request_id, Some(RequestId::new("mine").unwrap()));
}

#[actix_web::test]
async fn readiness_is_answered_with_its_details() {
    let readiness = Readiness::new();
    let shared = readiness.clone();
    let app = test::init_service(App::new().configure(move |config| shared.routes(config))).await;
    let call = async |uri: &str| {
        let response = test::call_service(&app, TestRequest::get().uri(uri).to_request()).await;
        (response.status().as_u16(), test::read_body_json::<Value, _>(response).await)
    };
    readiness.set("store", "unreachable");
    assert_eq!(call("/readyz").await, (503, json!({ "ready": false, "details": { "store": "unreachable" } })));
    assert_eq!(call("/healthz").await.0, 200);
    readiness.set_ready(true);
    readiness.set("store", "reached");
    readiness.set("nodes", 3);
    let details = json!({ "store": "reached", "nodes": 3 });
    assert_eq!(call("/readyz").await, (200, json!({ "ready": true, "details": details })));
    let head = TestRequest::default().method(actix_web::http::Method::HEAD).uri("/readyz").to_request();
    assert_eq!(test::call_service(&app, head).await.status(), 200);
}

#[actix_web::test]
async fn metrics_are_text_that_prometheus_reads() {
    let metrics = Metrics::new("1.2.3");
    let lookups = metrics.register(prometheus::IntCounter::new("roost_lookups_total", "Lookups answered.").unwrap());
    lookups.inc();
    let app = test::init_service(App::new().configure(move |config| metrics.routes(config))).await;
    let response = test::call_service(&app, TestRequest::get().uri("/metrics").to_request()).await;
    assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), "text/plain; version=0.0.4");
    let body = test::read_body(response).await;
    let expected = "# HELP roost_build_info The version that runs; always 1.\n# TYPE roost_build_info gauge\n\
        roost_build_info{version=\"1.2.3\"} 1\n# HELP roost_lookups_total Lookups answered.\n\
        # TYPE roost_lookups_total counter\nroost_lookups_total 1\n";
    assert_eq!(body, expected);
}

proptest! {
    #[test]
    fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = problem::parse::<LookupRequest>(&body);
    }

    #[test]
    fn a_json_body_is_read_or_refused_with_400(body in "[\\[\\]{}\":,a-z0-9\\\\ ]{0,80}") {
        if let Err(ApiError(problem)) = problem::parse::<LookupRequest>(body.as_bytes()) {
            prop_assert_eq!(problem.status, 400);
        }
    }
}

fn app() -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    App::new()
        .wrap(from_fn(request_id::carry))
        .configure(problem::configure)
        .configure(|config| Readiness::new().routes(config))
        .route("/v1/namespaces/{namespace}/rooms/{room}/lookup", web::post().to(echo))
        .route("/page", web::get().to(page))
        .route("/fail/{code}", web::get().to(fail))
}

async fn echo(path: web::Path<(NamespaceId, RoomName)>, body: JsonBody<LookupRequest>) -> HttpResponse {
    if let Some(id) = body.0.request_id {
        request_id::replace(id);
    }
    HttpResponse::Ok().body(path.1.to_string())
}

#[derive(serde::Deserialize)]
struct Page {
    limit: u32,
}

async fn page(page: web::Query<Page>) -> String {
    page.limit.to_string()
}

async fn fail(code: web::Path<Code>) -> Result<HttpResponse, ApiError> {
    Err(code.into_inner().into())
}

async fn lookup(body: Vec<u8>) -> (u16, Problem) {
    let request = TestRequest::post().uri("/v1/namespaces/default/rooms/a/lookup").set_payload(body).to_request();
    read(test::call_service(&test::init_service(app()).await, request).await).await
}

async fn read(response: ServiceResponse<impl MessageBody>) -> (u16, Problem) {
    let status = response.status().as_u16();
    (status, test::read_body_json(response).await)
}
