//! Invariant 5: the control plane never stops media: a node gives a room with people inside up only if somebody was given it anew.

use roost_proto::room::ClaimState;

use crate::world::World;

pub(crate) fn check(world: &World) -> Result<(), String> {
    for agent in world.agents.iter().flatten() {
        for (room, epoch, current) in &agent.lost {
            let is_anew =
                current.as_ref().is_some_and(|claim| claim.node != agent.id || claim.state == ClaimState::Granted);
            if !is_anew {
                return Err(format!("{room}: {} gave it up (opened as {epoch}), for {current:?}", agent.id));
            }
        }
    }
    Ok(())
}
