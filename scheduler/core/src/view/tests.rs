//! How reports, claims and time change what is known.

use super::*;
use crate::liveness::ORPHANED_AFTER_MS;
use crate::sample::{self, READY};
use crate::time::DEFAULT_LEASE_MS;
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
        assert_eq!(view.totals().nodes, NodeCounts { alive: 1, suspect: 0, lost: 0 }, "{is_noticed}");
        assert!(!was_silent(&view, later), "{is_noticed}");
    }
    sample::pass(&mut view, later, later.plus(3_999));
    assert!(!was_silent(&view, later.plus(3_999)) && was_silent(&view, later.plus(4_000)));
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
