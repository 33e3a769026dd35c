//! The ring: nodes stand on it by the hashes of their names, and a room goes to the one that is next to where it falls.

use roost_proto::hash::{mix, stable_hash};
use roost_proto::id::NodeId;

use super::Slot;
use crate::nodes::MOST_NODES;
use crate::request::Request;

/// How many points a room falls on. The nearest node, clockwise, of all points takes it.
///
/// With one point a node's share is its distance from the node before it, for the luckiest of a hundred five times the
/// mean; with eight no share is much over 8/7 of the mean, and still one node more or less moves no other's rooms
/// (multi-probe consistent hashing: Appleton and O'Reilly, 2015).
const POINTS: u64 = 8;

/// Where a room falls on the ring.
#[derive(Debug, Clone, Copy)]
pub struct Points([u64; POINTS as usize]);

impl Points {
    /// The points of the request's room. Each `draw` gives others, and none tells of those of another.
    #[must_use]
    pub fn of(request: &Request<'_>, draw: u64) -> Self {
        let (namespace, room) = (request.key.namespace.as_str(), request.key.room.as_str());
        let hash = stable_hash(&[&request.seed.to_be_bytes(), namespace.as_bytes(), room.as_bytes()]);
        Self(std::array::from_fn(|i| mix(hash.wrapping_add(draw * POINTS + i as u64))))
    }

    /// How far the place is, clockwise, from the nearest point.
    #[must_use]
    pub fn distance(&self, place: Place) -> u64 {
        self.0.iter().map(|point| place.0.wrapping_sub(*point)).min().unwrap_or(u64::MAX)
    }
}

/// The bits of a place that are the node's number; the others are a hash of its name.
const SLOT_BITS: u32 = 18;

const _: () = assert!(MOST_NODES < 1 << SLOT_BITS, "every node has a place of its own, and none that of no node");

/// Where a node stands on the ring. No two have the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

impl Place {
    /// The place of the node of this name and number.
    #[must_use]
    pub fn of(node: &NodeId, slot: Slot) -> Self {
        Self(stable_hash(&[node.as_str().as_bytes()]) >> SLOT_BITS << SLOT_BITS | u64::from(slot.0))
    }

    /// The node's number.
    #[must_use]
    pub fn slot(self) -> Slot {
        Slot((self.0 & ((1 << SLOT_BITS) - 1)) as u32)
    }
}

/// A ring has at least so many cells. Of more, a quarter is taken, and at most [`MOST_TAKEN_EIGHTHS`].
const FEWEST_CELLS: usize = 8;
const MOST_TAKEN_EIGHTHS: usize = 7;

/// What stands in a cell that no node has.
const EMPTY: Place = Place(u64::MAX);

/// Nodes by their places on the ring. All that it does takes the same time, however many they are.
///
/// A hash table with linear probing that is in order: places are hashes already, so a node's cell is found by the part of
/// the ring that lies before its place. If that cell is taken it stands in a later one, with none empty between. The next
/// node after a point is thus in the point's cell or soon after.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    /// As many as [`Ring::home`] knows, and some at the end for those that find none.
    cells: Vec<Place>,
    homes: usize,
    nodes: usize,
}

impl Default for Ring {
    fn default() -> Self {
        Self { cells: vec![EMPTY; FEWEST_CELLS], homes: FEWEST_CELLS, nodes: 0 }
    }
}

impl Ring {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes == 0
    }

    /// Whether the node was not there yet.
    pub(super) fn insert(&mut self, place: Place) -> bool {
        let mut moved = place;
        let mut at = self.find(place);
        if self.cells.get(at) == Some(&place) {
            return false;
        }
        // It takes this cell, and all up to the next empty one move on by one.
        while moved != EMPTY {
            if at == self.cells.len() {
                self.cells.push(EMPTY);
            }
            std::mem::swap(&mut self.cells[at], &mut moved);
            at += 1;
        }
        self.nodes += 1;
        if self.nodes * 8 > self.homes * MOST_TAKEN_EIGHTHS {
            self.resize(self.homes * 2);
        }
        true
    }

    /// Whether the node was there.
    pub(super) fn remove(&mut self, place: Place) -> bool {
        let mut at = self.find(place);
        if self.cells.get(at) != Some(&place) {
            return false;
        }
        // Those that did not find their own cell empty move back.
        while let Some(next) = self.cells.get(at + 1).copied()
            && next != EMPTY
            && self.home(next.0) <= at
        {
            self.cells[at] = next;
            at += 1;
        }
        self.cells[at] = EMPTY;
        self.nodes -= 1;
        if self.homes > FEWEST_CELLS && self.nodes * 4 < self.homes {
            self.resize(self.homes / 2);
        }
        true
    }

    /// The node that is nearest to one of the points and not skipped, with its distance.
    pub(super) fn nearest(&self, points: &Points, skip: &impl Fn(Slot) -> bool) -> Option<(u64, Slot)> {
        points.0.iter().filter_map(|point| self.next(*point, skip)).min()
    }

    fn next(&self, point: u64, skip: &impl Fn(Slot) -> bool) -> Option<(u64, Slot)> {
        let (before, after) = self.cells.split_at(self.home(point));
        let is_next = |place: &&Place| **place != EMPTY && !skip(place.slot());
        let next = after.iter().filter(|place| place.0 >= point).find(is_next);
        // The ring closes: behind its end come those who stand before the point.
        let next = next.or_else(|| before.iter().chain(after).find(is_next));
        next.map(|place| (place.0.wrapping_sub(point), place.slot()))
    }

    /// The cell of a place or point.
    fn home(&self, place: u64) -> usize {
        ((u128::from(place) * self.homes as u128) >> u64::BITS) as usize
    }

    /// The cell where the node stands, or belongs.
    fn find(&self, node: Place) -> usize {
        let home = self.home(node.0);
        home + self.cells[home..].iter().take_while(|place| **place < node).count()
    }

    fn resize(&mut self, homes: usize) {
        let nodes = std::mem::take(&mut self.cells).into_iter().filter(|place| *place != EMPTY);
        *self = Self { cells: vec![EMPTY; homes], homes, nodes: 0 };
        for place in nodes {
            self.insert(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;
    use roost_proto::policy;

    #[test]
    fn the_nearest_node_is_found_however_many_come_and_go() {
        let mut ring = Ring::default();
        let mut standing: Vec<Place> = Vec::new();
        for step in 0..4_000_u32 {
            // Grows to some hundreds, then shrinks to none, and most of all at one end of the ring.
            let place = Place((mix(u64::from(step)) >> (step % 3 * 20)) << SLOT_BITS | u64::from(step));
            if step < 1_000 || step % 3 == 0 && step < 2_000 {
                assert!(ring.insert(place) && !ring.insert(place));
                standing.push(place);
            } else if !standing.is_empty() {
                let place = standing.swap_remove(mix(step.into()) as usize % standing.len());
                assert!(ring.remove(place) && !ring.remove(place));
            }
            let points = points(step.into());
            let skip = |slot: Slot| slot.0.is_multiple_of(5);
            let among = standing.iter().filter(|place| !skip(place.slot()));
            let expected = among.map(|place| (points.distance(*place), place.slot())).min();
            assert_eq!(ring.nearest(&points, &skip), expected, "step {step}");
            let most = (standing.len() * 4).max(FEWEST_CELLS);
            assert!((standing.len()..=most).contains(&ring.homes), "{} cells", ring.homes);
        }
        assert!(ring.is_empty());
    }

    proptest! {
        #[test]
        fn one_node_less_moves_no_other_nodes_rooms(places in prop::collection::vec(any::<u64>(), 2..40), room: u64) {
            let ring = |places: &[u64]| {
                let mut ring = Ring::default();
                for (place, slot) in places.iter().zip(0..) {
                    ring.insert(Place(*place << SLOT_BITS | slot));
                }
                ring
            };
            let takes = |places: &[u64]| ring(places).nearest(&points(room), &|_| false);
            let before = takes(&places);
            let fewer = &places[..places.len() - 1];
            prop_assume!(before.is_some_and(|(_, slot)| slot.0 as usize != fewer.len()));
            prop_assert_eq!(takes(fewer), before);
        }
    }

    fn points(room: u64) -> Points {
        let key = sample::room(&room.to_string());
        Points::of(&Request::new(&key, &policy::DEFAULT), 0)
    }
}
