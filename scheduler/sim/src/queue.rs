//! What is to happen, in order of time; of what happens at once, what was said first.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use roost_proto::time::Millis;

/// A queue of things with the time they are due.
#[derive(Debug, Clone)]
pub struct Queue<T> {
    entries: BinaryHeap<Entry<T>>,
    /// Grows with each entry.
    sequence: u64,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    due: Reverse<(Millis, u64)>,
    what: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Queue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: BinaryHeap::new(), sequence: 0 }
    }

    /// `what` is due at `at`, after all that was pushed for that time before.
    pub fn push(&mut self, at: Millis, what: T) {
        self.sequence += 1;
        self.entries.push(Entry { due: Reverse((at, self.sequence)), what });
    }

    /// What is due first, and when.
    pub fn pop(&mut self) -> Option<(Millis, T)> {
        let Entry { due: Reverse((at, _)), what } = self.entries.pop()?;
        Some((at, what))
    }

    /// When the first is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Millis> {
        self.entries.peek().map(|entry| entry.due.0.0)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.due.cmp(&other.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_at_once_comes_in_the_order_in_which_it_was_said() {
        let mut queue = Queue::new();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            queue.push(Millis(at), what);
        }
        assert_eq!(queue.next_at(), Some(Millis(1)));
        let order: Vec<char> = std::iter::from_fn(|| queue.pop()).map(|(_, what)| what).collect();
        assert_eq!(order, ['a', 'b', 'c', 'd']);
    }
}
