//! Invariant 3, of rooms that an operator closes: when a scheduler says that a room is over, nobody admits to it any more as it was.

use std::collections::BTreeMap;

use roost_proto::id::{Epoch, RoomKey};

use crate::world::World;

/// The last generation of each room that was said to be over.
#[derive(Debug, Default)]
pub(crate) struct Closed(BTreeMap<RoomKey, Epoch>);

impl Closed {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        for (room, epoch) in world.schedulers.iter().flatten().flat_map(|scheduler| &scheduler.closed) {
            let last = self.0.entry(room.clone()).or_default();
            *last = (*last).max(*epoch);
        }
        let is_over = |room: &RoomKey, epoch: Epoch| self.0.get(room).is_some_and(|last| epoch <= *last);
        match world.homes().find(|home| is_over(home.room, home.epoch)) {
            Some(home) => Err(format!("{}: closed, and {} admits (epoch {})", home.room, home.agent.id, home.epoch)),
            None => Ok(()),
        }
    }
}
