//! Participants that are wrong, hostile or slow: each gets a clear answer, and no one else notices.

use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use roost_proto::media::MediaEvent;

use super::client::Generation::{First, Second};
use super::client::produce;
use super::*;
use crate::media::Notice;

#[actix_web::test]
async fn what_is_out_of_order_repeated_or_another_peers_is_refused_and_changes_nothing() {
    let node = node().await;
    let (mut ann, mut bob) = (node.client("room", "ann").await, node.client("room", "bob").await);
    let made = ann.ask("createWebRtcTransport", json!({"producing": true})).await;
    let transport = made["id"].as_str().expect("a text").to_owned();
    assert_eq!(ann.refused("produce", produce(&transport, "audio", json!({}))).await, 403, "not joined");
    assert_eq!(ann.refused("changeDisplayName", json!({"displayName": "x"})).await, 403, "not joined");
    ann.join(First, "Ann").await;
    bob.join(Second, "Bob").await;
    assert_eq!(ann.refused("join", json!({"displayName": "again"})).await, 400);
    let theirs = bob.sending();
    let audio = bob.produce("audio", json!({})).await;
    let consumer = ann.told("newConsumer").await["id"].clone();
    for (method, data, code) in [
        ("connectWebRtcTransport", json!({"transportId": theirs, "dtlsParameters": {}}), 403),
        ("restartIce", json!({"transportId": theirs}), 403),
        ("getTransportStats", json!({"transportId": theirs}), 403),
        ("produce", produce(&theirs, "audio", json!({})), 403),
        ("produceData", json!({"transportId": theirs, "sctpStreamParameters": {}}), 403),
        ("closeProducer", json!({"producerId": audio}), 403),
        ("pauseProducer", json!({"producerId": audio}), 403),
        ("getProducerStats", json!({"producerId": audio}), 403),
        ("closeProducer", json!({"producerId": "none"}), 404),
        ("restartIce", json!({"transportId": "none"}), 404),
        ("pauseConsumer", json!({"consumerId": "none"}), 404),
        ("produce", json!({"transportId": transport, "kind": "audio", "rtpParameters": {}}), 400),
        ("produce", produce(&transport, "audio", json!("text")), 400),
        ("connectWebRtcTransport", json!({"transportId": transport, "dtlsParameters": {}}), 400),
        ("applyNetworkThrottle", json!({"secret": "x"}), 403),
        ("closeRoom", json!({}), 404),
    ] {
        assert_eq!(ann.refused(method, data).await, code, "{method}");
    }
    assert_eq!(bob.refused("pauseConsumer", json!({"consumerId": consumer})).await, 403);
    bob.settle().await;
    assert_eq!(bob.count("consumerClosed") + bob.count("consumerPaused"), 0);
    assert_eq!(node.rooms.snapshot()[0].producers, 1);
}

#[actix_web::test]
async fn a_peer_has_limits() {
    let node = node().await;
    let mut ann = node.client("room", "ann").await;
    ann.join(First, "Ann").await;
    for _ in 2..8 {
        ann.ask("createWebRtcTransport", json!({"producing": true})).await;
    }
    assert_eq!(ann.refused("createWebRtcTransport", json!({"producing": true})).await, 429);
    for _ in 0..32 {
        ann.produce("audio", json!({})).await;
    }
    let transport = ann.sending();
    assert_eq!(ann.refused("produce", produce(&transport, "audio", json!({}))).await, 429);
    assert_eq!(node.rooms.objects(), 8 + 32);
}

#[actix_web::test]
async fn frames_that_are_none_close_the_socket_with_a_reason_and_nobody_else_notices() {
    let node = node().await;
    let mut witness = node.client("room", "witness").await;
    witness.join(First, "Witness").await;
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    for text in [
        "no json",
        "[]",
        "{}",
        r#"{"request":true,"method":"join"}"#,
        r#"{"request":true,"id":"x","method":"a"}"#,
        &deep,
    ] {
        let mut client = node.client("room", "ann").await;
        client.send(text).await;
        assert_eq!(client.closed().await, (4000, "bad_request".to_owned()), "{}", &text[..2]);
        assert_eq!(client.told("error").await["code"], "bad_request");
    }
    let mut client = node.client("room", "ann").await;
    client.send_message(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(client.closed().await, (4000, "bad_request".to_owned()));
    assert_eq!(client.told("error").await["code"], "bad_request");
    for length in [MAX_FRAME_BYTES + 1, 4 * MAX_FRAME_BYTES] {
        let mut client = node.client("room", "ann").await;
        client.send(&"x".repeat(length)).await;
        assert_eq!(client.closed().await.0, 1009);
    }
    witness.settle().await;
    assert_eq!(witness.count("newPeer"), 0);
    until("only the witness is left", || node.rooms.snapshot()[0].participants == 1).await;
}

#[actix_web::test]
async fn fragments_make_a_message_and_too_many_of_them_are_too_long() {
    let node = node().await;
    let mut client = node.client("room", "ann").await;
    let fragment =
        |text: &str, opcode, last| Message::Frame(Frame::message(text.as_bytes().to_vec(), OpCode::Data(opcode), last));
    client.send_message(fragment(r#"{"request":true,"id":1,"#, Data::Text, false)).await;
    client.send_message(fragment(r#""method":"getRouter"#, Data::Continue, false)).await;
    client.send_message(fragment(r#"RtpCapabilities"}"#, Data::Continue, true)).await;
    assert_eq!(client.frame(|frame| frame["response"] == true).await["ok"], true);
    client.send_message(fragment("{", Data::Text, false)).await;
    let part = " ".repeat(MAX_FRAME_BYTES / 2);
    for _ in 0..3 {
        client.send_message(fragment(&part, Data::Continue, false)).await;
    }
    assert_eq!(client.closed().await.0, 1009);
}

#[actix_web::test]
async fn a_header_that_announces_gigabytes_is_refused_before_they_come() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let node = node().await;
    let mut socket = tokio::net::TcpStream::connect(&node.address).await.expect("listens");
    let request = "GET /?roomId=room&peerId=ann HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Protocol: protoo\r\n\r\n";
    socket.write_all(request.as_bytes()).await.expect("open");
    socket.write_all(&[0x81, 0xff, 0, 0, 0, 2, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]).await.expect("open");
    let mut read = Vec::new();
    tokio::time::timeout(DEADLINE, socket.read_to_end(&mut read)).await.expect("closed").expect("cleanly");
    let closed = read.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == 1009_u16.to_be_bytes());
    assert!(closed, "a close frame with 1009");
}

#[actix_web::test]
async fn wrong_ids_and_origins_are_refused_for_good() {
    let node = node().await;
    let long = "x".repeat(256);
    for (path, code) in [
        ("/?roomId=room".to_owned(), "bad_request"),
        ("/?peerId=ann".to_owned(), "bad_request"),
        ("/signaling?roomId=a%00b&peerId=ann".to_owned(), "bad_id"),
        ("/?roomId=%ff&peerId=ann".to_owned(), "bad_id"),
        (format!("/signaling?roomId=room&peerId={long}"), "bad_id"),
        ("/signaling?roomId=room&peerId=ann&namespace=No".to_owned(), "bad_id"),
    ] {
        let mut client = Client::connect(&node.address, &path).await;
        assert_eq!(client.closed().await, (4000, code.to_owned()), "{path}");
        assert_eq!(client.told("error").await["code"], code);
    }
    let protocol = ("sec-websocket-protocol", "protoo");
    for (origin, joins) in [("https://app.example", true), ("https://evil.example", false)] {
        let headers = [protocol, ("origin", origin)];
        let mut client =
            Client::try_connect(&node.address, "/?roomId=room&peerId=ann", &headers).await.expect("accepted");
        if joins {
            client.join(First, "Ann").await;
        } else {
            assert_eq!(client.closed().await, (4000, "origin_not_allowed".to_owned()));
        }
    }
    assert!(node.door.knocked.lock().expect("no panic").len() == 1, "nobody else reached the door");
}

#[actix_web::test]
async fn who_does_not_join_in_time_is_closed_and_who_is_silent_is_gone() {
    let limits = Limits { join_ms: 200, ..Limits::default() };
    let node = node_with(limits, 60_000).await;
    let mut client = node.client("room", "ann").await;
    assert_eq!(client.closed().await, (4000, "bad_request".to_owned()));
    let limits = Limits { ping_ms: 50, silence_ms: 200, ..Limits::default() };
    let node = node_with(limits, 60_000).await;
    let mut silent = node.client("room", "silent").await;
    silent.join(First, "Silent").await;
    let mut witness = node.client("room", "witness").await;
    witness.join(First, "Witness").await;
    // Who reads answers pings by that; the other one reads nothing.
    assert_eq!(witness.told("peerClosed").await, json!({"peerId": "silent"}));
    assert_eq!(silent.closed().await, (4503, "silent".to_owned()));
}

#[actix_web::test]
async fn who_reads_nothing_is_closed_and_the_others_go_on() {
    let node = node().await;
    let mut slow = node.client("room", "slow").await;
    slow.join(First, "Slow").await;
    let producer = slow.produce("audio", json!({})).await;
    let mut ann = node.client("room", "ann").await;
    ann.join(First, "Ann").await;
    let worker = node.rooms.snapshot()[0].worker;
    let score = json!("x".repeat(100_000));
    let mut told = 0;
    while node.rooms.participants() == 2 {
        let event = MediaEvent::ProducerScore { producer: producer.clone(), score: score.clone() };
        node.media.tell(worker, Notice::Event(event)).await;
        ann.settle().await;
        told += 1;
        assert!(told < 2_000, "never closed");
    }
    assert_eq!(ann.told("peerClosed").await, json!({"peerId": "slow"}));
}

#[actix_web::test]
async fn requests_without_end_are_slowed_down_and_cost_nobody_else() {
    let node = node().await;
    let (mut flood, mut ann) = (node.client("room", "flood").await, node.client("room", "ann").await);
    flood.join(First, "Flood").await;
    for _ in 0..350 {
        flood.send_request("getRouterRtpCapabilities", json!({})).await;
    }
    ann.join(First, "Ann").await;
    // Answered or refused with 429, each of them.
    flood.frame(|frame| frame["id"] == 350).await;
    assert_eq!(flood.told("newPeer").await["id"], "ann");
}

#[actix_web::test]
async fn hundreds_of_idle_sockets_do_not_hurt() {
    let node = node().await;
    let mut idle = Vec::new();
    for count in 0..500 {
        idle.push(node.client(&format!("room{}", count % 50), &format!("idle{count}")).await);
    }
    let mut ann = node.client("room1", "ann").await;
    ann.join(First, "Ann").await;
    assert_eq!(node.rooms.snapshot().len(), 50);
    assert!(node.rooms.workers().iter().all(|worker| worker.rooms == 25), "rooms spread over the workers");
}
