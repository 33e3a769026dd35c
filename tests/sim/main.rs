//! Ownership under faults, in simulated time: the real cores and the store's specification, driven as the processes drive
//! them, over a network, clocks and a store that fail as a seed says. `ROOST_SEEDS` sets how many seeds are run, and
//! `ROOST_SEED` runs one of them and prints what happens.

mod agent;
mod client;
mod day;
#[path = "../invariants/mod.rs"]
mod invariants;
mod message;
mod order;
mod plan;
mod scheduler;
mod shrink;
mod store;
mod wire;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use plan::Plan;
use world::run;

/// How many seeds are run unless `ROOST_SEEDS` says otherwise.
const SEEDS: u64 = 2_000;

#[test]
fn no_seed_breaks_an_invariant() {
    if let Some(seed) = number("ROOST_SEED") {
        return check(seed).unwrap_or_else(|broken| panic!("{broken}"));
    }
    let (seeds, next) = (number("ROOST_SEEDS").unwrap_or(SEEDS), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            if let Err(broken) = check(seed) {
                next.store(seeds, Ordering::Relaxed);
                panic!("{broken}");
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
}

#[test]
fn the_same_seed_twice_is_byte_identical() {
    for seed in 0..10 {
        let [one, other] = [(), ()].map(|()| run(&Plan::of(seed), true));
        assert!(!one.trace.is_empty());
        assert_eq!(one.trace.join("\n"), other.trace.join("\n"), "seed {seed}");
    }
}

#[test]
fn participants_come_in_and_rooms_are_moved_all_the_same() {
    let (runs, mut admissions, mut moves) = (50, 0, 0);
    for seed in 0..runs {
        let outcome = run(&Plan::of(seed), false);
        (admissions, moves) = (admissions + outcome.admissions, moves + outcome.moves);
    }
    assert!(admissions > runs * 50, "{admissions} admissions in {runs} runs");
    assert!(moves > runs / 2, "{moves} moves in {runs} runs");
}

#[test]
fn nodes_are_drained_and_undrained_all_the_same() {
    let steered = (0..).filter(|seed| order::is_steered(*seed)).take(50);
    let drained: usize = steered.map(|seed| run(&Plan::of(seed), false).drained).sum();
    assert!(drained > 25, "{drained} drains were finished in 50 runs");
}

/// Runs one seed; if it breaks an invariant, gives the shortest run that does.
fn check(seed: u64) -> Result<(), String> {
    let plan = Plan::of(seed);
    let Some(violation) = run(&plan, false).violation else { return Ok(()) };
    let shrunk = shrink::shrink(&plan, violation.invariant);
    let described = shrink::describe(&shrunk, &run(&shrunk, true));
    Err(format!("seed {seed} breaks invariant {}: {}\n{described}", violation.invariant, violation.text))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}: expected a number")))
}
