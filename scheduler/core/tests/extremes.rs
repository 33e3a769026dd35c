//! Whatever numbers nodes tell: nothing panics, no sum runs over, and lookups get an answer.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation, NodeId, Region, RoomKey};
use roost_proto::policy;
use roost_proto::report::{
    Capacity, Description, EndedRoom, Host, MediaKind, Mode, Report, RoomReport, Worker, WorkerState,
};
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::time::Millis;
use roost_scheduler_core::explain;
use roost_scheduler_core::join::{Evidence, decide};
use roost_scheduler_core::request::Request;
use roost_scheduler_core::view::View;

/// After the grace of a store's first run, on a clock that is young.
const READY: Millis = Millis(5_000);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_numbers_are_folded_and_looked_up(
        events in proptest::collection::vec((event(), 0u64..3_000), 1..40),
        hint in proptest::option::of(small()),
    ) {
        let mut view = view();
        let mut now = READY;
        for (event, passed_ms) in events {
            now = now.plus(passed_ms);
            view.tick(now);
            view.apply(event, now);
            for number in 0..3 {
                let key = room(number);
                let request = Request { hint, alternatives: 2, ..Request::new(&key, &policy::DEFAULT) };
                let _ = decide(&view, &request, &Evidence::default(), now);
                let _ = explain::ranking(&view, &request);
            }
        }
        let shown: Vec<_> = view.nodes(None).map(|(_, node)| view.node_view(node, now.0, now)).collect();
        let totals = view.totals();
        let counts = totals.nodes;
        prop_assert_eq!(shown.len(), (counts.alive + counts.suspect + counts.lost) as usize);
        let living = shown.iter().filter(|node| node.state != roost_proto::admin::NodeState::Lost);
        let participants: u64 = living.map(|node| u64::from(node.participants)).sum();
        prop_assert_eq!(u64::from(totals.participants), participants.min(u32::MAX.into()), "the total is cut");
        prop_assert!(shown.iter().all(|node| node.load.worst_permille <= 10_000));
    }
}

fn view() -> View {
    let mut view = View::new(Millis(0));
    view.listen(Millis(0));
    for bucket in 0..BUCKETS {
        view.see_run(bucket, &Run("r1".into()), Millis(0));
    }
    for now in (0..READY.0).step_by(250) {
        view.tick(Millis(now));
    }
    view
}

fn room(number: u8) -> RoomKey {
    RoomKey::new("default", format!("r{number}")).unwrap()
}

fn node(number: u8) -> NodeId {
    NodeId::new(format!("n{number}")).unwrap()
}

/// Ordinary numbers, and the largest.
fn large() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..50, any::<u64>(), Just(u64::MAX), Just(u64::MAX - 1), Just((1 << 52) - 1), Just(0)]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..50, any::<u32>(), Just(u32::MAX), Just(0)]
}

fn event() -> impl Strategy<Value = Event> {
    let claim = (0u8..3, 0u8..3, large(), large(), any::<bool>(), large(), small(), small());
    let claimed = claim.prop_map(|(key, of, epoch, incarnation, is_open, ttl_ms, participants, hint)| {
        let state = if is_open { ClaimState::Open } else { ClaimState::Granted };
        let run = Run("r1".into());
        let claim = Claim { run, epoch: Epoch(epoch), state, node: node(of), incarnation: Incarnation(incarnation) };
        Event::Claimed {
            key: room(key),
            claim,
            ttl_ms,
            expected: Expected { participants, hint, age_ms: 0 },
            handed_over: false,
        }
    });
    let released = (0u8..3, large()).prop_map(|(key, epoch)| Event::Released { key: room(key), epoch: Epoch(epoch) });
    let left = (0u8..3, large())
        .prop_map(|(of, incarnation)| Event::Left { node: node(of), incarnation: Incarnation(incarnation) });
    prop_oneof![4 => report().prop_map(|report| Event::Reported(Box::new(report))), 2 => claimed, 1 => released, 1 => left]
}

fn report() -> impl Strategy<Value = Report> {
    let order = (0u8..3, large(), large(), large(), any::<bool>(), any::<i32>());
    let totals = (small(), small(), small());
    let rooms = proptest::collection::vec((0u8..3, large(), small(), any::<bool>()), 0..4);
    let workers = proptest::collection::vec((small(), large()), 0..3);
    (order, totals, host(), capacity(), rooms, workers).prop_map(|(order, totals, host, capacity, rooms, workers)| {
        let (of, incarnation, seq, lease_ms, full, priority) = order;
        let (ended, changed): (Vec<_>, Vec<_>) = rooms.into_iter().partition(|(_, _, _, has_ended)| *has_ended);
        let changed = changed.into_iter().map(|(key, epoch, count, _)| RoomReport {
            key: room(key),
            epoch: Epoch(epoch),
            worker: 0,
            participants: count,
            producers: count,
            consumers: count,
        });
        let ended = ended.into_iter().map(|(key, epoch, ..)| EndedRoom { key: room(key), epoch: Epoch(epoch) });
        Report {
            v: 1,
            node: node(of),
            incarnation: Incarnation(incarnation),
            seq,
            lease_ms,
            description: description(capacity, priority),
            mode: Mode::Serving,
            steering: None,
            host,
            workers: workers.into_iter().map(worker).collect(),
            rooms: totals.0,
            participants: totals.1,
            streams: totals.2,
            full,
            changed: changed.collect(),
            ended: ended.collect(),
        }
    })
}

fn description(capacity: Capacity, priority: i32) -> Description {
    Description {
        region: Region::new("eu").unwrap(),
        carriers: vec![],
        namespaces: vec![],
        priority,
        signaling_url: "wss://node.example/signaling".to_owned(),
        link_url: "wss://node.example/link".to_owned(),
        media: MediaKind::Synthetic,
        capacity,
        temporary: false,
        version: "0.1.0".to_owned(),
    }
}

fn host() -> impl Strategy<Value = Host> {
    let numbers = (small(), small(), large(), large(), large(), large());
    numbers.prop_map(|(cpu_permille, cpus, used, total, rx, tx)| Host {
        cpu_permille,
        cpus,
        memory_used_bytes: used,
        memory_total_bytes: total,
        network_rx_bps: rx,
        network_tx_bps: tx,
        disk_used_bytes: used,
        disk_total_bytes: total,
    })
}

fn capacity() -> impl Strategy<Value = Capacity> {
    let numbers = (small(), small(), small(), large(), small(), small());
    numbers.prop_map(|(participants, rooms, streams, bandwidth_bps, cpu_permille, memory_permille)| Capacity {
        participants,
        rooms,
        streams,
        bandwidth_bps,
        cpu_permille,
        memory_permille,
    })
}

fn worker((count, memory_bytes): (u32, u64)) -> Worker {
    Worker {
        index: 0,
        state: WorkerState::Up,
        restarts: count,
        cpu_permille: count,
        memory_bytes,
        rooms: count,
        participants: count,
        producers: count,
        consumers: count,
    }
}
