//! Rooms: opened, kept apart, closed with all that is in them.

use roost_proto::media::{MediaErrorCode, MediaReply, MediaRequest, Object, RoomLoad, StreamKind};
use roost_proto::report::MediaKind;
use serde_json::json;

use crate::agent::{Agent, codecs, dtls, room};

#[tokio::test]
async fn a_process_says_hello_and_ends_when_the_socket_closes() {
    let agent = Agent::start().await;
    assert_eq!(agent.hello.media, MediaKind::Mediasoup);
    assert_eq!(agent.hello.worker, 3);
    assert_eq!(Some(agent.hello.pid), agent.child.id());
    assert_ne!(agent.hello.media_port, 0);
    assert!(agent.hello.version.starts_with("mediasoup "));
    assert!(agent.hang_up().await.success());
}

#[tokio::test]
async fn a_room_that_is_open_is_answered_the_same() {
    let mut agent = Agent::start().await;
    let first = agent.open("a").await;
    assert_eq!(first["codecs"][0]["mimeType"], "audio/opus");
    assert_eq!(first["codecs"][0]["preferredPayloadType"], 100);
    assert_eq!(agent.open("a").await, first);
    // Asked for in one go, it is one room as well.
    let asked = MediaRequest::OpenRoom { room: room("b"), codecs: codecs() };
    let (one, other) = (agent.send(asked.clone()).await, agent.send(asked).await);
    assert_eq!(agent.answer(one).await, agent.answer(other).await);
    assert_eq!(agent.describe().await.rooms.len(), 2);
}

#[tokio::test]
async fn a_transport_has_all_that_a_client_needs() {
    let further = ["--announced", "203.0.113.7", "--announced", "media.example"];
    let mut agent = Agent::start_on(0, &further).await;
    agent.open("a").await;
    let request =
        |force_tcp| MediaRequest::CreateTransport { room: room("a"), force_tcp, producing: false, consuming: true };
    let Ok(MediaReply::Transport { id, ice_parameters, ice_candidates, dtls_parameters, sctp_parameters }) =
        agent.ask(request(false)).await
    else {
        panic!("no transport")
    };
    assert_eq!(ice_parameters["iceLite"], true);
    assert_eq!(dtls_parameters["role"], "auto");
    assert_eq!(sctp_parameters["maxMessageSize"], 262_144);
    let candidates: Vec<_> = ice_candidates
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["protocol"].clone(), one["address"].clone(), one["port"].clone(), one["type"].clone()))
        .collect();
    let port = agent.hello.media_port;
    let expected = |protocol, address| (json!(protocol), json!(address), json!(port), json!("host"));
    assert_eq!(
        candidates,
        [
            expected("udp", "203.0.113.7"),
            expected("tcp", "203.0.113.7"),
            expected("udp", "media.example"),
            expected("tcp", "media.example"),
        ]
    );

    agent.done(MediaRequest::ConnectTransport { transport: id.clone(), dtls_parameters: dtls() }).await;
    let restarted = agent.ask(MediaRequest::RestartIce { transport: id.clone() }).await;
    let Ok(MediaReply::Parameters(restarted)) = restarted else { panic!("no parameters: {restarted:?}") };
    assert_ne!(restarted["usernameFragment"], ice_parameters["usernameFragment"]);

    let stats = agent.ask(MediaRequest::GetStats { what: Object::Transport(id) }).await;
    let Ok(MediaReply::Stats(stats)) = stats else { panic!("no statistics: {stats:?}") };
    assert_eq!(stats[0]["type"], "webrtc-transport");
    assert_eq!(stats[0]["iceState"], "new");

    let Ok(MediaReply::Transport { ice_candidates, .. }) = agent.ask(request(true)).await else { panic!("none") };
    assert!(ice_candidates.as_array().expect("a list").iter().all(|one| one["protocol"] == "tcp"), "{ice_candidates}");
}

#[tokio::test]
async fn two_rooms_are_apart() {
    let mut agent = Agent::start().await;
    let capabilities = agent.open("a").await;
    agent.open("b").await;
    let (in_a, in_b) = (agent.transport("a").await, agent.transport("b").await);
    let producer = agent.produce(&in_a, StreamKind::Audio, 1).await;
    let consume = MediaRequest::Consume { transport: in_b.clone(), producer, rtp_capabilities: capabilities };
    agent.fails(consume, MediaErrorCode::NotFound).await;

    agent.done(MediaRequest::CloseRoom { room: room("a") }).await;
    agent.fails(MediaRequest::RestartIce { transport: in_a }, MediaErrorCode::NotFound).await;
    agent.produce(&in_b, StreamKind::Video, 2).await;
    let load = agent.describe().await;
    assert_eq!(load.rooms, [RoomLoad { room: room("b"), transports: 1, producers: 1, consumers: 0 }]);
    assert!(load.memory_bytes > 1_000_000, "{load:?}");
}

#[tokio::test]
async fn a_closed_rooms_name_is_free_at_once() {
    let mut agent = Agent::start().await;
    agent.open("a").await;
    let transport = agent.transport("a").await;
    let closing = agent.send(MediaRequest::CloseRoom { room: room("a") }).await;
    let opening = agent.send(MediaRequest::OpenRoom { room: room("a"), codecs: codecs() }).await;
    // The two rooms answer for themselves, in any order.
    let answers = agent.answers(&[closing, opening]).await;
    assert_eq!(answers[0], Ok(MediaReply::Done));
    assert!(matches!(answers[1], Ok(MediaReply::Room { .. })), "{answers:?}");
    agent.fails(MediaRequest::CloseTransport { transport }, MediaErrorCode::NotFound).await;
    assert_eq!(agent.describe().await.rooms.len(), 1);
    agent.fails(MediaRequest::CloseRoom { room: room("never") }, MediaErrorCode::NotFound).await;
}

#[tokio::test]
async fn two_hundred_rooms_leave_nothing_behind() {
    let mut agent = Agent::start().await;
    let mut memory = Vec::new();
    for _ in 0..4 {
        for number in 0..200 {
            let name = format!("room {number}");
            let capabilities = agent.open(&name).await;
            let transport = agent.transport(&name).await;
            let producer = agent.produce(&transport, StreamKind::Audio, 7).await;
            agent.consume(&transport, &producer, &capabilities).await;
        }
        let load = agent.describe().await;
        assert_eq!(load.rooms.len(), 200);
        assert!(load.rooms.iter().all(|room| (room.transports, room.producers, room.consumers) == (1, 1, 1)));
        assert!(load.cpu_ms > 0);
        for number in 0..200 {
            agent.done(MediaRequest::CloseRoom { room: room(&format!("room {number}")) }).await;
        }
        let load = agent.describe().await;
        assert!(load.rooms.is_empty());
        memory.push(load.memory_bytes);
    }
    // The first round fills allocators and caches; after it nothing grows by as much as one room a round would.
    let grown = memory[3].saturating_sub(memory[1]);
    assert!(grown < 8 * 1024 * 1024, "{memory:?}");
}
