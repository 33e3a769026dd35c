//! Refused WebSockets, as a client sees them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::{SinkExt as _, StreamExt as _};
use roost_proto::error::{Code, Problem};
use roost_proto::signaling::SUBPROTOCOL;
use roost_server::{ApiError, listen, socket};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

#[actix_web::test]
async fn a_final_answer_is_told_and_closed_with_4000_at_once() {
    let (address, server) = start().await;
    let mut client = connect(address, "/protoo/ticket_required").await;
    let told: Value = serde_json::from_str(next(&mut client).await.to_text().unwrap()).unwrap();
    assert_eq!((&told["notification"], &told["method"]), (&true.into(), &"error".into()));
    assert_eq!((&told["data"]["code"], &told["data"]["status"]), (&"ticket_required".into(), &401.into()));
    assert_eq!(closed(&mut client).await, (4000, "ticket_required".to_owned()));
    server.stop(false).await;
}

#[actix_web::test]
async fn a_retryable_answer_is_told_at_once_and_closed_after_a_pause() {
    let (address, server) = start().await;
    let mut client = connect(address, "/protoo/no_node").await;
    let told: Value = serde_json::from_str(next(&mut client).await.to_text().unwrap()).unwrap();
    assert_eq!(told["data"]["code"], "no_node");
    let start = Instant::now();
    client.send(Message::text("{\"request\":true,\"id\":1,\"method\":\"join\",\"data\":{}}")).await.unwrap();
    assert_eq!(closed(&mut client).await, (4503, "no_node".to_owned()));
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    server.stop(false).await;
}

#[actix_web::test]
async fn one_who_is_refused_and_sends_far_too_much_is_closed_no_sooner() {
    let (address, server) = start().await;
    let mut client = connect(address, "/protoo/no_node").await;
    let start = Instant::now();
    client.send(Message::text("x".repeat(1024 * 1024))).await.unwrap();
    client.send(Message::text("x")).await.unwrap();
    next(&mut client).await;
    assert_eq!(closed(&mut client).await, (4503, "no_node".to_owned()));
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    server.stop(false).await;
}

#[actix_web::test]
async fn other_dialects_are_closed_with_4000_and_the_status() {
    let (address, server) = start().await;
    for (code, close) in [(Code::BadId, 4400), (Code::BodyTooLarge, 4413), (Code::StoreUnavailable, 4503)] {
        let mut client = connect(address, &format!("/plain/{code}")).await;
        assert_eq!(closed(&mut client).await, (close, code.to_string()));
    }
    server.stop(false).await;
}

#[actix_web::test]
async fn a_client_that_leaves_during_the_pause_harms_nobody() {
    let (address, server) = start().await;
    drop(connect(address, "/protoo/no_node").await);
    let mut client = connect(address, "/plain/no_node").await;
    assert_eq!(closed(&mut client).await.0, 4503);
    server.stop(false).await;
}

#[actix_web::test]
async fn a_request_that_is_no_websocket_gets_a_problem() {
    let app = actix_web::test::init_service(App::new().route("/protoo/{code}", web::get().to(protoo))).await;
    let request = actix_web::test::TestRequest::get().uri("/protoo/no_node").to_request();
    let response = actix_web::test::call_service(&app, request).await;
    assert_eq!(response.status(), 400);
    let problem: Problem = actix_web::test::read_body_json(response).await;
    assert!(problem.detail.starts_with("expected a WebSocket handshake: "), "{}", problem.detail);
}

#[test]
fn the_farewell_follows_the_table() {
    for &code in Code::ALL {
        let (frame, close, pause) = socket::protoo_farewell(&Problem::new(code, "x"));
        let frame: Value = serde_json::from_str(&frame).unwrap();
        assert_eq!(frame["data"]["code"], code.as_str());
        let (status_close, reason) = socket::close_reason(code);
        assert_eq!((status_close, reason), (4000 + code.status(), code.as_str()));
        if code.retryable() {
            assert_eq!(close, status_close);
            assert!((1_000..=3_000).contains(&pause.as_millis()), "{pause:?}");
        } else {
            assert_eq!((close, pause), (socket::FINAL, Duration::ZERO));
        }
    }
}

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn start() -> (SocketAddr, ServerHandle) {
    let listener = listen::bind("signaling_listen", "127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = HttpServer::new(|| {
        App::new().route("/protoo/{code}", web::get().to(protoo)).route("/plain/{code}", web::get().to(plain))
    })
    .workers(1)
    .disable_signals()
    .listen(listener)
    .unwrap()
    .run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    (address, handle)
}

async fn protoo(request: HttpRequest, body: web::Payload, code: web::Path<Code>) -> Result<HttpResponse, ApiError> {
    socket::refuse_protoo(&request, body, &Problem::new(*code, "a test"))
}

async fn plain(request: HttpRequest, body: web::Payload, code: web::Path<Code>) -> Result<HttpResponse, ApiError> {
    socket::refuse(&request, body, &[SUBPROTOCOL], &Problem::new(*code, "a test"))
}

async fn connect(address: SocketAddr, path: &str) -> Client {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
    let (client, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], SUBPROTOCOL);
    client
}

async fn next(client: &mut Client) -> Message {
    tokio::time::timeout(Duration::from_secs(10), client.next()).await.unwrap().unwrap().unwrap()
}

async fn closed(client: &mut Client) -> (u16, String) {
    match next(client).await {
        Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
        other => panic!("expected a close frame, got {other:?}"),
    }
}
