//! Invariant 2: epochs only grow, for each room, also when the whole store was lost: who admits has the highest epoch under which
//! anybody was admitted, and no two nodes ever had the same.

use std::collections::BTreeMap;

use roost_proto::id::{Epoch, NodeId, RoomKey};

use crate::world::World;

/// The highest epoch of each room under which somebody was, or could be, admitted, and where.
#[derive(Debug, Default)]
pub(crate) struct Highest(BTreeMap<RoomKey, (Epoch, NodeId)>);

impl Highest {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        for agent in world.agents.iter().flatten() {
            for (room, epoch) in &agent.admitted {
                self.see(room, *epoch, &agent.id)?;
            }
        }
        world.homes().try_for_each(|home| self.see(home.room, home.epoch, &home.agent.id))
    }

    fn see(&mut self, room: &RoomKey, epoch: Epoch, node: &NodeId) -> Result<(), String> {
        match self.0.get_mut(room) {
            Some((highest, _)) if epoch < *highest => {
                Err(format!("{room}: {node} admits under epoch {epoch}, after somebody had {highest}"))
            }
            Some((highest, holder)) if epoch == *highest && holder != node => {
                Err(format!("{room}: {node} admits under epoch {epoch}, which was {holder}'s"))
            }
            Some((highest, _)) if epoch == *highest => Ok(()),
            _ => {
                self.0.insert(room.clone(), (epoch, node.clone()));
                Ok(())
            }
        }
    }
}
