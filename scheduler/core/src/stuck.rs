//! Why rooms stay on a node that is drained: what an order to move each of them would come to at this moment.

use std::collections::BTreeMap;

use roost_proto::admin::{RoomFilter, StuckRooms};
use roost_proto::error::{Code, Reason};
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::policy::Policies;
use roost_proto::room::ClaimState;
use roost_proto::time::Millis;

use crate::filter::{Wish, refusal};
use crate::place::NoNode;
use crate::relocation::{Step, Ways, decide};
use crate::request::Request;
use crate::view::View;

/// Of how many rooms a move is decided in one go.
const DECIDED_ONCE: usize = 250;

/// What is known so far of a node's rooms that cannot be moved.
#[derive(Debug, Clone)]
pub struct Stuck {
    node: NodeId,
    looked: Option<RoomKey>,
    rooms: BTreeMap<Code, u32>,
    reasons: BTreeMap<Reason, u32>,
}

impl Stuck {
    /// Nothing is known yet of the node's rooms.
    #[must_use]
    pub fn of(node: NodeId) -> Self {
        Self { node, looked: None, rooms: BTreeMap::new(), reasons: BTreeMap::new() }
    }

    /// Looks at some more of its rooms. True when that were all.
    pub fn look_on(&mut self, view: &View, policies: &Policies, now: Millis) -> bool {
        let filter = RoomFilter { namespace: None, node: Some(self.node.clone()) };
        let (rooms, next) = view.rooms.page(&filter, self.looked.as_ref(), DECIDED_ONCE, now);
        for room in rooms.into_iter().filter(|room| room.state == ClaimState::Open) {
            let key = RoomKey { namespace: room.namespace, room: room.room };
            self.weigh(view, &Request::new(&key, policies.of(&key.namespace)), now);
        }
        self.looked = next;
        self.looked.is_none()
    }

    /// By the code with which an order to move them would be answered.
    #[must_use]
    pub fn counts(self) -> Vec<StuckRooms> {
        let reasons = |code| if code == Code::NoNode { self.reasons.clone() } else { BTreeMap::new() };
        self.rooms.iter().map(|(&code, &rooms)| StuckRooms { code, rooms, reasons: reasons(code) }).collect()
    }

    fn weigh(&mut self, view: &View, request: &Request<'_>, now: Millis) {
        let code = match decide(view, request, Ways::default(), true, now) {
            Step::There | Step::Order(_) | Step::Grant { .. } | Step::NoRoom => return,
            Step::Read | Step::Wait => Code::Starting,
            Step::Unreached => Code::StoreUnavailable,
            Step::UnknownNode(_) => Code::NodeNotFound,
            Step::NoNode(no_node) => {
                for reason in self.of_others(view, request, &no_node) {
                    *self.reasons.entry(reason).or_default() += 1;
                }
                Code::NoNode
            }
        };
        *self.rooms.entry(code).or_default() += 1;
    }

    /// Why nodes refuse the room, but the one that is drained: that it takes none is what is wanted.
    fn of_others(&self, view: &View, request: &Request<'_>, no_node: &NoNode) -> Vec<Reason> {
        let home = view.node(&self.node).filter(|_| !no_node.is_home);
        let own = home.and_then(|home| {
            let (region, avoid) = (Some(&home.report.description.region), std::slice::from_ref(&self.node));
            refusal(home, Wish::NewRoom, &Request { region, avoid, ..*request })
        });
        let others = no_node.counts.iter().filter(|counted| counted.count > u32::from(own == Some(counted.reason)));
        others.map(|counted| counted.reason).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, READY};
    use roost_proto::id::NamespaceId;
    use roost_proto::report::{Mode, Report};

    #[test]
    fn rooms_that_find_no_place_are_counted_with_the_reasons_of_other_nodes() {
        let mut other = sample::report("b", "eu");
        other.description.namespaces = vec![NamespaceId::new("other").unwrap()];
        let small = Report { participants: 98, ..sample::report("c", "eu") };
        let mut view = drained(vec![other, small], &[("x", 3), ("y", 1), ("z", 4)]);
        let expected = StuckRooms {
            code: Code::NoNode,
            rooms: 2,
            reasons: BTreeMap::from([(Reason::WrongNamespace, 2), (Reason::FullParticipants, 2)]),
        };
        assert_eq!(counts(&view, READY), [expected], "there is space for one of them");
        view.apply(sample::reported(sample::report("d", "eu")), READY);
        assert_eq!(counts(&view, READY), []);
    }

    #[test]
    fn rooms_that_nobody_can_take_or_that_wait_say_so() {
        let mut view = drained(vec![], &[("x", 3)]);
        let alone = StuckRooms { code: Code::NoNode, rooms: 1, reasons: BTreeMap::new() };
        assert_eq!(counts(&view, READY), [alone], "there is no other node");
        view.see_run(sample::room("x").bucket(), &sample::run("r2"), READY);
        assert_eq!(counts(&view, READY), [StuckRooms { code: Code::Starting, rooms: 1, reasons: BTreeMap::new() }]);
    }

    #[test]
    fn rooms_of_a_node_that_is_lost_cannot_be_moved() {
        let mut view = drained(vec![sample::report("b", "eu")], &[("x", 3)]);
        view.apply(
            roost_proto::event::Event::Left {
                node: sample::node("a"),
                incarnation: sample::claim("a", 7, ClaimState::Open).incarnation,
            },
            READY,
        );
        let reasons = BTreeMap::from([(Reason::NotAlive, 1)]);
        assert_eq!(counts(&view, READY), [StuckRooms { code: Code::NoNode, rooms: 1, reasons }]);
    }

    #[test]
    fn all_rooms_are_looked_at_some_at_a_time() {
        let names: Vec<String> = (0..=2 * DECIDED_ONCE).map(|number| number.to_string()).collect();
        let rooms: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let view = drained(vec![], &rooms);
        assert_eq!(counts(&view, READY)[0].rooms, rooms.len() as u32);
    }

    /// Node `a`, which is drained, with these rooms, and others.
    fn drained(others: Vec<Report>, rooms: &[(&str, u32)]) -> View {
        let changed = rooms.iter().map(|(name, participants)| sample::held(name, 7, *participants)).collect();
        let home = Report { mode: Mode::Draining, changed, ..sample::report("a", "eu") };
        let mut view = sample::view([vec![home], others].concat());
        for (name, _) in rooms {
            view.apply(sample::claimed(name, sample::claim("a", 7, ClaimState::Open), 0), READY);
        }
        view
    }

    fn counts(view: &View, now: Millis) -> Vec<StuckRooms> {
        let mut stuck = Stuck::of(sample::node("a"));
        while !stuck.look_on(view, &Policies::default(), now) {}
        stuck.counts()
    }
}
