//! What is counted in a run, and the figures that come of it.

use std::collections::BTreeMap;
use std::time::Duration;

use roost_proto::error::{Code, Reason, ReasonCount};
use roost_proto::policy::Rung;
use roost_proto::time::Millis;
use roost_scheduler_core::place::NoNode;
use serde::{Deserialize, Serialize};

use super::Run;
use super::rules::{Homes, Violations};
use crate::node::SimNode;
use crate::plan::{NodePlan, Plan};
use crate::policies::PolicyName;

/// The figures of a run, or of several: the first three are means over the runs (the first over those that have it), the
/// others sums.
///
/// A participant who was turned away by a full node counts as that node's: what is measured is where rooms were put.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// The fullest node's participants over the mean of all nodes; none if nobody was anywhere when load was looked at.
    pub max_mean: Option<f64>,
    /// Participants for whom there was no place, as a share of all.
    pub over_capacity: f64,
    /// The fullest node's participants as a share of its capacity, by number or by CPU, whichever is more.
    pub max_share: f64,
    /// Participants who came.
    pub joins: u64,
    /// Those of them who got in.
    pub admitted: u64,
    /// Those of them who got no place, each once, by what kept them out: of several nodes' reasons the one that is checked
    /// last ([`Reason::ALL`]), which is that of the node that came nearest to taking them. At a node's door it begins with
    /// `door`; it is `avoided` where each such node's door had turned them away from a room that was only granted.
    pub refused: BTreeMap<String, u64>,
    /// Rooms that were given a node.
    pub placed: u64,
    /// By the rung that their node was on.
    pub rungs: BTreeMap<Rung, u64>,
    /// Lookups that were refused, by each reason that a node had; and at the doors, also of those who got in elsewhere after
    /// that.
    pub refusals: BTreeMap<String, u64>,
    /// Grants that another scheduler's came before.
    pub conflicts: u64,
    /// How often the core decided.
    pub decisions: u64,
    pub violations: Violations,
}

/// What one node got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeFigures {
    /// Rooms that were given to it.
    pub placed: u64,
    /// The most participants at once, with those turned away.
    pub most: u32,
}

/// The participants of each node at one moment, with those turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub at: Millis,
    pub demand: Vec<u32>,
}

/// The counts of a run that is under way.
#[derive(Debug)]
pub(super) struct Tally {
    figures: Figures,
    pub(super) violations: Violations,
    pub(super) homes: Homes,
    is_core: bool,
    residents: u64,
    over: u64,
    promised: Vec<f64>,
    nodes: Vec<NodeFigures>,
    deciding: Duration,
    /// The sum of what was measured of max/mean, and how often.
    max_mean: f64,
    measured: u32,
    samples: Option<Vec<Sample>>,
}

impl Tally {
    pub(super) fn new(plan: &Plan, policy: PolicyName, keep_samples: bool) -> Self {
        Self {
            figures: Figures::default(),
            violations: Violations::default(),
            homes: Homes::default(),
            is_core: policy.is_core(),
            residents: plan.visits.iter().filter(|visit| visit.at == Millis(0)).count() as u64,
            over: 0,
            promised: vec![0.0; plan.nodes.len()],
            nodes: vec![NodeFigures::default(); plan.nodes.len()],
            deciding: Duration::ZERO,
            max_mean: 0.0,
            measured: 0,
            samples: keep_samples.then(Vec::new),
        }
    }

    pub(super) fn came(&mut self) {
        self.figures.joins += 1;
    }

    pub(super) fn admitted(&mut self) {
        self.figures.admitted += 1;
    }

    pub(super) fn decided(&mut self, took: Duration) {
        self.figures.decisions += 1;
        self.deciding += took;
    }

    pub(super) fn conflict(&mut self) {
        self.figures.conflicts += 1;
    }

    pub(super) fn placed(&mut self, plan: &Plan, node: usize, room: u32, rung: Rung) {
        self.figures.placed += 1;
        self.nodes[node].placed += 1;
        if self.is_core {
            *self.figures.rungs.entry(rung).or_default() += 1;
        }
        self.promise(plan, node, plan.rooms[room as usize].size);
    }

    /// So many participants will come to the node.
    pub(super) fn promise(&mut self, plan: &Plan, node: usize, participants: u32) {
        self.promised[node] += share(&plan.nodes[node], participants);
    }

    /// What each node was promised, as a share of what it takes.
    pub(super) fn promised(&self) -> &[f64] {
        &self.promised
    }

    /// Somebody gets no place, for this reason alone.
    pub(super) fn refused(&mut self, reason: &str) {
        count(&mut self.figures.refusals, reason);
        count(&mut self.figures.refused, reason);
    }

    /// A door lets somebody not in; if that `is_final`, they get no place.
    pub(super) fn refused_at_door(&mut self, reason: Reason, is_final: bool) {
        let reason = format!("door {}", reason.as_str());
        count(&mut self.figures.refusals, &reason);
        if is_final {
            count(&mut self.figures.refused, &reason);
        }
    }

    /// A lookup found no node, for these reasons.
    pub(super) fn rejected(&mut self, refused: &NoNode) {
        self.figures.count_refused(&refused.counts, Code::NoNode);
        if refused.counts.iter().any(|counted| is_full(counted.reason)) {
            self.over();
        }
    }

    /// There was no place for somebody.
    pub(super) fn over(&mut self) {
        self.over += 1;
    }

    pub(super) fn sample(&mut self, plan: &Plan, nodes: &[SimNode], now: Millis) {
        let demand: Vec<u32> = nodes.iter().map(SimNode::demand).collect();
        for (node, demand) in self.nodes.iter_mut().zip(&demand) {
            node.most = node.most.max(*demand);
        }
        let shares = plan.nodes.iter().zip(&demand).map(|(node, demand)| share(node, *demand));
        self.figures.max_share = shares.fold(self.figures.max_share, f64::max);
        if now >= plan.measure_from
            && let Some(max_mean) = max_mean(&demand)
        {
            self.max_mean += max_mean;
            self.measured += 1;
        }
        if let Some(samples) = &mut self.samples {
            samples.push(Sample { at: now, demand });
        }
    }

    pub(super) fn finish(self) -> Run {
        let mut figures = self.figures;
        figures.max_mean = (self.measured > 0).then(|| self.max_mean / f64::from(self.measured));
        figures.over_capacity = self.over as f64 / (figures.joins + self.residents).max(1) as f64;
        figures.violations = self.violations;
        Run { figures, nodes: self.nodes, deciding: self.deciding, samples: self.samples.unwrap_or_default() }
    }
}

impl Figures {
    /// A lookup was refused for these reasons; if there are none, as where no node is known, for what the code says.
    pub(crate) fn count_refused(&mut self, counts: &[ReasonCount], code: Code) {
        for counted in counts {
            count(&mut self.refusals, counted.reason.as_str());
        }
        let nearest = counts.iter().map(|counted| counted.reason).max();
        if nearest.is_none() {
            count(&mut self.refusals, code.as_str());
        }
        count(&mut self.refused, nearest.map_or(code.as_str(), Reason::as_str));
    }

    /// Those who got no place, as a share of those who came.
    #[must_use]
    pub fn refused_share(&self) -> f64 {
        self.refused.values().sum::<u64>() as f64 / self.joins.max(1) as f64
    }

    /// Those of several runs of equal weight.
    #[must_use]
    pub fn of(runs: &[Self]) -> Self {
        let count = runs.len().max(1) as f64;
        let mut all = Self::default();
        for run in runs {
            all.over_capacity += run.over_capacity / count;
            all.max_share += run.max_share / count;
            all.joins += run.joins;
            all.admitted += run.admitted;
            all.placed += run.placed;
            all.conflicts += run.conflicts;
            all.decisions += run.decisions;
            all.violations.add(&run.violations);
            for (rung, placed) in &run.rungs {
                *all.rungs.entry(*rung).or_default() += placed;
            }
            for (reason, refused) in &run.refused {
                *all.refused.entry(reason.clone()).or_default() += refused;
            }
            for (reason, refused) in &run.refusals {
                *all.refusals.entry(reason.clone()).or_default() += refused;
            }
        }
        let measured: Vec<f64> = runs.iter().filter_map(|run| run.max_mean).collect();
        all.max_mean = (!measured.is_empty()).then(|| measured.iter().sum::<f64>() / measured.len() as f64);
        all
    }
}

fn count(counts: &mut BTreeMap<String, u64>, reason: &str) {
    *counts.entry(reason.to_owned()).or_default() += 1;
}

/// The fullest node's participants over the mean of all; none where nobody is.
pub(crate) fn max_mean(demand: &[u32]) -> Option<f64> {
    let total: f64 = demand.iter().copied().map(f64::from).sum();
    let most = demand.iter().copied().max().map_or(0.0, f64::from);
    (total > 0.0).then(|| most * demand.len() as f64 / total)
}

/// So many participants as a share of what the node takes, by number or by CPU; 0 where neither is known.
pub(crate) fn share(node: &NodePlan, participants: u32) -> f64 {
    let participants = f64::from(participants);
    let by_count = match node.description.capacity.participants {
        0 => 0.0,
        most => participants / f64::from(most),
    };
    by_count.max(participants * node.per_participant.cpu_permille / 1_000.0)
}

/// Whether the reason is that there is no place.
pub(crate) fn is_full(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::FullParticipants
            | Reason::FullRooms
            | Reason::FullStreams
            | Reason::FullBandwidth
            | Reason::FullCpu
            | Reason::FullMemory
    )
}
