//! Invariant 6: hard constraints hold always: a room is only ever at a node that serves its namespace.

use roost_proto::id::NamespaceId;

use crate::client::OTHER;
use crate::wire::Place;
use crate::world::World;

/// The namespaces that the node there serves; empty: all.
pub(crate) fn namespaces(place: Place) -> Vec<NamespaceId> {
    let only = |name: &str| vec![NamespaceId::new(name).expect("valid")];
    match place {
        Place::Agent(2) => only("default"),
        Place::Agent(3) => only(OTHER),
        _ => Vec::new(),
    }
}

pub(crate) fn check(world: &World) -> Result<(), String> {
    for room in &world.rooms {
        let Some(claim) = world.store.claim(room, world.wire.now) else { continue };
        let Some(agent) = world.agents.iter().flatten().find(|agent| agent.id == claim.node) else { continue };
        let served = namespaces(agent.place);
        if !served.is_empty() && !served.contains(&room.namespace) {
            return Err(format!("{room}: at {}, which serves {served:?} only", claim.node));
        }
    }
    Ok(())
}
