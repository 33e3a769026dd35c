//! Rooms on a real worker, looked at from inside: what the protocol does not show.

use std::collections::{HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use mediasoup::direct_transport::DirectTransportOptions;
use serde_json::json;

use super::*;
use crate::event::Letters;
use crate::producer::RoomProducer;
use crate::rooms::Rooms;
use roost_proto::media::{FromMedia, StreamKind, ToMedia};

/// Long enough on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn closed_rooms_leave_nothing_in_the_worker() {
    let worker = worker().await;
    let (outbox, mut letters) = Outbox::new();
    let mut rooms = Rooms::new(Arc::clone(&worker), outbox);
    let before = handlers(&worker).await;
    for number in 0..200_u64 {
        let room = RoomKey::new("default", format!("{number}")).expect("a valid name");
        let ask = |id, request| ToMedia { v: 1, id, request };
        rooms.take(ask(1, MediaRequest::OpenRoom { room: room.clone(), codecs: codecs() })).await;
        assert!(matches!(reply(&mut letters).await, Ok(MediaReply::Room { .. })));
        let create =
            MediaRequest::CreateTransport { room: room.clone(), force_tcp: false, producing: true, consuming: true };
        rooms.take(ask(2, create)).await;
        let Ok(MediaReply::Transport { id, .. }) = reply(&mut letters).await else { panic!("no transport") };
        let produce =
            MediaRequest::Produce { transport: id, kind: StreamKind::Audio, rtp_parameters: opus(1), paused: false };
        rooms.take(ask(3, produce)).await;
        assert!(matches!(reply(&mut letters).await, Ok(MediaReply::Produced { .. })));
        rooms.take(ask(4, MediaRequest::CloseRoom { room })).await;
        assert_eq!(reply(&mut letters).await, Ok(MediaReply::Done));
    }
    // The last closing requests are still under way when the room has answered.
    tokio::time::timeout(LIMIT, async { while handlers(&worker).await != before {} }).await.expect("all is closed");
}

#[tokio::test]
async fn who_speaks_is_told_while_speakers_come_and_go() {
    let (outbox, mut letters) = Outbox::new();
    let mut room = open(worker().await, outbox).await;
    let direct = room.router.create_direct_transport(DirectTransportOptions::default()).await.expect("a transport");
    let (mut heard, mut dominant, mut sequence) = (0, 0, 0_u16);
    let mut speakers = VecDeque::new();
    // Speakers close while the observers look at them: a handle dropped on the worker's thread would hang it here.
    let talking = async {
        for ssrc in 1.. {
            speakers.push_back((ssrc, speaker(&mut room, &direct, ssrc).await));
            for _ in 0..20 {
                sequence = sequence.wrapping_add(1);
                for (ssrc, id) in &speakers {
                    let Producer::Direct(producer) = &room.producers[id].handle else { panic!("not direct") };
                    producer.send(packet(*ssrc, sequence)).expect("the worker is there");
                }
            }
            if speakers.len() > 20 {
                let (_, first) = speakers.pop_front().expect("there are 20");
                assert!(room.close_producer(&first).await);
            }
            while let Some(message) = letters.waiting() {
                match message {
                    FromMedia::Event(MediaEvent::Volumes { volumes, .. }) => heard += volumes.len(),
                    FromMedia::Event(MediaEvent::ActiveSpeaker { producer: Some(_), .. }) => dominant += 1,
                    _ => {}
                }
            }
            if heard > 0 && dominant > 0 && ssrc > 300 {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, talking).await.expect("both were told, and the worker answers");
}

async fn worker() -> Arc<MediaWorker> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Arc::new(MediaWorker::start(address, Vec::new()).await.expect("a worker"))
}

/// How many objects the worker itself knows.
async fn handlers(worker: &MediaWorker) -> (usize, usize) {
    let dump = worker.worker().dump().await.expect("the worker answers");
    (dump.router_ids.len(), dump.channel_message_handlers.channel_request_handlers.len())
}

async fn open(worker: Arc<MediaWorker>, outbox: Outbox) -> Room {
    let key = RoomKey::new("default", "a").expect("a valid name");
    let settings = Settings { key, worker, outbox, size: Arc::default(), names: Names::nowhere() };
    Room::open(settings, codecs()).await.expect("a room")
}

async fn speaker(room: &mut Room, direct: &DirectTransport, ssrc: u32) -> String {
    let parameters = parameter::rtp_parameters(StreamKind::Audio, opus(ssrc)).expect("valid");
    let handle = direct.produce(ProducerOptions::new(MediaKind::Audio, parameters)).await.expect("a producer");
    let watched = || RtpObserverAddProducerOptions::new(handle.id());
    room.volumes.add_producer(watched()).await.expect("watched");
    room.speaker.add_producer(watched()).await.expect("watched");
    let id = handle.id().to_string();
    let (transport, consumers) = (String::new(), HashSet::new());
    room.producers.insert(id.clone(), RoomProducer { handle, transport, consumers });
    id
}

async fn reply(letters: &mut Letters) -> Result<MediaReply, MediaError> {
    loop {
        match tokio::time::timeout(LIMIT, letters.next()).await.expect("an answer in time") {
            Some(FromMedia::Reply { result, .. }) => return result,
            Some(_) => {}
            None => panic!("the outbox is gone"),
        }
    }
}

fn codecs() -> Value {
    json!([{"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2}])
}

fn opus(ssrc: u32) -> Value {
    json!({
        "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
        "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 1}],
        "encodings": [{"ssrc": ssrc}],
    })
}

/// An RTP packet of someone who speaks loudly: -10 dBov in the audio level extension.
fn packet(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x90, 111];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 960).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xBE, 0xDE, 0, 1, 0x10, 0x80 | 10, 0, 0]);
    packet.extend([0x55; 40]);
    packet
}
