//! The hard constraints: why a node cannot take a room, or a further participant of one that it has.

use roost_proto::admin::NodeState;
use roost_proto::error::Reason;
use roost_proto::id::NamespaceId;
use roost_proto::report::WorkerState;

use crate::node::Node;
use crate::region::{self, is_in_reach};
use crate::request::Request;

/// What the node is asked to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// A room that is open nowhere.
    NewRoom,
    /// The first participant of a room that is granted to it: whoever asked for that was near enough.
    GrantedRoom,
    /// A further participant of a room that is open on the node.
    Participant,
}

/// Why the node cannot; none if it can. The first reason in the order of [`Reason::ALL`].
///
/// A node that holds the room is asked for mode and capacity only: liveness is the business of whoever has its claim
/// in hand, and `avoid` does not move an open room.
#[must_use]
pub fn refusal(node: &Node, wish: Wish, request: &Request<'_>) -> Option<Reason> {
    match wish {
        Wish::NewRoom => refuses_namespace(node, &request.key.namespace)
            .or_else(|| refuses_place(node, request))
            .or_else(|| node.blocked.into_iter().chain(avoided(node, request)).min()),
        Wish::GrantedRoom => refuses_namespace(node, &request.key.namespace)
            .or_else(|| is_outside_fence(node, request).then_some(Reason::OutsideFence))
            .or_else(|| node.blocked.into_iter().chain(avoided(node, request)).min()),
        Wish::Participant => {
            let refuses = !node.report.mode.takes_participants();
            refuses.then_some(Reason::Mode).or_else(|| is_full(node, wish))
        }
    }
}

/// Why a node in this state takes no new room, whoever asks; none if it takes some.
#[must_use]
pub fn blocked(node: &Node, state: NodeState) -> Option<Reason> {
    let is_alive = state != NodeState::Lost && !has_no_media(node);
    (!node.report.mode.takes_rooms())
        .then_some(Reason::Mode)
        .or_else(|| (!is_alive).then_some(Reason::NotAlive))
        .or_else(|| is_full(node, Wish::NewRoom))
}

fn avoided(node: &Node, request: &Request<'_>) -> Option<Reason> {
    request.avoid.contains(&node.report.node).then_some(Reason::Avoided)
}

fn refuses_namespace(node: &Node, namespace: &NamespaceId) -> Option<Reason> {
    let served = &node.report.description.namespaces;
    (!served.is_empty() && !served.contains(namespace)).then_some(Reason::WrongNamespace)
}

/// Fence and ladder. A node that only its carrier keeps off the ladder is refused for that.
fn refuses_place(node: &Node, request: &Request<'_>) -> Option<Reason> {
    let description = &node.report.description;
    if is_outside_fence(node, request) {
        return Some(Reason::OutsideFence);
    }
    if region::rung(request, description).is_some() {
        return None;
    }
    let mut rungs = request.policy.ladder.rungs().iter();
    let is_near = rungs.any(|rung| is_in_reach(*rung, request.region, &description.region));
    Some(if is_near { Reason::WrongCarrier } else { Reason::BeyondLadder })
}

fn is_outside_fence(node: &Node, request: &Request<'_>) -> bool {
    !request.policy.allows(&node.report.description.region)
}

/// Whether none of the node's media workers runs: nobody would get media there. A node that lists none is believed.
fn has_no_media(node: &Node) -> bool {
    let workers = &node.report.workers;
    !workers.is_empty() && workers.iter().all(|worker| worker.state != WorkerState::Up)
}

/// Judged on what is there by the node's own word, never on what is expected.
fn is_full(node: &Node, wish: Wish) -> Option<Reason> {
    let report = &node.report;
    let capacity = &report.description.capacity;
    let reached = |used: u64, limit: u64| limit > 0 && used >= limit;
    let busiest_way_bps = report.host.network_rx_bps.max(report.host.network_tx_bps);
    if reached(report.participants.into(), capacity.participants.into()) {
        Some(Reason::FullParticipants)
    } else if wish == Wish::NewRoom && reached(report.rooms.into(), capacity.rooms.into()) {
        Some(Reason::FullRooms)
    } else if reached(report.streams.into(), capacity.streams.into()) {
        Some(Reason::FullStreams)
    } else if reached(busiest_way_bps, capacity.bandwidth_bps) {
        Some(Reason::FullBandwidth)
    } else if reached(report.host.cpu_permille.into(), capacity.cpu_permille.into()) {
        Some(Reason::FullCpu)
    } else if reached(node.load.memory_permille.into(), capacity.memory_permille.into()) {
        Some(Reason::FullMemory)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Slot;
    use crate::sample;
    use roost_proto::policy;
    use roost_proto::report::{Mode, Report, Worker};
    use roost_proto::time::Millis;

    fn refused(report: Report, state: NodeState, wish: Wish) -> Option<Reason> {
        let key = sample::room("x");
        let avoid = [sample::node("avoided")];
        let request = Request { avoid: &avoid, ..Request::new(&key, &policy::DEFAULT) };
        let mut node = Node::new(report, Vec::new(), Slot(0), Millis(0));
        node.judge(state);
        refusal(&node, wish, &request)
    }

    #[test]
    fn a_node_whose_media_workers_are_all_down_gets_no_room() {
        let worker = |index, state| Worker { state, ..sample::worker(index) };
        for (states, expected) in [
            ([WorkerState::Up, WorkerState::Down], None),
            ([WorkerState::Starting, WorkerState::Down], Some(Reason::NotAlive)),
        ] {
            let workers = vec![worker(0, states[0]), worker(1, states[1])];
            let report = Report { workers, ..sample::report("a", "eu") };
            assert_eq!(refused(report.clone(), NodeState::Alive, Wish::NewRoom), expected, "{states:?}");
            assert_eq!(refused(report, NodeState::Alive, Wish::Participant), None, "it comes back, and so may they");
        }
    }

    #[test]
    fn each_mode_takes_what_its_table_says() {
        for (mode, new_room, participant) in [
            (Mode::Serving, None, None),
            (Mode::BlockNewRooms, Some(Reason::Mode), None),
            (Mode::BlockNewParticipants, Some(Reason::Mode), Some(Reason::Mode)),
            (Mode::Draining, Some(Reason::Mode), None),
            (Mode::Maintenance, Some(Reason::Mode), Some(Reason::Mode)),
        ] {
            let report = Report { mode, ..sample::report("a", "eu") };
            for new in [Wish::NewRoom, Wish::GrantedRoom] {
                assert_eq!(refused(report.clone(), NodeState::Alive, new), new_room, "{mode:?} {new:?}");
            }
            assert_eq!(refused(report, NodeState::Alive, Wish::Participant), participant, "{mode:?}");
        }
    }

    #[test]
    fn a_suspect_node_is_eligible_and_a_lost_one_is_not() {
        let report = sample::report("a", "eu");
        assert_eq!(refused(report.clone(), NodeState::Suspect, Wish::NewRoom), None);
        assert_eq!(refused(report, NodeState::Lost, Wish::NewRoom), Some(Reason::NotAlive));
    }

    #[test]
    fn a_node_serves_only_its_namespaces_and_all_when_it_names_none() {
        let mut report = sample::report("a", "eu");
        report.description.namespaces = vec![NamespaceId::new("acme").unwrap()];
        assert_eq!(refused(report.clone(), NodeState::Alive, Wish::NewRoom), Some(Reason::WrongNamespace));
        report.description.namespaces.push(NamespaceId::new("default").unwrap());
        assert_eq!(refused(report, NodeState::Alive, Wish::NewRoom), None);
    }

    #[test]
    fn what_is_avoided_is_refused_for_new_rooms_only() {
        let report = sample::report("avoided", "eu");
        assert_eq!(refused(report.clone(), NodeState::Alive, Wish::NewRoom), Some(Reason::Avoided));
        assert_eq!(refused(report, NodeState::Alive, Wish::Participant), None);
    }

    #[test]
    fn a_full_resource_refuses_and_one_without_a_limit_never_does() {
        type Change = fn(&mut Report);
        let rows: [(Change, Option<Reason>, Option<Reason>); 9] = [
            (|r| r.participants = 100, Some(Reason::FullParticipants), Some(Reason::FullParticipants)),
            (|r| r.participants = 99, None, None),
            (
                |r| {
                    r.description.capacity.rooms = 2;
                    r.rooms = 2;
                },
                Some(Reason::FullRooms),
                None,
            ),
            (
                |r| {
                    r.description.capacity.streams = 5;
                    r.streams = 6;
                },
                Some(Reason::FullStreams),
                Some(Reason::FullStreams),
            ),
            (
                |r| {
                    r.description.capacity.bandwidth_bps = 10;
                    r.host.network_rx_bps = 10;
                },
                Some(Reason::FullBandwidth),
                Some(Reason::FullBandwidth),
            ),
            (
                |r| {
                    r.description.capacity.cpu_permille = 900;
                    r.host.cpu_permille = 900;
                },
                Some(Reason::FullCpu),
                Some(Reason::FullCpu),
            ),
            (
                |r| {
                    r.description.capacity.memory_permille = 800;
                    (r.host.memory_used_bytes, r.host.memory_total_bytes) = (800, 1_000);
                },
                Some(Reason::FullMemory),
                Some(Reason::FullMemory),
            ),
            (
                |r| {
                    r.description.capacity.memory_permille = 800;
                    (r.host.memory_used_bytes, r.host.memory_total_bytes) = (799, 1_000);
                },
                None,
                None,
            ),
            (|r| (r.rooms, r.streams, r.host.network_rx_bps) = (u32::MAX, u32::MAX, u64::MAX), None, None),
        ];
        for (row, (change, new_room, participant)) in rows.into_iter().enumerate() {
            let mut report = sample::report("a", "eu");
            change(&mut report);
            assert_eq!(refused(report.clone(), NodeState::Alive, Wish::NewRoom), new_room, "row {row}");
            assert_eq!(refused(report, NodeState::Alive, Wish::Participant), participant, "row {row}");
        }
    }
}
