//! Yesterday's traffic once more: a recorded trace as the plan of a run, and what came of it then beside what comes of it
//! with another configuration.
//!
//! Rooms get as many participants at the times that were recorded. What a participant costs is fitted to each node's
//! reports (least squares); what is above that is the machine's own business and stays with it. `avoid` is not replayed,
//! for it answers what happened then. Whom a node's door turned away is not in a trace: they look the room up, no more.
//! When it is replayed, a door that turns somebody away is counted as in a simulation. Of rooms that other schedulers placed the client's region is taken for the node's.

mod cost;
mod history;

use std::time::Duration;

use roost_proto::policy::Policies;
use roost_proto::time::Millis;
use serde::Serialize;

use crate::plan::{MOST_VISITS, Plan};
use crate::policies::PolicyName;
use crate::trace::{Trace, TraceError};
use crate::world::{Figures, NodeFigures, Run, Sample, Setting, run};

/// What is to be replayed, and what came of it when it was recorded.
#[derive(Debug, Clone)]
pub struct Replay {
    pub plan: Plan,
    pub recorded: Outcome,
}

/// What came of a trace's traffic.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub figures: Figures,
    /// In the plan's order.
    #[serde(skip)]
    pub nodes: Vec<NodeFigures>,
    /// How long the core decided, in real time; of a recording nothing is known.
    #[serde(skip)]
    pub deciding: Duration,
    /// The load over time.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// What another configuration says of namespaces.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    pub policies: Policies,
    /// Lookups in others are refused.
    pub known_only: bool,
}

/// Reads a trace as the plan of a run in which these policies hold; none: those that held when it was recorded.
pub fn read(trace: &Trace, namespaces: Option<Namespaces>) -> Result<Replay, TraceError> {
    let mut replay = history::read(trace, MOST_VISITS)?;
    // A lookup in a namespace that was not allowed is not in a trace.
    let recorded = || Namespaces { policies: trace.header.namespaces.clone(), known_only: false };
    let Namespaces { policies, known_only } = namespaces.unwrap_or_else(recorded);
    (replay.plan.namespaces, replay.plan.known_namespaces_only) = (policies, known_only);
    Ok(replay)
}

impl Replay {
    /// Runs it with the real placement and so many schedulers. `tell` hears how many of how many seconds are over.
    #[must_use]
    pub fn run(&self, schedulers: u16, tell: impl Fn(usize, usize)) -> Outcome {
        let setting = Setting { policy: PolicyName::Roost, schedulers, seed: 0, keep_samples: true };
        let seconds = |at: Millis| (at.0 / 1_000) as usize;
        let outcome = run(&self.plan, setting, |at| tell(seconds(at), seconds(self.plan.end)));
        let Run { figures, nodes, deciding, samples } = outcome;
        Outcome { figures, nodes, deciding, samples }
    }
}
