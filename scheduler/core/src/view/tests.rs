//! How reports, claims and time change what is known.

use super::*;
use crate::comings::SLOW_START_MS;
use crate::liveness::ORPHANED_AFTER_MS;
use crate::place::place;
use crate::sample::{self, READY};
use crate::time::DEFAULT_LEASE_MS;
use roost_proto::policy;
use roost_proto::report::{EndedRoom, RoomReport};

#[test]
fn reports_and_claims_of_a_room_may_come_in_any_order() {
    let mut report = sample::report("a", "eu");
    report.changed = vec![held("x", 7)];
    let events = [sample::reported(report), sample::claimed("x", sample::claim("a", 7, ClaimState::Granted), 30_000)];
    for order in [[0, 1], [1, 0]] {
        let mut view = sample::view(vec![]);
        for i in order {
            view.apply(events[i].clone(), READY);
        }
        let room = view.room(&sample::room("x"), READY).unwrap();
        assert_eq!((room.state, room.participants, room.epoch), (ClaimState::Open, 3, Epoch(7)), "{order:?}");
    }
}

#[test]
fn a_room_is_gone_when_its_node_or_the_store_says_so() {
    let ended = Event::Reported(Box::new(Report {
        ended: vec![EndedRoom { key: sample::room("x"), epoch: Epoch(7) }],
        ..sample::numbered("a", 1, 2)
    }));
    for event in [ended, Event::Released { key: sample::room("x"), epoch: Epoch(7) }] {
        let mut view = sample::view(vec![sample::report("a", "eu")]);
        view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
        view.apply(event, READY);
        assert!(view.room(&sample::room("x"), READY).is_none());
    }
}

#[test]
fn a_gap_asks_the_node_for_everything_and_a_foreign_run_asks_for_the_runs() {
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    let wanted = view.apply(sample::reported(sample::numbered("a", 1, 3)), READY);
    assert_eq!(wanted, Wanted::FullReport(sample::node("a"), Incarnation(1)));
    let claim = Claim { run: sample::run("r2"), ..sample::claim("a", 7, ClaimState::Open) };
    assert_eq!(view.apply(sample::claimed("x", claim, 0), READY), Wanted::Runs);
}

#[test]
fn after_a_new_watch_and_a_grace_what_it_did_not_tell_is_forgotten() {
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    for name in ["kept", "gone"] {
        view.apply(sample::claimed(name, sample::claim("a", 7, ClaimState::Open), 0), READY);
    }
    view.stop_listening(READY);
    let mut now = READY;
    view.listen(now);
    view.apply(sample::claimed("kept", sample::claim("a", 7, ClaimState::Open), 0), now);
    while now < READY.plus(5_250) {
        assert!(view.rooms.len() == 2 || now > READY.plus(5_000));
        now = now.plus(250);
        view.tick(now);
    }
    assert_eq!(view.rooms.len(), 1);
    assert!(view.room(&sample::room("kept"), now).is_some());
}

#[test]
fn a_stalled_scheduler_does_not_take_its_own_absence_for_its_nodes() {
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
    let was_silent = |view: &View, now| view.was_silent(&view.room(&sample::room("x"), READY).unwrap(), now);
    let later = READY.plus(20_000);
    for is_noticed in [false, true] {
        if is_noticed {
            view.tick(later);
        }
        assert_eq!(view.totals().nodes, NodeCounts { alive: 1, ..NodeCounts::default() }, "{is_noticed}");
        assert!(!was_silent(&view, later), "{is_noticed}");
    }
    sample::pass(&mut view, later, later.plus(3_999));
    assert!(!was_silent(&view, later.plus(3_999)) && was_silent(&view, later.plus(4_000)));
}

#[test]
fn a_grace_stands_still_while_the_scheduler_does() {
    let bucket = sample::room("x").bucket();
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    view.see_run(bucket, &sample::run("r2"), READY);
    sample::pass(&mut view, READY, READY.plus(1_000));
    let woken = READY.plus(60_000);
    assert_eq!(view.grace_left_ms(bucket, woken), 4_000, "nobody knows what the store did meanwhile");
    let mut cut_off = view.clone();
    cut_off.stop_listening(woken);
    for view in [&mut view, &mut cut_off] {
        view.tick(woken);
        sample::pass(view, woken, woken.plus(1_000));
    }
    assert_eq!(view.grace_left_ms(bucket, woken.plus(1_000)), 4_000, "it began anew");
    assert_eq!(cut_off.grace_left_ms(bucket, woken.plus(1_000)), 4_000, "the watch had ended");
}

#[test]
fn a_silent_part_of_the_store_holds_up_takeovers_of_its_own_nodes_only() {
    let ids = ["a", "b", "c", "d", "e"];
    let heard = sample::node("a");
    let deaf = ids.map(sample::node).into_iter().find(|id| id.bucket() != heard.bucket()).unwrap();
    let mut view = sample::view([&heard, &deaf].map(|id| sample::report(id.as_str(), "eu")).to_vec());
    // Rooms of the part that is heard, so that the store tells of both again.
    let names: Vec<String> = (0..100).map(|number| format!("x{number}")).collect();
    let mut names = names.iter().filter(|name| sample::room(name).bucket() != deaf.bucket());
    let (at_heard, at_deaf) = (names.next().unwrap(), names.next().unwrap());
    let tell = |view: &mut View, now| {
        for (name, id) in [(at_heard, &heard), (at_deaf, &deaf)] {
            view.apply(sample::claimed(name, sample::claim(id.as_str(), 7, ClaimState::Open), 0), now);
        }
    };
    tell(&mut view, READY);
    let silent_part = (0..100).map(|number| format!("y{number}"));
    let unheard = silent_part.into_iter().find(|name| sample::room(name).bucket() == deaf.bucket()).unwrap();
    view.apply(sample::claimed(&unheard, sample::claim("a", 7, ClaimState::Open), 0), READY);
    view.stop_listening(READY);
    let others: Vec<u8> = (0..BUCKETS).filter(|bucket| *bucket != deaf.bucket()).collect();
    view.listen_to(&others, READY);
    assert!(!view.is_listening());
    tell(&mut view, READY);
    let was_silent = |view: &View, name: &str, now| view.was_silent(&view.room(&sample::room(name), now).unwrap(), now);
    let lost = READY.plus(DEFAULT_LEASE_MS);
    sample::pass(&mut view, READY, lost.minus(1));
    assert!(!was_silent(&view, at_heard, lost.minus(1)), "not for a full lease yet");
    let late = READY.plus(60_000);
    sample::pass(&mut view, lost, late);
    assert!(was_silent(&view, at_heard, late) && !was_silent(&view, at_deaf, late));
    let states = [&heard, &deaf].map(|id| view.node(id).unwrap().state);
    assert_eq!(states, [NodeState::Lost, NodeState::Suspect], "new rooms go elsewhere");
    assert!(view.take_orphans().keys().all(|key| *key != sample::room(at_deaf)));
    let kept = view.room(&sample::room(&unheard), late).expect("nothing is concluded from what is not heard");
    assert!(view.rooms.is_confirmed(&sample::room(&unheard), &kept), "it is answered without the store");
    // It is heard again, and from then on silence counts.
    view.stop_listening(late);
    view.listen(late);
    tell(&mut view, late);
    let lost = late.plus(DEFAULT_LEASE_MS);
    sample::pass(&mut view, late, lost.minus(1));
    assert!(!was_silent(&view, at_deaf, lost.minus(1)));
    view.tick(lost);
    assert!(was_silent(&view, at_deaf, lost) && view.node(&deaf).unwrap().state == NodeState::Lost);
}

#[test]
fn a_room_that_the_store_never_tells_of_is_forgotten_although_its_node_lives() {
    let late = Report { changed: vec![held("x", 7)], ..sample::numbered("a", 1, 2) };
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    view.apply(Event::Released { key: sample::room("x"), epoch: Epoch(7) }, READY);
    view.apply(sample::reported(late), READY);
    for (seq, now) in (3..).zip((READY.0..READY.0 + 6_000).step_by(500)) {
        assert_eq!(view.rooms.len(), usize::from(now <= READY.0 + 5_000), "{now}");
        view.apply(sample::reported(sample::numbered("a", 1, seq)), Millis(now));
        sample::pass(&mut view, Millis(now), Millis(now + 500));
    }
}

#[test]
fn a_temporary_node_leaves_the_list_and_another_stays_as_lost() {
    for (temporary, leaves) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut report = sample::report("a", "eu");
        report.description.temporary = temporary;
        let mut view = sample::view(vec![report]);
        let mut now = READY;
        if leaves {
            view.apply(Event::Left { node: sample::node("a"), incarnation: Incarnation(1) }, now);
        }
        while now < READY.plus(4_000) {
            now = now.plus(250);
            view.tick(now);
        }
        assert_eq!(view.totals().nodes.lost, u32::from(!temporary), "{temporary} {leaves}");
    }
}

/// The store's clock may step forward: by its word the node is over, and it admits until its next renewal.
#[test]
fn a_purged_node_is_forgotten_only_when_it_is_lost_in_our_own_eyes() {
    let mut view = sample::view(vec![sample::report("a", "eu")]);
    view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
    let (heard, purged) = (READY.plus(60_000), Event::Purged { node: sample::node("a") });
    for (seq, ms) in (3..).zip((READY.0..=heard.0).step_by(1_000)) {
        view.apply(sample::reported(sample::numbered("a", 1, seq)), Millis(ms));
        sample::pass(&mut view, Millis(ms), Millis(ms + 750));
    }
    let lost = heard.plus(DEFAULT_LEASE_MS);
    let mut heard_again = view.clone();
    view.apply(purged.clone(), heard.plus(750));
    sample::pass(&mut view, heard.plus(750), lost.minus(1));
    let was_silent = |view: &View, now| view.was_silent(&view.room(&sample::room("x"), now).unwrap(), now);
    assert!(view.node(&sample::node("a")).is_some() && !was_silent(&view, lost.minus(1)), "it may still admit");
    sample::pass(&mut view, lost, lost);
    assert!(view.node(&sample::node("a")).is_none() && was_silent(&view, lost), "a lease of silence is proof");

    heard_again.apply(purged.clone(), heard.plus(750));
    heard_again.apply(sample::reported(sample::numbered("a", 1, 900)), heard.plus(1_000));
    sample::pass(&mut heard_again, heard.plus(1_000), heard.plus(60_000));
    assert_eq!(heard_again.totals().nodes.lost, 1, "it lived when it was purged");
    heard_again.apply(purged, heard.plus(60_000));
    assert_eq!(heard_again.totals().nodes, NodeCounts::default());
}

#[test]
fn highest_epochs_are_posted_for_buckets_that_have_any() {
    let mut view = sample::view(vec![]);
    view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
    view.apply(Event::Released { key: sample::room("x"), epoch: Epoch(8) }, READY);
    assert_eq!(view.to_raise(), [(sample::room("x").bucket(), sample::run("r1"), Epoch(8))]);
}

fn held(name: &str, epoch: u64) -> RoomReport {
    let key = sample::room(name);
    RoomReport { key, epoch: Epoch(epoch), worker: 0, participants: 3, producers: 0, consumers: 0 }
}

#[test]
fn a_claim_is_orphaned_when_its_holder_was_gone_for_long_and_nobody_came_for_the_room() {
    let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "eu")]);
    let claim = sample::claim("a", 7, ClaimState::Open);
    view.apply(sample::claimed("x", claim.clone(), 0), READY);
    view.apply(sample::claimed("granted", sample::claim("a", 8, ClaimState::Granted), 600_000), READY);
    let gone = READY.plus(DEFAULT_LEASE_MS + ORPHANED_AFTER_MS);
    let pass = |view: &mut View, from: Millis, to: Millis| {
        for ms in (from.0..=to.0).step_by(250) {
            view.apply(sample::reported(sample::numbered("b", 1, ms)), Millis(ms));
            view.tick(Millis(ms));
        }
    };
    pass(&mut view, READY, gone.minus(250));
    assert!(view.take_orphans().is_empty(), "it may come back");
    pass(&mut view, gone, gone);
    assert_eq!(view.take_orphans(), BTreeMap::from([(sample::room("x"), claim)]));
    assert!(view.room(&sample::room("x"), gone).is_some(), "the store has the word");
    let mut again = view.clone();
    again.apply(sample::reported(sample::numbered("a", 1, 9)), gone.plus(250));
    pass(&mut again, gone.plus(250), gone.plus(250));
    assert!(again.take_orphans().is_empty(), "it has come back");
    view.see_run(sample::room("x").bucket(), &sample::run("r2"), gone.plus(250));
    pass(&mut view, gone.plus(250), gone.plus(250));
    assert!(view.take_orphans().is_empty(), "in a grace nobody's claim is ended");
}

#[test]
fn whoever_comes_later_is_promised_rooms_slowly_and_who_was_here_first_is_not() {
    let mut view = View::new(Millis(0));
    view.listen(Millis(0));
    for bucket in 0..BUCKETS {
        view.see_run(bucket, &sample::run("r1"), Millis(0));
    }
    let later = READY.plus(2_000);
    for (from, to, node) in [(Millis(0), Millis(4_000), "a"), (Millis(4_000), READY, "b"), (READY, later, "c")] {
        sample::pass(&mut view, from, to);
        view.apply(sample::reported(sample::report(node, "eu")), to);
    }
    for (node, share) in [("a", 1), ("b", 10), ("c", 10)] {
        view.nodes.set_reserved(&sample::node(node), Incarnation(1), 4_000);
        let node = view.node(&sample::node(node)).unwrap();
        assert_eq!((node.reserved_permille(), node.weighed_permille()), (40, 40 * share), "{}", node.report.node);
    }
    let warm = later.plus(SLOW_START_MS);
    view.apply(sample::reported(Report { seq: 2, ..sample::report("c", "eu") }), warm);
    assert_eq!(view.node(&sample::node("c")).unwrap().weighed_permille(), 40);
}

#[test]
fn a_node_that_comes_and_goes_is_the_last_to_get_a_room_but_gets_it() {
    let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "eu")]);
    let mut now = READY;
    for incarnation in 2..6 {
        now = now.plus(3_000);
        sample::pass(&mut view, now.minus(3_000), now);
        for (node, incarnation) in [("a", incarnation), ("b", 1)] {
            let report = sample::full(sample::numbered(node, incarnation, incarnation + now.0));
            view.apply(sample::reported(report), now);
        }
    }
    assert_eq!(view.totals().unsteady, 1);
    let taken = |avoid: &[NodeId]| {
        let key = sample::room("x");
        let request = Request { avoid, ..Request::new(&key, &policy::DEFAULT) };
        place(&view, &request).map(|decision| decision.node.report.node.clone())
    };
    assert_eq!(taken(&[]), Ok(sample::node("b")));
    assert_eq!(taken(&[sample::node("b")]), Ok(sample::node("a")));
    let mut restarted = sample::view(vec![sample::report("a", "eu")]);
    for run in 2..8 {
        now = now.plus(2_000);
        for bucket in 0..BUCKETS {
            restarted.see_run(bucket, &sample::run(&run.to_string()), now);
        }
        sample::pass(&mut restarted, now.minus(2_000), now);
        restarted.apply(sample::reported(sample::full(sample::numbered("a", run, 1))), now);
    }
    assert_eq!(restarted.totals().unsteady, 0, "a store that comes and goes is not the node's fault");
}
