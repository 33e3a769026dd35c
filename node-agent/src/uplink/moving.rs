//! Hands rooms over to other nodes by command (rule 23): the room has stopped admitting, the store is asked until it has
//! answered, then the participants are sent to the new home.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use roost_agent_core::hold::{Doubtful, Hold, Move, Target};
use roost_proto::id::{Epoch, RoomKey};
use roost_proto::room::Expected;
use roost_server::ticket::TICKET_LIFE_MS;
use roost_server::{ClusterKeys, Ticket};
use roost_store::operation::{HandOver, HandedOver};
use roost_store::{NodeStore, StoreError};

use super::lost;
use super::pace::{Pace, random};
use crate::door::lookup::{Directory, Found};
use crate::inside::{Goodbye, Inside};
use crate::metrics::AgentMetrics;
use crate::node::Node;
use roost_server::telemetry::causes;

/// How many are on their way at once.
const AT_ONCE: usize = 16;
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How often the home of a room is looked up of which nobody knows whether it was handed over; a grace passes meanwhile.
const LOOKUPS: u32 = 20;

/// Hands over what is to move.
#[derive(Debug)]
pub(crate) struct Moving {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<dyn NodeStore>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) inside: Arc<dyn Inside>,
    /// None: there are no tickets here.
    pub(crate) keys: Option<ClusterKeys>,
    pub(crate) metrics: Arc<AgentMetrics>,
}

impl Moving {
    /// Hands over whenever there is something to hand over, for ever.
    pub(crate) async fn run(self) {
        let mut pace = Pace::default();
        let mut doubtful = Vec::new();
        loop {
            self.node.move_wanted.notified().await;
            while !self.hand_over_all(&mut doubtful).await {
                sleep(pace.next()).await;
            }
            pace.reset();
        }
    }

    /// Asks once for each room. True if nothing is left.
    async fn hand_over_all(&self, doubtful: &mut Vec<(Doubtful, u32)>) -> bool {
        let moves = self.node.with(|state, _| {
            doubtful.extend(state.holdings.take_doubtful().into_iter().map(|room| (room, LOOKUPS)));
            state.holdings.moves()
        });
        stream::iter(moves).for_each_concurrent(AT_ONCE, |asked| self.hand_over(asked)).await;
        let left = stream::iter(std::mem::take(doubtful)).map(|(room, lookups)| self.send_home(room, lookups));
        *doubtful = left.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
        doubtful.is_empty() && self.node.with(|state, _| state.holdings.moves().is_empty())
    }

    async fn hand_over(&self, Move { held, to, guests }: Move) {
        let Some(holding) = self.node.with(|state, _| {
            let holding = state.holding(&held)?;
            state.holdings.ask_move(&held).then_some(holding)
        }) else {
            return;
        };
        let (node, to_incarnation, ttl_ms) = (to.node.clone(), to.incarnation, to.ttl_ms);
        let expected = Expected { participants: guests, hint: guests, age_ms: 0 };
        let asked = self.store.hand_over(HandOver { held: holding, to: node, to_incarnation, ttl_ms, expected });
        match timeout(ANSWER_WITHIN, asked).await {
            Ok(Ok(HandedOver::Yes { epoch })) => {
                if let Some(hold) = self.node.with(|state, _| state.holdings.moved(&held, epoch)) {
                    self.metrics.rooms_moved.inc();
                    tracing::info!(room = %held.room, node = %to.node, %epoch, "the room was moved: its participants go there");
                    self.send_on(&held.room, &hold, to, epoch).await;
                }
            }
            Ok(Ok(HandedOver::No { .. })) => {
                if let Some(hold) = self.node.with(|state, _| state.holdings.move_refused(&held)) {
                    self.metrics.rooms_lost.inc();
                    self.send_home_or_away(&held.room, &hold).await;
                }
            }
            Ok(Ok(HandedOver::NewRun { run })) => {
                self.node.with(|state, _| state.holdings.move_not_done(&held));
                self.node.note_run(held.room.bucket(), run);
            }
            Ok(Err(error @ (StoreError::Unavailable { .. } | StoreError::Refused { .. }))) => {
                tracing::warn!(room = %held.room, error = %causes(&error), "the room was not moved");
                self.node.with(|state, _| state.holdings.move_not_done(&held));
            }
            Ok(Err(error)) => {
                tracing::warn!(room = %held.room, error = %causes(&error), "it is not known yet whether the room was moved");
            }
            Err(_) => tracing::warn!(room = %held.room, "the store took too long to move a room"),
        }
    }

    /// The room is granted there already: nobody is without a home.
    async fn send_on(&self, room: &RoomKey, hold: &Hold, to: Target, epoch: Epoch) {
        let Some(ticket) = self.ticket(room, &to, epoch) else { return self.send_home_or_away(room, hold).await };
        let Target { node, signaling_url, .. } = to;
        let found = Found { node, signaling_url, epoch, ticket, offer: None };
        self.inside.close(room, hold.opened_as, Goodbye::Moved(found));
    }

    /// As a lookup would give; the store has just said that it would.
    fn ticket(&self, room: &RoomKey, to: &Target, epoch: Epoch) -> Option<String> {
        let (store, store_ms) = self.node.with(|state, now| Some((state.store()?, state.lease.store_ms(now)?)))?;
        Some(self.keys.as_ref()?.sign_ticket(&Ticket {
            namespace: room.namespace.clone(),
            room: room.room.clone(),
            node: to.node.clone(),
            incarnation: to.incarnation,
            epoch,
            store,
            expires_store_ms: store_ms + TICKET_LIFE_MS,
            id: format!("{:016x}", random()),
        }))
    }

    async fn send_home_or_away(&self, room: &RoomKey, hold: &Hold) {
        let inside = &*self.inside;
        if lost::send_home(&self.node.id, &*self.directory, inside, room, hold).await.is_err() {
            lost::send_away(inside, room, hold);
        }
    }

    /// Gives the room back if its home is to be looked up again.
    async fn send_home(&self, doubtful: Doubtful, lookups: u32) -> Option<(Doubtful, u32)> {
        let (room, hold, inside) = (&doubtful.room, &doubtful.hold, &*self.inside);
        match lost::send_home(&self.node.id, &*self.directory, inside, room, hold).await {
            Ok(()) => None,
            Err(Some(problem)) if problem.code.retryable() && lookups > 1 => Some((doubtful, lookups - 1)),
            Err(_) => {
                lost::send_away(inside, room, hold);
                None
            }
        }
    }
}
