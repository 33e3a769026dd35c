//! What must hold of rooms that move: each case by itself. Among all other events they are in `hold/tests.rs`.

use roost_proto::time::Millis;

use super::*;
use crate::hold::Verdict;
use crate::hold::tests::{NOW, admit, held, lease, offer, open_room, room, target};

#[test]
fn a_room_that_moves_admits_nobody_and_its_epoch_is_ended_once_it_has_moved() {
    let (mut holdings, lease) = (open_room(1, 10), lease());
    holdings.entered(&room(1));
    for (epoch, number) in [(9, 1), (11, 1), (10, 2)] {
        assert!(!holdings.begin_move(&room(number), Epoch(epoch), target(), &lease), "another generation, or room");
    }
    assert!(holdings.begin_move(&room(1), Epoch(10), target(), &lease));
    assert!(!holdings.begin_move(&room(1), Epoch(10), target(), &lease), "the command came twice");
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), Verdict::Moving);
    assert!(!holdings.admits(&room(1), Epoch(10), &lease, NOW));
    assert_eq!(holdings.moves(), [Move { held: held(1, 1, 10), to: target(), guests: 1 }]);
    assert!(holdings.ask_move(&held(1, 1, 10)));
    assert_eq!(holdings.moved(&held(1, 1, 10), Epoch(20)).map(|hold| hold.opened_as), Some(Epoch(10)));
    assert_eq!(holdings.moved(&held(1, 1, 10), Epoch(20)), None, "the answer came twice");
    assert_eq!(holdings.knock(&room(1), Some(offer(1, 10)), &lease, NOW), Verdict::Stale);
    assert!(holdings.releases().is_empty() && holdings.highest_epoch(room(1).bucket()) == Epoch(20));
}

#[test]
fn a_move_that_was_certainly_not_done_leaves_the_room_here_and_one_that_may_have_been_does_not() {
    let (mut holdings, lease) = (open_room(1, 10), lease());
    assert!(holdings.begin_move(&room(1), Epoch(10), target(), &lease));
    assert!(holdings.ask_move(&held(1, 1, 10)));
    holdings.move_not_done(&held(1, 1, 10));
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), admit(10));
    assert!(!holdings.ask_move(&held(1, 1, 10)) && holdings.moves().is_empty());
    assert!(holdings.begin_move(&room(1), Epoch(10), target(), &lease));
    for _ in 0..2 {
        // The first one has no answer.
        assert!(holdings.ask_move(&held(1, 1, 10)));
    }
    holdings.move_not_done(&held(1, 1, 10));
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), Verdict::Moving);
    assert_eq!(holdings.moves().len(), 1);
}

#[test]
fn a_lapse_ends_a_move_and_the_room_is_asserted_as_any_other() {
    let (mut holdings, mut lease) = (open_room(1, 10), lease());
    assert!(holdings.begin_move(&room(1), Epoch(10), target(), &lease) && holdings.ask_move(&held(1, 1, 10)));
    lease.ended(Incarnation(1));
    holdings.suspend_all(Millis(0));
    assert!(holdings.moves().is_empty() && holdings.moved(&held(1, 1, 10), Epoch(20)).is_none());
    assert_eq!(holdings.wanted(), [held(1, 1, 10)]);
    lease.registered(Incarnation(2), 0, NOW, NOW);
    holdings.asserted(&held(1, 1, 10), offer(2, 30), false, &lease, NOW);
    holdings.enter_run(room(1).bucket(), Some(Millis(2_000)), NOW);
    assert_eq!(holdings.take_doubtful(), [], "the store has said that it was not handed over");
    assert_eq!(holdings.wanted(), [held(1, 2, 30)]);
}

#[test]
fn in_a_new_run_a_room_that_may_have_been_handed_over_is_not_asserted() {
    for (is_asked, lapses) in [(false, false), (true, false), (true, true)] {
        let (mut holdings, lease) = (open_room(1, 10), lease());
        assert!(holdings.begin_move(&room(1), Epoch(10), target(), &lease));
        assert_eq!(is_asked, is_asked && holdings.ask_move(&held(1, 1, 10)));
        if lapses {
            holdings.suspend_all(Millis(0));
        }
        holdings.enter_run(room(1).bucket(), Some(Millis(2_000)), NOW);
        assert_eq!(holdings.knock(&room(1), None, &lease, NOW) == Verdict::Unheld, is_asked);
        assert_eq!(holdings.wanted().is_empty(), is_asked, "asserted, unless it may be another's");
        assert_eq!(holdings.take_doubtful().len(), usize::from(is_asked));
    }
}
