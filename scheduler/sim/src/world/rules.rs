//! What must never happen, checked after each step by rules of its own: a second opinion on filter and door.

use std::collections::BTreeMap;

use roost_proto::id::{NodeId, RoomKey};
use roost_proto::report::Mode;
use serde::{Deserialize, Serialize};

use super::World;
use super::lookups::request;
use crate::scheduler::Mind;

/// How often each rule was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Violations {
    /// A room on a node that does not serve its namespace.
    pub namespace: u64,
    /// A room outside its namespace's fence.
    pub fence: u64,
    /// A room on a node that no rung of its namespace's ladder reaches from the client.
    pub ladder: u64,
    /// A room given to a node that had said that it takes none, or a participant let in against the node's mode.
    pub mode: u64,
    /// More participants or rooms on a node, or participants in a room, than its limit.
    pub limits: u64,
    /// Participants of one room on two nodes.
    pub homes: u64,
}

impl Violations {
    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { namespace, fence, ladder, mode, limits, homes } = self;
        namespace + fence + ladder + mode + limits + homes
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.namespace += other.namespace;
        self.fence += other.fence;
        self.ladder += other.ladder;
        self.mode += other.mode;
        self.limits += other.limits;
        self.homes += other.homes;
    }
}

impl World<'_> {
    /// A scheduler is about to give the visit's room to a node.
    pub(super) fn check_grant(&mut self, visit: u32, scheduler: usize, node: &NodeId) {
        let Mind::Core(core) = &self.schedulers[scheduler].mind else { return };
        let takes_rooms = core.view.node(node).is_some_and(|node| node.report.mode == Mode::Serving);
        self.tally.violations.mode += u64::from(!takes_rooms);
        if let Some(node) = self.numbers.get(node).copied() {
            self.check_place(visit, node);
        }
    }

    /// The visit's room is given to a node, whatever that says of itself.
    pub(super) fn check_place(&mut self, visit: u32, node: usize) {
        let description = &self.plan.nodes[node].description;
        let request = request(self.plan, &[], visit);
        let (namespaces, fence) = (&description.namespaces, &request.policy.fence);
        let is_within = |outer: &roost_proto::id::Region| {
            let (outer, inner) = (outer.as_str(), description.region.as_str());
            inner == outer || inner.starts_with(&format!("{outer}/"))
        };
        let violations = &mut self.tally.violations;
        violations.namespace += u64::from(!namespaces.is_empty() && !namespaces.contains(&request.key.namespace));
        violations.fence += u64::from(!fence.is_empty() && !fence.iter().any(is_within));
        violations.ladder += u64::from(!is_on_ladder(&request, description));
    }

    /// A participant was let in.
    pub(super) fn check_admission(&mut self, visit: u32, node: usize) {
        let room = &self.plan.rooms[self.plan.visits[visit as usize].room as usize].key;
        let is_closed = matches!(self.nodes[node].mode, Mode::BlockNewParticipants | Mode::Maintenance);
        let most = self.plan.namespaces.of(&room.namespace).max_participants_per_room;
        let inside = self.nodes[node].holdings.get(room).map_or(0, |hold| hold.guests);
        self.tally.violations.mode += u64::from(is_closed);
        self.tally.violations.limits += u64::from(most > 0 && inside > most);
        let is_split = self.tally.homes.enter(room, node);
        self.tally.violations.homes += u64::from(is_split);
        self.check_limits(node);
    }

    /// A participant who was inside is gone.
    pub(super) fn went(&mut self, visit: u32) {
        let room = &self.plan.rooms[self.plan.visits[visit as usize].room as usize].key;
        self.tally.homes.leave(room);
    }

    /// A node has begun to open a room.
    pub(super) fn check_opening(&mut self, node: usize) {
        self.tally.violations.mode += u64::from(self.nodes[node].mode != Mode::Serving);
        self.check_limits(node);
    }

    /// All that can be seen from outside, of every node.
    pub(super) fn check_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.check_limits(node);
        }
    }

    fn check_limits(&mut self, node: usize) {
        let (capacity, there) = (&self.plan.nodes[node].description.capacity, &self.nodes[node]);
        let inside: u64 = there.holdings.iter().map(|(_, hold)| u64::from(hold.guests)).sum();
        let is_over = |used: u64, most: u32| most > 0 && used > u64::from(most);
        let broken = [
            is_over(inside, capacity.participants),
            is_over(there.holdings.len() as u64, capacity.rooms),
            inside != u64::from(there.guests),
        ];
        self.tally.violations.limits += broken.into_iter().map(u64::from).sum::<u64>();
    }
}

/// Whether some rung reaches the node: stated over the labels of the two regions.
fn is_on_ladder(
    request: &roost_scheduler_core::request::Request<'_>,
    description: &roost_proto::report::Description,
) -> bool {
    use roost_proto::policy::Rung;
    let node: Vec<&str> = description.region.as_str().split('/').collect();
    let client: Option<Vec<&str>> = request.region.map(|region| region.as_str().split('/').collect());
    let starts = |labels: &[&str]| node.len() >= labels.len() && node[..labels.len()] == *labels;
    let own = description.carriers.is_empty() || request.carrier.is_none_or(|c| description.carriers.contains(c));
    request.policy.ladder.rungs().iter().any(|rung| match (rung, &client) {
        (Rung::Anywhere, _) => true,
        (Rung::RegionCarrier | Rung::ParentCarrier, _) if !own => false,
        (_, None) => true,
        (Rung::RegionCarrier | Rung::Region, Some(client)) => starts(client),
        (Rung::ParentCarrier | Rung::Parent, Some(client)) => {
            starts(client) || (client.len() > 1 && starts(&client[..client.len() - 1]))
        }
    })
}

/// Where the participants of each room are.
#[derive(Debug, Default)]
pub(super) struct Homes {
    rooms: BTreeMap<RoomKey, (usize, u32)>,
}

impl Homes {
    /// Whether others of the room are on another node.
    fn enter(&mut self, room: &RoomKey, node: usize) -> bool {
        let (home, inside) = self.rooms.entry(room.clone()).or_insert((node, 0));
        *inside += 1;
        *home != node
    }

    fn leave(&mut self, room: &RoomKey) {
        if let Some((_, inside)) = self.rooms.get_mut(room) {
            *inside -= 1;
            if *inside == 0 {
                self.rooms.remove(room);
            }
        }
    }
}
