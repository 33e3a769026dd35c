//! What is reserved for rooms, from the claim until it has filled or grown old.

use super::*;
use std::collections::BTreeMap;

use crate::place::place;
use crate::request::Request;
use crate::sample::{self, READY};
use crate::time::GRANT_TTL_MS;
use crate::view::View;
use proptest::prelude::*;
use roost_proto::event::Event;
use roost_proto::id::{Epoch, Incarnation};
use roost_proto::policy::{self, Policy};
use roost_proto::report::{EndedRoom, Report};
use roost_proto::room::{Claim, ClaimState, Expected};

const EMPTY: Growth = Growth { expected: 15, is_hinted: false, reported: 0, peak: 0, age_ms: 0 };

#[test]
fn what_nobody_came_for_fades_in_steps() {
    for (age_s, milli) in
        [(0, 15_000), (119, 15_000), (120, 12_000), (134, 12_000), (135, 9_000), (150, 6_000), (165, 3_000), (180, 0)]
    {
        assert_eq!(Growth { age_ms: age_s * 1_000, ..EMPTY }.reserved_milli(), milli, "{age_s}");
    }
    assert_eq!(Growth { age_ms: u64::MAX, ..EMPTY }.reserved_milli(), 0);
    assert_eq!(Growth { expected: 0, ..EMPTY }.reserved_milli(), 0);
}

#[test]
fn a_room_counts_as_what_was_expected_until_it_has_filled_once() {
    let late = FILL_MS - TICK_MS - 1;
    for (reported, peak, milli) in
        [(0, 0, 15_000), (1, 1, 14_000), (14, 14, 1_000), (3, 14, 12_000), (15, 15, 0), (2, 15, 0)]
    {
        let growth = Growth { reported, peak, age_ms: late, ..EMPTY };
        assert_eq!(growth.reserved_milli(), milli, "{growth:?}");
    }
}

#[test]
fn a_room_that_grows_faster_than_expected_counts_more_and_a_hinted_one_less_so() {
    let at_once = |expected, peak, is_hinted, age_ms| {
        Growth { expected, is_hinted, reported: peak, peak: peak as u16, age_ms }.reserved_milli()
    };
    assert_eq!(at_once(4, 1, false, 10_000), 3_000, "one alone says nothing");
    assert!((4_000..5_000).contains(&at_once(4, 2, false, 10_000)));
    assert!((2_500..4_000).contains(&at_once(4, 2, true, 10_000)));
    assert_eq!(at_once(4, 5, false, 10_000), 3_000, "twice what was expected at most");
    assert_eq!(at_once(4, 5, true, 10_000), 1_000, "and with a hint half as much again");
    assert_eq!(at_once(4, 8, false, 10_000), 0);
    assert!(at_once(4, 5, false, 90_000) < 3_000, "the less time is left the fewer come");
    assert_eq!(at_once(4, 5, false, FILL_MS), 0);
}

#[test]
fn a_room_is_counted_once_from_its_grant_until_it_is_over() {
    let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "eu")]);
    let steps: [(Event, [u64; 2]); 8] = [
        (granted("x", "a", 1, 15, 12), [15_000, 0]),
        (sample::claimed("x", sample::claim("a", 1, ClaimState::Open), 0), [15_000, 0]),
        (sample::reported(holding("a", 2, &[("x", 1, 1)])), [14_000, 0]),
        (sample::reported(holding("a", 3, &[])), [14_000, 0]),
        (granted("x", "a", 1, 99, 99), [14_000, 0]),
        (granted("x", "b", 2, 7, 0), [0, 7_000]),
        (sample::reported(holding("b", 2, &[("x", 2, 1)])), [0, 6_000]),
        (Event::Released { key: sample::room("x"), epoch: Epoch(2) }, [0, 0]),
    ];
    for (event, reserved) in steps {
        let told = format!("{event:?}");
        view.apply(event, READY);
        assert_eq!(["a", "b"].map(|id| view.node(&sample::node(id)).unwrap().reserved_milli()), reserved, "{told}");
    }
}

#[test]
fn a_room_that_its_node_asserts_again_keeps_what_is_reserved_and_one_that_it_lost_does_not() {
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    for (name, epoch) in [("x", 1), ("y", 2)] {
        view.apply(granted(name, "a", epoch, 15, 60), READY);
        view.apply(sample::claimed(name, sample::claim("a", epoch, ClaimState::Open), 0), READY);
    }
    view.apply(sample::reported(holding("a", 2, &[("x", 1, 1), ("y", 2, 1)])), READY);
    assert_eq!(view.node(&sample::node("a")).unwrap().reserved_milli(), 28_000);
    let changed = vec![sample::held("x", 3, 1)];
    let again = Report { changed, full: true, ..sample::numbered("a", 2, 1) };
    view.apply(sample::reported(again), READY);
    assert_eq!(view.node(&sample::node("a")).unwrap().reserved_milli(), 14_000, "x is there, y is not");
    let before = view.rooms.sizes().expected(&sample::room("z"), 60, READY);
    view.apply(granted("x", "a", 4, 15, 60), READY);
    let after = view.rooms.sizes().expected(&sample::room("z"), 60, READY);
    assert!(after < before, "x ended with one participant: {before} {after}");
}

#[test]
fn a_room_that_ended_and_was_granted_again_counts_as_the_new_one_in_whatever_order_that_is_told() {
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    view.apply(granted("x", "a", 1, 15, 0), READY);
    view.apply(sample::reported(holding("a", 2, &[("x", 1, 1)])), READY);
    view.apply(sample::reported(holding("a", 3, &[("x", 2, 1)])), READY);
    view.apply(granted("x", "a", 2, 7, 0), READY);
    assert_eq!(reserved(&view, "a"), 6_000);
}

#[test]
fn hints_for_which_nobody_comes_are_believed_less() {
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    let key = sample::room("next");
    let expected = |view: &View, now| view.rooms.sizes().expected(&key, 10_000, now);
    let (before, mut now) = (expected(&view, READY), READY);
    for epoch in 1..=20 {
        view.apply(granted(&format!("x{epoch}"), "a", epoch, 4_000, 10_000), now);
    }
    sample::pass(&mut view, now, now.plus(GRANT_TTL_MS + TICK_MS));
    now = now.plus(GRANT_TTL_MS + TICK_MS);
    assert!(view.rooms.is_empty());
    assert!(expected(&view, now) * 10 < before, "{} of {before}", expected(&view, now));
}

#[test]
fn numbers_that_cannot_be_teach_nothing() {
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    let before = view.rooms.sizes().expected(&sample::room("x"), 0, READY);
    view.apply(sample::reported(holding("a", 2, &[("x", 1, 1_000_000), ("y", 2, 1_000_000)])), READY);
    assert!(view.node(&sample::node("a")).unwrap().is_distrusted());
    assert_eq!(view.rooms.sizes().expected(&sample::room("z"), 0, READY), before);
    view.forget(&sample::room("x"), Epoch(1));
    assert_eq!(view.rooms.sizes().expected(&sample::room("x"), 0, READY), before);
}

#[test]
fn what_was_expected_a_while_ago_is_as_old_as_that() {
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    for (name, age_ms, milli) in [("x", 0, 15_000), ("y", 134_000, 12_000), ("z", 200_000, 0)] {
        let expected = Expected { participants: 15, hint: 0, age_ms };
        let claim = sample::claim("a", 1, ClaimState::Open);
        let before = reserved(&view, "a");
        let now = READY.plus(1_000_000);
        view.apply(Event::Claimed { key: sample::room(name), claim, ttl_ms: 0, expected, handed_over: false }, now);
        assert_eq!(reserved(&view, "a") - before, milli, "{name}");
    }
}

#[test]
fn a_grant_for_which_nobody_came_reserves_nothing_after_its_time() {
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    view.apply(granted("x", "a", 1, 15, 0), READY);
    let over = READY.plus(GRANT_TTL_MS);
    sample::pass(&mut view, READY, over.minus(2 * TICK_MS));
    assert_eq!(reserved(&view, "a"), 15_000);
    sample::pass(&mut view, over.minus(TICK_MS), over);
    assert_eq!(reserved(&view, "a"), 0);
}

#[test]
fn a_node_that_reports_later_gets_what_is_reserved_for_it() {
    let mut view = sample::view(vec![]);
    view.apply(granted("x", "a", 1, 15, 0), READY);
    assert_eq!(view.rooms.reserved_milli(&sample::node("a"), Incarnation(1)), 15_000);
    view.apply(sample::reported(sample::report("a", "eu")), READY);
    assert_eq!(reserved(&view, "a"), 15_000);
}

#[test]
fn a_grant_of_which_only_the_snapshot_told_counts_as_what_was_learned() {
    let mut report = sample::report("a", "eu");
    report.changed = (0..200).map(|i| sample::held(&format!("old-{i}"), 1, 12)).collect();
    report.participants = 200 * 12;
    let mut view = sample::view(vec![report]);
    view.apply(granted("x", "a", 5, 0, 0), READY);
    assert_eq!(reserved(&view, "a"), 12_000);
    view.apply(granted("x", "a", 5, 20, 20), READY);
    assert_eq!(reserved(&view, "a"), 20_000, "what its scheduler said is better");
}

#[test]
fn no_more_are_expected_than_the_namespace_allows() {
    let (view, key) = (sample::view(vec![]), sample::room("x"));
    for (max_participants_per_room, participants, hint) in [(0, 42, 60), (20, 16, 20), (2, 2, 2), (100, 42, 60)] {
        let policy = Policy { max_participants_per_room, ..Policy::default() };
        let request = Request { hint: Some(60), ..Request::new(&key, &policy) };
        assert_eq!(view.expected(&request, READY), Expected { participants, hint, age_ms: 0 });
    }
}

#[test]
fn nodes_that_all_claim_to_be_empty_share_a_burst_evenly() {
    let mut view = sample::view((0..1_000).map(|i| sample::report(&format!("n{i:04}"), "eu")).collect());
    let mut rooms: BTreeMap<NodeId, u32> = BTreeMap::new();
    for i in 0..3_000 {
        let key = sample::room(&format!("room-{i}"));
        let request = Request::new(&key, &policy::DEFAULT);
        let id = place(&view, &request).unwrap().node.report.node.clone();
        let expected = view.expected(&request, READY);
        let claim = sample::claim(id.as_str(), 1 + i, ClaimState::Granted);
        view.apply(Event::Claimed { key, claim, ttl_ms: GRANT_TTL_MS, expected, handed_over: false }, READY);
        *rooms.entry(id).or_default() += 1;
    }
    assert!(rooms.len() == 1_000 && rooms.values().all(|count| *count == 3), "{:?}", rooms.values().max());
}

#[test]
fn a_home_without_rooms_is_used_again_only_after_its_change_was_told() {
    let mut homes = Homes::default();
    let (a, b) = (sample::node("a"), sample::node("b"));
    let first = homes.enter(&a, Incarnation(1));
    homes.reserve(first, 0, 5);
    homes.reserve(first, 5, 0);
    homes.leave(first);
    assert_eq!(homes.enter(&a, Incarnation(1)), first, "its change is not told yet");
    homes.leave(first);
    assert_eq!((homes.take_changed(), homes.take_changed()), (Some((a.clone(), Incarnation(1), 0)), None));
    assert_eq!(homes.enter(&b, Incarnation(1)), first);
    assert_eq!((homes.find(&a, Incarnation(1)), homes.find(&b, Incarnation(1))), (None, Some(first)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Older is never more, and never is there more than twice what was expected.
    #[test]
    fn a_reservation_only_shrinks_with_age(
        expected in 0_u16..=10_000, is_hinted: bool, reported: u32, peak: u16, ages in (0_u64..200_000, 0_u64..200_000),
    ) {
        let at = |age_ms| Growth { expected, is_hinted, reported, peak, age_ms }.reserved_milli();
        let (young, old) = (ages.0.min(ages.1), ages.0.max(ages.1));
        prop_assert!(at(old) <= at(young));
        prop_assert!(at(young) <= 2_000 * u32::from(expected));
        prop_assert!(old < EXPECT_MS || at(old) == 0);
    }

    /// Whatever happens, in any order: each node has what its rooms reserve one by one, and what was learned of them is
    /// what they teach one by one.
    #[test]
    fn what_is_reserved_is_the_sum_over_all_rooms(happenings in proptest::collection::vec(happening(), 1..80)) {
        let mut view = sample::view(vec![sample::report("a", "eu")]);
        let mut now = READY;
        for (n, happening) in (1..).zip(happenings) {
            now = happen(&mut view, happening, n, now);
            view.tick(now);
            let sums = view.rooms.audit(now);
            for (id, incarnation) in NODES.into_iter().flat_map(|id| [(id, Incarnation(1)), (id, Incarnation(2))]) {
                let id = sample::node(id);
                let sum = sums.get(&(id.clone(), incarnation)).copied().unwrap_or(0);
                prop_assert_eq!(view.rooms.reserved_milli(&id, incarnation), sum, "{}", id);
                if let Some(node) = view.node(&id).filter(|node| node.report.incarnation == incarnation) {
                    prop_assert_eq!(node.reserved_milli(), sum, "{}", id);
                }
            }
            prop_assert_eq!(view.rooms.sizes().living(), view.rooms.lessons().living());
        }
        sample::pass(&mut view, now, now.plus(EXPECT_MS));
        prop_assert!(NODES.iter().all(|id| view.rooms.reserved_milli(&sample::node(id), Incarnation(1)) == 0));
    }

    /// Claims and reports come on two streams: however these interleave, the same is reserved when all is told.
    #[test]
    fn schedulers_agree_when_all_is_told(
        rooms in proptest::collection::vec((0_usize..3, 1_u32..60, 0_u32..40, 0_u8..4), 1..8),
        order in proptest::collection::vec(any::<bool>(), 64),
    ) {
        let (claims, reports) = streams(&rooms);
        let mut views = [sample::view(vec![]), sample::view(vec![])];
        claims.iter().chain(&reports).for_each(|event| drop(views[0].apply(event.clone(), READY)));
        let (mut claims, mut reports) = (claims.into_iter().peekable(), reports.into_iter().peekable());
        for is_claim in order.into_iter().cycle().take(400) {
            let next = if is_claim { claims.next() } else { reports.next() };
            next.into_iter().for_each(|event| drop(views[1].apply(event, READY)));
        }
        claims.chain(reports).for_each(|event| drop(views[1].apply(event, READY)));
        for id in NODES {
            let [one, other] = [0, 1].map(|i: usize| reserved(&views[i], id));
            prop_assert_eq!(one, other, "{}", id);
        }
    }
}

const NODES: [&str; 3] = ["a", "b", "c"];

/// What may happen to one of few rooms at one of three nodes.
#[derive(Debug, Clone)]
enum Happening {
    Granted { room: u8, node: usize, epoch: u64, expected: Expected, ttl_ms: u64 },
    Opened { room: u8, node: usize, epoch: u64 },
    Released { room: u8, epoch: u64 },
    Reported { node: usize, incarnation: u64, full: bool, gap: u64, rooms: Vec<(u8, u64, u32)>, ended: Vec<(u8, u64)> },
    Left { node: usize },
    Passed { ms: u64 },
    Watched,
    NewRun { bucket: u8 },
}

fn happening() -> impl Strategy<Value = Happening> {
    let (room, node, epoch) = (|| 0_u8..6, || 0_usize..3, || 1_u64..6);
    let number = || prop_oneof![Just(0), Just(1), Just(10_000), Just(u32::MAX), 0_u32..40];
    let expected = (number(), number()).prop_map(|(participants, hint)| Expected { participants, hint, age_ms: 0 });
    let rooms = proptest::collection::vec((room(), epoch(), number()), 0..6);
    let ended = proptest::collection::vec((room(), epoch()), 0..2);
    prop_oneof![
        4 => (room(), node(), epoch(), expected, prop_oneof![Just(0), Just(GRANT_TTL_MS), 0_u64..600_000])
            .prop_map(|(room, node, epoch, expected, ttl_ms)| Happening::Granted { room, node, epoch, expected, ttl_ms }),
        2 => (room(), node(), epoch()).prop_map(|(room, node, epoch)| Happening::Opened { room, node, epoch }),
        1 => (room(), epoch()).prop_map(|(room, epoch)| Happening::Released { room, epoch }),
        4 => (node(), 1_u64..3, any::<bool>(), 1_u64..3, rooms, ended).prop_map(
            |(node, incarnation, full, gap, rooms, ended)| Happening::Reported { node, incarnation, full, gap, rooms, ended }
        ),
        1 => node().prop_map(|node| Happening::Left { node }),
        3 => (0_u64..200_000).prop_map(|ms| Happening::Passed { ms }),
        1 => Just(Happening::Watched),
        1 => (0_u8..roost_proto::hash::BUCKETS).prop_map(|bucket| Happening::NewRun { bucket }),
    ]
}

/// Applies the `n`th happening; gives the time after it.
fn happen(view: &mut View, happening: Happening, n: u64, now: Millis) -> Millis {
    let key = |room: u8| sample::room(&format!("room-{room}"));
    match happening {
        Happening::Granted { room, node, epoch, expected, ttl_ms } => {
            let claim = sample::claim(NODES[node], epoch, ClaimState::Granted);
            view.apply(Event::Claimed { key: key(room), claim, ttl_ms, expected, handed_over: false }, now);
        }
        Happening::Opened { room, node, epoch } => {
            let incarnation = Incarnation(1 + epoch % 2);
            let claim = Claim { incarnation, ..sample::claim(NODES[node], epoch, ClaimState::Open) };
            view.apply(
                Event::Claimed { key: key(room), claim, ttl_ms: 0, expected: Expected::default(), handed_over: false },
                now,
            );
        }
        Happening::Released { room, epoch } => {
            drop(view.apply(Event::Released { key: key(room), epoch: Epoch(epoch) }, now))
        }
        Happening::Reported { node, incarnation, full, gap, rooms, ended } => {
            let mut report = sample::numbered(NODES[node], incarnation, 3 * n + gap);
            report.full = full;
            report.description.temporary = node == 2;
            report.changed =
                rooms.iter().map(|(r, epoch, count)| sample::held(&format!("room-{r}"), *epoch, *count)).collect();
            report.ended = ended.iter().map(|(r, epoch)| EndedRoom { key: key(*r), epoch: Epoch(*epoch) }).collect();
            view.apply(sample::reported(report), now);
        }
        Happening::Left { node } => {
            view.apply(Event::Left { node: sample::node(NODES[node]), incarnation: Incarnation(1) }, now);
        }
        Happening::Passed { ms } => {
            // Now and then the scheduler itself stands still.
            if ms % 3 > 0 {
                sample::pass(view, now, now.plus(ms));
            }
            return now.plus(ms);
        }
        Happening::Watched => {
            view.stop_listening(now);
            view.listen(now);
        }
        Happening::NewRun { bucket } => {
            view.see_run(bucket, &sample::run("r2"), now);
        }
    }
    now
}

/// Two streams as a store tells them: claims in the order of their epochs, and each node's reports.
fn streams(rooms: &[(usize, u32, u32, u8)]) -> (Vec<Event>, Vec<Event>) {
    let (mut claims, mut reports) = (Vec::new(), Vec::new());
    for (epoch, (node, expected, participants, stage)) in (1..).zip(rooms) {
        // Names recur, so that some rooms end and begin again elsewhere.
        let (name, id) = (format!("room-{}", epoch % 4), NODES[*node]);
        claims.push(granted(&name, id, epoch, *expected, expected % 3 * expected));
        if *stage > 0 {
            claims.push(sample::claimed(&name, sample::claim(id, epoch, ClaimState::Open), 0));
            reports.push(sample::reported(holding(id, 2 * epoch, &[(&name, epoch, 1)])));
            reports.push(sample::reported(holding(id, 2 * epoch + 1, &[(&name, epoch, *participants)])));
        }
        if *stage == 3 {
            claims.push(Event::Released { key: sample::room(&name), epoch: Epoch(epoch) });
        }
    }
    (claims, reports)
}

fn granted(name: &str, node: &str, epoch: u64, participants: u32, hint: u32) -> Event {
    let claim: Claim = sample::claim(node, epoch, ClaimState::Granted);
    let expected = Expected { participants, hint, age_ms: 0 };
    Event::Claimed { key: sample::room(name), claim, ttl_ms: GRANT_TTL_MS, expected, handed_over: false }
}

/// A report in which these rooms have changed: name, epoch, participants.
fn holding(node: &str, seq: u64, rooms: &[(&str, u64, u32)]) -> Report {
    let changed = rooms.iter().map(|(name, epoch, participants)| sample::held(name, *epoch, *participants)).collect();
    Report { changed, ..sample::numbered(node, 1, seq) }
}

fn reserved(view: &View, node: &str) -> u64 {
    view.rooms.reserved_milli(&sample::node(node), Incarnation(1))
}
