//! Traces as runs: who was there, came, left and was refused.

use roost_proto::policy::Rung;
use roost_sim::replay::{self, Namespaces, Outcome, Replay};
use roost_sim::trace;
use serde_json::{Value, json};

#[test]
fn rooms_that_were_there_stay_where_they_were_and_others_are_placed() {
    let replay = read(&[
        node(0, "a", 0, 2),
        node(0, "b", 0, 2),
        room(0, "old", "a", 40),
        lookup(20_000, "new", json!({ "outcome": "placed", "node": "a", "rung": "anywhere" })),
        room(20_900, "new", "a", 1),
        room(30_000, "old", "a", 38),
        node(90_000, "a", 39, 80),
    ]);
    let Outcome { figures, nodes, .. } = replay.run(2, |_, _| {});
    assert_eq!((replay.recorded.nodes[0].placed, replay.recorded.nodes[0].most), (1, 41));
    assert_eq!((nodes[0].most, nodes[1].most, nodes[1].placed), (40, 1, 1), "b is empty, and takes it");
    assert_eq!((figures.joins, figures.placed), (1, 1));
    assert_eq!(replay.recorded.figures.rungs, [(Rung::Anywhere, 1)].into());
}

#[test]
fn participants_come_when_they_looked_their_room_up_and_leave_when_they_left() {
    let replay = read(&[
        node(0, "a", 0, 0),
        lookup(6_000, "x", json!({ "outcome": "placed", "node": "a", "region": "eu", "expected_participants": 7 })),
        lookup(7_000, "x", json!({ "outcome": "existing", "node": "a" })),
        lookup(8_000, "x", json!({ "outcome": "existing", "node": "a" })),
        room(8_500, "x", "a", 2),
        room(60_000, "x", "a", 1),
        json!({ "line": "ended", "at_ms": 70_000, "namespace": "default", "room": "x" }),
        node(80_000, "a", 0, 0),
    ]);
    let begin = replay.plan.warm_up.0;
    let visits: Vec<_> = replay.plan.visits.iter().map(|v| (v.at.0 - begin, v.leaves_at.unwrap().0 - begin)).collect();
    assert_eq!(visits, [(6_000, 60_000), (7_000, 70_000), (8_000, 8_000)], "the third never came in");
    assert_eq!((replay.plan.rooms.len(), replay.plan.rooms[0].hint), (1, Some(7)));
    assert_eq!(replay.run(1, |_, _| {}).nodes[0].most, 2);
}

#[test]
fn a_lookup_that_led_to_nobody_is_not_taken_for_one_who_came_much_later() {
    let mut lines = vec![node(0, "a", 0, 0), lookup(6_000, "x", json!({ "outcome": "placed", "node": "a" }))];
    lines.push(room(6_500, "x", "a", 1));
    // Each minute one asks and stays away, and a minute later another one comes for 20 s.
    for minute in 1..=20 {
        lines.push(lookup(minute * 60_000, "x", json!({ "outcome": "existing", "node": "a" })));
        lines.push(lookup(minute * 60_000 + 29_000, "x", json!({ "outcome": "existing", "node": "a" })));
        lines.push(room(minute * 60_000 + 31_000, "x", "a", 2));
        lines.push(room(minute * 60_000 + 50_000, "x", "a", 1));
    }
    let replay = read(&lines);
    assert_eq!((replay.recorded.nodes[0].most, replay.run(1, |_, _| {}).nodes[0].most), (2, 2));
    let begin = replay.plan.warm_up.0;
    let second: Vec<_> =
        replay.plan.visits.iter().map(|v| v.at.0 - begin).filter(|at| (60_000..120_000).contains(at)).collect();
    assert_eq!(second, [60_000, 89_000], "both look the room up again");
}

#[test]
fn a_node_that_was_gone_is_gone_again() {
    let mut lines = vec![node(0, "a", 0, 0), node(0, "b", 0, 0)];
    lines.extend((0..6).map(|i| lookup(6_000 + i, &format!("r{i}"), json!({ "outcome": "placed", "node": "a" }))));
    lines.extend((0..6).map(|i| room(7_000, &format!("r{i}"), "a", 1)));
    lines.push(json!({ "line": "gone", "at_ms": 40_000, "node": "a" }));
    lines.push(lookup(50_000, "late", json!({ "outcome": "placed", "node": "b" })));
    lines.push(room(51_000, "late", "b", 1));
    lines.push(node(90_000, "b", 1, 0));
    let replay = read(&lines);
    let outcome = replay.run(1, |_, _| {});
    let last = &outcome.samples.last().unwrap().demand;
    assert_eq!((outcome.figures.placed, last[0], last[1]), (7, 0, 1), "all left when the node went, in both worlds");
    assert!(outcome.nodes[0].placed > 0 && outcome.nodes[1].placed > 0, "{:?}", outcome.nodes);
}

#[test]
fn who_was_refused_tries_again_and_a_changed_configuration_may_let_them_in() {
    let refused =
        json!({ "code": "no_node", "region": "eu", "rejection_counts": [{ "reason": "outside_fence", "count": 1 }] });
    let header = json!({ "namespaces": { "default": { "fence": ["cn"] } } });
    let lines = [node(0, "a", 0, 0), lookup(9_000, "x", refused), node(90_000, "a", 0, 0)];
    let trace = trace(header, &lines);
    let same = replay::read(&trace, None).unwrap();
    let reason = [("outside_fence".to_owned(), 1)].into();
    assert_eq!((&same.recorded.figures.refusals, &same.run(1, |_, _| {}).figures.refusals), (&reason, &reason));
    let open = replay::read(&trace, Some(Namespaces::default())).unwrap().run(1, |_, _| {});
    assert_eq!((open.figures.placed, open.figures.refusals.len()), (1, 0));
    let closed = Namespaces { known_only: true, ..Namespaces::default() };
    let closed = replay::read(&trace, Some(closed)).unwrap().run(1, |_, _| {}).figures;
    assert_eq!((closed.placed, closed.refused), (0, [("namespace_not_allowed".to_owned(), 1)].into()));
    let policies = trace.header.namespaces.clone();
    let known = replay::read(&trace, Some(Namespaces { policies, known_only: true })).unwrap();
    assert_eq!(known.run(1, |_, _| {}).figures.refusals, reason);
}

#[test]
fn who_is_refused_because_no_node_is_known_is_counted() {
    let replay = read(&[lookup(9_000, "x", json!({ "code": "no_node" }))]);
    let replayed = replay.run(1, |_, _| {});
    let once = [("no_node".to_owned(), 1)].into();
    for Outcome { figures, .. } in [&replay.recorded, &replayed] {
        assert_eq!((&figures.refused, &figures.refusals, figures.joins), (&once, &once, 1));
        assert_eq!((figures.refused_share(), figures.max_mean), (1.0, None));
    }
    let text = roost_sim::table::comparison(&replay.recorded.figures, &replayed.figures);
    assert!(text.contains("a trace has nobody whom a node's door turned away"), "{text}");
}

#[test]
fn what_a_machine_does_besides_goes_on() {
    let mut lines = vec![node(0, "a", 0, 300), node(0, "b", 0, 0)];
    lines.push(lookup(6_000, "x", json!({ "outcome": "placed", "node": "b" })));
    // Each participant of b costs 10 thousandths; a is busy with something else.
    lines.extend((1..=20).flat_map(|i| {
        [room(7_000 + i * 100, "x", "b", i as u32), node(7_000 + i * 100, "b", i as u32, i as u32 * 10)]
    }));
    lines.push(node(30_000, "a", 0, 300));
    let plan = read(&lines).plan;
    assert!((plan.nodes[1].per_participant.cpu_permille - 10.0).abs() < 0.5, "{:?}", plan.nodes[1].per_participant);
    assert!(plan.nodes[0].background.iter().all(|(_, host)| host.cpu_permille == 300));
    assert!(plan.nodes[1].background.iter().all(|(_, host)| host.cpu_permille < 10));
}

#[test]
fn numbers_that_no_machine_has_can_be_replayed() {
    let mut absurd = node(0, "a", u32::MAX, u32::MAX);
    for field in ["memory_used_bytes", "memory_total_bytes", "network_rx_bps", "network_tx_bps", "disk_used_bytes"] {
        absurd["host"][field] = json!(u64::MAX);
    }
    (absurd["host"]["cpus"], absurd["streams"]) = (json!(u32::MAX), json!(u32::MAX));
    let asked = json!({ "outcome": "placed", "node": "b", "expected_participants": u32::MAX });
    let replay = read(&[
        absurd,
        node(0, "b", 0, 0),
        lookup(9_000, "x", asked),
        room(9_500, "x", "b", 3),
        node(90_000, "b", 3, 0),
    ]);
    assert_eq!(replay.run(1, |_, _| {}).figures.admitted, 3);
}

fn read(lines: &[Value]) -> Replay {
    replay::read(&trace(json!({}), lines), None).unwrap()
}

fn trace(mut header: Value, lines: &[Value]) -> trace::Trace {
    (header["line"], header["v"], header["version"]) = (json!("header"), json!(1), json!("0.1.0"));
    let text: String = [header].iter().chain(lines).map(|line| format!("{line}\n")).collect();
    trace::read(text.as_bytes(), "t").unwrap()
}

fn node(at_ms: u64, node: &str, participants: u32, cpu_permille: u32) -> Value {
    json!({
        "line": "node", "at_ms": at_ms, "node": node, "mode": "serving", "participants": participants, "streams": 0,
        "description": {
            "region": "eu", "signaling_url": "", "link_url": "", "media": "synthetic", "version": "0.1.0",
            "capacity": { "participants": 100, "rooms": 0, "streams": 0, "bandwidth_bps": 0 }
        },
        "host": {
            "cpu_permille": cpu_permille, "cpus": 1, "memory_used_bytes": 0, "memory_total_bytes": 1000,
            "network_rx_bps": 0, "network_tx_bps": 0, "disk_used_bytes": 0, "disk_total_bytes": 0
        }
    })
}

fn room(at_ms: u64, room: &str, node: &str, participants: u32) -> Value {
    json!({ "line": "room", "at_ms": at_ms, "namespace": "default", "room": room, "node": node, "participants": participants })
}

fn lookup(at_ms: u64, room: &str, more: Value) -> Value {
    let mut line = json!({ "line": "lookup", "at_ms": at_ms, "namespace": "default", "room": room });
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    line
}
