//! Bad parameters: each a coded error, and the process goes on.

use roost_proto::media::{MAX_LINE_BYTES, MediaErrorCode, MediaRequest, Object, StreamKind};
use serde_json::{Value, json};

use crate::agent::{Agent, consumer, dtls, opus, producer, room, vp8};

#[tokio::test]
async fn codecs_that_no_router_can_have_are_invalid() {
    let mut agent = Agent::start().await;
    let twice = json!([
        {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2, "preferredPayloadType": 100},
        {"kind": "video", "mimeType": "video/VP8", "clockRate": 90000, "preferredPayloadType": 100},
    ]);
    let unsupported = json!([{"kind": "video", "mimeType": "video/VP8", "clockRate": 8000}]);
    let rtx = json!([{"kind": "video", "mimeType": "video/rtx", "clockRate": 90000}]);
    for codecs in [Value::Null, json!({}), json!([{}]), json!(["opus"]), twice, unsupported, rtx] {
        let message = agent.fails(MediaRequest::OpenRoom { room: room("a"), codecs }, MediaErrorCode::Invalid).await;
        assert!(message.starts_with("codecs"), "{message}");
    }
    assert!(agent.describe().await.rooms.is_empty());
    // The name was not used up.
    agent.open("a").await;
}

#[tokio::test]
async fn dtls_parameters_are_checked() {
    let mut agent = Agent::start().await;
    agent.open("a").await;
    let transport = agent.transport("a").await;
    let fingerprint = |algorithm: &str, value: String| json!({"role": "auto", "fingerprints": [{"algorithm": algorithm, "value": value}]});
    let hex = vec!["5A"; 32].join(":");
    let not_ascii = format!("A\u{e9}{}", &hex[3..]);
    let bad = [
        Value::Null,
        json!([]),
        json!({"role": "auto", "fingerprints": []}),
        json!({"role": "boss", "fingerprints": []}),
        fingerprint("sha-256", "5A".to_owned()),
        fingerprint("sha-256", hex.replace('5', "X")),
        fingerprint("sha-256", not_ascii),
        fingerprint("md5", hex),
    ];
    for dtls_parameters in bad {
        let request = MediaRequest::ConnectTransport { transport: transport.clone(), dtls_parameters };
        let message = agent.fails(request, MediaErrorCode::Invalid).await;
        assert!(message.starts_with("dtls_parameters"), "{message}");
    }
    let good = MediaRequest::ConnectTransport { transport, dtls_parameters: dtls() };
    agent.done(good.clone()).await;
    agent.fails(good, MediaErrorCode::Invalid).await;
}

#[tokio::test]
async fn rtp_parameters_are_checked() {
    let mut agent = Agent::start().await;
    agent.open("a").await;
    let transport = agent.transport("a").await;
    let video = |change: fn(&mut Value)| changed(vp8(10), change);
    let bad = [
        Value::Null,
        json!({}),
        json!([1]),
        video(|p| p["codecs"] = json!([])),
        video(|p| p["codecs"] = json!([{"mimeType": "video/H264", "payloadType": 96, "clockRate": 90000}])),
        video(|p| p["codecs"][0]["mimeType"] = json!("video/unheard-of")),
        video(|p| p["codecs"][0]["clockRate"] = json!(0)),
        video(|p| p["codecs"][0]["payloadType"] = json!(900)),
        video(|p| p["codecs"][1]["payloadType"] = json!(96)),
        video(|p| p["codecs"][1]["parameters"] = json!({"apt": "96"})),
        video(|p| p["codecs"][1]["parameters"] = json!({"apt": 55})),
        video(|p| p["codecs"] = json!([p["codecs"][1]])),
        video(|p| p["encodings"] = json!([{"rid": "a"}, {}])),
        video(|p| p["encodings"][0]["scalabilityMode"] = json!("everything")),
        video(|p| p["encodings"][0]["scalabilityMode"] = json!("L3T3")),
        video(|p| p["encodings"][0]["codecPayloadType"] = json!(97)),
        video(|p| p["encodings"] = json!(vec![json!({"rid": "r"}); 17])),
        video(|p| p["encodings"] = json!([{"ssrc": 5}, {"ssrc": 5}])),
        video(|p| p["headerExtensions"] = json!([{"uri": "urn:unheard-of", "id": 1}])),
        video(|p| p["headerExtensions"] = json!([{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 0}])),
        video(|p| p["headerExtensions"] = json!([{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 70000}])),
        opus(11),
    ];
    for rtp_parameters in bad {
        let (transport, kind) = (transport.clone(), StreamKind::Video);
        let request = MediaRequest::Produce { transport, kind, rtp_parameters, paused: false };
        let message = agent.fails(request, MediaErrorCode::Invalid).await;
        assert!(message.starts_with("rtp_parameters"), "{message}");
    }
    // A stream that is here already.
    agent.produce(&transport, StreamKind::Audio, 1).await;
    let again = MediaRequest::Produce {
        transport: transport.clone(),
        kind: StreamKind::Audio,
        rtp_parameters: opus(1),
        paused: false,
    };
    agent.fails(again, MediaErrorCode::Invalid).await;
    assert_eq!(agent.describe().await.rooms[0].producers, 1);
    agent.produce(&transport, StreamKind::Video, 10).await;
}

#[tokio::test]
async fn capabilities_layers_and_priorities_are_checked() {
    let mut agent = Agent::start().await;
    let capabilities = agent.open("a").await;
    let transport = agent.transport("a").await;
    let from = agent.produce(&transport, StreamKind::Video, 10).await;
    for rtp_capabilities in
        [Value::Null, json!({}), json!({"codecs": [{"mimeType": "video/VP8"}]}), json!({"codecs": "all"})]
    {
        let request = MediaRequest::Consume { transport: transport.clone(), producer: from.clone(), rtp_capabilities };
        let message = agent.fails(request, MediaErrorCode::Invalid).await;
        assert!(message.starts_with("rtp_capabilities"), "{message}");
    }
    let id = agent.consume(&transport, &from, &capabilities).await;
    agent.fails(MediaRequest::SetPriority { consumer: id.clone(), priority: 0 }, MediaErrorCode::Invalid).await;
    agent.done(MediaRequest::SetPreferredLayers { consumer: id, spatial_layer: 255, temporal_layer: Some(255) }).await;
}

#[tokio::test]
async fn data_channels_parameters_are_checked() {
    let mut agent = Agent::start().await;
    agent.open("a").await;
    let transport = agent.transport("a").await;
    let ask = |sctp_stream_parameters| MediaRequest::ProduceData {
        transport: transport.clone(),
        sctp_stream_parameters,
        label: String::new(),
        protocol: String::new(),
    };
    let bad = [
        Value::Null,
        json!({}),
        json!({"streamId": -1}),
        json!({"streamId": 65536}),
        json!({"streamId": 1, "ordered": true, "maxRetransmits": 1}),
        json!({"streamId": 1, "maxPacketLifeTime": 1, "maxRetransmits": 1}),
    ];
    for parameters in bad {
        let message = agent.fails(ask(parameters), MediaErrorCode::Invalid).await;
        assert!(message.starts_with("sctp_stream_parameters"), "{message}");
    }
    assert!(agent.ask(ask(json!({"streamId": 1}))).await.is_ok());
    agent.fails(ask(json!({"streamId": 1})), MediaErrorCode::Invalid).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let mut agent = Agent::start().await;
    agent.open("a").await;
    let transport = agent.transport("a").await;
    let voice = agent.produce(&transport, StreamKind::Audio, 1).await;
    let none = || "00000000-0000-0000-0000-000000000000".to_owned();
    let requests = [
        MediaRequest::CreateTransport { room: room("b"), force_tcp: false, producing: true, consuming: true },
        MediaRequest::CloseRoom { room: room("b") },
        MediaRequest::ConnectTransport { transport: none(), dtls_parameters: dtls() },
        MediaRequest::RestartIce { transport: "x".repeat(100_000) },
        MediaRequest::CloseTransport { transport: String::new() },
        MediaRequest::Produce { transport: none(), kind: StreamKind::Audio, rtp_parameters: opus(1), paused: false },
        MediaRequest::Consume { transport: transport.clone(), producer: none(), rtp_capabilities: json!({}) },
        MediaRequest::ConsumeData { transport: transport.clone(), data_producer: none() },
        // There is one of that id, but it is something else.
        MediaRequest::CloseTransport { transport: voice.clone() },
        MediaRequest::Close { what: producer(&transport) },
        MediaRequest::Pause { what: consumer(&voice) },
        MediaRequest::Resume { what: Object::DataProducer(none()) },
        MediaRequest::GetStats { what: Object::DataConsumer(none()) },
        MediaRequest::SetPreferredLayers { consumer: none(), spatial_layer: 0, temporal_layer: None },
        MediaRequest::SetPriority { consumer: none(), priority: 1 },
        MediaRequest::RequestKeyFrame { consumer: none() },
    ];
    for request in requests {
        let message = agent.fails(request, MediaErrorCode::NotFound).await;
        assert!(message.len() < 200, "{message}");
    }
    agent.fails(MediaRequest::Pause { what: Object::Transport(transport) }, MediaErrorCode::Unsupported).await;
}

#[tokio::test]
async fn lines_that_are_no_requests_are_refused_or_skipped() {
    let mut agent = Agent::start().await;
    agent.send_line("").await;
    agent.send_line("no json").await;
    agent.send_line(&"[".repeat(10_000)).await;
    agent.send_line(&"x".repeat(MAX_LINE_BYTES + 10)).await;
    agent.send_line(r#"{"v":1,"id":900,"method":"create_pipe","data":{}}"#).await;
    assert_eq!(agent.answer(900).await.expect_err("unknown").code, MediaErrorCode::Unsupported);
    agent
        .send_line(r#"{"v":1,"id":901,"method":"open_room","data":{"room":{"namespace":"NO","room":"a"},"codecs":[]}}"#)
        .await;
    assert_eq!(agent.answer(901).await.expect_err("a wrong name").code, MediaErrorCode::Invalid);
    // A newer agent's fields are ignored.
    agent.send_line(r#"{"v":2,"id":902,"method":"describe","new":1}"#).await;
    assert!(agent.answer(902).await.is_ok());
}

fn changed(mut parameters: Value, change: fn(&mut Value)) -> Value {
    change(&mut parameters);
    parameters
}
