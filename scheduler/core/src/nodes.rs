//! All nodes: by name, as placement finds them, and by when the silence of each begins to count.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use roost_proto::admin::NodeState;
use roost_proto::id::{Incarnation, NodeId};
use roost_proto::report::{Description, Impossible, Report};
use roost_proto::steer::Steering;
use roost_proto::time::Millis;

use crate::index::{Berth, Index, Slot};
use crate::liveness::{Hearing, Hearings, silence_counts_at};
use crate::node::{Folded, Node};
use crate::time::SUSPECT_AFTER_MS;

/// How many nodes are kept in mind; reports of further ones are dropped.
pub const MOST_NODES: usize = 200_000;
/// How many nodes fall silent, by our word, in one tick. Of more, the others do in the next.
const SILENCED_PER_TICK: usize = 5_000;

/// All nodes that the scheduler knows of.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    slots: BTreeMap<NodeId, Slot>,
    /// By number. Each is a piece of memory of its own, so that none is moved when there come to be more.
    entries: Vec<Option<Box<Entry>>>,
    free: Vec<Slot>,
    index: Index,
    /// When to look whether a node has been silent for too long. One that has reported since is looked at again later.
    due: BTreeSet<(Millis, Slot)>,
}

#[derive(Debug, Clone)]
struct Entry {
    node: Node,
    /// Where the index has it.
    berth: Berth,
    /// When it is due; none if nothing more can come of its silence.
    due: Option<Millis>,
    /// An operator has purged it since its last report.
    purged: bool,
}

impl Entry {
    /// Whether it is forgotten when it is lost.
    fn is_passing(&self) -> bool {
        self.purged || self.node.report.description.temporary
    }
}

impl Nodes {
    /// How many there are, whatever their state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The node of that name.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<&Node> {
        self.at(*self.slots.get(id)?)
    }

    /// The node of that number.
    #[must_use]
    pub fn at(&self, slot: Slot) -> Option<&Node> {
        self.entries.get(slot.0 as usize)?.as_ref().map(|entry| &entry.node)
    }

    /// The nodes by what a placement asks for.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// All nodes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.entries.iter().flatten().map(|entry| &entry.node)
    }

    /// All nodes by name, those after `after`.
    pub fn by_name(&self, after: Option<&NodeId>) -> impl Iterator<Item = (&NodeId, &Node)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.slots.range::<NodeId, _>((from, Bound::Unbounded)).filter_map(|(id, slot)| Some((id, self.at(*slot)?)))
    }

    /// Takes a report, which has lost its rooms already, and what of it cannot be.
    pub fn fold(&mut self, report: Report, doubts: Vec<Impossible>, now: Millis) -> Folded {
        let Some(slot) = self.slots.get(&report.node).copied() else { return self.enter(report, doubts, now) };
        let Some(Some(entry)) = self.entries.get_mut(slot.0 as usize) else { return Folded::Old };
        let before = &entry.node.report.description;
        let before = (!has_same_shelves(before, &report.description)).then(|| before.clone());
        let folded = entry.node.fold(report, doubts, now);
        if folded == Folded::Old {
            return folded;
        }
        entry.purged = false;
        if let Some(before) = before {
            self.index.take(&before, &entry.berth);
            entry.berth = entry.node.berth();
            self.index.put(&entry.node.report.description, &entry.berth);
        }
        self.settle(slot);
        self.expect(slot, NodeState::Alive);
        folded
    }

    fn enter(&mut self, report: Report, doubts: Vec<Impossible>, now: Millis) -> Folded {
        if self.slots.len() >= MOST_NODES {
            return Folded::Old;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Slot(self.entries.len() as u32 - 1)
        });
        let node = Node::new(report, doubts, slot, now);
        let (folded, berth) = (node.folded(), node.berth());
        self.index.put(&node.report.description, &berth);
        self.slots.insert(node.report.node.clone(), slot);
        self.entries[slot.0 as usize] = Some(Box::new(Entry { node, berth, due: None, purged: false }));
        self.expect(slot, NodeState::Alive);
        folded
    }

    /// A node that has just reported was not there before it did.
    pub fn came(&mut self, id: &NodeId, was_known: bool) {
        let Some((slot, entry)) = self.entry(id) else { return };
        entry.node.came(was_known);
        self.settle(slot);
    }

    /// Takes a node's own word that an incarnation is over. A temporary node is forgotten with it.
    pub fn leave(&mut self, id: &NodeId, incarnation: Incarnation) {
        self.end(id, |node| node.leave(incarnation));
    }

    /// Takes the proof that an incarnation is dead. A temporary node is forgotten with it.
    pub fn die(&mut self, id: &NodeId, incarnation: Incarnation) {
        self.end(id, |node| node.die(incarnation));
    }

    /// Takes what an operator wants of a node.
    pub fn steer(&mut self, id: &NodeId, steering: Steering) {
        let Some((slot, entry)) = self.entry(id) else { return };
        entry.node.steer(steering);
        self.settle(slot);
    }

    /// Forgets a node that an operator has purged, if it is lost in our own eyes; else when it is. Until then we must know
    /// when it was last heard of: that the store takes it for gone is not enough (rule 12 (b)). Its next report brings it back.
    pub fn purge(&mut self, id: &NodeId, hearing: Hearing, now: Millis) {
        let Some((slot, entry)) = self.entry(id) else { return };
        if hearing.state(&entry.node, now) == NodeState::Lost {
            self.forget(slot);
        } else {
            entry.purged = true;
        }
    }

    fn end(&mut self, id: &NodeId, end: impl FnOnce(&mut Node) -> bool) {
        let Some((slot, entry)) = self.entry(id) else { return };
        if !end(&mut entry.node) {
            return;
        }
        if entry.is_passing() {
            self.forget(slot);
        } else {
            self.settle(slot);
        }
    }

    /// Sets what is reserved on a node's incarnation, in thousandths of a participant, if that is the one that reports.
    pub fn set_reserved(&mut self, id: &NodeId, incarnation: Incarnation, reserved_milli: u64) {
        let Some((slot, entry)) = self.entry(id) else { return };
        if entry.node.report.incarnation != incarnation {
            return;
        }
        entry.node.set_reserved(reserved_milli);
        self.settle(slot);
    }

    /// Judges those anew of whom nothing was heard for too long; temporary ones are forgotten when they are lost. While
    /// nothing is heard at all nobody's silence counts. Gives how many were lost by their silence.
    pub fn tick(&mut self, hearings: &Hearings, now: Millis) -> u32 {
        let (mut silenced, mut lost) = (0, 0);
        let is_partly = !hearings.heard().is_empty();
        while silenced < SILENCED_PER_TICK
            && let Some((at, slot)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            let Some(Some(entry)) = self.entries.get_mut(slot.0 as usize) else { continue };
            entry.due = None;
            let hearing = hearings.of(entry.node.report.node.bucket());
            if !hearing.is_on() {
                // Nothing comes of its silence before it could be heard. But where others are, its lease is with a part of
                // the store that is away, so it is about to fence: new rooms go elsewhere.
                if is_partly && entry.node.state == NodeState::Alive {
                    entry.node.judge(NodeState::Suspect);
                    self.settle(slot);
                }
                let Some(Some(entry)) = self.entries.get_mut(slot.0 as usize) else { continue };
                let later = now.plus(SUSPECT_AFTER_MS);
                entry.due = Some(later);
                self.due.insert((later, slot));
                silenced += 1;
                continue;
            }
            let state = hearing.state(&entry.node, now);
            let is_news = entry.node.state != state && !entry.node.is_over() && entry.node.report.mode.counts();
            lost += u32::from(state == NodeState::Lost && is_news);
            if state == NodeState::Lost && entry.is_passing() {
                self.forget(slot);
                silenced += 1;
                continue;
            }
            entry.node.judge(state);
            silenced += usize::from(self.settle(slot));
            self.expect(slot, state);
        }
        lost
    }

    /// Moves everything that was seen by the time in which nothing could be seen, as long as it was for each bucket.
    pub fn skip(&mut self, lengths_ms: &[u64]) {
        for number in 0..self.entries.len() {
            let Some(Some(entry)) = self.entries.get_mut(number) else { continue };
            let bucket = entry.node.report.node.bucket();
            let length_ms = lengths_ms.get(usize::from(bucket)).copied().unwrap_or(0);
            if length_ms > 0 {
                entry.node.skip(length_ms);
                let state = entry.node.state;
                self.expect(Slot(number as u32), state);
            }
        }
    }

    fn entry(&mut self, id: &NodeId) -> Option<(Slot, &mut Entry)> {
        let slot = *self.slots.get(id)?;
        Some((slot, self.entries.get_mut(slot.0 as usize)?.as_deref_mut()?))
    }

    /// Puts the node where it belongs in the index. Whether it was elsewhere.
    fn settle(&mut self, slot: Slot) -> bool {
        let Some(Some(entry)) = self.entries.get_mut(slot.0 as usize) else { return false };
        let berth = entry.node.berth();
        if berth == entry.berth {
            return false;
        }
        self.index.shift(&entry.node.report.description, &entry.berth, &berth);
        entry.berth = berth;
        true
    }

    /// Has the node looked at when its silence counts; earlier, if that is so already.
    fn expect(&mut self, slot: Slot, state: NodeState) {
        let Some(Some(entry)) = self.entries.get_mut(slot.0 as usize) else { return };
        let Some(at) = silence_counts_at(&entry.node, state) else { return };
        match entry.due {
            Some(due) if due <= at => return,
            Some(due) => drop(self.due.remove(&(due, slot))),
            None => {}
        }
        entry.due = Some(at);
        self.due.insert((at, slot));
    }

    fn forget(&mut self, slot: Slot) {
        let Some(entry) = self.entries.get_mut(slot.0 as usize).and_then(Option::take) else { return };
        self.index.take(&entry.node.report.description, &entry.berth);
        self.slots.remove(&entry.node.report.node);
        if let Some(due) = entry.due {
            self.due.remove(&(due, slot));
        }
        self.free.push(slot);
    }
}

fn has_same_shelves(a: &Description, b: &Description) -> bool {
    (&a.region, &a.carriers, &a.namespaces) == (&b.region, &b.carriers, &b.namespaces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use roost_proto::error::Reason;
    use roost_proto::explain::Standing;

    #[test]
    fn a_node_that_reports_is_looked_at_once_in_a_while_and_stays_sound() {
        let mut nodes = Nodes::default();
        for now in (0..20_000).step_by(250) {
            if now % 1_000 == 0 {
                nodes.fold(sample::numbered("a", 1, now + 1), Vec::new(), Millis(now));
            }
            nodes.tick(&hearing(), Millis(now));
            assert_eq!((standing(&nodes, "a"), nodes.due.len()), (Ok(Standing::Sound), 1), "{now}");
        }
    }

    #[test]
    fn silence_makes_a_suspect_then_blocks_and_a_report_ends_it() {
        let mut nodes = Nodes::default();
        nodes.fold(sample::numbered("a", 1, 1), Vec::new(), Millis(100));
        for (now, expected) in [
            (2_599, Ok(Standing::Sound)),
            (2_600, Ok(Standing::Suspect)),
            (4_099, Ok(Standing::Suspect)),
            (4_100, Err(Reason::NotAlive)),
            (60_000, Err(Reason::NotAlive)),
        ] {
            nodes.tick(&hearing(), Millis(now));
            assert_eq!(standing(&nodes, "a"), expected, "{now}");
        }
        assert!(nodes.due.is_empty(), "nothing more can come of its silence");
        nodes.fold(sample::numbered("a", 1, 2), Vec::new(), Millis(60_000));
        assert_eq!((standing(&nodes, "a"), nodes.due.len()), (Ok(Standing::Sound), 1));
    }

    #[test]
    fn a_lease_that_gets_shorter_counts_at_once() {
        let mut nodes = Nodes::default();
        nodes.fold(sample::numbered("a", 1, 1), Vec::new(), Millis(0));
        nodes.fold(Report { lease_ms: 500, ..sample::numbered("a", 1, 2) }, Vec::new(), Millis(100));
        nodes.tick(&hearing(), Millis(599));
        assert_eq!(standing(&nodes, "a"), Ok(Standing::Sound));
        nodes.tick(&hearing(), Millis(600));
        assert_eq!(standing(&nodes, "a"), Err(Reason::NotAlive));
    }

    #[test]
    fn of_very_many_that_fall_silent_at_once_some_are_left_for_the_next_tick() {
        let mut nodes = Nodes::default();
        for i in 0..SILENCED_PER_TICK + 10 {
            nodes.fold(sample::report(&format!("n{i}"), "eu"), Vec::new(), Millis(0));
        }
        let suspects = |nodes: &Nodes| nodes.iter().filter(|node| node.standing == Standing::Suspect).count();
        nodes.tick(&hearing(), Millis(2_500));
        assert_eq!(suspects(&nodes), SILENCED_PER_TICK);
        nodes.tick(&hearing(), Millis(2_750));
        assert_eq!(suspects(&nodes), nodes.len());
    }

    #[test]
    fn a_forgotten_nodes_number_is_given_again_and_carries_nothing_over() {
        let mut nodes = Nodes::default();
        let mut report = sample::report("a", "eu");
        report.description.temporary = true;
        nodes.fold(report, Vec::new(), Millis(0));
        nodes.set_reserved(&sample::node("a"), Incarnation(1), 50_000);
        nodes.leave(&sample::node("a"), Incarnation(1));
        assert!(nodes.is_empty() && nodes.due.is_empty());
        nodes.fold(sample::report("b", "us"), Vec::new(), Millis(3_000));
        assert_eq!(nodes.entries.len(), 1);
        nodes.tick(&hearing(), Millis(3_000));
        let node = nodes.get(&sample::node("b")).unwrap();
        assert_eq!((node.standing, node.reserved_permille(), node.place.slot()), (Standing::Sound, 0, Slot(0)));
    }

    fn hearing() -> Hearings {
        let mut hearings = Hearings::none(Millis(0));
        for bucket in 0..roost_proto::hash::BUCKETS {
            hearings.begin(bucket, Millis(0));
        }
        hearings
    }

    fn standing(nodes: &Nodes, id: &str) -> Result<Standing, Reason> {
        let node = nodes.get(&sample::node(id)).unwrap();
        node.blocked.map_or(Ok(node.standing), Err)
    }
}
