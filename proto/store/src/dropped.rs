//! Reports that nobody is told of because they cannot be used: counted, and logged once a minute for each node.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use roost_proto::id::NodeId;
use roost_proto::report::{Impossible, Report};

/// A node that goes on sending such reports is named again after this time.
const LOGGED_EVERY: Duration = Duration::from_secs(60);
/// More nodes than this are not told apart within that time.
const MOST_NAMED: usize = 1_000;

/// How many reports were dropped since the start, and of which nodes that was said.
#[derive(Debug, Default)]
pub struct DroppedReports {
    unreadable: AtomicU64,
    impossible: AtomicU64,
    /// By node; none: it could not be read either.
    logged: Mutex<BTreeMap<Option<NodeId>, Instant>>,
}

impl DroppedReports {
    /// A report that is none, of a node that may be known all the same.
    pub fn unreadable(&self, node: Option<NodeId>, error: &dyn Display) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        self.log(node, error);
    }

    /// Whether the report can be used; if not, it is dropped by this.
    pub(crate) fn check(&self, report: &Report) -> Result<(), Impossible> {
        report.check().inspect_err(|error| {
            self.impossible.fetch_add(1, Ordering::Relaxed);
            self.log(Some(report.node.clone()), error);
        })
    }

    /// How many there were, by reason: `unreadable` (no report of ours) and `impossible` (with numbers that cannot be).
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 2] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("unreadable", count(&self.unreadable)), ("impossible", count(&self.impossible))]
    }

    fn log(&self, node: Option<NodeId>, error: &dyn Display) {
        if self.is_due(node.clone(), Instant::now()) {
            let node = node.as_ref().map_or("", NodeId::as_str);
            tracing::warn!(node, %error, "a report cannot be used and is dropped; said once a minute for each node");
        }
    }

    fn is_due(&self, node: Option<NodeId>, now: Instant) -> bool {
        // One insertion is all that happens under the lock.
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.retain(|_, at| now.duration_since(*at) < LOGGED_EVERY);
        let is_due = logged.len() < MOST_NAMED && !logged.contains_key(&node);
        if is_due {
            logged.insert(node, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_named_once_a_minute_and_not_more_than_so_many() {
        let dropped = DroppedReports::default();
        let start = Instant::now();
        let node = |number: usize| NodeId::new(format!("n-{number}")).ok();
        for (node, after_s, expected) in
            [(node(1), 0, true), (node(1), 59, false), (node(2), 59, true), (None, 59, true), (node(1), 60, true)]
        {
            assert_eq!(
                dropped.is_due(node.clone(), start + Duration::from_secs(after_s)),
                expected,
                "{node:?} {after_s}"
            );
        }
        let later = start + Duration::from_secs(600);
        assert_eq!((0..2_000).filter(|number| dropped.is_due(node(*number), later)).count(), MOST_NAMED);
    }
}
