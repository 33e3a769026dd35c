//! How the node goes when it is told to stop: nobody comes in any more, participants go to their rooms' new homes, claims
//! are given up, the lease ends.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep, timeout_at};

use roost_proto::error::Code;
use roost_proto::id::{Epoch, Region, RoomKey};
use roost_store::NodeStore;
use roost_store::operation::Leave;

use crate::door::lookup::{Directory, Found, Wanted};
use crate::inside::{Goodbye, Inside};
use crate::node::Node;
use crate::uplink::release;
use roost_server::telemetry::causes;

/// How many rooms move at once.
const AT_ONCE: usize = 16;
/// How often a scheduler is asked that has not heard yet that the room is free.
const LOOKUPS: usize = 10;
const LOOKUP_AGAIN: Duration = Duration::from_millis(100);
/// What the last word to the store may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Empties the node.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<dyn NodeStore>,
    /// None standing alone: there is nowhere to go.
    pub(crate) directory: Option<Arc<dyn Directory>>,
    pub(crate) inside: Arc<dyn Inside>,
    pub(crate) region: Region,
}

/// One room that is open here.
struct Open {
    room: RoomKey,
    opened_as: Epoch,
    guests: u32,
}

impl Leaving {
    /// From here on the door lets nobody in, and the reports say so.
    pub(crate) fn announce(&self) {
        self.node.with(|state, now| {
            state.leaving = true;
            state.cadence.want_all(now);
        });
        self.node.report_wanted.notify_one();
    }

    /// Moves every room, until `deadline`; whoever is still there then is sent away all the same.
    pub(crate) async fn empty(&self, deadline: Instant) {
        let rooms: Vec<Open> = self.node.with(|state, _| {
            let open = state.holdings.iter().map(|(room, hold)| Open {
                room: room.clone(),
                opened_as: hold.opened_as,
                guests: hold.guests,
            });
            open.collect()
        });
        let participants = self.inside.participants();
        tracing::info!(rooms = rooms.len(), participants, "the node leaves: its rooms are handed over");
        let moves = stream::iter(rooms).for_each_concurrent(AT_ONCE, |open| self.hand_over(open));
        if timeout_at(deadline, moves).await.is_err() {
            tracing::warn!("not all rooms could be handed over in time");
        }
        self.inside.close_all(Goodbye::Trouble(Code::NodeLeaving)).await;
    }

    /// Gives up what is left, and ends the lease.
    pub(crate) async fn end(&self) {
        let rooms: Vec<(RoomKey, Epoch)> = self
            .node
            .with(|state, _| state.holdings.iter().map(|(room, hold)| (room.clone(), hold.opened_as)).collect());
        self.node.with(|state, _| {
            for (room, opened_as) in &rooms {
                state.holdings.end(room, *opened_as);
            }
        });
        let deadline = Instant::now() + LEAVE_WITHIN;
        if !timeout_at(deadline, release::release_all(&self.node, &self.store)).await.unwrap_or(false) {
            tracing::warn!("not all claims could be given up: they end with the lease");
        }
        let leave = self.node.with(|state, _| {
            Some(Leave { node: self.node.id.clone(), run: state.own_run()?, incarnation: state.lease.incarnation()? })
        });
        let Some(leave) = leave else { return };
        match timeout_at(deadline + LEAVE_WITHIN, self.store.leave(leave)).await {
            Ok(Ok(())) => tracing::info!("the node has left"),
            Ok(Err(error)) => tracing::warn!(error = %causes(&error), "the store was not told that the node left"),
            Err(_) => tracing::warn!("the store was not told that the node left: it did not answer"),
        }
    }

    /// Stop, then give up, then place anew (rule 23).
    async fn hand_over(&self, open: Open) {
        let Some(hold) = self.node.with(|state, _| state.holdings.end(&open.room, open.opened_as)) else { return };
        let held = hold.held(&open.room);
        release::release(&self.node, &self.store, held).await;
        let goodbye = match self.new_home(&open).await {
            Some(found) => Goodbye::Moved(found),
            None => Goodbye::Trouble(Code::NodeLeaving),
        };
        self.inside.close(&open.room, open.opened_as, goodbye);
    }

    async fn new_home(&self, open: &Open) -> Option<Found> {
        let directory = self.directory.as_ref().filter(|_| open.guests > 0)?;
        let avoid = std::slice::from_ref(&self.node.id);
        for _ in 0..LOOKUPS {
            let wanted = Wanted {
                room: &open.room,
                client: None,
                region: Some(&self.region),
                expected: open.guests,
                avoid,
                request_id: None,
            };
            match directory.find(wanted).await {
                Ok(found) if found.node != self.node.id => return Some(found),
                Ok(_) => sleep(LOOKUP_AGAIN).await,
                Err(problem) => {
                    tracing::warn!(room = %open.room, code = %problem.code, "no other node takes the room");
                    return None;
                }
            }
        }
        None
    }
}
