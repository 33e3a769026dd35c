//! Scenarios as a whole: that they are refused when they cannot be, run the same way each time, and break no rule.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bad_scenarios;
mod figures;
mod refused;
mod replay;
mod rules;

use std::path::{Path, PathBuf};

use roost_sim::plan::Plan;
use roost_sim::policies::PolicyName;
use roost_sim::scenario::{self, Hint, Loaded};
use roost_sim::world::{Figures, Setting, run};

/// One of the scenarios that are shipped.
fn shipped(name: &str) -> Loaded {
    scenario::load(&folder().join(name)).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios")
}

fn figures(loaded: &Loaded, policy: PolicyName, schedulers: u16, hint: Hint, seeds: u64) -> Figures {
    let of_seed = |seed| {
        let setting = Setting { policy, schedulers, seed, keep_samples: false };
        run(&Plan::of(loaded, seed, hint), setting, |_| {}).figures
    };
    Figures::of(&(0..seeds).map(of_seed).collect::<Vec<_>>())
}
