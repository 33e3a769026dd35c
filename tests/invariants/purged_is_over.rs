//! Invariant 3, of nodes that an operator purges: none admits any more as what it was; it may come back under another incarnation.

use std::collections::BTreeMap;

use roost_proto::id::{Incarnation, NodeId};

use crate::world::World;

/// Under which incarnation each node was when it was purged.
#[derive(Debug, Default)]
pub(crate) struct Purged(BTreeMap<NodeId, Incarnation>);

impl Purged {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        for node in &world.store.purged {
            let agent = world.agents.iter().flatten().find(|agent| agent.id == *node);
            if let Some(last) = agent.map(|agent| agent.lease.last_incarnation()) {
                self.0.insert(node.clone(), last);
            }
        }
        let is_purged = |id: &NodeId, latest: Incarnation| self.0.get(id).is_some_and(|last| latest <= *last);
        match world.homes().find(|home| is_purged(&home.agent.id, home.agent.lease.last_incarnation())) {
            Some(home) => Err(format!("{}: purged, and admits to {}", home.agent.id, home.room)),
            None => Ok(()),
        }
    }
}
