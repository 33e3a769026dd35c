//! WebSockets at the scheduler: both dialects, and what is wrong with them.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use roost_proto::redirect::SignalingQuery;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::agent::Socket;
use crate::process::Scheduler;

#[tokio::test]
async fn a_protoo_client_is_told_where_to_go_and_closed_with_4000() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    let home = scheduler.lookup_from("us/east", "a b").await;
    for path in ["/", "/signaling"] {
        let url = format!("ws://{}{path}?roomId=a%20b&peerId=p1&consumerReplicas=undefined", scheduler.public);
        let mut socket = protoo(&url, None).await;
        let notification = text(&mut socket).await;
        assert_eq!((&notification["notification"], &notification["method"]), (&json!(true), &json!("redirect")));
        let data = &notification["data"];
        assert_eq!((&data["node"], &data["epoch"]), (&json!("iad-1"), &home["epoch"]), "{data}");
        let location = data["location"].as_str().unwrap();
        assert!(location.starts_with("ws://iad-1.example/signaling?"), "{location}");
        let query = SignalingQuery::parse(location.split_once('?').unwrap().1);
        assert_eq!((query.room().unwrap().room.as_str(), query.peer().unwrap().as_str()), ("a b", "p1"));
        assert_eq!((query.redirects, query.ticket.as_deref()), (1, data["ticket"].as_str()));
        assert_eq!(closed(&mut socket).await, (4000, "redirect".to_owned()));
    }
}

#[tokio::test]
async fn a_sora_style_client_is_redirected_by_its_channel() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    scheduler.lookup_from("us/east", "x").await;
    let connect = json!({"type": "connect", "role": "sendrecv", "channel_id": "x", "redirect": true});
    let mut socket = sora(&scheduler, "", Message::text(connect.to_string())).await;
    let answer = text(&mut socket).await;
    assert_eq!(answer["type"], "redirect", "{answer}");
    let location = answer["location"].as_str().unwrap();
    assert!(location.starts_with("ws://iad-1.example/signaling?") && location.contains("redirects=2"), "{location}");
    assert_eq!(closed(&mut socket).await, (4000, "redirect".to_owned()));
}

#[tokio::test]
async fn a_final_refusal_closes_protoo_with_4000_and_says_why() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    for (query, code) in [
        ("roomId=x&peerId=p&redirects=3", "too_many_redirects"),
        ("roomId=x&peerId=p&redirects=many", "too_many_redirects"),
        ("peerId=p", "bad_request"),
        ("roomId=x", "bad_request"),
        ("roomId=a%00b&peerId=p", "bad_id"),
        ("roomId=x&peerId=p&namespace=No", "bad_id"),
    ] {
        let mut socket = protoo(&format!("ws://{}/?{query}", scheduler.public), None).await;
        let error = text(&mut socket).await;
        assert_eq!((&error["method"], &error["data"]["code"]), (&json!("error"), &json!(code)), "{query}: {error}");
        assert!(error["data"]["request_id"].is_string());
        assert_eq!(closed(&mut socket).await, (4000, code.to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_refusal_that_may_pass_closes_with_4503_after_a_pause() {
    let scheduler = Scheduler::start().await.ready().await;
    let started = std::time::Instant::now();
    let mut socket = protoo(&format!("ws://{}/?roomId=x&peerId=p", scheduler.public), None).await;
    assert_eq!(text(&mut socket).await["data"]["code"], "no_node");
    assert_eq!(closed(&mut socket).await, (4503, "no_node".to_owned()));
    assert!(started.elapsed().as_millis() >= 1_000);
}

#[tokio::test]
async fn what_is_wrong_with_a_sora_style_message_is_said() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    let connect = |channel: &str| Message::text(json!({"type": "connect", "channel_id": channel}).to_string());
    let deep = format!(r#"{{"type":"connect","channel_id":"x","more":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    for (query, message, close, code) in [
        ("", Message::text("no json"), 4400, "bad_request"),
        ("", Message::text("[]"), 4400, "bad_request"),
        ("", Message::text(r#"{"type":"offer"}"#), 4400, "bad_request"),
        ("", Message::text(r#"{"type":"connect","channel_id":7}"#), 4400, "bad_request"),
        ("", Message::text(deep), 4400, "bad_request"),
        ("", connect(""), 4400, "bad_id"),
        ("", connect(&"x".repeat(256)), 4400, "bad_id"),
        ("?namespace=No", connect("x"), 4400, "bad_id"),
        ("?redirects=3", connect("x"), 4409, "too_many_redirects"),
        ("", Message::binary(vec![1, 2, 3]), 4400, "bad_request"),
    ] {
        let mut socket = sora(&scheduler, query, message.clone()).await;
        let answer = text(&mut socket).await;
        assert_eq!((&answer["type"], &answer["problem"]["code"]), (&json!("error"), &json!(code)), "{message:?}");
        assert_eq!(closed(&mut socket).await, (close, code.to_owned()), "{message:?}");
    }
}

#[tokio::test]
async fn a_header_that_announces_gigabytes_is_answered_before_they_come() {
    let scheduler = Scheduler::start().await;
    let mut socket = TcpStream::connect(&scheduler.public).await.unwrap();
    let request = "GET /signaling HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.write_all(&[0x81, 0xff, 0, 0, 0, 2, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]).await.unwrap();
    let mut read = Vec::new();
    timeout(Duration::from_secs(5), socket.read_to_end(&mut read)).await.unwrap().unwrap();
    let closed = read.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == 1009_u16.to_be_bytes());
    assert!(closed, "a close frame with 1009");
}

#[tokio::test]
async fn a_frame_that_is_too_large_closes_with_1009_and_a_silent_client_after_10_s() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    let mut socket = sora(&scheduler, "", Message::text("x".repeat(256 * 1024 + 1))).await;
    assert_eq!(closed(&mut socket).await.0, 1009);
    let (mut silent, _) = connect_async(format!("ws://{}/signaling", scheduler.public)).await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(text(&mut silent).await["problem"]["code"], "bad_request");
    assert_eq!(closed(&mut silent).await.0, 4400);
    assert!((9_000..12_000).contains(&started.elapsed().as_millis()));
}

#[tokio::test]
async fn pages_of_foreign_origins_are_refused_in_either_dialect() {
    let origin = "https://app.example";
    let scheduler = Scheduler::start_with(&["--dev", "--cors-origin", origin]).await.ready().await;
    let url = format!("ws://{}/?roomId=x&peerId=p", scheduler.public);
    let mut foreign = protoo(&url, Some("https://evil.example")).await;
    assert_eq!(text(&mut foreign).await["data"]["code"], "origin_not_allowed");
    assert_eq!(closed(&mut foreign).await, (4000, "origin_not_allowed".to_owned()));
    let mut own = protoo(&url, Some(origin)).await;
    assert_eq!(text(&mut own).await["data"]["code"], "no_node");
    let mut request = format!("ws://{}/signaling", scheduler.public).into_client_request().unwrap();
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    assert_eq!(closed(&mut socket).await, (4403, "origin_not_allowed".to_owned()));
}

async fn protoo(url: &str, origin: Option<&str>) -> Socket {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "protoo".parse().unwrap());
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    let (socket, response) = connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "protoo");
    socket
}

async fn sora(scheduler: &Scheduler, query: &str, message: Message) -> Socket {
    let (mut socket, _) = connect_async(format!("ws://{}/signaling{query}", scheduler.public)).await.unwrap();
    socket.send(message).await.unwrap();
    socket
}

/// The next text message as JSON.
async fn text(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.expect("not closed").unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Close(frame) => panic!("closed: {frame:?}"),
            _ => {}
        }
    }
}

/// The close code and reason, whatever comes before.
async fn closed(socket: &mut Socket) -> (u16, String) {
    loop {
        if let Message::Close(frame) = socket.next().await.expect("a close frame").unwrap() {
            let frame = frame.expect("a code");
            return (frame.code.into(), frame.reason.to_string());
        }
    }
}
