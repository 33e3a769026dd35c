//! One node as the scheduler knows it, folded from its reports.

use std::cmp::{Ordering, Reverse};

use roost_proto::admin::{Load, NodeState};
use roost_proto::error::Reason;
use roost_proto::explain::Standing;
use roost_proto::id::Incarnation;
use roost_proto::report::{Impossible, Report};
use roost_proto::steer::Steering;
use roost_proto::time::Millis;

use crate::comings::Comings;
use crate::filter;
use crate::index::{Berth, Place, Rank, Slot};
use crate::load;

/// A node: its last report, and when which of its incarnations was heard of, on our clock.
#[derive(Debug, Clone)]
pub struct Node {
    /// The last report, without its rooms.
    pub report: Report,
    pub load: Load,
    /// As of the last report or tick.
    pub state: NodeState,
    /// How far placement counts on it, as of the last report or tick.
    pub standing: Standing,
    /// Why it takes no new room from anyone, as of the last report or tick.
    pub blocked: Option<Reason>,
    /// Where it stands on the ring.
    pub place: Place,
    /// The numbers of its last report that cannot be.
    doubts: Vec<Impossible>,
    /// How many participants its CPU, memory and bandwidth show.
    felt: f64,
    comings: Comings,
    /// What rooms are expected to bring beyond what is reported of them, in thousandths of a participant.
    reserved_milli: u64,
    /// When the incarnation was last heard of.
    seen: Millis,
    /// When an earlier incarnation was last heard of.
    earlier_seen: Option<Millis>,
    /// Reports are missing: its rooms are not all known.
    incomplete: bool,
    /// It has ended this incarnation itself.
    left: bool,
    /// Its process is proven dead (rule 13).
    dead: bool,
}

/// A load of all that a node takes.
const FULL_PERMILLE: u32 = 1_000;

/// In this time what a node says of its host has come 63 % of its way to what it measures (node-agent/core/src/sample.rs).
const HOST_RISES_MS: u64 = 1_000;
/// So far from what is the case a host's load is measured at times.
const NOISE_PERMILLE: u32 = 40;

/// What a report was to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// It is older than what is known: nothing changed.
    Old,
    /// The node is known as far as reports tell.
    Complete,
    /// Reports are missing before it; a full one is wanted.
    Incomplete,
}

impl Node {
    /// A node that was not known before. `report` has lost its rooms already; `doubts` are what of it cannot be.
    #[must_use]
    pub fn new(report: Report, doubts: Vec<Impossible>, slot: Slot, now: Millis) -> Self {
        let mut node = Self {
            load: load::of(&report),
            state: NodeState::Alive,
            standing: Standing::Sound,
            blocked: None,
            place: Place::of(&report.node, slot),
            doubts,
            felt: report.participants.into(),
            comings: Comings::default(),
            reserved_milli: 0,
            seen: now,
            earlier_seen: None,
            incomplete: !report.full,
            left: false,
            dead: false,
            report,
        };
        node.judge(NodeState::Alive);
        node
    }

    /// Takes a further report of the node, which has lost its rooms already, and what of it cannot be.
    ///
    /// A report that was seen before, or of an earlier incarnation, renews nothing.
    pub fn fold(&mut self, report: Report, doubts: Vec<Impossible>, now: Millis) -> Folded {
        let known = (self.report.incarnation, self.report.seq);
        if (report.incarnation, report.seq) <= known {
            return Folded::Old;
        }
        if report.incarnation > known.0 {
            self.earlier_seen = Some(self.seen);
            self.incomplete = true;
            self.left = false;
        } else if self.left {
            return Folded::Old;
        } else if report.seq > known.1 + 1 {
            self.incomplete = true;
        }
        if report.full {
            self.incomplete = false;
        }
        self.dead = false;
        self.load = load::of(&report);
        self.doubts = doubts;
        self.feel(&report, now);
        self.report = report;
        self.seen = now;
        self.comings.tick(now);
        self.judge(NodeState::Alive);
        self.folded()
    }

    /// What placement is to think of it, given its state.
    pub fn judge(&mut self, state: NodeState) {
        self.state = state;
        self.standing = match state {
            NodeState::Alive if self.is_distrusted() => Standing::Distrusted,
            NodeState::Alive if self.comings.is_unsteady() => Standing::Unsteady,
            NodeState::Alive => Standing::Sound,
            NodeState::Suspect | NodeState::Lost => Standing::Suspect,
        };
        self.blocked = filter::blocked(self, state);
    }

    /// Takes what an operator wants of it, unless a later plan is known.
    pub fn steer(&mut self, steering: Steering) {
        if steering.plan > self.report.plan() {
            self.report.steer(steering);
        }
        self.blocked = filter::blocked(self, self.state);
    }

    /// Whether its last report has numbers that cannot be.
    #[must_use]
    pub fn is_distrusted(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// The numbers of its last report that cannot be.
    #[must_use]
    pub fn doubts(&self) -> &[Impossible] {
        &self.doubts
    }

    /// Sets what is reserved on the node, in thousandths of a participant.
    pub fn set_reserved(&mut self, reserved_milli: u64) {
        self.reserved_milli = reserved_milli;
    }

    /// What is reserved on the node, in thousandths of a participant.
    #[must_use]
    pub fn reserved_milli(&self) -> u64 {
        self.reserved_milli
    }

    /// What is reserved on the node, in thousandths of its capacity.
    #[must_use]
    pub fn reserved_permille(&self) -> u32 {
        let permille = self.reserved_milli / load::participants_at_capacity(&self.report);
        u32::try_from(permille).unwrap_or(u32::MAX)
    }

    /// What is reserved on the node, in thousandths of its capacity, as it counts for its rank as of the last report.
    #[must_use]
    pub fn weighed_permille(&self) -> u32 {
        self.comings.weigh(self.reserved_permille(), self.seen)
    }

    /// The node is one that was not there when its last report came: it was not known, was gone, or has another incarnation.
    pub fn came(&mut self, was_known: bool) {
        if self.report.rooms == 0 {
            self.comings.began(self.seen);
        }
        if was_known {
            self.comings.came_back(self.seen);
        }
        self.judge(self.state);
    }

    /// The band of its load and of what is reserved on top. Who cannot be trusted counts as full.
    #[must_use]
    pub fn load_band(&self) -> u8 {
        let load_permille = if self.is_distrusted() { FULL_PERMILLE } else { self.load_permille() };
        load::band(load_permille.saturating_add(self.weighed_permille()))
    }

    /// Its load, with what those who came last will add to it.
    fn load_permille(&self) -> u32 {
        let load = self.load;
        let host_permille = load.cpu_permille.max(load.memory_permille).max(load.bandwidth_permille);
        let permille = |participants: f64| {
            (participants * 1_000.0 / load::participants_at_capacity(&self.report) as f64).max(0.0) as u32
        };
        let coming_permille = permille(f64::from(self.report.participants) - self.felt);
        // Where participants alone explain what the host does, they are the better measure.
        let is_explained = host_permille < permille(self.felt).saturating_add(NOISE_PERMILLE);
        let predicted_permille = if is_explained { 0 } else { host_permille.saturating_add(coming_permille) };
        load.worst_permille.max(predicted_permille)
    }

    /// Whoever has come shows in the counts at once, and in what the machine measures as its agent does: on average since
    /// the report before, and as far as that has risen.
    fn feel(&mut self, report: &Report, now: Millis) {
        let (before, participants) = (f64::from(self.report.participants), f64::from(report.participants));
        let on_average = (before + participants) / 2.0;
        let passed = now.since(self.seen) as f64 / HOST_RISES_MS as f64;
        self.felt = if report.incarnation != self.report.incarnation {
            participants
        } else if on_average > self.felt {
            on_average - (on_average - self.felt) * (-passed).exp()
        } else {
            on_average
        };
    }

    /// Where the index is to have it.
    #[must_use]
    pub fn berth(&self) -> Berth {
        let priority = Reverse(self.report.description.priority);
        let rank = || Rank { standing: self.standing, priority, load_band: self.load_band() };
        Berth { place: self.place, rank: self.blocked.map_or_else(|| Ok(rank()), Err) }
    }

    /// What is known of it by its reports.
    #[must_use]
    pub fn folded(&self) -> Folded {
        if self.incomplete { Folded::Incomplete } else { Folded::Complete }
    }

    /// Takes the node's own word that `incarnation`, and any before it, is over. Whether it says something new.
    pub fn leave(&mut self, incarnation: Incarnation) -> bool {
        let news = !self.left && incarnation >= self.report.incarnation;
        if news {
            self.left = true;
            self.judge(NodeState::Lost);
        }
        news
    }

    /// Takes the proof that `incarnation`, and any before it, is dead, until a report of it comes after all. Whether that is
    /// something new.
    pub fn die(&mut self, incarnation: Incarnation) -> bool {
        let news = !self.dead && incarnation >= self.report.incarnation;
        if news {
            self.dead = true;
            self.judge(NodeState::Lost);
        }
        news
    }

    /// Whether its current incarnation is over by the node's own word, or by the proof that its process is dead.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left || self.dead
    }

    /// When its current incarnation was last heard of.
    #[must_use]
    pub fn seen(&self) -> Millis {
        self.seen
    }

    /// When `incarnation`, or a later one before the current, was last heard of by its reports; none if that was never the
    /// case.
    #[must_use]
    pub fn heard_of(&self, incarnation: Incarnation) -> Option<Millis> {
        match incarnation.cmp(&self.report.incarnation) {
            Ordering::Less => self.earlier_seen,
            Ordering::Equal => Some(self.seen),
            Ordering::Greater => None,
        }
    }

    /// Moves everything that was seen by the time in which nothing could be seen.
    pub fn skip(&mut self, length_ms: u64) {
        self.seen = self.seen.plus(length_ms);
        self.earlier_seen = self.earlier_seen.map(|seen| seen.plus(length_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use crate::trust::doubts;

    #[test]
    fn a_gap_in_the_sequence_asks_for_a_full_report_until_one_comes() {
        let mut node = Node::new(sample::full(sample::numbered("a", 1, 1)), Vec::new(), Slot(0), Millis(0));
        for (seq, full, expected) in [
            (2, false, Folded::Complete),
            (2, false, Folded::Old),
            (4, false, Folded::Incomplete),
            (5, false, Folded::Incomplete),
            (6, true, Folded::Complete),
            (9, true, Folded::Complete),
            (10, false, Folded::Complete),
        ] {
            let mut report = sample::numbered("a", 1, seq);
            report.full = full;
            assert_eq!(node.fold(report, Vec::new(), Millis(seq)), expected, "{seq}");
        }
    }

    #[test]
    fn who_cannot_be_trusted_counts_as_full_and_what_is_reserved_comes_on_top() {
        let mut report = sample::report("a", "eu");
        for (cpu_permille, reserved_milli, band) in [(0, 0, 0), (160, 4_000, 25), (9_999, 0, 125), (9_999, 4_000, 130)]
        {
            report.host.cpu_permille = cpu_permille;
            let mut node = Node::new(report.clone(), doubts(&report), Slot(0), Millis(0));
            node.set_reserved(reserved_milli);
            assert_eq!((node.load_band(), node.is_distrusted()), (band, cpu_permille > 1_100), "{cpu_permille}");
        }
    }

    #[test]
    fn who_has_just_come_counts_before_the_machine_shows_it() {
        let report = |seq, participants, cpu_permille| {
            let mut report = Report { participants, ..sample::numbered("a", 1, seq) };
            report.host.cpu_permille = cpu_permille;
            report
        };
        let mut node = Node::new(report(1, 0, 600), Vec::new(), Slot(0), Millis(0));
        node.set_reserved(40_000);
        assert_eq!(node.load_band(), 125, "600 in use and 400 to come");
        node.set_reserved(0);
        node.fold(report(2, 40, 600), Vec::new(), Millis(0));
        assert_eq!(node.load_band(), 125, "they have come, and do not show yet");
        node.fold(report(3, 40, 900), Vec::new(), Millis(2_000));
        assert_eq!(node.load_band(), 119, "a seventh of them does not show yet");
        node.fold(report(4, 40, 1_000), Vec::new(), Millis(60_000));
        assert_eq!(node.load_band(), 125);
        node.fold(report(5, 10, 400), Vec::new(), Millis(60_001));
        assert_eq!(node.load_band(), 50, "who has left counts no more");
    }

    #[test]
    fn a_report_of_an_earlier_incarnation_renews_nothing() {
        let mut node = Node::new(sample::numbered("a", 2, 1), Vec::new(), Slot(0), Millis(10));
        assert_eq!(node.fold(sample::numbered("a", 1, 99), Vec::new(), Millis(20)), Folded::Old);
        assert_eq!((node.seen(), node.report.seq), (Millis(10), 1));
    }

    #[test]
    fn a_new_incarnation_keeps_in_mind_when_the_one_before_was_heard_of() {
        let mut node = Node::new(sample::full(sample::numbered("a", 1, 7)), Vec::new(), Slot(0), Millis(10));
        assert_eq!(node.heard_of(Incarnation(0)), None);
        assert_eq!(node.fold(sample::numbered("a", 2, 1), Vec::new(), Millis(50)), Folded::Incomplete);
        assert_eq!(node.heard_of(Incarnation(1)), Some(Millis(10)));
        assert_eq!(node.heard_of(Incarnation(2)), Some(Millis(50)));
        assert_eq!(node.heard_of(Incarnation(3)), None);
    }

    #[test]
    fn who_has_left_comes_back_only_as_a_new_incarnation() {
        let mut node = Node::new(sample::numbered("a", 2, 1), Vec::new(), Slot(0), Millis(0));
        assert!(!node.leave(Incarnation(1)), "an older one that leaves is no news");
        assert!(node.leave(Incarnation(2)) && !node.leave(Incarnation(2)));
        assert_eq!(node.fold(sample::numbered("a", 2, 2), Vec::new(), Millis(5)), Folded::Old);
        assert!(node.is_over());
        node.fold(sample::numbered("a", 3, 1), Vec::new(), Millis(6));
        assert!(!node.is_over());
    }
}
