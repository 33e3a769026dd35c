//! The invariants of DESIGN section 2, each under its number, as the simulator checks them after every step.

pub(crate) mod bounded;
pub(crate) mod closed_is_over;
pub(crate) mod drained_is_empty;
pub(crate) mod epochs_only_grow;
pub(crate) mod hard_constraints;
pub(crate) mod media_goes_on;
pub(crate) mod modes_hold;
pub(crate) mod one_home;
pub(crate) mod plans_only_grow;
pub(crate) mod purged_is_over;
pub(crate) mod stop_before_give_away;
pub(crate) mod store_is_a_cache;

use crate::order::is_steered;
use crate::world::World;

/// What was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Its number in DESIGN section 2.
    pub(crate) invariant: u8,
    pub(crate) text: String,
}

/// What the invariants remember of a run.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    epochs: epochs_only_grow::Highest,
    cache: store_is_a_cache::Living,
    bounded: bounded::Admissions,
    plans: plans_only_grow::Plans,
    drains: drained_is_empty::Finished,
    purged: purged_is_over::Purged,
    closed: closed_is_over::Closed,
}

impl Invariants {
    /// After a step.
    pub(crate) fn check(&mut self, world: &mut World) -> Result<(), Violation> {
        as_number(1, one_home::check(world))?;
        as_number(2, self.epochs.check(world))?;
        as_number(3, stop_before_give_away::check(world))?;
        as_number(4, self.cache.check(world))?;
        as_number(5, media_goes_on::check(world))?;
        as_number(6, hard_constraints::check(world))?;
        as_number(10, self.bounded.check(world))?;
        if is_steered(world.plan.seed) {
            self.check_steering(world)?;
        }
        for agent in world.agents.iter_mut().flatten() {
            agent.admitted.clear();
            agent.lost.clear();
        }
        for scheduler in world.schedulers.iter_mut().flatten() {
            scheduler.given.clear();
            scheduler.closed.clear();
        }
        world.store.purged.clear();
        Ok(())
    }

    /// At the end, when nothing bad has happened for a while.
    pub(crate) fn check_end(&self, world: &World) -> Result<(), Violation> {
        as_number(10, self.bounded.check_end(world))?;
        if is_steered(world.plan.seed) {
            as_number(6, plans_only_grow::check_end(world))?;
            as_number(10, drained_is_empty::check_end(world))?;
        }
        Ok(())
    }

    /// How many drains were finished.
    pub(crate) fn drained(&self) -> usize {
        self.drains.len()
    }

    /// What operators said of nodes and rooms.
    fn check_steering(&mut self, world: &World) -> Result<(), Violation> {
        as_number(3, self.purged.check(world))?;
        as_number(3, self.closed.check(world))?;
        as_number(5, self.drains.check(world))?;
        as_number(6, self.plans.check(world))?;
        as_number(6, modes_hold::check(world))
    }
}

fn as_number(invariant: u8, result: Result<(), String>) -> Result<(), Violation> {
    result.map_err(|text| Violation { invariant, text })
}
