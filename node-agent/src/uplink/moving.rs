//! Hands rooms over to other nodes by command (rule 23): the room has stopped admitting, the store is asked until it has
//! answered, then the participants are sent to the new home.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use roost_agent_core::hold::{Doubtful, Hold, Move, Target};
use roost_proto::id::{Epoch, RoomKey};
use roost_proto::room::Expected;
use roost_server::ticket::TICKET_LIFE_MS;
use roost_server::{ClusterKeys, Ticket};
use roost_store::operation::{HandOver, HandedOver};
use roost_store::{NodeStore, StoreError};

use super::lost::LostRooms;
use super::pace::random;
use super::parts::each_apart;
use crate::door::lookup::Found;
use crate::inside::{Goodbye, Inside};
use crate::metrics::AgentMetrics;
use crate::node::Node;
use roost_server::telemetry::causes;

/// How many of one bucket are on their way at once.
const AT_ONCE: usize = 16;
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How often the home of a room is looked up of which nobody knows whether it was handed over; a grace passes meanwhile.
const LOOKUPS: u32 = 20;

/// Hands over what is to move.
#[derive(Debug)]
pub(crate) struct Moving {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<dyn NodeStore>,
    pub(crate) inside: Arc<dyn Inside>,
    pub(crate) lost: LostRooms,
    /// None: there are no tickets here.
    pub(crate) keys: Option<ClusterKeys>,
    pub(crate) metrics: Arc<AgentMetrics>,
}

impl Moving {
    /// Hands over whenever there is something to hand over, for ever.
    pub(crate) async fn run(self) {
        each_apart(&self.node.move_wanted, || self.due(), |bucket| self.hand_over_in(bucket)).await;
    }

    /// The buckets in which there is something to hand over. Rooms of which it cannot be known any more whether they were
    /// are looked up.
    fn due(&self) -> BTreeSet<u8> {
        let (moves, doubtful) = self.node.with(|state, _| (state.holdings.moves(), state.holdings.take_doubtful()));
        doubtful.into_iter().for_each(|Doubtful { room, hold }| self.lost.send_home(room, hold, LOOKUPS));
        moves.iter().map(|asked| asked.held.room.bucket()).collect()
    }

    /// Asks once for each room of a bucket. True if nothing is left.
    async fn hand_over_in(&self, bucket: u8) -> bool {
        stream::iter(self.moves(bucket)).for_each_concurrent(AT_ONCE, |asked| self.hand_over(asked)).await;
        self.moves(bucket).is_empty()
    }

    fn moves(&self, bucket: u8) -> Vec<Move> {
        let moves = self.node.with(|state, _| state.holdings.moves());
        moves.into_iter().filter(|asked| asked.held.room.bucket() == bucket).collect()
    }

    async fn hand_over(&self, Move { held, to, guests }: Move) {
        let Some((holding, sent)) = self.node.with(|state, now| {
            let holding = state.holding(&held)?;
            state.holdings.ask_move(&held).then_some((holding, now))
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
                    self.send_on(held.room, hold, to, epoch);
                }
            }
            Ok(Ok(HandedOver::No { .. })) => {
                if let Some(hold) = self.node.with(|state, _| state.holdings.move_refused(&held)) {
                    self.metrics.rooms_lost.inc();
                    self.lost.send_home(held.room, hold, 1);
                }
            }
            Ok(Ok(HandedOver::NewRun { run })) => {
                self.node.with(|state, _| state.holdings.move_not_done(&held));
                self.node.note_run(held.room.bucket(), run, sent);
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
    fn send_on(&self, room: RoomKey, hold: Hold, to: Target, epoch: Epoch) {
        let Some(ticket) = self.ticket(&room, &to, epoch) else { return self.lost.send_home(room, hold, 1) };
        let Target { node, signaling_url, .. } = to;
        let found = Found { node, signaling_url, epoch, ticket, offer: None };
        self.inside.close(&room, hold.opened_as, Goodbye::Moved(found));
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
}
