//! Synthetic media answers and cascades as real media does.

use roost_proto::id::RoomKey;
use roost_proto::media::{MediaEvent, Object, StreamKind};
use serde_json::json;

use super::*;

#[tokio::test]
async fn what_is_produced_is_consumed_and_closes_with_its_producer() {
    let media = Synthetic::new(1);
    let mut events = media.events();
    let key = open(&media, "a").await;
    let sending = transport(&media, &key).await;
    let receiving = transport(&media, &key).await;
    let producer = produce(&media, &sending).await;
    let consumer = consume(&media, &receiving, &producer).await.expect("fits");
    ask(&media, MediaRequest::Resume { what: Object::Consumer(consumer.clone()) }).await.expect("is there");
    assert!(matches!(event(&mut events).await, MediaEvent::ProducerScore { .. }));
    assert!(matches!(event(&mut events).await, MediaEvent::ConsumerScore { .. }));
    ask(&media, MediaRequest::Pause { what: Object::Producer(producer.clone()) }).await.expect("is there");
    assert_eq!(event(&mut events).await, MediaEvent::ConsumerPaused { consumer: consumer.clone() });
    let MediaReply::Stats(stats) =
        ask(&media, MediaRequest::GetStats { what: Object::Consumer(consumer.clone()) }).await.expect("is there")
    else {
        panic!("not stats");
    };
    assert_eq!(stats[0]["synthetic"], true);
    ask(&media, MediaRequest::CloseTransport { transport: sending }).await.expect("is there");
    assert_eq!(event(&mut events).await, MediaEvent::ConsumerClosed { consumer: consumer.clone() });
    let gone = ask(&media, MediaRequest::Resume { what: Object::Consumer(consumer) }).await;
    assert_eq!(gone.expect_err("closed").code, MediaErrorCode::NotFound);
}

#[tokio::test]
async fn rooms_do_not_meet_and_capabilities_must_fit() {
    let media = Synthetic::new(1);
    let (key, other) = (open(&media, "a").await, open(&media, "b").await);
    let sending = transport(&media, &key).await;
    let producer = produce(&media, &sending).await;
    let foreign = transport(&media, &other).await;
    assert_eq!(consume(&media, &foreign, &producer).await.expect_err("another room").code, MediaErrorCode::NotFound);
    let request = MediaRequest::Consume {
        transport: sending,
        producer,
        rtp_capabilities: json!({"codecs": [{"mimeType": "video/AV1"}]}),
    };
    assert_eq!(ask(&media, request).await.expect_err("no codec").code, MediaErrorCode::CannotConsume);
}

#[tokio::test]
async fn a_worker_that_crashed_answers_failed_and_forgets_its_rooms() {
    let media = Synthetic::new(2);
    let mut events = media.events();
    let key = open(&media, "a").await;
    media.crash(0).await;
    assert_eq!(events.recv().await, Some((0, Notice::Down)));
    let create = MediaRequest::CreateTransport { room: key, force_tcp: false, producing: true, consuming: false };
    assert_eq!(ask(&media, create.clone()).await.expect_err("down").code, MediaErrorCode::Failed);
    let states: Vec<_> = media.workers().iter().map(|worker| worker.state).collect();
    assert_eq!(states, [WorkerState::Down, WorkerState::Up]);
    media.restart(0).await;
    assert_eq!(ask(&media, create).await.expect_err("forgotten").code, MediaErrorCode::NotFound);
    assert!(media.events().recv().await.is_none(), "events are given once");
}

#[test]
fn ids_look_like_random_uuids() {
    let media = Synthetic::new(1);
    let (one, other) = (media.new_id(), media.new_id());
    assert_ne!(one, other);
    let lengths: Vec<_> = one.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
}

async fn ask(media: &Synthetic, request: MediaRequest) -> Result<MediaReply, MediaError> {
    media.request(0, request).await
}

async fn open(media: &Synthetic, room: &str) -> RoomKey {
    let room = RoomKey::new("default", room).expect("valid");
    let codecs = json!([{"mimeType": "audio/opus", "clockRate": 48000, "channels": 2}]);
    let reply = ask(media, MediaRequest::OpenRoom { room: room.clone(), codecs }).await.expect("up");
    assert!(matches!(reply, MediaReply::Room { .. }));
    room
}

async fn transport(media: &Synthetic, room: &RoomKey) -> String {
    let room = room.clone();
    let request = MediaRequest::CreateTransport { room, force_tcp: false, producing: true, consuming: true };
    match ask(media, request).await {
        Ok(MediaReply::Transport { id, .. }) => id,
        other => panic!("{other:?}"),
    }
}

async fn produce(media: &Synthetic, transport: &str) -> String {
    let rtp_parameters = json!({"codecs": [{"mimeType": "audio/opus", "payloadType": 100}], "encodings": [{}]});
    let transport = transport.to_owned();
    let request = MediaRequest::Produce { transport, kind: StreamKind::Audio, rtp_parameters, paused: false };
    match ask(media, request).await {
        Ok(MediaReply::Produced { id, producer_type }) if producer_type == "simple" => id,
        other => panic!("{other:?}"),
    }
}

async fn consume(media: &Synthetic, transport: &str, producer: &str) -> Result<String, MediaError> {
    let request = MediaRequest::Consume {
        transport: transport.to_owned(),
        producer: producer.to_owned(),
        rtp_capabilities: json!({"codecs": [{"mimeType": "audio/opus"}]}),
    };
    match ask(media, request).await? {
        MediaReply::Consumed { id, .. } => Ok(id),
        other => panic!("{other:?}"),
    }
}

async fn event(events: &mut mpsc::Receiver<(u16, Notice)>) -> MediaEvent {
    match events.recv().await {
        Some((_, Notice::Event(event))) => event,
        other => panic!("{other:?}"),
    }
}
