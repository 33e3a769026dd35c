//! What must hold of rooms whose node had lapsed when it heard of a new run (rule 18): each case by itself.

use super::*;

#[test]
fn a_node_that_lapsed_before_a_new_run_admits_once_its_assertion_is_confirmed() {
    let (mut holdings, mut lease) = lapsed_before_a_new_run();
    let asserted = Held { room: room(1), incarnation: Incarnation(2), epoch: Epoch(10) };
    holdings.asserted(&held(1, 1, 10), offer(2, 10), true, &lease, NOW);
    assert_eq!(holdings.knock(&room(1), Some(offer(2, 10)), &lease, NOW), Verdict::Suspended);
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), Verdict::Suspended);
    assert!(holdings.wanted().is_empty());
    assert!(holdings.provisional().eq([asserted.clone()]));
    holdings.asserted(&asserted, offer(2, 30), false, &lease, NOW);
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), admit(10));
    assert_eq!(holdings.knock(&room(1), Some(offer(2, 10)), &lease, NOW), Verdict::Stale, "a new generation");
    // And from here on it is a room as any other.
    lease.ended(Incarnation(2));
    holdings.suspend_all(Millis(0));
    assert_eq!((holdings.wanted(), lapsed(&holdings)), (vec![held(1, 2, 30)], false));
}

#[test]
fn a_lapse_before_the_confirmation_leaves_the_room_provisional() {
    let (mut holdings, mut lease) = lapsed_before_a_new_run();
    holdings.asserted(&held(1, 1, 10), offer(2, 10), true, &lease, NOW);
    lease.ended(Incarnation(2));
    holdings.suspend_all(Millis(0));
    assert_eq!((holdings.wanted(), lapsed(&holdings)), (vec![held(1, 2, 10)], true));
    lease.registered(Incarnation(3), 0, NOW, NOW);
    // The confirmation was done after all, and its answer lost.
    assert!(holdings.found(&held(1, 2, 10), offer(2, 30), &lease));
    assert_eq!((holdings.wanted(), lapsed(&holdings)), (vec![held(1, 2, 30)], false));
    holdings.asserted(&held(1, 2, 30), offer(3, 40), false, &lease, NOW);
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), admit(10));
}

#[test]
fn an_assertion_of_an_old_epoch_whose_answer_was_lost_is_found_and_stays_what_it_was() {
    for provisional in [true, false] {
        let (mut holdings, mut lease) = (open_room(1, 10), lease());
        lease.ended(Incarnation(1));
        holdings.enter_run(room(1).bucket(), Some(if provisional { NOW } else { NOW.plus(1) }), NOW);
        lease.registered(Incarnation(3), 0, NOW, NOW);
        assert!(holdings.found(&held(1, 1, 10), offer(2, 10), &lease));
        assert_eq!((holdings.wanted(), lapsed(&holdings)), (vec![held(1, 2, 10)], provisional));
    }
}

#[test]
fn a_provisional_room_that_ends_or_is_beaten_is_gone() {
    let (mut holdings, lease) = lapsed_before_a_new_run();
    holdings.asserted(&held(1, 1, 10), offer(2, 10), true, &lease, NOW);
    let mut ended = holdings.clone();
    assert!(ended.end(&room(1), Epoch(10)).is_some());
    assert_eq!(ended.releases(), [held(1, 2, 10)]);
    ended.asserted(&held(1, 2, 10), offer(2, 30), false, &lease, NOW);
    assert_eq!(ended.releases(), [held(1, 2, 10), held(1, 2, 30)], "what the confirmation gave is given up too");
    assert!(holdings.lost(&held(1, 2, 10)).is_some());
    assert!(holdings.is_empty() && holdings.releases().is_empty());
}

#[test]
fn a_late_answer_to_an_older_assertion_gives_up_nothing_that_is_held() {
    let (mut holdings, lease) = (open_room(1, 10), lease());
    holdings.asserted(&held(1, 0, 5), offer(1, 10), false, &lease, NOW);
    assert!(holdings.releases().is_empty());
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), admit(10));
}

/// Room 1, open in generation 10, whose node was lapsed when it heard of a new run, and has registered in that.
fn lapsed_before_a_new_run() -> (Holdings, Lease) {
    let (mut holdings, mut lease) = (open_room(1, 10), lease());
    lease.ended(Incarnation(1));
    holdings.suspend_all(Millis(0));
    holdings.enter_run(room(1).bucket(), None, NOW);
    assert!(lapsed(&holdings));
    lease.registered(Incarnation(2), 0, NOW, NOW);
    (holdings, lease)
}

fn lapsed(holdings: &Holdings) -> bool {
    holdings.get(&room(1)).expect("held").lapsed
}
