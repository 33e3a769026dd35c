//! Invariant 5, of drains: whoever reads that a drain is finished may switch the node off, so nobody is there any more, and nobody
//! can come: the node has no room, and opens none that is granted to it. And a drain comes to its end.

use std::collections::BTreeMap;

use roost_proto::id::NodeId;
use roost_proto::room::ClaimState;
use roost_proto::steer::{DrainState, Steering};
use roost_proto::time::Millis;

use crate::agent::Agent;
use crate::world::World;

/// The plans of finished drains, and since when each has been known.
#[derive(Debug, Default)]
pub(crate) struct Finished(BTreeMap<(NodeId, u64), Millis>);

impl Finished {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        let now = world.wire.now;
        for agent in world.agents.iter().flatten() {
            let Some(plan) = world.store.wanted(&agent.id, now).filter(is_finished).map(|wanted| wanted.plan) else {
                continue;
            };
            let since = *self.0.entry((agent.id.clone(), plan)).or_insert(now);
            // A copy that is older than what the node knows, or than what it forgot, says nothing of it.
            if since < world.store.began || Steering::plan_of(agent.steering) > plan {
                continue;
            }
            if let Some((room, hold)) = agent.holdings.iter().next() {
                return Err(format!("{}: drained, and has {room}: {hold:?}", agent.id));
            }
            if agent.mode().takes_rooms() {
                is_granted_none(world, agent)?;
            }
        }
        Ok(())
    }

    /// How many drains were finished.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Everything is well, and one node at least takes all rooms: no drain runs any more.
pub(crate) fn check_end(world: &World) -> Result<(), String> {
    for agent in world.agents.iter().flatten() {
        let wanted = world.store.wanted(&agent.id, world.wire.now);
        if let Some(drain) = wanted.as_ref().and_then(Steering::running) {
            return Err(format!("{}: {drain:?} goes on, although all is well", agent.id));
        }
    }
    Ok(())
}

fn is_finished(wanted: &Steering) -> bool {
    // Of one that is lost it says only that nobody else has its rooms to move.
    wanted.drain.is_some_and(|drain| drain.state == DrainState::Finished && !drain.lost)
}

fn is_granted_none(world: &World, agent: &Agent) -> Result<(), String> {
    let claims = world.rooms.iter().filter_map(|room| Some((room, world.store.claim(room, world.wire.now)?)));
    let mut granted = claims.filter(|(_, claim)| {
        claim.node == agent.id
            && claim.state == ClaimState::Granted
            && Some(claim.incarnation) == agent.lease.incarnation()
    });
    match granted.next() {
        Some((room, claim)) => Err(format!("{}: drained, and may open {room}: {claim:?}", agent.id)),
        None => Ok(()),
    }
}
