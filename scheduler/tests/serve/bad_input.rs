//! Whatever is wrong with a request gets a coded problem; nothing is a server error.

use serde_json::{Value, json};

use crate::process::Scheduler;

#[tokio::test]
async fn a_bad_request_gets_its_code() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    let lookup = "/v1/namespaces/default/rooms/x/lookup";
    let deep = format!(r#"{{"more":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let long = format!("/v1/namespaces/default/rooms/{}/lookup", "x".repeat(256));
    let many = json!({ "avoid": vec!["a"; 17] }).to_string();
    let large = format!(r#"{{"user_id":"{}"}}"#, "x".repeat(17_000));
    for (method, path, body, status, code) in [
        ("POST", lookup, "{", 400, "bad_request"),
        ("POST", lookup, "[]", 400, "bad_request"),
        ("POST", lookup, "null", 400, "bad_request"),
        ("POST", lookup, r#"{"alternatives":"2"}"#, 400, "bad_request"),
        ("POST", lookup, r#"{"alternatives":9}"#, 400, "bad_request"),
        ("POST", lookup, r#"{"alternatives":-1}"#, 400, "bad_request"),
        ("POST", lookup, r#"{"expected_participants":1e9999}"#, 400, "bad_request"),
        ("POST", lookup, r#"{"expected_participants":0}"#, 400, "bad_request"),
        ("POST", lookup, r#"{"expected_participants":10001}"#, 400, "bad_request"),
        ("POST", lookup, r#"{"expected_participants":"8"}"#, 400, "bad_request"),
        ("POST", lookup, r#"{"client_ip":"999.1.1.1"}"#, 400, "bad_request"),
        ("POST", lookup, r#"{"region":"EU"}"#, 400, "bad_id"),
        ("POST", lookup, r#"{"user_id":""}"#, 400, "bad_id"),
        ("POST", lookup, r#"{"avoid":["A"]}"#, 400, "bad_id"),
        ("POST", lookup, &many, 400, "bad_request"),
        ("POST", lookup, &deep, 400, "bad_request"),
        ("POST", lookup, "\u{0}\u{1}", 400, "bad_request"),
        ("POST", lookup, &large, 413, "body_too_large"),
        ("POST", &long, "", 400, "bad_id"),
        ("POST", "/v1/namespaces/No/rooms/x/lookup", "", 400, "bad_id"),
        ("POST", "/v1/namespaces/a/rooms/%00/lookup", "", 400, "bad_id"),
        ("POST", "/v1/namespaces/a/rooms/%ff/lookup", "", 400, "bad_id"),
        ("GET", lookup, "", 405, "method_not_allowed"),
        ("DELETE", "/v1/namespaces/a/rooms/x", "", 405, "method_not_allowed"),
        ("GET", "/v1/namespaces/a/rooms/none", "", 404, "room_not_found"),
        ("GET", "/v2", "", 404, "not_found"),
        ("GET", "/v1/cluster", "", 404, "not_found"),
        ("GET", "/v1/agent", "", 404, "not_found"),
        ("POST", "/", "", 405, "method_not_allowed"),
        ("GET", "/signaling", "", 400, "bad_request"),
    ] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = scheduler.http.request(method, format!("http://{}{path}", scheduler.public));
        let response = request.body(body.to_owned()).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path} {body}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path} {body}");
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let problem: Value = response.json().await.unwrap();
        assert_eq!((&problem["code"], &problem["request_id"]), (&json!(code), &json!(id)), "{path} {body}");
    }
    let body = json!({"expected_participants": 10_001});
    let problem: Value = scheduler.lookup_request("x", &body).send().await.unwrap().json().await.unwrap();
    assert_eq!(problem["detail"], "body expected_participants: 10001: expected 1 to 10000");
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=zz", "cursor=", "namespace=No", "node=No"] {
        let problem = scheduler.admin(&format!("/v1/rooms?{query}")).await;
        assert_eq!(problem["status"], 400, "{query}: {problem}");
    }
}

#[tokio::test]
async fn a_bad_dry_run_is_told_which_field_is_wrong() {
    let scheduler = Scheduler::start().await;
    let room = r#""namespace":"a","room":"x""#;
    let many = json!({"namespace": "a", "room": "x", "avoid": vec!["a"; 17]}).to_string();
    for (query, body, expected) in [
        ("", "", "body: missing field `namespace`"),
        ("", "[]", "body: expected a JSON object"),
        ("", &format!("{{{room}"), "body: "),
        ("", r#"{"namespace":"a"}"#, "body: missing field `room`"),
        ("", r#"{"namespace":"A","room":"x"}"#, "body namespace: "),
        ("", r#"{"namespace":"a","room":"\u0000"}"#, "body room: "),
        ("", &format!(r#"{{{room},"alternatives":"2"}}"#), "body alternatives: "),
        ("", &format!(r#"{{{room},"client_ip":"1.2.3"}}"#), "body client_ip: "),
        ("", &format!(r#"{{{room},"expected_participants":0}}"#), "body expected_participants: 0: expected 1 to 10000"),
        ("", &many, "body avoid: 17: expected 0 to 16"),
        ("limit=0", &format!("{{{room}}}"), "query limit: \"0\": expected 1 to 1000"),
        ("limit=1001", &format!("{{{room}}}"), "query limit: \"1001\": expected 1 to 1000"),
        ("cursor=zz", &format!("{{{room}}}"), "query cursor: expected the next_cursor of an earlier page"),
        ("cursor=6869", &format!("{{{room}}}"), "query cursor: expected the next_cursor of an earlier page"),
    ] {
        let url = format!("http://{}/v1/explain?{query}", scheduler.admin);
        let response = scheduler.http.post(url).body(body.to_owned()).send().await.unwrap();
        assert_eq!(response.status(), 400, "{query} {body}");
        let problem: Value = response.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().starts_with(expected), "{query} {body}: {problem}");
    }
}

#[tokio::test]
async fn unknown_fields_and_an_absent_body_are_no_problem() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    let body = json!({"later": {"a": [1]}, "user_id": "u", "expected_participants": 8, "request_id": "mine"});
    let response = scheduler.lookup_request("x", &body).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-request-id"]), (200, &"mine".parse().unwrap()));
    let url = format!("http://{}/v1/namespaces/default/rooms/x/lookup", scheduler.public);
    let response = scheduler.http.post(url).header("x-request-id", "head").send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-request-id"]), (200, &"head".parse().unwrap()));
}
