//! Invariant 3: stop before give-away: while a node admits to a room, the store has the room for nobody else. What is there
//! provisionally under a lower epoch is given to nobody: its node waits, and gives way (rule 18).

use crate::world::World;

pub(crate) fn check(world: &World) -> Result<(), String> {
    for home in world.homes() {
        if let Some(claim) = world.store.claim(home.room, world.wire.now)
            && claim.node != home.agent.id
            && !(claim.epoch < home.epoch && world.store.is_provisional(home.room, claim))
        {
            return Err(format!(
                "{}: {} admits (epoch {}), and the store has given it to {} ({:?}, epoch {})",
                home.room, home.agent.id, home.epoch, claim.node, claim.state, claim.epoch
            ));
        }
    }
    Ok(())
}
