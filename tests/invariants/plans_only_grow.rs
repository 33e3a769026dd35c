//! Invariant 6, of plans: the operator's last word counts. No node goes back to an older plan, no two plans have one number, and in
//! the end all know the same one.

use std::collections::BTreeMap;

use roost_proto::id::NodeId;
use roost_proto::steer::Steering;
use roost_proto::time::Millis;

use crate::world::World;

/// What was wanted of each node.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    /// By node and number.
    made: BTreeMap<(NodeId, u64), Steering>,
    /// By the life of the node's process.
    acting: BTreeMap<u64, u64>,
    /// In the store's run that began then.
    stored: BTreeMap<NodeId, (Millis, u64)>,
}

impl Plans {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        // What was wanted of it is forgotten with it; it may bring its own back.
        self.stored.retain(|node, _| !world.store.purged.contains(node));
        for agent in world.agents.iter().flatten() {
            let plan = Steering::plan_of(agent.steering);
            let last = self.acting.entry(agent.life).or_default();
            if plan < *last {
                return Err(format!("{}: goes by plan {plan} after {last}", agent.id));
            }
            *last = plan;
            let wanted = world.store.wanted(&agent.id, world.wire.now);
            for steering in [agent.steering, wanted].into_iter().flatten() {
                self.see(&agent.id, steering)?;
            }
            if let Some(wanted) = wanted {
                self.keep(&agent.id, wanted.plan, world.store.began)?;
            }
        }
        Ok(())
    }

    fn see(&mut self, node: &NodeId, steering: Steering) -> Result<(), String> {
        let key = (node.clone(), steering.plan);
        match self.made.get(&key) {
            Some(made) if *made != steering => Err(format!("{node}: both {made:?} and {steering:?}")),
            Some(_) => Ok(()),
            None => {
                self.made.insert(key, steering);
                Ok(())
            }
        }
    }

    fn keep(&mut self, node: &NodeId, plan: u64, began: Millis) -> Result<(), String> {
        match self.stored.insert(node.clone(), (began, plan)) {
            Some((before, last)) if before == began && plan < last => {
                Err(format!("{node}: the store has plan {plan} after {last}"))
            }
            _ => Ok(()),
        }
    }
}

/// Everything is well: the store, the nodes and the schedulers agree.
pub(crate) fn check_end(world: &World) -> Result<(), String> {
    for agent in world.agents.iter().flatten() {
        let wanted = world.store.wanted(&agent.id, world.wire.now);
        if agent.steering != wanted {
            return Err(format!("{}: goes by {:?}, and {wanted:?} is wanted", agent.id, agent.steering));
        }
        for scheduler in world.schedulers.iter().flatten() {
            let known = scheduler.view.node(&agent.id).map(|node| (node.report.steering, node.report.mode));
            if known != Some((wanted, agent.mode())) {
                return Err(format!("{}: {} knows {known:?}, and {wanted:?} is wanted", agent.id, scheduler.place));
            }
        }
    }
    Ok(())
}
