//! Whether a node can be counted on, judged on our own clock only.

use roost_proto::admin::NodeState;
use roost_proto::hash::BUCKETS;
use roost_proto::time::Millis;

use crate::node::Node;
use crate::room::Room;
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

    /// Whether the scheduler hears now, and has for `length_ms`.
    #[must_use]
    pub fn has_lasted(&self, length_ms: u64, now: Millis) -> bool {
        self.is_on() && now.since(self.since) >= length_ms
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
        if node.is_over() || silent_ms >= lease_ms(node) {
            NodeState::Lost
        } else if silent_ms >= SUSPECT_AFTER_MS {
            NodeState::Suspect
        } else {
            NodeState::Alive
        }
    }

    /// Whether the room's incarnation was not heard of for so long after its lease that it will not come back.
    #[must_use]
    pub fn is_orphaned(&self, node: Option<&Node>, room: &Room<'_>, lease_ms: u64, now: Millis) -> bool {
        let heard = node.and_then(|node| node.heard_of(room.incarnation)).unwrap_or(room.told);
        let lease_ms = node.map_or(lease_ms, self::lease_ms);
        self.is_on() && now.since(heard.max(self.since)) >= lease_ms + ORPHANED_AFTER_MS
    }

    /// Rule 12 (b): the room's incarnation was silent for a full lease, all of it while we listened; or it said itself
    /// that it is over, or is proven dead. Of one that has not reported, its claim is the last sign. `lease_ms` is for nodes of which
    /// nothing is known.
    #[must_use]
    pub fn was_silent(&self, node: Option<&Node>, room: &Room<'_>, lease_ms: u64, now: Millis) -> bool {
        if self.until.is_some() {
            return false;
        }
        if node.is_some_and(|node| node.is_over() && room.incarnation <= node.report.incarnation) {
            return true;
        }
        let heard = node.and_then(|node| node.heard_of(room.incarnation)).unwrap_or(room.told);
        now.since(heard.max(self.since)) >= node.map_or(lease_ms, self::lease_ms)
    }
}

/// What is heard of each bucket: in a cluster a part of the store may be silent by itself. Of a node its own bucket tells,
/// which has its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hearings {
    buckets: Vec<Hearing>,
}

impl Hearings {
    /// Nothing was heard so far.
    #[must_use]
    pub fn none(now: Millis) -> Self {
        Self { buckets: vec![Hearing::none(now); usize::from(BUCKETS)] }
    }

    /// What is heard of the bucket.
    #[must_use]
    pub fn of(&self, bucket: u8) -> Hearing {
        self.buckets[usize::from(bucket % BUCKETS)]
    }

    /// The buckets that are heard of.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        (0..BUCKETS).filter(|bucket| self.of(*bucket).is_on()).collect()
    }

    /// Whether the scheduler hears of all buckets.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.buckets.iter().all(Hearing::is_on)
    }

    /// All end at `now` that have not already.
    pub fn end(&mut self, now: Millis) {
        self.buckets.iter_mut().for_each(|hearing| hearing.end(now));
    }

    /// That of a bucket begins anew; gives how long nothing was heard.
    pub fn begin(&mut self, bucket: u8, now: Millis) -> u64 {
        self.buckets[usize::from(bucket % BUCKETS)].begin(now)
    }
}

/// How long after its lease a holder counts as gone for good: it had time to come back and say what it holds.
pub const ORPHANED_AFTER_MS: u64 = 30_000;

/// When a node of this state changes it if nothing more is heard of the node; never if it is lost.
#[must_use]
pub fn silence_counts_at(node: &Node, state: NodeState) -> Option<Millis> {
    let silent_ms = match state {
        NodeState::Alive => SUSPECT_AFTER_MS.min(lease_ms(node)),
        NodeState::Suspect => lease_ms(node),
        NodeState::Lost => return None,
    };
    Some(node.seen().plus(silent_ms))
}

/// The lease of the node, as far as we believe it.
#[must_use]
pub fn lease_ms(node: &Node) -> u64 {
    node.report.lease_ms.clamp(1, MAX_LEASE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Slot;
    use crate::room::Rooms;
    use crate::sample;
    use roost_proto::id::Incarnation;
    use roost_proto::room::{Claim, ClaimState, Expected};

    fn hearing() -> Hearing {
        let mut hearing = Hearing::none(Millis(0));
        hearing.begin(Millis(0));
        hearing
    }

    #[test]
    fn a_silent_node_is_suspect_after_two_reports_and_lost_after_its_lease() {
        let node = Node::new(sample::report("a", "eu"), Vec::new(), Slot(0), Millis(100));
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
        let node = Node::new(sample::report("a", "eu"), Vec::new(), Slot(0), Millis(100));
        let mut hearing = hearing();
        hearing.end(Millis(1_000));
        assert_eq!(hearing.state(&node, Millis(600_000)), NodeState::Alive);
        assert!(!was_silent(hearing, Some(&node), (1, 0), 600_000));
    }

    #[test]
    fn silence_is_proof_only_after_a_full_lease_of_listening() {
        let node = Node::new(sample::report("a", "eu"), Vec::new(), Slot(0), Millis(0));
        let mut hearing = hearing();
        hearing.end(Millis(3_000));
        assert_eq!(hearing.begin(Millis(9_000)), 6_000);
        assert!(!was_silent(hearing, Some(&node), (1, 0), 12_999));
        assert!(was_silent(hearing, Some(&node), (1, 0), 13_000));
        assert!(!was_silent(hearing, None, (1, 0), 13_999));
        assert!(was_silent(hearing, None, (1, 0), 14_000));
    }

    #[test]
    fn an_incarnation_that_was_followed_by_another_is_judged_by_its_own_silence() {
        let mut node = Node::new(sample::numbered("a", 1, 9), Vec::new(), Slot(0), Millis(1_000));
        node.fold(sample::numbered("a", 2, 1), Vec::new(), Millis(3_000));
        let silent = |incarnation, now| was_silent(hearing(), Some(&node), (incarnation, 0), now);
        assert!(!silent(1, 4_999) && silent(1, 5_000), "the lease of the first ran from its own last report");
        assert!(!silent(2, 5_000), "the second is alive");
    }

    #[test]
    fn who_leaves_is_lost_at_once() {
        let mut node = Node::new(sample::report("a", "eu"), Vec::new(), Slot(0), Millis(0));
        node.leave(Incarnation(1));
        assert_eq!(hearing().state(&node, Millis(1)), NodeState::Lost);
        assert!(was_silent(hearing(), Some(&node), (1, 0), 1));
    }

    #[test]
    fn an_incarnation_that_has_not_reported_is_silent_only_a_lease_after_its_claim() {
        let lost = Node::new(sample::report("a", "eu"), Vec::new(), Slot(0), Millis(0));
        for (node, lease_ms) in [(None, 5_000), (Some(&lost), 4_000)] {
            let silent = |now| was_silent(hearing(), node, (2, 60_000), now);
            assert!(!silent(60_000 + lease_ms - 1) && silent(60_000 + lease_ms), "{}", node.is_some());
        }
    }

    /// Whether the home of a room that is open at `a`, of which was told at `told`, was silent.
    fn was_silent(hearing: Hearing, node: Option<&Node>, (incarnation, told): (u64, u64), now: u64) -> bool {
        let claim = Claim { incarnation: Incarnation(incarnation), ..sample::claim("a", 7, ClaimState::Open) };
        let mut rooms = Rooms::default();
        rooms.fold_claim(sample::room("x"), claim, (0, Expected::default()), Millis(told));
        let room = rooms.get(&sample::room("x"), Millis(told)).unwrap();
        hearing.was_silent(node, &room, 5_000, Millis(now))
    }
}
