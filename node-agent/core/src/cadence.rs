//! When the node reports, under which number, and which rooms it has to tell of.

use std::collections::BTreeMap;

use roost_proto::id::RoomKey;
use roost_proto::report::{EndedRoom, RoomReport};
use roost_proto::time::Millis;

use crate::lease::REPORT_INTERVAL_MS;

/// The part of a report that depends on the reports before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub seq: u64,
    pub full: bool,
    pub changed: Vec<RoomReport>,
    pub ended: Vec<EndedRoom>,
}

/// Keeps the beat of reports, and what the schedulers were told last. One report is on its way at a time.
#[derive(Debug, Clone)]
pub struct Cadence {
    next_at: Millis,
    seq: u64,
    full: bool,
    /// The rooms as the last answered report said them.
    told: BTreeMap<RoomKey, RoomReport>,
    on_the_way: Option<BTreeMap<RoomKey, RoomReport>>,
}

impl Cadence {
    /// For a new incarnation: numbers begin at 1, the first report is full and due at once.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self { next_at: now, seq: 0, full: true, told: BTreeMap::new(), on_the_way: None }
    }

    /// When the next report is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Millis {
        self.next_at
    }

    /// The next report says everything, and is due at once.
    pub fn want_all(&mut self, now: Millis) {
        self.full = true;
        self.next_at = self.next_at.min(now);
    }

    /// What the report that is sent now says of `rooms`, all that are open. Of one that is not, but that the node wants back
    /// (`is_wanted`), nothing is said. Call [`Self::answered`] or [`Self::failed`] next.
    pub fn compose(&mut self, rooms: Vec<RoomReport>, is_wanted: impl Fn(&RoomKey) -> bool, now: Millis) -> Changes {
        if self.on_the_way.is_some() {
            self.failed(now);
        }
        let mut rooms: BTreeMap<RoomKey, RoomReport> = rooms.into_iter().map(|room| (room.key.clone(), room)).collect();
        let is_new = |room: &&RoomReport| self.full || self.told.get(&room.key) != Some(*room);
        let is_over = |told: &&RoomReport| match rooms.get(&told.key) {
            Some(room) => room.epoch != told.epoch,
            None => !is_wanted(&told.key),
        };
        let ended = |told: &RoomReport| EndedRoom { key: told.key.clone(), epoch: told.epoch };
        self.seq += 1;
        let changes = Changes {
            seq: self.seq,
            full: self.full,
            changed: rooms.values().filter(is_new).cloned().collect(),
            ended: self.told.values().filter(is_over).map(ended).collect(),
        };
        for (key, told) in &self.told {
            if !rooms.contains_key(key) && is_wanted(key) {
                rooms.insert(key.clone(), told.clone());
            }
        }
        self.full = false;
        self.next_at = now.plus(REPORT_INTERVAL_MS);
        self.on_the_way = Some(rooms);
        changes
    }

    /// The report on its way was taken.
    pub fn answered(&mut self) {
        if let Some(rooms) = self.on_the_way.take() {
            self.told = rooms;
        }
    }

    /// It was not, or nobody knows: the next one says everything, and is due at once. What ended meanwhile is said
    /// again with it.
    pub fn failed(&mut self, now: Millis) {
        if let Some(rooms) = self.on_the_way.take() {
            // A room of the lost report may be known; that it ended would never be said otherwise.
            self.told.extend(rooms);
        }
        self.want_all(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use roost_proto::id::Epoch;

    use super::*;

    #[test]
    fn only_what_changed_is_said_again() {
        let mut cadence = Cadence::new(NOW);
        let first = cadence.compose(vec![room(1, 10, 0), room(2, 11, 0)], never, NOW);
        assert!((first.seq, first.full, first.changed.len()) == (1, true, 2));
        cadence.answered();
        let second = cadence.compose(vec![room(1, 10, 3), room(2, 11, 0)], never, NOW);
        assert_eq!(second, Changes { seq: 2, full: false, changed: vec![room(1, 10, 3)], ended: Vec::new() });
        cadence.answered();
        let third = cadence.compose(vec![room(1, 12, 3)], never, NOW);
        assert_eq!(third.changed, [room(1, 12, 3)]);
        assert_eq!(third.ended, [ended(1, 10), ended(2, 11)]);
    }

    #[test]
    fn after_a_report_that_failed_everything_is_said_at_once() {
        let mut cadence = Cadence::new(NOW);
        cadence.compose(vec![room(1, 10, 0)], never, NOW);
        cadence.answered();
        assert_eq!(cadence.poll_timeout(), NOW.plus(REPORT_INTERVAL_MS));
        cadence.compose(vec![room(2, 11, 0)], never, NOW);
        cadence.failed(NOW.plus(100));
        assert_eq!(cadence.poll_timeout(), NOW.plus(100));
        let again = cadence.compose(Vec::new(), never, NOW.plus(100));
        assert!((again.seq, again.full) == (3, true));
        assert_eq!(again.ended, [ended(1, 10), ended(2, 11)]);
    }

    #[test]
    fn a_full_report_that_was_asked_for_is_due_at_once() {
        let mut cadence = Cadence::new(NOW);
        cadence.compose(vec![room(1, 10, 0)], never, NOW);
        cadence.answered();
        cadence.want_all(NOW.plus(1));
        assert_eq!(cadence.poll_timeout(), NOW.plus(1));
        assert!(cadence.compose(vec![room(1, 10, 0)], never, NOW.plus(1)).full);
    }

    proptest! {
        /// Whoever folds the reports that arrived, full ones in place of all before, knows the rooms after each.
        #[test]
        fn whoever_hears_of_all_answered_reports_knows_the_rooms(
            steps in proptest::collection::vec((proptest::collection::btree_map(0u64..5, (10u64..13, 0u32..3), 0..5), 0u8..4), 1..40),
        ) {
            let mut cadence = Cadence::new(NOW);
            let mut known: BTreeMap<RoomKey, RoomReport> = BTreeMap::new();
            for (rooms, fate) in steps {
                let rooms: Vec<RoomReport> = rooms.into_iter().map(|(n, (epoch, people))| room(n, epoch, people)).collect();
                let changes = cadence.compose(rooms.clone(), never, NOW);
                // 0: lost; 1: came, but its answer was lost; else answered.
                if fate > 0 {
                    if changes.full {
                        known.clear();
                    }
                    for ended in &changes.ended {
                        known.retain(|key, room| *key != ended.key || room.epoch != ended.epoch);
                    }
                    known.extend(changes.changed.iter().map(|room| (room.key.clone(), room.clone())));
                    prop_assert_eq!(known.values().cloned().collect::<Vec<_>>(), rooms);
                }
                if fate > 1 { cadence.answered() } else { cadence.failed(NOW) }
            }
        }
    }

    #[test]
    fn of_a_room_that_is_wanted_back_nothing_is_said_until_it_is_lost() {
        let mut cadence = Cadence::new(NOW);
        cadence.compose(vec![room(1, 10, 3)], never, NOW);
        cadence.answered();
        for _ in 0..2 {
            let quiet = cadence.compose(Vec::new(), |wanted| *wanted == key(1), NOW);
            assert!(quiet.changed.is_empty() && quiet.ended.is_empty(), "{quiet:?}");
            cadence.answered();
        }
        let again = cadence.compose(vec![room(1, 12, 3)], never, NOW);
        assert_eq!((again.changed, again.ended), (vec![room(1, 12, 3)], vec![ended(1, 10)]));
        cadence.answered();
        cadence.compose(Vec::new(), |wanted| *wanted == key(1), NOW);
        cadence.answered();
        assert_eq!(cadence.compose(Vec::new(), never, NOW).ended, [ended(1, 12)]);
    }

    fn never(_: &RoomKey) -> bool {
        false
    }

    const NOW: Millis = Millis(1_000);

    fn room(number: u64, epoch: u64, participants: u32) -> RoomReport {
        RoomReport { key: key(number), epoch: Epoch(epoch), worker: 0, participants, producers: 0, consumers: 0 }
    }

    fn ended(number: u64, epoch: u64) -> EndedRoom {
        EndedRoom { key: key(number), epoch: Epoch(epoch) }
    }

    fn key(number: u64) -> RoomKey {
        RoomKey::new("default", format!("room-{number}")).expect("valid")
    }
}
