//! Invariant 1: one home: at any time at most one node admits participants to a room.

use std::collections::BTreeMap;

use roost_proto::id::RoomKey;

use crate::world::{Home, World};

pub(crate) fn check(world: &World) -> Result<(), String> {
    let mut seen: BTreeMap<&RoomKey, Home<'_>> = BTreeMap::new();
    for home in world.homes() {
        if let Some(other) = seen.insert(home.room, home) {
            return Err(format!(
                "{}: both {} (epoch {}) and {} (epoch {}) admit",
                home.room, other.agent.id, other.epoch, home.agent.id, home.epoch
            ));
        }
    }
    Ok(())
}
