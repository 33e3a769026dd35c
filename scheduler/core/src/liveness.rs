//! Whether a node can be counted on, judged on our own clock only.

use roost_proto::admin::NodeState;
use roost_proto::id::Incarnation;
use roost_proto::time::Millis;

use crate::node::Node;
use crate::time::{MAX_LEASE_MS, SUSPECT_AFTER_MS};

/// How long, and until when, the scheduler hears from the store.
///
/// While it does not, nobody's silence counts: a scheduler that is cut off must not think that all nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    since: Millis,
    /// It ended then.
    until: Option<Millis>,
}

impl Hearing {
    /// Nothing was heard so far.
    #[must_use]
    pub const fn none(now: Millis) -> Self {
        Self { since: now, until: Some(now) }
    }

    /// Whether the scheduler hears now.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.until.is_none()
    }

    /// Ends at `now`, if it has not already.
    pub fn end(&mut self, now: Millis) {
        self.until.get_or_insert(now);
    }

    /// Begins anew; gives how long nothing was heard.
    pub fn begin(&mut self, now: Millis) -> u64 {
        let deaf_ms = self.until.map_or(0, |until| now.since(until));
        *self = Self { since: now, until: None };
        deaf_ms
    }

    /// The node's state. A deaf scheduler keeps what it knew when it got so.
    #[must_use]
    pub fn state(&self, node: &Node, now: Millis) -> NodeState {
        let silent_ms = self.until.map_or(now, |until| until.min(now)).since(node.seen());
        if node.has_left() || silent_ms >= lease_ms(node) {
            NodeState::Lost
        } else if silent_ms >= SUSPECT_AFTER_MS {
            NodeState::Suspect
        } else {
            NodeState::Alive
        }
    }

    /// Rule 12 (b): `incarnation` was silent for a full lease, all of it while we listened; or it said itself that it is
    /// over. `lease_ms` is for nodes of which nothing is known.
    #[must_use]
    pub fn was_silent(&self, node: Option<&Node>, incarnation: Incarnation, lease_ms: u64, now: Millis) -> bool {
        if self.until.is_some() {
            return false;
        }
        let Some(node) = node else { return now.since(self.since) >= lease_ms };
        if node.has_left() && incarnation <= node.report.incarnation {
            return true;
        }
        let heard = node.heard_of(incarnation).unwrap_or(self.since);
        now.since(heard.max(self.since)) >= self::lease_ms(node)
    }
}

/// The lease of the node, as far as we believe it.
#[must_use]
pub fn lease_ms(node: &Node) -> u64 {
    node.report.lease_ms.clamp(1, MAX_LEASE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use crate::time::DEFAULT_LEASE_MS;

    fn hearing() -> Hearing {
        let mut hearing = Hearing::none(Millis(0));
        hearing.begin(Millis(0));
        hearing
    }

    #[test]
    fn a_silent_node_is_suspect_after_two_reports_and_lost_after_its_lease() {
        let node = Node::new(sample::report("a", "eu"), Millis(100));
        for (now, expected) in [
            (100, NodeState::Alive),
            (2_599, NodeState::Alive),
            (2_600, NodeState::Suspect),
            (4_099, NodeState::Suspect),
            (4_100, NodeState::Lost),
        ] {
            assert_eq!(hearing().state(&node, Millis(now)), expected, "{now}");
        }
    }

    #[test]
    fn while_nothing_is_heard_nobody_is_lost() {
        let node = Node::new(sample::report("a", "eu"), Millis(100));
        let mut hearing = hearing();
        hearing.end(Millis(1_000));
        assert_eq!(hearing.state(&node, Millis(600_000)), NodeState::Alive);
        assert!(!hearing.was_silent(Some(&node), Incarnation(1), DEFAULT_LEASE_MS, Millis(600_000)));
    }

    #[test]
    fn silence_is_proof_only_after_a_full_lease_of_listening() {
        let node = Node::new(sample::report("a", "eu"), Millis(0));
        let mut hearing = hearing();
        hearing.end(Millis(3_000));
        assert_eq!(hearing.begin(Millis(9_000)), 6_000);
        assert!(!hearing.was_silent(Some(&node), Incarnation(1), DEFAULT_LEASE_MS, Millis(12_999)));
        assert!(hearing.was_silent(Some(&node), Incarnation(1), DEFAULT_LEASE_MS, Millis(13_000)));
        assert!(!hearing.was_silent(None, Incarnation(1), 5_000, Millis(13_999)));
        assert!(hearing.was_silent(None, Incarnation(1), 5_000, Millis(14_000)));
    }

    #[test]
    fn an_incarnation_that_was_followed_by_another_is_judged_by_its_own_silence() {
        let mut node = Node::new(sample::numbered("a", 1, 9), Millis(1_000));
        node.fold(sample::numbered("a", 2, 1), Millis(3_000));
        let silent = |incarnation, now| {
            hearing().was_silent(Some(&node), Incarnation(incarnation), DEFAULT_LEASE_MS, Millis(now))
        };
        assert!(!silent(1, 4_999) && silent(1, 5_000), "the lease of the first ran from its own last report");
        assert!(!silent(2, 5_000), "the second is alive");
    }

    #[test]
    fn who_leaves_is_lost_at_once() {
        let mut node = Node::new(sample::report("a", "eu"), Millis(0));
        node.leave(Incarnation(1));
        assert_eq!(hearing().state(&node, Millis(1)), NodeState::Lost);
        assert!(hearing().was_silent(Some(&node), Incarnation(1), DEFAULT_LEASE_MS, Millis(1)));
    }
}
