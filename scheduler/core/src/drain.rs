//! Modes and drains: what an operator's word makes of a node's plan, and what is due of a drain that runs.
//!
//! A drain ends when its node has no room: its rooms end by themselves, and those that are left are moved, at its deadline or,
//! if the operator said so, at once. Every change carries the plan's number (see the store's `steer`), so that two schedulers
//! which both think that a drain is theirs do no harm.

use roost_proto::admin::{DrainView, NodeState};
use roost_proto::id::NodeId;
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

/// What is due of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Its rooms end by themselves; the deadline is ahead.
    Nothing,
    /// The rooms that are left are to be moved, those with few participants first (see [`in_order`]).
    Move,
    /// The node has no room any more: it goes into maintenance.
    Finish,
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
    (Mode::Draining, Some(Drain { deadline_store_ms, move_rooms, before, state: DrainState::Running }))
}

/// The operator takes a drain back, also one that has finished. None if there is none.
#[must_use]
pub fn cancel(current: Option<&Steering>) -> Option<Wanted> {
    let current = current?;
    let drain = current.drain?;
    let mode = if drain.state == DrainState::Cancelled { current.mode } else { drain.before };
    Some((mode, Some(Drain { state: DrainState::Cancelled, ..drain })))
}

/// The drain is over. None if it does not run.
#[must_use]
pub fn finish(current: Option<&Steering>) -> Option<Wanted> {
    let drain = current.and_then(Steering::running)?;
    Some((Mode::Maintenance, Some(Drain { state: DrainState::Finished, ..*drain })))
}

/// The drains that run, on nodes that live, with the plan and what is due of each. `store_ms` is the store's clock.
///
/// None of a node whose bucket is in a grace (rule 15), and none by an old plan: what a node reports is as new as the store's.
#[must_use]
pub fn running(view: &View, store_ms: u64, now: Millis) -> Vec<(NodeId, Due)> {
    let lives = |node: &&Node| node.state != NodeState::Lost;
    let is_settled = |node: &&Node| view.grace.left_ms(node.report.node.bucket(), now) == 0;
    let nodes = view.nodes.iter().filter(lives).filter(is_settled);
    let due = |node: &Node| Some((node.report.node.clone(), due(node, store_ms)?));
    nodes.filter_map(due).collect()
}

/// What is due of the node's drain; none if none runs.
#[must_use]
pub fn due(node: &Node, store_ms: u64) -> Option<Due> {
    let steering = node.report.steering?;
    let drain = steering.running()?;
    let is_settled = store_ms >= steering.plan.saturating_add(SETTLED_AFTER_MS);
    Some(match node.report.rooms {
        0 if is_settled => Due::Finish,
        0 => Due::Nothing,
        _ if drain.move_rooms || store_ms >= drain.deadline_store_ms => Due::Move,
        _ => Due::Nothing,
    })
}

/// In which order a node's rooms are moved: those with few participants first, so that as many rooms as possible have gone
/// should the rest not find a place.
pub fn in_order(rooms: &mut [RoomView]) {
    rooms.sort_by(|a, b| (a.participants, &a.namespace, &a.room).cmp(&(b.participants, &b.namespace, &b.room)));
}

/// How far the node's drain has come; none if it never had one.
#[must_use]
pub fn progress(node: &Node, store_ms: u64) -> Option<DrainView> {
    let drain = node.report.steering?.drain?;
    Some(DrainView {
        state: drain.state,
        rooms_left: node.report.rooms,
        participants_left: node.report.participants,
        deadline_s: drain.deadline_store_ms.saturating_sub(store_ms).div_ceil(1_000),
        move_rooms: drain.move_rooms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Slot;
    use crate::sample;
    use roost_proto::report::Report;

    const PLAN: u64 = 1_790_000_000_000;
    const DEADLINE: u64 = PLAN + 600_000;

    #[test]
    fn a_drain_that_is_taken_back_leads_to_the_mode_before_the_first_one() {
        for mode in [Mode::Serving, Mode::BlockNewRooms, Mode::BlockNewParticipants, Mode::Maintenance] {
            let begun = as_plan(start(Some(&as_plan((mode, None))), false, DEADLINE));
            let again = as_plan(start(Some(&begun), true, DEADLINE + 1));
            let finished = as_plan(finish(Some(&again)).unwrap());
            assert_eq!(finished.mode, Mode::Maintenance);
            let once_more = as_plan(start(Some(&finished), false, DEADLINE));
            for drained in [begun, again, finished, once_more] {
                let (back, drain) = cancel(Some(&drained)).unwrap();
                assert_eq!((back, drain.unwrap().state), (mode, DrainState::Cancelled));
                let cancelled = as_plan((back, drain));
                assert_eq!(cancel(Some(&cancelled)), Some((back, drain)), "twice is once");
                assert_eq!(finish(Some(&cancelled)), None);
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
        let finished = as_plan(finish(Some(&begun)).unwrap());
        assert_eq!(set_mode(Some(&finished), Mode::Serving), (Mode::Serving, None));
        assert_eq!(start(Some(&as_plan((mode, drain))), false, 1).1.unwrap().before, Mode::BlockNewRooms);
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
            assert_eq!(due(&node(steering, rooms), at), Some(expected), "{rooms} {move_rooms} {at}");
            for over in [finish(Some(&steering)), cancel(Some(&steering))] {
                assert_eq!(due(&node(as_plan(over.unwrap()), rooms), at), None);
            }
        }
    }

    #[test]
    fn progress_is_what_is_left() {
        let steering = as_plan(start(None, true, DEADLINE));
        let seen = progress(&node(steering, 3), DEADLINE - 1_001).unwrap();
        assert_eq!((seen.state, seen.rooms_left, seen.participants_left), (DrainState::Running, 3, 9));
        assert_eq!((seen.deadline_s, seen.move_rooms), (2, true));
        assert_eq!(progress(&node(steering, 3), DEADLINE + 5).unwrap().deadline_s, 0);
        assert_eq!(progress(&node(as_plan((Mode::Serving, None)), 3), PLAN), None);
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
