//! What must never happen, checked after each step by rules of its own: a second opinion on filter and door.

use std::collections::BTreeMap;

use roost_proto::id::{NodeId, RoomKey};
use roost_proto::report::Mode;
use roost_proto::time::Millis;
use serde::{Deserialize, Serialize};

use super::World;
use super::lookups::request;

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
        let Some(node) = self.numbers.get(node).copied() else { return };
        let takes_rooms = self.schedulers[scheduler].mode_of(node) == Some(Mode::Serving);
        self.tally.violations.mode += u64::from(!takes_rooms);
        self.check_place(visit, node);
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

    /// A participant was let in. Who is there from the beginning came under rules that may have been others.
    pub(super) fn check_admission(&mut self, visit: u32, node: usize) {
        let room = &self.plan.rooms[self.plan.visits[visit as usize].room as usize].key;
        let is_new = self.plan.visits[visit as usize].at > Millis(0);
        let is_closed = matches!(self.nodes[node].mode, Mode::BlockNewParticipants | Mode::Maintenance);
        let most = self.plan.namespaces.of(&room.namespace).max_participants_per_room;
        let inside = self.nodes[node].holdings.get(room).map_or(0, |hold| hold.guests);
        self.tally.violations.mode += u64::from(is_new && is_closed);
        self.tally.violations.limits += u64::from(is_new && most > 0 && inside > most);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{NodePlan, Plan, RoomPlan, Visit};
    use crate::policies::PolicyName;
    use crate::scenario::{ClientGroup, Delays, Jicofo, PerParticipant};
    use crate::world::{Setting, World};
    use roost_agent_core::hold::Offer;
    use roost_proto::id::{Epoch, Incarnation};
    use roost_proto::report::{Capacity, Description, MediaKind};

    #[test]
    fn a_room_for_a_node_that_said_it_takes_none_is_seen() {
        let mut plan = plan();
        plan.nodes[1].mode = Mode::Draining;
        let mut world = heard(&plan);
        world.check_grant(0, 0, &plan.nodes[0].id);
        assert_eq!(world.tally.violations, Violations::default());
        world.check_grant(0, 0, &plan.nodes[1].id);
        assert_eq!(world.tally.violations, Violations { mode: 1, ..Violations::default() });
        world.check_opening(1);
        assert_eq!(world.tally.violations.mode, 2, "nor may it open one");
    }

    #[test]
    fn a_scheduler_is_held_to_what_it_has_heard_only() {
        let plan = plan();
        let mut world = heard(&plan);
        world.nodes[0].mode = Mode::Draining;
        world.check_grant(0, 0, &plan.nodes[0].id);
        assert_eq!(world.tally.violations.total(), 0, "the report is under way");
        let mut world = World::new(&plan, SETTING);
        world.check_grant(0, 0, &plan.nodes[0].id);
        assert_eq!(world.tally.violations.mode, 1, "it has said nothing");
    }

    #[test]
    fn a_participant_against_the_mode_is_seen() {
        let plan = plan();
        let mut world = World::new(&plan, SETTING);
        world.nodes[0].mode = Mode::Maintenance;
        admit(&mut world, 0, 0);
        assert_eq!(world.tally.violations, Violations { mode: 1, ..Violations::default() });
    }

    #[test]
    fn one_participant_too_many_is_seen() {
        let mut plan = plan();
        let mut world = World::new(&plan, SETTING);
        admit(&mut world, 0, 0);
        assert_eq!(world.tally.violations.total(), 0);
        admit(&mut world, 1, 0);
        assert_eq!(world.tally.violations.total(), 0, "two are what it takes");
        admit(&mut world, 2, 0);
        assert_eq!(world.tally.violations, Violations { limits: 1, ..Violations::default() });
        plan.namespaces.0.entry(plan.rooms[0].key.namespace.clone()).or_default().max_participants_per_room = 1;
        let mut world = World::new(&plan, SETTING);
        admit(&mut world, 0, 0);
        admit(&mut world, 1, 0);
        assert_eq!(world.tally.violations, Violations { limits: 1, ..Violations::default() });
    }

    #[test]
    fn participants_of_one_room_on_two_nodes_are_seen() {
        let plan = plan();
        let mut world = World::new(&plan, SETTING);
        admit(&mut world, 0, 0);
        world.went(0);
        admit(&mut world, 1, 1);
        assert_eq!(world.tally.violations.total(), 0, "the first has left");
        admit(&mut world, 2, 0);
        assert_eq!(world.tally.violations, Violations { homes: 1, ..Violations::default() });
    }

    const SETTING: Setting = Setting { policy: PolicyName::Roost, schedulers: 1, seed: 0, keep_samples: false };

    /// A world whose scheduler has heard of all nodes.
    fn heard(plan: &Plan) -> World<'_> {
        let mut world = World::new(plan, SETTING);
        while let Some((at, what)) = world.next().filter(|(at, _)| *at < plan.warm_up) {
            world.now = at;
            world.happen(what);
        }
        world.now = plan.warm_up;
        world.wake(0);
        world
    }

    /// Lets the participant in as no door would.
    fn admit(world: &mut World<'_>, visit: u32, node: usize) {
        let room = &world.plan.rooms[0].key;
        let there = &mut world.nodes[node];
        if there.holdings.get(room).is_none() {
            there.holdings.begin_open(room, Offer { incarnation: Incarnation(1), epoch: Epoch(1) }, world.now);
        }
        there.enter(room);
        world.check_admission(visit, node);
    }

    /// Two nodes for two participants each, and a room that three come to.
    fn plan() -> Plan {
        let node = |id: &str| NodePlan {
            id: NodeId::new(id).unwrap(),
            description: Description {
                region: "eu".parse().unwrap(),
                carriers: vec![],
                namespaces: vec![],
                priority: 0,
                signaling_url: format!("wss://{id}.example"),
                link_url: format!("wss://{id}.example"),
                media: MediaKind::Synthetic,
                capacity: Capacity { participants: 2, ..Capacity::default() },
                temporary: false,
                version: String::new(),
            },
            mode: Mode::Serving,
            mode_changes: vec![],
            report_every_ms: [1_000, 1_000],
            per_participant: PerParticipant::default(),
            frozen_load: false,
            background: vec![],
            spells: vec![(Millis(0), Millis(30_000))],
        };
        let visit = Visit { at: Millis(20_000), room: 0, client: 0, leaves_at: None };
        Plan {
            nodes: vec![node("a"), node("b")],
            clients: vec![ClientGroup::default()],
            rooms: vec![RoomPlan { key: RoomKey::new("default", "x").unwrap(), size: 3, hint: None }],
            visits: vec![visit; 3],
            residents: vec![],
            namespaces: Default::default(),
            known_namespaces_only: false,
            delays: Delays::default(),
            jicofo: Jicofo::default(),
            warm_up: Millis(15_000),
            end: Millis(30_000),
            measure_from: Millis(15_000),
            sample_ms: 1_000,
        }
    }
}
