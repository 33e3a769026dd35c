//! Many hours in which processes, ways and the store fail all the time. What the processes keep must not grow, and when everybody has
//! gone home nothing may be left: no claim, no room in any view, no pending release.

use std::fmt::Debug;
use std::io::Write as _;

use roost_proto::time::Millis;

use crate::invariants::Invariants;
use crate::plan::{HOUR_MS, Plan};
use crate::wire::{Happening, Place};
use crate::world::World;

/// How many hours, unless `ROOST_HOURS` says otherwise.
const HOURS: u64 = 1;
/// How often it is looked at what is kept.
const SAMPLES: u64 = 24;
/// After the last fault, and when the last participant has gone: a lease, the half minute for which an orphan waits,
/// and a grace that began late.
const REST_MS: u64 = 60_000;

#[test]
fn hours_of_churn_leave_nothing_behind_and_nothing_grows() {
    let hours = super::number("ROOST_HOURS").unwrap_or(HOURS);
    let plan = Plan::day(super::number("ROOST_SEED").unwrap_or(1), hours);
    let mut world = World::new(&plan, false);
    let mut invariants = Invariants::default();
    let mut samples = Vec::new();
    let last_fault = plan.faults.iter().map(|planned| planned.until).max().unwrap_or_default();
    let end = last_fault.plus(REST_MS);
    let mut calm = false;
    while let Some(what) = world.wire.next()
        && world.wire.now < end
    {
        if world.wire.now.0 >= (samples.len() as u64 + 1) * hours * HOUR_MS / SAMPLES {
            samples.push(kept(&world));
        }
        if !calm && world.wire.now > last_fault {
            calm = true;
            world.wire.calm();
        }
        if calm && matches!(what, Happening::Timer { at: Place::Client(_), .. }) {
            continue;
        }
        if world.step(what) {
            invariants.check(&mut world).unwrap_or_else(|broken| panic!("{:?}: {broken:?}", world.wire.now));
        }
    }
    let admissions: u64 = world.clients.iter().map(|client| client.admissions).sum();
    let figures = format!("{hours} h, {} faults, {admissions} admissions; kept: {samples:?}", plan.faults.len());
    assert!(writeln!(std::io::stdout(), "{figures}").is_ok());
    assert!(admissions > hours * 1_000, "{admissions}");
    let (first, second) = samples.split_at(samples.len() / 2);
    let most = |samples: &[usize]| samples.iter().max().copied().unwrap_or_default();
    assert!(most(second) * 4 <= most(first) * 5, "what is kept grows: {samples:?}");
    nothing_is_left(&world);
}

fn nothing_is_left(world: &World) {
    assert_eq!(world.store.claims_len(world.wire.now), 0, "the store has claims of rooms that nobody is in");
    for agent in world.agents.iter().flatten() {
        assert!(agent.holdings.is_empty() && agent.holdings.releases_len() == 0, "{}: {:?}", agent.id, agent.holdings);
    }
    for scheduler in world.schedulers.iter().flatten() {
        assert_eq!(scheduler.view.rooms.len(), 0, "{}: rooms that nobody is in", scheduler.place);
        for (id, node) in scheduler.view.nodes(None) {
            let reserved = scheduler.view.node_view(node, 0, Millis(0)).reserved_permille;
            assert_eq!(reserved, 0, "{}: {id} is kept free for nobody", scheduler.place);
        }
    }
}

/// All that is kept, in characters when it is written out: an estimate of memory that is the same in every run.
fn kept(world: &World) -> usize {
    let written = |thing: &dyn Debug| format!("{thing:?}").len();
    written(&world.wire) + written(&world.agents) + written(&world.schedulers) + written(&world.store.buckets())
}
