//! Where a room that lives goes when an operator, a drain or a plan moves it, and what is to be done for that (rule 23).
//!
//! Nothing here needs a plan number: the holder hands its room over by comparing the whole record, in the generation that
//! the order names. Two schedulers that decide the same, or otherwise, at the same time move the room once.

use roost_proto::admin::NodeState;
use roost_proto::error::{Reason, ReasonCount, Rejection};
use roost_proto::id::{Epoch, Incarnation, NodeId};
use roost_proto::lookup::NodeAddress;
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::time::Millis;

use crate::filter::{Wish, refusal};
use crate::join::Home;
use crate::node::Node;
use crate::place::{NoNode, place};
use crate::request::Request;
use crate::room::Room;
use crate::time::GRANT_TTL_MS;
use crate::view::View;

/// How many nodes that placement would take may turn out too small for the room before that is the answer.
const MOST_TOO_SMALL: usize = 16;

/// Which way a room is to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ways<'a> {
    pub from: Option<&'a NodeId>,
    pub to: Option<&'a NodeId>,
}

/// What an open room's holder is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub holder: NodeId,
    pub incarnation: Incarnation,
    /// The generation that is meant: the order is for no other.
    pub epoch: Epoch,
    pub to: NodeAddress,
    pub to_incarnation: Incarnation,
}

/// The next step of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The room lives at the named node already, or not any more where it was to leave.
    There,
    /// The room is open: its holder alone moves it.
    Order(Order),
    /// The room is only granted: grant it anew, if the store still has what was seen (rule 3).
    Grant { home: Home, run: Run, seen: Option<Claim>, expected: Expected },
    /// What is known of the room may be out of date: read its record, fold it, decide again.
    Read,
    /// What is missing may come by itself: decide again later.
    Wait,
    /// The store was never reached.
    Unreached,
    /// Nobody holds the room.
    NoRoom,
    /// No node of the wanted name is known.
    UnknownNode(NodeId),
    /// No node can take the room, or its holder is not there to give it up.
    NoNode(NoNode),
}

/// Decides the next step of moving the room of `request` to the node `to`, or, if none is named, to wherever placement
/// says, beside its home. Of the request namespace and policy count; where its clients are nobody knows, so it is the home's
/// region that counts.
///
/// Only away from the node `from`, if one is named: a room that is elsewhere by now stays there.
///
/// `is_read`: the room's record was read from the store.
#[must_use]
pub fn decide(view: &View, request: &Request<'_>, ways: Ways<'_>, is_read: bool, now: Millis) -> Step {
    let Ways { from, to } = ways;
    if from.is_some_and(|from| view.room(request.key, now).is_some_and(|room| room.node != from)) {
        return Step::There;
    }
    let bucket = request.key.bucket();
    let Some(run) = view.grace.run(bucket) else { return Step::Unreached };
    // Rule 15.
    if view.grace_left_ms(bucket, now) > 0 {
        return Step::Wait;
    }
    let Some(room) = view.room(request.key, now) else { return Step::NoRoom };
    if !is_read && !view.rooms.is_confirmed(request.key, &room) {
        return Step::Read;
    }
    if to == Some(room.node) {
        return Step::There;
    }
    let target = match to {
        Some(named) => match view.node(named) {
            Some(node) => named_target(view, request, &room, node, now),
            None => return Step::UnknownNode(named.clone()),
        },
        None => placed_target(view, request, &room),
    };
    let target = match target {
        Ok(target) => target,
        Err(no_node) => return Step::NoNode(no_node),
    };
    // Placement knows of a silence from the next tick on.
    if view.state(target, now) == NodeState::Lost {
        return Step::Wait;
    }
    let (to, to_incarnation) = (View::address(target), target.report.incarnation);
    if room.state == ClaimState::Granted {
        let home =
            Home { node: to, incarnation: to_incarnation, epoch: Epoch(0), ttl_ms: GRANT_TTL_MS, alternatives: vec![] };
        let seen = room.claim().filter(|claim| claim.run == *run);
        return Step::Grant { home, run: run.clone(), seen, expected: view.expected(request, now) };
    }
    match view.node(room.node) {
        Some(holder) if view.state(holder, now) == NodeState::Lost => {
            Step::NoNode(NoNode::of(holder, Reason::NotAlive))
        }
        // It is about to say that the room is its own under this incarnation, or is not.
        Some(holder) if holder.report.incarnation != room.incarnation => Step::Wait,
        Some(_) => {
            let (holder, incarnation) = (room.node.clone(), room.incarnation);
            Step::Order(Order { holder, incarnation, epoch: room.epoch, to, to_incarnation })
        }
        None => Step::Wait,
    }
}

/// Whether the node's own limit leaves room for so many more participants.
#[must_use]
pub fn has_space(node: &Node, participants: u32) -> bool {
    let limit = node.report.description.capacity.participants;
    limit == 0 || node.report.participants.saturating_add(participants) <= limit
}

/// Hard constraints hold for an operator too; how far the room may fall back does not.
fn named_target<'a>(
    view: &View,
    request: &Request<'_>,
    room: &Room<'_>,
    node: &'a Node,
    now: Millis,
) -> Result<&'a Node, NoNode> {
    let request = Request { avoid: &[], ..*request };
    let reason = refusal(node, Wish::GrantedRoom, &request)
        .or_else(|| (view.state(node, now) == NodeState::Lost).then_some(Reason::NotAlive))
        .or_else(|| (!has_space(node, room.participants)).then_some(Reason::FullParticipants));
    reason.map_or(Ok(node), |reason| Err(NoNode { is_home: false, ..NoNode::of(node, reason) }))
}

fn placed_target<'a>(view: &'a View, request: &Request<'_>, room: &Room<'_>) -> Result<&'a Node, NoNode> {
    let home = view.node(room.node);
    let mut avoid = vec![room.node.clone()];
    loop {
        let region = home.map(|home| &home.report.description.region);
        let request = Request { region, carrier: None, avoid: &avoid, alternatives: 0, ..*request };
        match place(view, &request) {
            Ok(found) if has_space(found.node, room.participants) => return Ok(found.node),
            Ok(found) if avoid.len() <= MOST_TOO_SMALL => avoid.push(found.node.report.node.clone()),
            Ok(found) => {
                return Err(NoNode { is_home: false, ..NoNode::of(found.node, Reason::FullParticipants) });
            }
            Err(no_node) => return Err(too_small(no_node, &avoid[1..])),
        }
    }
}

/// Says of those that were avoided because they are too small for the room that they are that.
fn too_small(mut no_node: NoNode, nodes: &[NodeId]) -> NoNode {
    let count = nodes.len() as u32;
    if count == 0 {
        return no_node;
    }
    for Rejection { node, reason } in &mut no_node.rejections {
        if nodes.contains(node) {
            *reason = Reason::FullParticipants;
        }
    }
    for counted in &mut no_node.counts {
        if counted.reason == Reason::Avoided {
            counted.count = counted.count.saturating_sub(count);
        }
    }
    match no_node.counts.iter_mut().find(|counted| counted.reason == Reason::FullParticipants) {
        Some(counted) => counted.count += count,
        None => no_node.counts.push(ReasonCount { reason: Reason::FullParticipants, count }),
    }
    no_node.counts.retain(|counted| counted.count > 0);
    no_node.counts.sort_by_key(|counted| counted.reason);
    no_node
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, READY};
    use roost_proto::id::Region;
    use roost_proto::policy::{self, Policy};
    use roost_proto::report::{Mode, Report};

    #[test]
    fn a_room_that_has_left_where_it_was_to_leave_stays_where_it_is() {
        let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "eu")]);
        view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
        let (key, a, b) = (sample::room("x"), sample::node("a"), sample::node("b"));
        let from = |from| {
            let ways = Ways { from: Some(from), to: None };
            decide(&view, &Request::new(&key, &policy::DEFAULT), ways, true, READY)
        };
        assert_eq!(from(&b), Step::There);
        assert!(matches!(from(&a), Step::Order(_)), "{:?}", from(&a));
    }

    #[test]
    fn an_open_room_is_moved_by_its_holder_and_a_granted_one_by_the_scheduler() {
        for (to, state) in [(Some("b"), ClaimState::Open), (None, ClaimState::Open), (None, ClaimState::Granted)] {
            let view = view(vec![sample::report("a", "eu"), sample::report("b", "eu")], state);
            match step(&view, to) {
                Step::Order(order) => {
                    assert_eq!(state, ClaimState::Open);
                    assert_eq!((order.holder.as_str(), order.epoch, order.to.id.as_str()), ("a", Epoch(7), "b"));
                }
                Step::Grant { home, seen, .. } => {
                    assert_eq!((state, home.node.id.as_str()), (ClaimState::Granted, "b"));
                    assert_eq!(seen, Some(sample::claim("a", 7, state)));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn hard_constraints_hold_for_whoever_moves_a_room() {
        let full = Report { participants: 98, ..sample::report("b", "eu") };
        let mut elsewhere = sample::report("b", "eu");
        elsewhere.description.namespaces = vec![roost_proto::id::NamespaceId::new("other").unwrap()];
        let draining = Report { mode: Mode::Draining, ..sample::report("b", "eu") };
        for (report, reason) in [
            (full, Reason::FullParticipants),
            (elsewhere, Reason::WrongNamespace),
            (draining, Reason::Mode),
            (sample::report("b", "us"), Reason::OutsideFence),
        ] {
            let view = view(vec![sample::report("a", "eu"), report], ClaimState::Open);
            let fenced = Policy { fence: vec![Region::new("eu").unwrap()], ..Policy::default() };
            let key = sample::room("x");
            for to in [Some(sample::node("b")), None] {
                let request = Request::new(&key, &fenced);
                let Step::NoNode(no_node) = decide(&view, &request, Ways { from: None, to: to.as_ref() }, false, READY)
                else {
                    panic!()
                };
                let of_b = no_node.rejections.iter().find(|rejection| rejection.node.as_str() == "b");
                assert_eq!(of_b.map(|rejection| rejection.reason), Some(reason), "{to:?}: {no_node:?}");
                assert!(no_node.counts.contains(&ReasonCount { reason, count: 1 }));
            }
        }
    }

    #[test]
    fn a_room_stays_near_its_home_unless_the_operator_says_where() {
        let reports = vec![sample::report("a", "eu/west"), sample::report("b", "us"), sample::report("c", "eu/west")];
        let view = view(reports, ClaimState::Open);
        let to = |step| if let Step::Order(order) = step { order.to.id.to_string() } else { panic!("{step:?}") };
        assert_eq!(to(step(&view, None)), "c");
        assert_eq!(to(step(&view, Some("b"))), "b");
    }

    #[test]
    fn what_cannot_be_moved_says_why() {
        let mut view = view(vec![sample::report("a", "eu"), sample::report("b", "eu")], ClaimState::Open);
        assert_eq!(step(&view, Some("a")), Step::There);
        assert_eq!(step(&view, Some("c")), Step::UnknownNode(sample::node("c")));
        let (key, other) = (sample::room("x"), sample::room("y"));
        assert_eq!(decide(&view, &Request::new(&other, &policy::DEFAULT), Ways::default(), false, READY), Step::NoRoom);
        view.see_run(key.bucket(), &sample::run("r2"), READY);
        assert_eq!(step(&view, None), Step::Wait, "rule 15");
        let unreached = View::new(READY);
        assert_eq!(step(&unreached, None), Step::Unreached);
    }

    #[test]
    fn a_holder_that_is_gone_moves_nothing() {
        let mut view = view(vec![sample::report("a", "eu"), sample::report("b", "eu")], ClaimState::Open);
        let lost = READY.plus(4_000);
        for at in (0..=4_000).step_by(1_000) {
            sample::pass(&mut view, READY.plus(at), READY.plus(at));
            view.apply(sample::reported(sample::numbered("b", 1, 2 + at)), READY.plus(at));
        }
        view.tick(lost);
        let key = sample::room("x");
        let step = decide(&view, &Request::new(&key, &policy::DEFAULT), Ways::default(), false, lost);
        let Step::NoNode(no_node) = step else { panic!("{step:?}") };
        assert!(no_node.is_home && no_node.rejections[0].reason == Reason::NotAlive);
    }

    /// Room `x` at node `a`, with three participants if it is open.
    fn view(mut reports: Vec<Report>, state: ClaimState) -> View {
        if state == ClaimState::Open {
            reports[0].changed = vec![sample::held("x", 7, 3)];
        }
        let mut view = sample::view(reports);
        view.apply(sample::claimed("x", sample::claim("a", 7, state), GRANT_TTL_MS), READY);
        view
    }

    fn step(view: &View, to: Option<&str>) -> Step {
        let key = sample::room("x");
        decide(
            view,
            &Request::new(&key, &policy::DEFAULT),
            Ways { from: None, to: to.map(sample::node).as_ref() },
            false,
            READY,
        )
    }
}
