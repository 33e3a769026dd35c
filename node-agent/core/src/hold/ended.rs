//! Generations of rooms that ended here, and so never come back (rule 10). Remembers a bounded number of rooms.

use std::collections::{BTreeMap, VecDeque};

use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, RoomKey};

/// How many rooms are remembered one by one.
pub(crate) const ROOMS_REMEMBERED: usize = 16_384;

/// Entries that count no more are thrown out when they are as many as those that do, and some more.
const FEW: usize = 16;

/// The ended generations.
///
/// A room that is forgotten leaves its epoch behind as a floor of its bucket: epochs of one bucket come from one counter,
/// so whatever is granted later lies above it. A floor may cover a generation that never ended; it is refused too, and
/// released, so that the next lookup gets a new one.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    latest: BTreeMap<RoomKey, Epoch>,
    /// Oldest first; a room that ended again stands here more than once, and only its last entry counts.
    order: VecDeque<(RoomKey, Epoch)>,
    floors: [Epoch; BUCKETS as usize],
    limit: usize,
}

impl Ended {
    pub(crate) fn new(limit: usize) -> Self {
        Self { latest: BTreeMap::new(), order: VecDeque::new(), floors: [Epoch(0); BUCKETS as usize], limit }
    }

    /// Remembers that `epoch` of `room` ended, and with it all before.
    pub(crate) fn insert(&mut self, room: &RoomKey, epoch: Epoch) {
        if self.contains(room, epoch) {
            return;
        }
        self.latest.insert(room.clone(), epoch);
        self.order.push_back((room.clone(), epoch));
        if self.order.len() > 2 * self.latest.len() + FEW {
            let latest = &self.latest;
            self.order.retain(|(room, epoch)| latest.get(room) == Some(epoch));
        }
        while self.order.len() > self.limit {
            let Some((room, epoch)) = self.order.pop_front() else { break };
            let floor = &mut self.floors[usize::from(room.bucket())];
            *floor = (*floor).max(epoch);
            if self.latest.get(&room) == Some(&epoch) {
                self.latest.remove(&room);
            }
        }
    }

    /// Whether `epoch` of `room` ended, or may have.
    pub(crate) fn contains(&self, room: &RoomKey, epoch: Epoch) -> bool {
        epoch <= self.floors[usize::from(room.bucket())] || self.latest.get(room).is_some_and(|ended| epoch <= *ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_stays_ended_however_much_ends_after_it() {
        let mut ended = Ended::new(8);
        let room = |i: u64| RoomKey::new("default", format!("room-{i}")).expect("valid");
        for i in 0..200 {
            ended.insert(&room(i % 50), Epoch(1_000 + i));
        }
        for i in 0..200 {
            assert!(ended.contains(&room(i % 50), Epoch(1_000 + i)), "{i}");
        }
        assert!(ended.order.len() <= 8 && ended.latest.len() <= 8);
        assert!(!ended.contains(&room(0), Epoch(1_200)), "a newer generation is a new room");
    }

    #[test]
    fn a_room_that_ends_again_and_again_is_remembered_once() {
        let mut ended = Ended::new(ROOMS_REMEMBERED);
        let room = RoomKey::new("default", "standup").expect("valid");
        for epoch in 1..10_000 {
            ended.insert(&room, Epoch(epoch));
        }
        assert!(ended.contains(&room, Epoch(9_999)) && ended.order.len() <= 2 + FEW, "{}", ended.order.len());
    }
}
