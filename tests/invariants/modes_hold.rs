//! Invariant 6, of modes: when all schedulers know that a node takes no rooms none sends another one there, and a node takes in nobody
//! whom its mode keeps out.

use roost_proto::id::NodeId;

use crate::world::World;

pub(crate) fn check(world: &World) -> Result<(), String> {
    let is_barred = |id: &NodeId| {
        let known = world.schedulers.iter().flatten().map(|scheduler| scheduler.view.node(id));
        let mut refuses = known.map(|node| node.is_some_and(|node| !node.report.mode.takes_rooms()));
        refuses.all(|refuses| refuses)
    };
    for scheduler in world.schedulers.iter().flatten() {
        if let Some((room, node)) = scheduler.given.iter().find(|(_, node)| is_barred(node)) {
            return Err(format!("{room}: {} gives it to {node}, which takes no rooms as all know", scheduler.place));
        }
    }
    for agent in world.agents.iter().flatten().filter(|agent| !agent.mode().takes_participants()) {
        if let Some((room, _)) = agent.admitted.first() {
            return Err(format!("{room}: {} admits, and is in {:?}", agent.id, agent.mode()));
        }
    }
    Ok(())
}
