//! Rows that wait to be written: merged by their keys, bounded, due by number or by age; and when to try again. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use roost_proto::id::{Epoch, RoomKey};
use roost_proto::time::Millis;

use super::row::{Action, MoveRow, RoomRow, Row};

/// How many rows may wait: what is heard in the meantime while the database is away. Some tens of megabytes.
pub(crate) const MOST_ROWS: usize = 100_000;
/// So many are written at once.
pub(crate) const WRITTEN_AT_ONCE: usize = 500;
/// A row waits this long for others to come.
pub(crate) const WRITTEN_WITHIN_MS: u64 = 500;
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE_MS: u64 = 250;
const LONGEST_PAUSE_MS: u64 = 8_000;

const _: () = assert!(WRITTEN_AT_ONCE < MOST_ROWS);

/// What waits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    rooms: BTreeMap<(RoomKey, Epoch), RoomRow>,
    moves: BTreeMap<(RoomKey, Epoch), MoveRow>,
    actions: BTreeMap<String, Action>,
    /// Since when the oldest waits.
    since: Option<Millis>,
    /// Taken, and not known to be written.
    taken: usize,
}

/// How often it has failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failed: u32,
}

impl Batch {
    /// Adds a row, or merges it into the one with its key; false: it does not fit.
    #[must_use]
    pub(crate) fn add(&mut self, row: Row, now: Millis) -> bool {
        let fits = self.len() < MOST_ROWS;
        let is_in = match row {
            Row::Room(key, epoch, row) => put(&mut self.rooms, (key, epoch), row, RoomRow::merge, fits),
            Row::Move(key, epoch, row) => put(&mut self.moves, (key, epoch), row, MoveRow::merge, fits),
            Row::Action(action) => put(&mut self.actions, action.id.clone(), action, |_, _| {}, fits),
        };
        if is_in {
            self.since.get_or_insert(now);
        }
        is_in
    }

    /// How many rows are not known to be written.
    pub(crate) fn len(&self) -> usize {
        self.waiting() + self.taken
    }

    /// When the next rows are to be written; none: nothing waits.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        let since = self.since?;
        Some(if self.waiting() >= WRITTEN_AT_ONCE { since } else { since.plus(WRITTEN_WITHIN_MS) })
    }

    /// The rows to write next, in the order of their keys, so that schedulers that write the same ones side by side do not
    /// lock each other out. [`Self::written`] or [`Self::put_back`] follows.
    pub(crate) fn take(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        while let Some(action) = (rows.len() < WRITTEN_AT_ONCE).then(|| self.actions.pop_first()).flatten() {
            rows.push(Row::Action(action.1));
        }
        while let Some(((key, epoch), row)) = (rows.len() < WRITTEN_AT_ONCE).then(|| self.moves.pop_first()).flatten() {
            rows.push(Row::Move(key, epoch, row));
        }
        while let Some(((key, epoch), row)) = (rows.len() < WRITTEN_AT_ONCE).then(|| self.rooms.pop_first()).flatten() {
            rows.push(Row::Room(key, epoch, row));
        }
        if self.waiting() == 0 {
            self.since = None;
        }
        self.taken = rows.len();
        rows
    }

    /// What was taken is in the database.
    pub(crate) fn written(&mut self) {
        self.taken = 0;
    }

    /// What was taken may not be in the database: it waits again, merged with what has come since.
    pub(crate) fn put_back(&mut self, rows: Vec<Row>, now: Millis) {
        self.taken = 0;
        for row in rows {
            let fits = self.add(row, now);
            debug_assert!(fits, "its place was kept");
        }
    }

    fn waiting(&self) -> usize {
        self.rooms.len() + self.moves.len() + self.actions.len()
    }
}

impl Backoff {
    /// It failed; how long to wait before the next attempt, in ms.
    pub(crate) fn failed(&mut self) -> u64 {
        let pause_ms = FIRST_PAUSE_MS << self.failed.min(16);
        self.failed = self.failed.saturating_add(1);
        pause_ms.min(LONGEST_PAUSE_MS)
    }

    /// Whether the last attempt failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failed > 0
    }

    pub(crate) fn succeeded(&mut self) {
        self.failed = 0;
    }
}

fn put<K: Ord, R>(rows: &mut BTreeMap<K, R>, key: K, row: R, merge: impl Fn(&mut R, R), fits: bool) -> bool {
    match rows.entry(key) {
        Entry::Occupied(mut there) => merge(there.get_mut(), row),
        Entry::Vacant(free) if fits => {
            free.insert(row);
        }
        Entry::Vacant(_) => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_due_by_age_or_by_number() {
        let mut batch = Batch::default();
        assert_eq!(batch.poll_timeout(), None);
        assert!(batch.add(room(0, 1, 1), Millis(100)));
        assert!(batch.add(room(1, 1, 1), Millis(300)));
        assert_eq!(batch.poll_timeout(), Some(Millis(100 + WRITTEN_WITHIN_MS)));
        for number in 2..600 {
            assert!(batch.add(room(number, 1, 1), Millis(300)));
        }
        assert_eq!(batch.poll_timeout(), Some(Millis(100)), "at once");
        assert_eq!(batch.take().len(), WRITTEN_AT_ONCE);
        assert_eq!(batch.len(), 600, "what is taken still counts");
        batch.written();
        assert_eq!((batch.len(), batch.take().len(), batch.poll_timeout()), (100, 100, None));
    }

    #[test]
    fn what_is_heard_while_a_row_is_written_is_merged_when_that_fails() {
        let mut batch = Batch::default();
        assert!(batch.add(room(0, 7, 20), Millis(0)));
        let taken = batch.take();
        assert!(batch.add(room(0, 9, 10), Millis(1)));
        batch.put_back(taken, Millis(2));
        let Some(Row::Room(_, _, row)) = batch.take().pop() else { panic!("no room") };
        assert_eq!((row.peak_participants, row.opened_ms, row.heard_ms), (9, Some(10), 20));
    }

    #[test]
    fn a_full_batch_takes_no_further_rows_but_goes_on_with_those_it_has() {
        let mut batch = Batch::default();
        for number in 0..MOST_ROWS {
            assert!(batch.add(room(number, 1, 1), Millis(0)));
        }
        let taken = batch.take();
        assert!(!batch.add(room(MOST_ROWS, 1, 1), Millis(0)), "the place of what is taken is kept");
        batch.put_back(taken, Millis(0));
        assert!(!batch.add(room(MOST_ROWS, 1, 1), Millis(0)));
        assert!(batch.add(room(5, 2, 1), Millis(0)));
        assert_eq!(batch.len(), MOST_ROWS);
        batch.take();
        batch.written();
        assert!(batch.add(room(MOST_ROWS, 1, 1), Millis(0)));
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..8).map(|_| backoff.failed()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
        assert!(backoff.is_failing());
        (0..100).for_each(|_| assert!(backoff.failed() <= LONGEST_PAUSE_MS));
        backoff.succeeded();
        assert!(!backoff.is_failing());
        assert_eq!(backoff.failed(), 250);
    }

    fn room(number: usize, peak_participants: u32, at_ms: u64) -> Row {
        let key = RoomKey::new("default", format!("room-{number:06}")).unwrap();
        Row::Room(key, Epoch(1), RoomRow { peak_participants, opened_ms: Some(at_ms), ..RoomRow::heard(at_ms) })
    }
}
