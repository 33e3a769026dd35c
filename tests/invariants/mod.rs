//! The invariants of DESIGN section 2, each under its number, as the simulator checks them after every step.

pub(crate) mod bounded;
pub(crate) mod epochs_only_grow;
pub(crate) mod hard_constraints;
pub(crate) mod media_goes_on;
pub(crate) mod one_home;
pub(crate) mod stop_before_give_away;
pub(crate) mod store_is_a_cache;

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
        for agent in world.agents.iter_mut().flatten() {
            agent.admitted.clear();
            agent.lost.clear();
        }
        Ok(())
    }

    /// At the end, when nothing bad has happened for a while.
    pub(crate) fn check_end(&self, world: &World) -> Result<(), Violation> {
        as_number(10, self.bounded.check_end(world))
    }
}

fn as_number(invariant: u8, result: Result<(), String>) -> Result<(), Violation> {
    result.map_err(|text| Violation { invariant, text })
}
