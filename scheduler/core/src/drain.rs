//! Modes and drains: what an operator's word makes of a node's plan, and what is due of a drain that runs.
//!
//! A drain ends when its node has no room: its rooms end by themselves, and those that are left are moved, at its deadline or,
//! if the operator said so, at once. Of a node that is lost they are taken over, or ended, by whoever may. Every change carries the plan's number (see the store's `steer`), so that two schedulers
//! which both think that a drain is theirs do no harm.

use std::collections::BTreeMap;

use roost_proto::admin::{DrainView, NodeState};
use roost_proto::hash::BUCKETS;
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::mode::Mode;
use roost_proto::room::RoomView;
use roost_proto::steer::{Drain, DrainState, Steering};
use roost_proto::time::Millis;

use crate::node::Node;
use crate::view::View;

/// So long after a plan was made its node has heard of it and said which rooms it opened before: a renewal and a report, and
/// as much again.
pub const SETTLED_AFTER_MS: u64 = 4_000;

/// What is wanted of a node: its mode, and what is on record of its last drain.
pub type Wanted = (Mode, Option<Drain>);

/// An operator's word about a node, or that of whoever carries its drain on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// `draining` is a drain without moves until the deadline, unless one runs already.
    Mode {
        mode: Mode,
        deadline_store_ms: u64,
    },
    Drain {
        move_rooms: bool,
        deadline_store_ms: u64,
    },
    /// Takes a drain back.
    Cancel,
    /// The drain that this plan began or changed last is over. Of a later one that says nothing: its node may have taken
    /// rooms in between.
    Finish {
        plan: u64,
        lost: bool,
    },
}

impl Word {
    /// What it makes of the plan that is there; none if nothing is to be written.
    #[must_use]
    pub fn wanted(self, current: Option<&Steering>) -> Option<Wanted> {
        match self {
            Self::Mode { mode: Mode::Draining, .. } if current.is_some_and(|known| known.running().is_some()) => None,
            Self::Mode { mode: Mode::Draining, deadline_store_ms } => Some(start(current, false, deadline_store_ms)),
            Self::Mode { mode, .. } => Some(set_mode(current, mode)),
            Self::Drain { move_rooms, deadline_store_ms } => Some(start(current, move_rooms, deadline_store_ms)),
            Self::Cancel => {
                cancel(current).filter(|wanted| current.is_none_or(|known| *wanted != (known.mode, known.drain)))
            }
            Self::Finish { plan, lost } => finish(current, plan, lost),
        }
    }
}

/// What is due of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Its rooms end by themselves; the deadline is ahead.
    Nothing,
    /// The rooms that are left are to be moved, those with few participants first (see [`in_order`]).
    Move,
    /// The node has no room and no participant any more: it goes into maintenance.
    Finish,
    /// The node is lost, and the store names no room of it any more: the same, if the store says that it has no lease.
    FinishLost,
}

/// The operator sets a mode. A drain that runs is taken back by that; one that is over is forgotten.
#[must_use]
pub fn set_mode(current: Option<&Steering>, mode: Mode) -> Wanted {
    let running = current.and_then(Steering::running);
    (mode, running.map(|drain| Drain { state: DrainState::Cancelled, ..*drain }))
}

/// The operator starts a drain, or starts it anew with another deadline: the mode before stays the first one's.
#[must_use]
pub fn start(current: Option<&Steering>, move_rooms: bool, deadline_store_ms: u64) -> Wanted {
    let mode = current.map_or(Mode::Serving, |current| current.mode);
    let earlier = current.and_then(|current| current.drain).filter(|drain| drain.state != DrainState::Cancelled);
    let before = earlier.map_or(mode, |drain| drain.before);
    (Mode::Draining, Some(Drain { deadline_store_ms, move_rooms, before, state: DrainState::Running, lost: false }))
}

/// The operator takes a drain back, also one that has finished. None if there is none.
#[must_use]
pub fn cancel(current: Option<&Steering>) -> Option<Wanted> {
    let current = current?;
    let drain = current.drain?;
    let mode = if drain.state == DrainState::Cancelled { current.mode } else { drain.before };
    Some((mode, Some(Drain { state: DrainState::Cancelled, lost: false, ..drain })))
}

/// The drain is over, be it that its node is `lost`. None if it does not run, or another plan than `plan` has come, for which
/// that may not be due.
#[must_use]
pub fn finish(current: Option<&Steering>, plan: u64, lost: bool) -> Option<Wanted> {
    let drain = current.filter(|current| current.plan == plan).and_then(Steering::running)?;
    Some((Mode::Maintenance, Some(Drain { state: DrainState::Finished, lost, ..*drain })))
}

/// A drain that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub node: NodeId,
    /// The plan that it belongs to: what is due holds for no other.
    pub plan: u64,
    pub due: Due,
}

/// The drains that run, with what is due of each. `store_ms` is the store's clock.
///
/// None of a node whose bucket is in a grace (rule 15), and none by an old plan: what a node reports is as new as the store's.
#[must_use]
pub fn running(view: &View, store_ms: u64, now: Millis) -> Vec<Running> {
    let is_settled = |node: &&Node| view.grace_left_ms(node.report.node.bucket(), now) == 0;
    let in_grace = view.longest_grace_left_ms(now) > 0;
    // Its rooms may be in any bucket.
    let has_heard_all = (0..BUCKETS).all(|bucket| view.has_heard_all(bucket, now));
    let is_deaf = !has_heard_all || view.brake().holds();
    let due = |node: &Node| {
        let (id, plan) = (node.report.node.clone(), node.report.plan());
        let due = due(node, Known { open_rooms: view.rooms.open_at(&id), in_grace, is_deaf }, store_ms)?;
        Some(Running { node: id, plan, due })
    };
    view.nodes.iter().filter(is_settled).filter_map(due).collect()
}

/// What is known of a node's rooms beside its own report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Rooms that are open there by the store's word. A node that has just taken its lease anew, or one of whose buckets
    /// begins a new run, may report none before it has asserted them again, although everybody is still inside.
    pub open_rooms: u32,
    /// Whether in any bucket rooms may still be asserted.
    pub in_grace: bool,
    /// Whether a node's silence may be our own fault: we have not listened for long, or the brake holds.
    pub is_deaf: bool,
}

/// What is due of the node's drain; none if none runs.
#[must_use]
pub fn due(node: &Node, known: Known, store_ms: u64) -> Option<Due> {
    let steering = node.report.steering?;
    let drain = steering.running()?;
    let is_settled = store_ms >= steering.plan.saturating_add(SETTLED_AFTER_MS) && !known.in_grace;
    let is_empty = node.report.participants == 0 && known.open_rooms == 0;
    Some(match node.report.rooms {
        // What it reported last says nothing of the rooms that others have taken over since.
        _ if node.state == NodeState::Lost => {
            if known.open_rooms == 0 && is_settled && !known.is_deaf {
                Due::FinishLost
            } else {
                Due::Nothing
            }
        }
        0 if is_empty && is_settled && node.state == NodeState::Alive => Due::Finish,
        0 => Due::Nothing,
        _ if drain.move_rooms || store_ms >= drain.deadline_store_ms => Due::Move,
        _ => Due::Nothing,
    })
}

/// Whether the drain still runs that this plan began or changed last.
#[must_use]
pub fn is_current(view: &View, node: &NodeId, plan: u64) -> bool {
    let steering = view.node(node).and_then(|node| node.report.steering);
    steering.is_some_and(|steering| steering.plan == plan && steering.running().is_some())
}

/// In which order a node's rooms are moved: those first that failed less often (`failures`), so that none waits for ever
/// behind others that find no place; then those with few participants, so that as many rooms as possible have gone should
/// the rest not find one. Those without any are last: they end by themselves.
#[must_use]
pub fn in_order(rooms: Vec<RoomView>, failures: &BTreeMap<RoomKey, u32>) -> Vec<RoomKey> {
    let rank = |room: RoomView| {
        let key = RoomKey { namespace: room.namespace, room: room.room };
        (failures.get(&key).copied().unwrap_or(0), room.participants == 0, room.participants, key)
    };
    let mut ranked: Vec<_> = rooms.into_iter().map(rank).collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(.., key)| key).collect()
}

/// How far the node's drain has come; none if it never had one. `open_rooms`: see [`Known`].
#[must_use]
pub fn progress(node: &Node, open_rooms: u32, store_ms: u64) -> Option<DrainView> {
    let drain = node.report.steering?.drain?;
    // A lost node's last report says nothing of the rooms that others have taken over since.
    let (rooms_left, participants_left) = match (node.state, open_rooms) {
        (NodeState::Lost, 0) => (0, 0),
        (NodeState::Lost, open_rooms) => (open_rooms, node.report.participants),
        _ => (node.report.rooms.max(open_rooms), node.report.participants),
    };
    Some(DrainView {
        state: drain.state,
        rooms_left,
        participants_left,
        deadline_s: drain.deadline_store_ms.saturating_sub(store_ms).div_ceil(1_000),
        move_rooms: drain.move_rooms,
        lost: drain.lost,
        stuck: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Slot;
    use crate::sample;
    use crate::sample::READY;
    use roost_proto::event::Event;
    use roost_proto::id::{Epoch, Incarnation};
    use roost_proto::report::Report;
    use roost_proto::room::{Claim, ClaimState};

    const EMPTY: Known = Known { open_rooms: 0, in_grace: false, is_deaf: false };
    const PLAN: u64 = 1_790_000_000_000;
    const DEADLINE: u64 = PLAN + 600_000;

    #[test]
    fn a_drain_that_is_taken_back_leads_to_the_mode_before_the_first_one() {
        for mode in [Mode::Serving, Mode::BlockNewRooms, Mode::BlockNewParticipants, Mode::Maintenance] {
            let begun = as_plan(start(Some(&as_plan((mode, None))), false, DEADLINE));
            let again = as_plan(start(Some(&begun), true, DEADLINE + 1));
            let finished = as_plan(finish(Some(&again), PLAN, true).unwrap());
            assert_eq!(finished.mode, Mode::Maintenance);
            let once_more = as_plan(start(Some(&finished), false, DEADLINE));
            for drained in [begun, again, finished, once_more] {
                let (back, drain) = cancel(Some(&drained)).unwrap();
                assert_eq!((back, drain.unwrap().state, drain.unwrap().lost), (mode, DrainState::Cancelled, false));
                let cancelled = as_plan((back, drain));
                assert_eq!(cancel(Some(&cancelled)), Some((back, drain)), "twice is once");
                assert_eq!(finish(Some(&cancelled), PLAN, false), None);
                assert_eq!(finish(Some(&again), PLAN - 1, false), None, "decided for an earlier plan");
            }
        }
        assert_eq!(cancel(None), None);
        assert_eq!(cancel(Some(&as_plan((Mode::Draining, None)))), None);
    }

    #[test]
    fn a_mode_that_is_set_takes_a_running_drain_back_and_forgets_one_that_is_over() {
        let begun = as_plan(start(None, false, DEADLINE));
        let (mode, drain) = set_mode(Some(&begun), Mode::BlockNewRooms);
        assert_eq!((mode, drain.map(|drain| drain.state)), (Mode::BlockNewRooms, Some(DrainState::Cancelled)));
        let finished = as_plan(finish(Some(&begun), PLAN, false).unwrap());
        assert_eq!(set_mode(Some(&finished), Mode::Serving), (Mode::Serving, None));
        assert_eq!(start(Some(&as_plan((mode, drain))), false, 1).1.unwrap().before, Mode::BlockNewRooms);
    }

    #[test]
    fn a_drain_is_finished_by_the_word_about_its_own_plan_only() {
        let begun = as_plan(start(None, true, DEADLINE));
        let finish = Word::Finish { plan: begun.plan, lost: false };
        assert_eq!(finish.wanted(Some(&begun)), super::finish(Some(&begun), PLAN, false));
        let again = Steering { plan: PLAN + 1, ..as_plan(start(Some(&begun), true, DEADLINE)) };
        assert_eq!(
            finish.wanted(Some(&again)),
            None,
            "it was taken back and begun anew: rooms may have come in between"
        );
    }

    #[test]
    fn a_word_that_changes_nothing_is_not_written() {
        let begun = as_plan(start(None, true, DEADLINE));
        let cancelled = as_plan(cancel(Some(&begun)).unwrap());
        let draining = Word::Mode { mode: Mode::Draining, deadline_store_ms: DEADLINE + 1 };
        assert_eq!(draining.wanted(Some(&begun)), None);
        assert_eq!(draining.wanted(Some(&cancelled)), Some(start(Some(&cancelled), false, DEADLINE + 1)));
        assert_eq!(Word::Cancel.wanted(Some(&begun)), cancel(Some(&begun)));
        assert_eq!(Word::Cancel.wanted(Some(&cancelled)), None);
    }

    #[test]
    fn what_is_due_depends_on_rooms_deadline_and_the_operators_word() {
        for (rooms, move_rooms, at, expected) in [
            (3, false, PLAN, Due::Nothing),
            (3, true, PLAN, Due::Move),
            (3, false, DEADLINE - 1, Due::Nothing),
            (3, false, DEADLINE, Due::Move),
            (0, false, PLAN + SETTLED_AFTER_MS - 1, Due::Nothing),
            (0, false, PLAN + SETTLED_AFTER_MS, Due::Finish),
            (0, true, DEADLINE + 1, Due::Finish),
        ] {
            let steering = as_plan(start(None, move_rooms, DEADLINE));
            assert_eq!(due(&node(steering, rooms), EMPTY, at), Some(expected), "{rooms} {move_rooms} {at}");
            for over in [finish(Some(&steering), PLAN, false), cancel(Some(&steering))] {
                assert_eq!(due(&node(as_plan(over.unwrap()), rooms), EMPTY, at), None);
            }
        }
    }

    #[test]
    fn a_node_that_reports_no_room_is_empty_only_if_nothing_says_otherwise() {
        let steering = as_plan(start(None, true, DEADLINE));
        for (state, participants, known, expected) in [
            (NodeState::Alive, 0, EMPTY, Due::Finish),
            (NodeState::Alive, 1, EMPTY, Due::Nothing),
            (NodeState::Alive, 0, Known { open_rooms: 1, ..EMPTY }, Due::Nothing),
            (NodeState::Alive, 0, Known { in_grace: true, ..EMPTY }, Due::Nothing),
            (NodeState::Suspect, 0, EMPTY, Due::Nothing),
            (NodeState::Lost, 0, EMPTY, Due::FinishLost),
        ] {
            let mut node = node(steering, 0);
            (node.state, node.report.participants) = (state, participants);
            assert_eq!(due(&node, known, DEADLINE), Some(expected), "{state:?} {participants} {known:?}");
        }
    }

    #[test]
    fn the_drain_of_a_lost_node_ends_when_the_store_names_no_room_of_it() {
        let steering = as_plan(start(None, true, DEADLINE));
        for (known, at, expected) in [
            (Known { open_rooms: 1, ..EMPTY }, DEADLINE, Due::Nothing),
            (Known { in_grace: true, ..EMPTY }, DEADLINE, Due::Nothing),
            (Known { is_deaf: true, ..EMPTY }, DEADLINE, Due::Nothing),
            (EMPTY, PLAN, Due::Nothing),
            (EMPTY, DEADLINE, Due::FinishLost),
        ] {
            let mut node = node(steering, 3);
            node.state = NodeState::Lost;
            assert_eq!(due(&node, known, at), Some(expected), "{known:?} {at}");
        }
        let finished = as_plan(finish(Some(&steering), PLAN, true).unwrap());
        assert!(progress(&node(finished, 0), 0, PLAN).unwrap().lost);
        assert!(!start(Some(&finished), true, DEADLINE).1.unwrap().lost, "the next one has not ended");
    }

    #[test]
    fn the_silence_of_a_drained_node_counts_only_for_whoever_hears_and_while_no_brake_holds() {
        let steering = as_plan(start(None, false, DEADLINE));
        let of = |name: &str| {
            let mut report = Report { rooms: 1, participants: 3, ..sample::report(name, "eu") };
            report.steer(steering);
            report
        };
        let lost = READY.plus(10_000);
        let mut view = sample::view(vec![of("a"), sample::report("b", "eu")]);
        sample::pass(&mut view, READY, lost);
        assert_eq!(due_in(&view, lost)[0].due, Due::FinishLost);
        view.stop_listening(lost);
        assert_eq!(due_in(&view, lost)[0].due, Due::Nothing);
        let mut many = sample::view(["a", "b", "c", "d"].map(of).to_vec());
        sample::pass(&mut many, READY, lost);
        assert!(many.brake().holds());
        assert!(due_in(&many, lost).iter().all(|drain| drain.due == Due::Nothing));
    }

    #[test]
    fn a_drain_goes_on_while_a_node_that_lost_its_lease_asserts_its_rooms_again() {
        let steering = as_plan(start(None, true, DEADLINE));
        let report = |incarnation, seq, rooms| {
            let mut report = Report { rooms, full: true, ..sample::numbered("a", incarnation, seq) };
            report.steer(steering);
            report
        };
        let mut view = sample::view(vec![report(1, 1, 1)]);
        let open = |epoch, incarnation| {
            let claim = sample::claim("a", epoch, ClaimState::Open);
            sample::claimed("x", Claim { incarnation: Incarnation(incarnation), ..claim }, 0)
        };
        let released = Event::Released { key: sample::room("x"), epoch: Epoch(8) };
        for (event, expected) in [
            (open(7, 1), Due::Move),
            (sample::reported(report(2, 1, 0)), Due::Nothing),
            (open(8, 2), Due::Nothing),
            (sample::reported(report(2, 2, 1)), Due::Move),
            (sample::reported(report(2, 3, 0)), Due::Nothing),
            (released, Due::Finish),
        ] {
            let told = format!("{event:?}");
            view.apply(event, READY);
            assert_eq!(
                due_in(&view, READY),
                [Running { node: sample::node("a"), plan: PLAN, due: expected }],
                "{told}"
            );
        }
        let elsewhere = (sample::node("a").bucket() + 1) % roost_proto::hash::BUCKETS;
        view.see_run(elsewhere, &sample::run("r2"), READY);
        assert_eq!(due_in(&view, READY)[0].due, Due::Nothing, "its rooms of that bucket are not asserted yet");
        assert!(is_current(&view, &sample::node("a"), PLAN) && !is_current(&view, &sample::node("a"), PLAN + 1));
        let cancelled = Steering { plan: PLAN + 1, ..as_plan(cancel(Some(&steering)).unwrap()) };
        view.apply(Event::Steered { node: sample::node("a"), steering: cancelled }, READY);
        assert!(!is_current(&view, &sample::node("a"), PLAN));
    }

    #[test]
    fn rooms_with_few_participants_go_first_and_those_that_found_no_place_last() {
        let room = |name: &str, participants| {
            let mut view = sample::view(vec![Report {
                changed: vec![sample::held(name, 7, participants)],
                ..sample::report("a", "eu")
            }]);
            view.apply(sample::claimed(name, sample::claim("a", 7, ClaimState::Open), 0), READY);
            let key = sample::room(name);
            view.room(&key, READY).unwrap().view(&key)
        };
        let rooms =
            vec![room("empty", 0), room("many", 9), room("stuck", 1), room("often", 1), room("b", 2), room("a", 2)];
        let failures = BTreeMap::from([(sample::room("stuck"), 1), (sample::room("often"), 2)]);
        let names: Vec<String> = in_order(rooms, &failures).iter().map(|key| key.room.to_string()).collect();
        assert_eq!(names, ["a", "b", "many", "empty", "stuck", "often"]);
    }

    #[test]
    fn progress_is_what_is_left() {
        let steering = as_plan(start(None, true, DEADLINE));
        let seen = progress(&node(steering, 3), 2, DEADLINE - 1_001).unwrap();
        assert_eq!((seen.state, seen.rooms_left, seen.participants_left), (DrainState::Running, 3, 9));
        assert_eq!((seen.deadline_s, seen.move_rooms), (2, true));
        assert_eq!(progress(&node(steering, 0), 2, PLAN).unwrap().rooms_left, 2, "not asserted again yet");
        let mut lost = node(steering, 3);
        lost.state = NodeState::Lost;
        for (open_rooms, left) in [(2, (2, 9)), (0, (0, 0))] {
            let seen = progress(&lost, open_rooms, PLAN).unwrap();
            assert_eq!((seen.rooms_left, seen.participants_left), left);
        }
        assert_eq!(progress(&node(steering, 3), 0, DEADLINE + 5).unwrap().deadline_s, 0);
        assert_eq!(progress(&node(as_plan((Mode::Serving, None)), 3), 0, PLAN), None);
    }

    fn due_in(view: &View, now: Millis) -> Vec<Running> {
        running(view, PLAN + SETTLED_AFTER_MS, now)
    }

    fn as_plan((mode, drain): Wanted) -> Steering {
        Steering { plan: PLAN, mode, drain }
    }

    fn node(steering: Steering, rooms: u32) -> Node {
        let mut report = Report { rooms, participants: 3 * rooms, ..sample::report("a", "eu") };
        report.steer(steering);
        Node::new(report, Vec::new(), Slot(0), Millis(0))
    }
}
