//! Invariant 10: everything is bounded: what waits and what is kept, and, once nothing bad happens any more, the time until all is
//! well again.

use roost_agent_core::hold::State;
use roost_agent_core::lease::Standing;
use roost_proto::time::Millis;

use crate::plan::{CALM_MS, END_MS};
use crate::world::World;

/// Calls of one agent that are on their way, and claims that it has to give up.
const MOST_CALLS: usize = 64;
/// Calls and lookups of one scheduler.
const MOST_BUSY: usize = 256;
/// Everything is well again so long before the end.
const WELL_MS: u64 = 8_000;

const _: () = assert!(CALM_MS + WELL_MS < END_MS);

/// How many clients had been let in how often, a while before the end.
#[derive(Debug, Default)]
pub(crate) struct Admissions(Option<Vec<u64>>);

impl Admissions {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        if self.0.is_none() && world.wire.now >= Millis(END_MS - WELL_MS) {
            self.0 = Some(world.clients.iter().map(|client| client.admissions).collect());
        }
        let rooms = world.rooms.len();
        for agent in world.agents.iter().flatten() {
            let (calls, releases) = (agent.asked_len(), agent.holdings.releases_len());
            if calls > MOST_CALLS || releases > MOST_CALLS || agent.holdings.len() > rooms {
                return Err(format!("{}: {calls} calls, {releases} claims to give up", agent.id));
            }
        }
        for scheduler in world.schedulers.iter().flatten() {
            if scheduler.busy_len() > MOST_BUSY || scheduler.view.rooms.len() > rooms {
                return Err(format!("{}: {} calls and lookups", scheduler.place, scheduler.busy_len()));
            }
        }
        Ok(())
    }

    pub(crate) fn check_end(&self, world: &World) -> Result<(), String> {
        if world.store.claims_len(world.wire.now) > world.rooms.len() {
            return Err("the store has more claims than there are rooms".to_owned());
        }
        for agent in world.agents.iter().flatten() {
            let waits = |state| matches!(state, State::Wanted { .. } | State::Provisional | State::Moving);
            let wanted = agent.holdings.iter().filter(|(_, hold)| waits(hold.state)).count();
            let standing = agent.lease.standing(agent.now(world.wire.now));
            if wanted > 0 || standing != Standing::Held {
                return Err(format!("{}: {standing:?}, {wanted} rooms wait, although all is well", agent.id));
            }
        }
        let before = self.0.as_deref().unwrap_or_default();
        for (number, (client, before)) in world.clients.iter().zip(before).enumerate() {
            if client.admissions <= *before {
                return Err(format!("client {number} comes into no room, although all is well"));
            }
        }
        Ok(())
    }
}
