//! A shelf: the nodes of one part of the map, for rooms of some namespaces and clients of some carriers, by their rank.

use std::collections::{BTreeMap, BTreeSet};

use roost_proto::error::Reason;
use roost_proto::explain::Standing;

use super::ring::{Points, Ring};
use super::{Berth, Rank, Slot};

/// Nodes that the same requests may ask for.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    eligible: BTreeMap<Rank, Ring>,
    eligible_nodes: u32,
    blocked: BTreeMap<Reason, BTreeSet<Slot>>,
}

/// A node on a shelf: the smallest is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub rank: Rank,
    /// How far it is from where the room falls.
    pub spread: u64,
    pub slot: Slot,
}

impl Shelf {
    /// Puts a node on the shelf; nothing, if it stands there.
    pub(super) fn put(&mut self, berth: &Berth) {
        match berth.rank {
            Ok(rank) => {
                let is_new = self.eligible.entry(rank).or_default().insert(berth.place);
                self.eligible_nodes += u32::from(is_new);
            }
            Err(reason) => {
                self.blocked.entry(reason).or_default().insert(berth.place.slot());
            }
        }
    }

    /// Takes a node that was put there as `berth` off the shelf.
    pub(super) fn take(&mut self, berth: &Berth) {
        match berth.rank {
            Ok(rank) => {
                let Some(ring) = self.eligible.get_mut(&rank) else { return };
                self.eligible_nodes -= u32::from(ring.remove(berth.place));
                if ring.is_empty() {
                    self.eligible.remove(&rank);
                }
            }
            Err(reason) => {
                let Some(slots) = self.blocked.get_mut(&reason) else { return };
                slots.remove(&berth.place.slot());
                if slots.is_empty() {
                    self.blocked.remove(&reason);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.eligible.is_empty() && self.blocked.is_empty()
    }

    /// The best node of a standing.
    pub fn best(&self, standing: Standing, points: &Points, skip: &impl Fn(Slot) -> bool) -> Option<Found> {
        let mut ranks = self.eligible.range(Rank::first(standing)..=Rank::last(standing));
        ranks.find_map(|(rank, ring)| found(*rank, ring, points, skip))
    }

    /// Of all nodes of the standing and priority of `like`, whatever their load, the one that is nearest to the points.
    pub fn nearest(&self, like: Rank, points: &Points, skip: &impl Fn(Slot) -> bool) -> Option<Found> {
        let bands = Rank { load_band: 0, ..like }..=Rank { load_band: u8::MAX, ..like };
        let nearest = self.eligible.range(bands).filter_map(|(rank, ring)| found(*rank, ring, points, skip));
        nearest.min_by_key(|found| found.spread)
    }

    /// How many nodes are on the shelf.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.eligible_nodes + self.blocked().map(|(_, slots)| slots.len() as u32).sum::<u32>()
    }

    /// Nodes that take no new room from anyone, by reason.
    pub fn blocked(&self) -> impl Iterator<Item = (Reason, &BTreeSet<Slot>)> {
        self.blocked.iter().map(|(reason, slots)| (*reason, slots))
    }
}

fn found(rank: Rank, ring: &Ring, points: &Points, skip: &impl Fn(Slot) -> bool) -> Option<Found> {
    ring.nearest(points, skip).map(|(spread, slot)| Found { rank, spread, slot })
}
