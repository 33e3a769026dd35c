//! Proposes moves of living rooms off nodes whose load stands above the others', and never makes one.
//!
//! Nodes are compared within their region and operator's priority: rooms stay in the region of their home. A node is
//! relieved when its load stands more than [`TRIGGER_PERMILLE`] above the mean, until it stands less than
//! [`RELIEVED_PERMILLE`] above it; none is loaded beyond that. Between the two lies the band in which nothing is done, so
//! that what a plan leaves behind asks for no other plan. A move costs half of what it carries about: by more than that it
//! must bring down the higher of the two nodes.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use roost_proto::admin::NodeState;
use roost_proto::id::{Carrier, Incarnation, NamespaceId, NodeId, Region, RoomKey};
use roost_proto::policy::Policies;
use roost_proto::report::Mode;
use roost_proto::room::ClaimState;
use roost_proto::time::Millis;

use crate::load;
use crate::node::Node;
use crate::room::Room;
use crate::view::View;

/// A node whose load stands further above the mean of its peers is relieved, in thousandths of its capacity.
pub const TRIGGER_PERMILLE: u32 = 100;
/// Until it stands no further above it than this; so far others may be loaded with what it gives up.
pub const RELIEVED_PERMILLE: u32 = 50;
const _: () = assert!(RELIEVED_PERMILLE < TRIGGER_PERMILLE, "a node that was relieved is not relieved again at once");

/// How many rooms are looked at in one go.
pub const LOOKED_AT_ONCE: usize = 20_000;
/// How many rooms of one node are weighed; of more, those that come first by name.
const MOST_ROOMS: usize = 1_000;
/// Loads are counted in thousandths of a thousandth, so that small rooms weigh something.
const FINE: u64 = 1_000;

/// What a plan may come to at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub rooms: u32,
    pub participants: u32,
}

/// One proposed move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub room: RoomKey,
    pub from: NodeId,
    pub to: NodeId,
    pub participants: u32,
    /// Loads of both nodes, with what is reserved on them, before this move and after it.
    pub from_permille: [u32; 2],
    pub to_permille: [u32; 2],
}

/// What is known of all nodes, and of the rooms of those that may be relieved.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    sites: BTreeMap<NodeId, Site>,
    rooms: BTreeMap<NodeId, Vec<Freight>>,
    looked: Option<RoomKey>,
}

/// A node, as far as it bears on a plan.
#[derive(Debug, Clone)]
struct Site {
    incarnation: Incarnation,
    region: Region,
    priority: i32,
    carriers: Vec<Carrier>,
    namespaces: Vec<NamespaceId>,
    takes_rooms: bool,
    gives_rooms: bool,
    /// In thousandths of a thousandth of its capacity.
    load: u64,
    /// How many participants a full load is.
    capacity: u64,
    /// Its own limits; 0: none.
    most_participants: u32,
    most_rooms: u32,
    participants: u32,
    rooms: u32,
}

/// A room that may be moved.
#[derive(Debug, Clone)]
struct Freight {
    key: RoomKey,
    participants: u32,
    /// Its part of its node's load.
    weight: u64,
}

impl Survey {
    /// Looks at all nodes, when it begins, and at some more rooms. True when that were all.
    ///
    /// The view may change between two calls: what a plan is made of is checked again when it is applied.
    pub fn look_on(&mut self, view: &View, now: Millis) -> bool {
        if self.looked.is_none() {
            let sites = view.nodes(None).filter(|(_, node)| node.state == NodeState::Alive && !node.is_distrusted());
            self.sites = sites.map(|(id, node)| (id.clone(), Site::of(node))).collect();
            let means = means(&self.sites);
            let is_high = |site: &Site| site.gives_rooms && site.load > site.bound(&means, TRIGGER_PERMILLE);
            self.rooms =
                self.sites.iter().filter(|(_, site)| is_high(site)).map(|(id, _)| (id.clone(), vec![])).collect();
        }
        if self.rooms.is_empty() {
            return true;
        }
        let (mut looked, after) = (0, self.looked.take());
        for (key, room) in view.rooms.after(after.as_ref(), now).take(LOOKED_AT_ONCE) {
            looked += 1;
            if let (Some(rooms), Some(site)) = (self.rooms.get_mut(room.node), self.sites.get(room.node))
                && room.state == ClaimState::Open
                && room.run.is_some()
                && room.incarnation == site.incarnation
                && rooms.len() < MOST_ROOMS
            {
                rooms.push(Freight { key: key.clone(), participants: room.participants, weight: site.weight(&room) });
            }
            if looked == LOOKED_AT_ONCE {
                self.looked = Some(key.clone());
            }
        }
        looked < LOOKED_AT_ONCE
    }

    /// The moves, in the order in which they are to be made.
    #[must_use]
    pub fn plan(mut self, policies: &Policies, budget: Budget) -> Vec<Move> {
        let means = means(&self.sites);
        for rooms in self.rooms.values_mut() {
            // Few participants for the load that goes, few participants at all; the last is taken first.
            rooms.sort_by(|one, other| {
                let dearness = |room: &Freight, by: &Freight| u128::from(room.participants) * u128::from(by.weight);
                let by_ratio = dearness(other, one).cmp(&dearness(one, other));
                by_ratio.then_with(|| other.participants.cmp(&one.participants)).then_with(|| other.key.cmp(&one.key))
            });
        }
        let (mut moves, mut left) = (Vec::new(), budget);
        while left.rooms > 0 {
            // The highest above its mean first.
            let mut sources: Vec<(&Site, &NodeId)> =
                self.rooms.keys().filter_map(|id| Some((self.sites.get(id)?, id))).collect();
            sources.sort_by_key(|(site, id)| (Reverse(site.load.saturating_sub(site.mean(&means))), *id));
            let found = sources.iter().find_map(|(site, id)| {
                let (at, to) = self.choose(id, site, policies, &means, left)?;
                Some(((*id).clone(), at, to))
            });
            let Some(next) = found.and_then(|(from, at, to)| self.carry(&from, at, &to)) else { break };
            left.rooms -= 1;
            left.participants -= next.participants;
            moves.push(next);
        }
        moves
    }

    /// The place of the node's first room that can go, and where to; none if the node is relieved, or nothing can.
    fn choose(
        &self,
        from: &NodeId,
        source: &Site,
        policies: &Policies,
        means: &Means,
        left: Budget,
    ) -> Option<(usize, NodeId)> {
        if source.load <= source.bound(means, RELIEVED_PERMILLE) {
            return None;
        }
        let affordable = |room: &&Freight| room.participants <= left.participants;
        let rooms = self.rooms.get(from)?.iter().enumerate().rev().filter(|(_, room)| affordable(room));
        rooms.into_iter().find_map(|(at, room)| Some((at, self.target(room, source, policies, means)?)))
    }

    fn carry(&mut self, from: &NodeId, at: usize, to: &NodeId) -> Option<Move> {
        let room = self.rooms.get_mut(from)?.remove(at);
        let arrives = self.sites.get(to)?.arriving(&room, self.sites.get(from)?);
        let from_permille = self.change(from, |site| site.give(&room))?;
        let to_permille = self.change(to, |site| site.take(&room, arrives))?;
        let (from, to, participants) = (from.clone(), to.clone(), room.participants);
        Some(Move { room: room.key, from, to, participants, from_permille, to_permille })
    }

    /// The least loaded peer that can take the room, if that improves the two by more than it costs.
    fn target(&self, room: &Freight, source: &Site, policies: &Policies, means: &Means) -> Option<NodeId> {
        let peers = self.sites.iter().filter(|(_, site)| site.is_peer(source) && site.can_take(room, policies));
        let (id, after) =
            peers.map(|(id, site)| (id, site.load + site.arriving(room, source))).min_by_key(|to| (to.1, to.0))?;
        let higher_after = after.max(source.load.saturating_sub(room.weight));
        let improves = source.load > higher_after + room.weight / 2;
        (improves && after <= source.bound(means, RELIEVED_PERMILLE)).then(|| id.clone())
    }

    fn change(&mut self, id: &NodeId, change: impl FnOnce(&mut Site)) -> Option<[u32; 2]> {
        let site = self.sites.get_mut(id)?;
        let before = site.load;
        change(site);
        Some([before, site.load].map(|load| u32::try_from(load / FINE).unwrap_or(u32::MAX)))
    }
}

/// The mean load of all nodes of a region and priority that take or give rooms, by capacity.
type Means = BTreeMap<(Region, i32), u64>;

fn means(sites: &BTreeMap<NodeId, Site>) -> Means {
    let mut sums: BTreeMap<(Region, i32), (u128, u128)> = BTreeMap::new();
    for site in sites.values().filter(|site| site.takes_rooms || site.gives_rooms) {
        let sum = sums.entry((site.region.clone(), site.priority)).or_default();
        sum.0 += u128::from(site.load) * u128::from(site.capacity);
        sum.1 += u128::from(site.capacity);
    }
    let mean = |(load, capacity): (u128, u128)| u64::try_from(load / capacity.max(1)).unwrap_or(u64::MAX);
    sums.into_iter().map(|(peers, sum)| (peers, mean(sum))).collect()
}

impl Site {
    fn of(node: &Node) -> Self {
        let (report, description) = (&node.report, &node.report.description);
        Self {
            incarnation: report.incarnation,
            region: description.region.clone(),
            priority: description.priority,
            carriers: description.carriers.clone(),
            namespaces: description.namespaces.clone(),
            takes_rooms: node.blocked.is_none(),
            gives_rooms: matches!(report.mode, Mode::Serving | Mode::BlockNewRooms),
            load: (u64::from(node.load.worst_permille) + u64::from(node.reserved_permille())) * FINE,
            capacity: load::participants_at_capacity(report),
            most_participants: description.capacity.participants,
            most_rooms: description.capacity.rooms,
            participants: report.participants,
            rooms: report.rooms,
        }
    }

    fn mean(&self, means: &Means) -> u64 {
        means.get(&(self.region.clone(), self.priority)).copied().unwrap_or_default()
    }

    fn bound(&self, means: &Means, above_permille: u32) -> u64 {
        self.mean(means) + u64::from(above_permille) * FINE
    }

    /// Participants, with those who are expected, have their share in the load, whatever it is that they load.
    fn weight(&self, room: &Room<'_>) -> u64 {
        let milli = u64::from(room.participants) * 1_000 + u64::from(room.reserved_milli);
        let at_capacity = u128::from(milli) * u128::from(FINE) / u128::from(self.capacity.max(1));
        let by_share = u128::from(self.load) * u128::from(room.participants) / u128::from(self.participants.max(1));
        u64::try_from(at_capacity.max(by_share)).unwrap_or(u64::MAX).min(self.load)
    }

    /// What the room loads this node with: the same work, against another capacity.
    fn arriving(&self, room: &Freight, source: &Self) -> u64 {
        let work = u128::from(room.weight) * u128::from(source.capacity);
        u64::try_from(work / u128::from(self.capacity.max(1))).unwrap_or(u64::MAX)
    }

    fn is_peer(&self, source: &Self) -> bool {
        // A node without carriers serves all.
        let serves = |carrier| self.carriers.contains(carrier);
        let carries = self.carriers.is_empty() || !source.carriers.is_empty() && source.carriers.iter().all(serves);
        self.region == source.region && self.priority == source.priority && carries
    }

    /// Hard constraints (DESIGN section 6); a room's own node is none that takes it, for its load is the higher one.
    fn can_take(&self, room: &Freight, policies: &Policies) -> bool {
        let has_space = |most: u32, used: u32| most == 0 || used <= most;
        let namespace = &room.key.namespace;
        self.takes_rooms
            && (self.namespaces.is_empty() || self.namespaces.contains(namespace))
            && policies.of(namespace).allows(&self.region)
            && has_space(self.most_participants, self.participants.saturating_add(room.participants))
            && has_space(self.most_rooms, self.rooms.saturating_add(1))
    }

    fn give(&mut self, room: &Freight) {
        self.load = self.load.saturating_sub(room.weight);
        self.participants = self.participants.saturating_sub(room.participants);
        self.rooms = self.rooms.saturating_sub(1);
    }

    fn take(&mut self, room: &Freight, arrives: u64) {
        self.load = self.load.saturating_add(arrives);
        self.participants = self.participants.saturating_add(room.participants);
        self.rooms = self.rooms.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
