//! Runs a scenario: each policy with each number of schedulers, each kind of hint and each seed, on all processors.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::plan::Plan;
use crate::policies::PolicyName;
use crate::scenario::{Hint, Loaded};
use crate::world::{Figures, Run, Sample, Setting, run};

/// What is run of a scenario; empty lists and none: all that it says.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    pub seeds: Option<u32>,
    pub repeats: Option<u32>,
    pub schedulers: Vec<u16>,
    pub policies: Vec<PolicyName>,
    pub hints: Vec<Hint>,
    /// Keep the load over time of the first seed.
    pub keep_samples: bool,
}

/// One policy under one set of circumstances, over all seeds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub policy: PolicyName,
    pub schedulers: u16,
    pub hint: Hint,
    pub seeds: u32,
    /// How often each seed was run.
    pub repeats: u32,
    #[serde(flatten)]
    pub figures: Figures,
    /// How long the core decided in all, in real time: differs from run to run.
    #[serde(skip)]
    pub deciding: Duration,
    /// The first seed's load over time, if it was asked for.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// Runs what is chosen, and says after each run how many of how many are done.
pub fn simulate(loaded: &Loaded, choice: &Choice, progress: &(impl Fn(usize, usize) + Sync)) -> Vec<Row> {
    let seeds = choice.seeds.unwrap_or(loaded.scenario.seeds);
    let repeats = choice.repeats.unwrap_or(loaded.scenario.repeats);
    let cells = cells(loaded, choice);
    let of_cell = (seeds * repeats) as usize;
    let total = cells.len() * of_cell;
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut runs = Vec::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= total {
                return runs;
            }
            let ((policy, schedulers, hint), number) = (cells[job / of_cell], (job % of_cell) as u64);
            let (repeat, seed) = (number / u64::from(seeds), number % u64::from(seeds));
            let plan = Plan::of(loaded, seed, hint);
            let keep_samples = choice.keep_samples && number == 0;
            let seed = seed + (repeat << 32);
            runs.push((job, run(&plan, Setting { policy, schedulers, seed, keep_samples }, |_| {})));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(total.max(1));
    let mut runs: Vec<(usize, Run)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a run does not panic")).collect()
    });
    // Whoever was faster: the same rows.
    runs.sort_by_key(|(job, _)| *job);
    let mut runs = runs.into_iter().map(|(_, run)| run);
    let row = |(policy, schedulers, hint)| {
        let runs: Vec<Run> = runs.by_ref().take(of_cell).collect();
        let deciding = runs.iter().map(|run| run.deciding).sum();
        let samples = runs.first().map(|run| run.samples.clone()).unwrap_or_default();
        let figures = Figures::of(&runs.into_iter().map(|run| run.figures).collect::<Vec<_>>());
        Row { policy, schedulers, hint, seeds, repeats, figures, deciding, samples }
    };
    cells.iter().copied().map(row).collect()
}

/// How often the core decided in a second of one processor, rounded; none if it never did.
#[must_use]
pub fn decisions_per_second(decisions: u64, deciding: Duration) -> Option<f64> {
    (decisions > 0).then(|| (decisions as f64 / deciding.as_secs_f64().max(1e-9)).round())
}

fn cells(loaded: &Loaded, choice: &Choice) -> Vec<(PolicyName, u16, Hint)> {
    fn chosen<'a, T>(chosen: &'a [T], all: &'a [T]) -> &'a [T] {
        if chosen.is_empty() { all } else { chosen }
    }
    let scenario = &loaded.scenario;
    let hints = chosen(&choice.hints, &scenario.hints);
    let mut cells = Vec::new();
    for policy in chosen(&choice.policies, &scenario.policies) {
        for schedulers in chosen(&choice.schedulers, &scenario.schedulers) {
            // Other rules take no hints, and what the core does without its ears is asked for by name.
            let all = *policy == PolicyName::Roost || (policy.is_core() && !choice.hints.is_empty());
            let hints = if all { hints } else { &hints[..1] };
            cells.extend(hints.iter().map(|hint| (*policy, *schedulers, *hint)));
        }
    }
    cells
}
