//! Pins the wire format: each message as it is written stands in `proto/golden/`, and is read back the same.
//!
//! `ROOST_ACCEPT=1 cargo test -p roost-proto` writes the files anew; the difference is then a change of the format.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod pin;

use std::collections::BTreeMap;
use std::sync::Arc;

use roost_proto::admin::{
    ClusterView, DrainRequest, DrainView, Load, ModeRequest, NodeCounts, NodeState, NodeView, Page, SchedulerView,
    StoreView, StuckRooms,
};
use roost_proto::command::{Action, Command};
use roost_proto::error::{Code, Problem, Reason, ReasonCount, Rejection};
use roost_proto::event::Event;
use roost_proto::explain::{Candidate, ExplainReply, ExplainRequest, Standing};
use roost_proto::id::{Carrier, Epoch, Incarnation, NamespaceId, NodeId, Region, RoomKey, RoomName};
use roost_proto::link::Acting;
use roost_proto::lookup::{Alternative, Client, LookupReply, LookupRequest, NodeAddress, Outcome};
use roost_proto::media::{
    FromMedia, Hello, MediaError, MediaErrorCode, MediaEvent, MediaLoad, MediaReply, MediaRequest, Object, RoomLoad,
    StreamKind, ToMedia, Volume,
};
use roost_proto::policy::Rung;
use roost_proto::redirect::{Redirect, SoraClient, SoraServer};
use roost_proto::report::{
    Capacity, Description, EndedRoom, Host, MediaKind, Mode, Report, RoomReport, Worker, WorkerState,
};
use roost_proto::room::{Claim, ClaimState, Expected, RoomView, Run};
use roost_proto::steer::{Drain, DrainState, Steering};
use serde_json::{Value, json};

use pin::pin;

#[test]
fn reports_commands_and_events_keep_their_format() {
    pin("report", &report());
    pin(
        "command-report-all",
        &Command { v: 1, incarnation: Incarnation(1_790_000_000_000), action: Action::ReportAll },
    );
    let close = Action::CloseRoom { key: key(), epoch: Epoch(1_790_000_000_007) };
    pin("command-close-room", &Command { v: 1, incarnation: Incarnation(1_790_000_000_000), action: close });
    let move_room = Action::MoveRoom {
        key: key(),
        epoch: Epoch(1_790_000_000_007),
        to: node("iad-1"),
        to_incarnation: Incarnation(1_790_000_000_900),
        signaling_url: "wss://iad-1.example/signaling".to_owned(),
        ttl_ms: 30_000,
    };
    pin("command-move-room", &Command { v: 1, incarnation: Incarnation(1_790_000_000_000), action: move_room });
    let (incarnation, address) = (Incarnation(1_790_000_000_000), "10.0.0.7:7412".parse().unwrap());
    pin("link-acting", &Acting { v: 1, node: node("fra-1"), incarnation, address });
    let claim = Claim {
        run: Run(Arc::from("4fd1-1")),
        epoch: Epoch(1_790_000_000_007),
        state: ClaimState::Granted,
        node: node("fra-1"),
        incarnation: Incarnation(1_790_000_000_000),
    };
    let expected = Expected { participants: 12, hint: 15, age_ms: 0 };
    for (name, handed_over) in [("event-claimed", false), ("event-handed-over", true)] {
        pin(name, &Event::Claimed { key: key(), claim: claim.clone(), ttl_ms: 30_000, expected, handed_over });
    }
    pin("event-released", &Event::Released { key: key(), epoch: Epoch(1_790_000_000_007) });
    pin("event-reported", &Event::Reported(Box::new(report())));
    pin("event-left", &Event::Left { node: node("fra-1"), incarnation: Incarnation(1_790_000_000_000) });
    pin("event-steered", &Event::Steered { node: node("fra-1"), steering: steering() });
    pin("event-purged", &Event::Purged { node: node("fra-1") });
}

#[test]
fn lookups_rooms_and_problems_keep_their_format() {
    let request = LookupRequest {
        user_id: Some("u1".parse().unwrap()),
        region: Some(region("eu/central")),
        carrier: Some(Carrier::new("telekom").unwrap()),
        client_ip: Some("203.0.113.9".parse().unwrap()),
        expected_participants: Some(12),
        avoid: vec![node("fra-2")],
        alternatives: 2,
        request_id: Some("r-1".parse().unwrap()),
    };
    pin("lookup-request", &request);
    let reply = LookupReply {
        namespace: NamespaceId::new("default").unwrap(),
        room: RoomName::new("standup").unwrap(),
        outcome: Outcome::Placed,
        node: NodeAddress {
            id: node("fra-1"),
            region: region("eu/central"),
            signaling_url: "wss://fra-1.example/signaling".into(),
        },
        epoch: Epoch(1_790_000_000_007),
        ticket: "…".into(),
        ttl_ms: 30_000,
        client: Client {
            ip: Some("203.0.113.9".parse().unwrap()),
            region: Some(region("eu/central")),
            carrier: Some(Carrier::new("telekom").unwrap()),
        },
        alternatives: vec![Alternative { id: node("fra-2"), signaling_url: "wss://fra-2.example/signaling".into() }],
    };
    pin("lookup-reply", &reply);
    pin("room", &room_view());
    let mut problem = Problem::new(Code::NoNode, "none of 2 nodes can take the room");
    problem.request_id = Some("r-1".parse().unwrap());
    problem.rejections = vec![Rejection { node: node("fra-1"), reason: Reason::FullRooms }];
    problem.rejection_counts = vec![ReasonCount { reason: Reason::FullRooms, count: 1 }];
    pin("problem", &problem);
}

#[test]
fn redirects_keep_their_format_in_both_dialects() {
    let redirect = Redirect {
        location: "wss://fra-1.example/signaling?roomId=standup&peerId=p1&namespace=default&ticket=t&redirects=1"
            .into(),
        node: node("fra-1"),
        epoch: Epoch(1_790_000_000_007),
        ticket: "t".into(),
    };
    pin("redirect-protoo", &redirect);
    pin("sora-connect", &SoraClient::Connect { channel_id: "standup".into(), redirect: false });
    pin("sora-redirect", &SoraServer::Redirect { location: redirect.location });
    pin("sora-error", &SoraServer::Error { problem: Problem::new(Code::TooManyRedirects, "3 redirects, at most 3") });
}

#[test]
fn admin_answers_keep_their_format() {
    let report = report();
    pin("mode-request", &ModeRequest { mode: Mode::BlockNewRooms });
    pin("drain-request", &DrainRequest { deadline_s: 60, move_rooms: true });
    assert_eq!(
        serde_json::from_str::<DrainRequest>("{}").unwrap(),
        DrainRequest { deadline_s: 600, move_rooms: false }
    );
    let view = NodeView {
        id: report.node,
        state: NodeState::Alive,
        mode: report.mode,
        incarnation: report.incarnation,
        description: report.description,
        load: Load { cpu_permille: 250, worst_permille: 250, ..Load::default() },
        reserved_permille: 40,
        standing: Standing::Distrusted,
        distrusted: vec!["host.cpu_permille 5000: expected at most 1100".into()],
        rooms: 1,
        participants: 3,
        streams: 12,
        workers: report.workers,
        host: report.host,
        report_age_ms: 400,
        drain: Some(DrainView {
            state: DrainState::Running,
            rooms_left: 1,
            participants_left: 3,
            deadline_s: 577,
            move_rooms: false,
            lost: false,
            stuck: Some(vec![StuckRooms {
                code: Code::NoNode,
                rooms: 1,
                reasons: BTreeMap::from([(Reason::WrongNamespace, 1)]),
            }]),
        }),
    };
    pin("nodes", &Page { items: vec![view], next_cursor: Some("fra-1".into()) });
    pin("rooms", &Page { items: vec![room_view()], next_cursor: None });
    let cluster = ClusterView {
        scheduler: "s1".into(),
        version: "0.1.0".into(),
        ready: false,
        schedulers: vec![SchedulerView {
            id: "s1".into(),
            cluster_url: "http://127.0.0.1:7402".into(),
            version: "0.1.0".into(),
        }],
        store: StoreView { kind: "redis".into(), reachable: true },
        nodes: NodeCounts { alive: 3, suspect: 0, lost: 1, maintenance: 1 },
        rooms: 1,
        participants: 3,
        grace_left_ms: Some(1_200),
        brake_left_ms: Some(29_000),
    };
    pin("cluster", &cluster);
}

#[test]
fn dry_runs_keep_their_format() {
    let (namespace, room) = (NamespaceId::new("default").unwrap(), RoomName::new("standup").unwrap());
    let client = Client {
        ip: Some("203.0.113.9".parse().unwrap()),
        region: Some(region("eu/central")),
        carrier: Some(Carrier::new("telekom").unwrap()),
    };
    let lookup = LookupRequest {
        region: client.region.clone(),
        carrier: client.carrier.clone(),
        expected_participants: Some(12),
        avoid: vec![node("fra-2")],
        ..LookupRequest::default()
    };
    pin("explain-request", &ExplainRequest { namespace: namespace.clone(), room: room.clone(), lookup });
    let candidate = Candidate {
        node: node("fra-1"),
        standing: Standing::Sound,
        rung: Rung::RegionCarrier,
        region_missing: 0,
        other_carrier: false,
        priority: 0,
        load_band: 31,
        spread: 7_465_342_107_394_621_440,
        load_permille: 240,
        reserved_permille: 12,
    };
    let reply = ExplainReply {
        namespace,
        room,
        outcome: Some(Outcome::Placed),
        code: None,
        node: Some(node("fra-1")),
        rung: Some(Rung::RegionCarrier),
        expected_participants: 12,
        client,
        candidates: vec![candidate],
        rejections: vec![Rejection { node: node("fra-2"), reason: Reason::Avoided }],
        candidate_count: 1,
        rejection_counts: vec![ReasonCount { reason: Reason::Avoided, count: 1 }],
        next_cursor: Some("7b7d".into()),
    };
    pin("explain-reply", &reply);
    let refused = ExplainReply {
        outcome: None,
        code: Some(Code::NoNode),
        node: None,
        rung: None,
        candidates: vec![],
        candidate_count: 0,
        next_cursor: None,
        ..reply
    };
    pin("explain-refused", &refused);
}

#[test]
fn the_media_protocol_keeps_its_format() {
    let ask = |request| ToMedia { v: 1, id: 7, request };
    let params = json!({"any": ["thing", 1]});
    let requests = [
        MediaRequest::OpenRoom { room: key(), codecs: params.clone() },
        MediaRequest::CloseRoom { room: key() },
        MediaRequest::CreateTransport { room: key(), force_tcp: false, producing: true, consuming: false },
        MediaRequest::ConnectTransport { transport: "t1".into(), dtls_parameters: params.clone() },
        MediaRequest::RestartIce { transport: "t1".into() },
        MediaRequest::CloseTransport { transport: "t1".into() },
        MediaRequest::Produce {
            transport: "t1".into(),
            kind: StreamKind::Video,
            rtp_parameters: params.clone(),
            paused: false,
        },
        MediaRequest::Consume { transport: "t2".into(), producer: "p1".into(), rtp_capabilities: params.clone() },
        MediaRequest::ProduceData {
            transport: "t1".into(),
            sctp_stream_parameters: params.clone(),
            label: "chat".into(),
            protocol: String::new(),
        },
        MediaRequest::ConsumeData { transport: "t2".into(), data_producer: "d1".into() },
        MediaRequest::Close { what: Object::Producer("p1".into()) },
        MediaRequest::Pause { what: Object::Consumer("c1".into()) },
        MediaRequest::Resume { what: Object::Consumer("c1".into()) },
        MediaRequest::SetPreferredLayers { consumer: "c1".into(), spatial_layer: 2, temporal_layer: Some(1) },
        MediaRequest::SetPriority { consumer: "c1".into(), priority: 2 },
        MediaRequest::RequestKeyFrame { consumer: "c1".into() },
        MediaRequest::GetStats { what: Object::Transport("t1".into()) },
        MediaRequest::Describe,
    ];
    pin("media-requests", &requests.map(ask).to_vec());
    let hello = Hello {
        v: 1,
        media: MediaKind::Mediasoup,
        worker: 1,
        pid: 4242,
        media_port: 44_401,
        version: "mediasoup 0.33.1".into(),
    };
    let mut lines = vec![FromMedia::Hello(hello)];
    lines.extend(media_replies(&params).map(|reply| FromMedia::Reply { id: 7, result: Ok(reply) }));
    let refused = MediaError::new(MediaErrorCode::CannotConsume, "capabilities do not fit");
    lines.push(FromMedia::Reply { id: 8, result: Err(refused) });
    lines.extend(media_events(&params).map(FromMedia::Event));
    pin("media-lines", &lines);
}

#[test]
fn fields_of_a_later_version_are_ignored() {
    let mut value = serde_json::to_value(report()).unwrap();
    value["from_the_future"] = json!({"x": 1});
    value["description"]["from_the_future"] = json!(1);
    value["changed"][0]["from_the_future"] = json!(1);
    assert_eq!(serde_json::from_value::<Report>(value).unwrap(), report());
    let later = json!({"v": 2, "incarnation": 1, "action": "dance", "tempo": 120});
    assert_eq!(serde_json::from_value::<Command>(later).unwrap().action, Action::Unknown);
}

fn node(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn region(text: &str) -> Region {
    Region::new(text).unwrap()
}

fn key() -> RoomKey {
    RoomKey::new("default", "standup").unwrap()
}

fn room_view() -> RoomView {
    RoomView {
        namespace: NamespaceId::new("default").unwrap(),
        room: RoomName::new("standup").unwrap(),
        state: ClaimState::Open,
        node: node("fra-1"),
        worker: Some(2),
        epoch: Epoch(1_790_000_000_007),
        participants: 3,
        edges: vec![node("iad-1")],
    }
}

fn steering() -> Steering {
    let drain = Drain {
        deadline_store_ms: 1_790_000_600_000,
        move_rooms: true,
        before: Mode::Serving,
        state: DrainState::Finished,
        lost: true,
    };
    Steering { plan: 1_790_000_000_003, mode: Mode::Maintenance, drain: Some(drain) }
}

fn report() -> Report {
    Report {
        v: 1,
        node: node("fra-1"),
        incarnation: Incarnation(1_790_000_000_000),
        seq: 42,
        lease_ms: 4_000,
        description: Description {
            region: region("eu/central"),
            carriers: vec![Carrier::new("telekom").unwrap()],
            namespaces: vec![NamespaceId::new("default").unwrap()],
            priority: 0,
            signaling_url: "wss://fra-1.example/signaling".into(),
            link_url: "wss://fra-1.example:7412".into(),
            media: MediaKind::Mediasoup,
            capacity: Capacity {
                participants: 200,
                rooms: 0,
                streams: 0,
                bandwidth_bps: 1_000_000_000,
                cpu_permille: 950,
                memory_permille: 950,
            },
            temporary: false,
            version: "0.1.0".into(),
        },
        mode: Mode::Serving,
        steering: Some(Steering { mode: Mode::Serving, drain: None, ..steering() }),
        host: Host {
            cpu_permille: 250,
            cpus: 8,
            memory_used_bytes: 1 << 30,
            memory_total_bytes: 1 << 34,
            network_rx_bps: 12_000_000,
            network_tx_bps: 48_000_000,
            disk_used_bytes: 1 << 33,
            disk_total_bytes: 1 << 36,
        },
        workers: vec![Worker {
            index: 0,
            state: WorkerState::Up,
            restarts: 0,
            cpu_permille: 310,
            memory_bytes: 90_000_000,
            rooms: 1,
            participants: 3,
            producers: 6,
            consumers: 12,
        }],
        rooms: 1,
        participants: 3,
        streams: 18,
        full: false,
        changed: vec![RoomReport {
            key: key(),
            epoch: Epoch(1_790_000_000_007),
            worker: 0,
            participants: 3,
            producers: 6,
            consumers: 12,
        }],
        ended: vec![EndedRoom { key: RoomKey::new("default", "over").unwrap(), epoch: Epoch(1_790_000_000_003) }],
    }
}

fn media_replies(params: &Value) -> [MediaReply; 10] {
    [
        MediaReply::Done,
        MediaReply::Room { rtp_capabilities: params.clone() },
        MediaReply::Transport {
            id: "t1".into(),
            ice_parameters: params.clone(),
            ice_candidates: params.clone(),
            dtls_parameters: params.clone(),
            sctp_parameters: params.clone(),
        },
        MediaReply::Parameters(params.clone()),
        MediaReply::Produced { id: "p1".into(), producer_type: "simulcast".into() },
        MediaReply::Consumed {
            id: "c1".into(),
            kind: StreamKind::Audio,
            rtp_parameters: params.clone(),
            consumer_type: "simple".into(),
            producer_paused: false,
            score: params.clone(),
        },
        MediaReply::DataProduced { id: "d1".into() },
        MediaReply::DataConsumed {
            id: "e1".into(),
            sctp_stream_parameters: params.clone(),
            label: "chat".into(),
            protocol: String::new(),
        },
        MediaReply::Stats(params.clone()),
        MediaReply::Described(MediaLoad {
            cpu_ms: 1_234,
            memory_bytes: 90_000_000,
            rooms: vec![RoomLoad { room: key(), transports: 2, producers: 1, consumers: 1 }],
        }),
    ]
}

fn media_events(params: &Value) -> [MediaEvent; 11] {
    [
        MediaEvent::ProducerScore { producer: "p1".into(), score: params.clone() },
        MediaEvent::ConsumerScore { consumer: "c1".into(), score: params.clone() },
        MediaEvent::ConsumerLayers { consumer: "c1".into(), layers: Value::Null },
        MediaEvent::ConsumerPaused { consumer: "c1".into() },
        MediaEvent::ConsumerResumed { consumer: "c1".into() },
        MediaEvent::ConsumerClosed { consumer: "c1".into() },
        MediaEvent::DataConsumerClosed { data_consumer: "e1".into() },
        MediaEvent::Volumes { room: key(), volumes: vec![Volume { producer: "p1".into(), volume: -40 }] },
        MediaEvent::ActiveSpeaker { room: key(), producer: Some("p1".into()) },
        MediaEvent::DownlinkBwe {
            transport: "t2".into(),
            available_bitrate_bps: 3_000_000,
            desired_bitrate_bps: 2_000_000,
            effective_desired_bitrate_bps: 2_000_000,
        },
        MediaEvent::TransportClosed { transport: "t2".into() },
    ]
}
