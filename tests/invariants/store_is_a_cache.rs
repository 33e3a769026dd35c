//! Invariant 4: the store is a cache of what nodes hold: whatever becomes of its data, a room that lives at a node which is there
//! and hears of it is that node's afterwards.

use std::collections::BTreeMap;

use roost_agent_core::hold::{Hold, State};
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::time::Millis;

use crate::plan::Fault;
use crate::world::World;

/// For so long before and after a new run nothing else may go wrong, for the check to count.
const CALM_BEFORE_MS: u64 = 8_000;
const CALM_AFTER_MS: u64 = 8_000;

/// The rooms that had somebody inside when the store's run began, and where.
#[derive(Debug, Default)]
pub(crate) struct Living {
    began: Millis,
    homes: BTreeMap<RoomKey, NodeId>,
}

impl Living {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        let (now, began) = (world.wire.now, world.store.began);
        if began > self.began {
            *self = Self { began, homes: BTreeMap::new() };
            if is_calm(world, began) {
                let homes = world.agents.iter().flatten().flat_map(|agent| {
                    let living = agent.holdings.iter().filter(|(_, hold)| hold.guests > 0);
                    living.map(|(room, _)| (room.clone(), agent.id.clone()))
                });
                self.homes = homes.collect();
            }
        }
        if now.since(began) > CALM_AFTER_MS {
            return Ok(());
        }
        for (room, node) in &self.homes {
            if let Some(claim) = world.store.claim(room, now).filter(|claim| claim.node != *node)
                && still_holds(world, node, room)
            {
                return Err(format!("{room}: lived at {node} when the run began at {}, and is {claim:?}", began.0));
            }
        }
        Ok(())
    }
}

/// Nothing but new runs of the store befalls anybody around that moment.
fn is_calm(world: &World, began: Millis) -> bool {
    world.plan.is_calm(began.minus(CALM_BEFORE_MS), began.plus(CALM_AFTER_MS), |fault| {
        matches!(fault, Fault::Restart(_) | Fault::Flush | Fault::FailOver(..) | Fault::Save)
    })
}

fn still_holds(world: &World, node: &NodeId, room: &RoomKey) -> bool {
    // One that is being handed over may be the other node's by the store's word before its node has heard that.
    let is_here = |hold: &Hold| hold.state != State::Moving;
    world.agents.iter().flatten().any(|agent| agent.id == *node && agent.holdings.get(room).is_some_and(is_here))
}
