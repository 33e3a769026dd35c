//! Opens a room in the store before its first participant is admitted (rule 4): once, however many wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use roost_agent_core::hold::{Held, Offer, OpenFailure};
use roost_proto::id::RoomKey;
use roost_proto::room::Run;
use roost_store::operation::Opened;
use roost_store::{NodeStore, StoreError};

use crate::metrics::AgentMetrics;
use crate::node::{Node, OpeningEnd};
use roost_server::telemetry::causes;

/// How long the store may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Whoever waits for an opening gives up then, whatever became of it.
pub(super) const GIVEN_UP_AFTER: Duration = Duration::from_secs(4);
const _: () = assert!(ANSWER_WITHIN.as_secs() < GIVEN_UP_AFTER.as_secs());

/// Asks the store to open `room` as `offer`, in a task of its own: whoever knocked first may go away meanwhile. The
/// answer tells the end; it reaches the node's holdings before.
pub(super) fn start(
    node: &Arc<Node>,
    store: &Arc<dyn NodeStore>,
    metrics: &Arc<AgentMetrics>,
    room: &RoomKey,
    offer: Offer,
) -> watch::Receiver<OpeningEnd> {
    let (tell, told) = watch::channel(None);
    let (node, store, metrics, room) = (node.clone(), store.clone(), metrics.clone(), room.clone());
    let own = told.clone();
    tokio::spawn(async move {
        let (run, answer) = ask(&node, &store, &room, offer).await;
        let end = node.with(|state, now| {
            // After a lapse the room may be being opened again by now, which others wait for.
            if state.openings.get(&room).is_some_and(|current| current.same_channel(&own)) {
                state.openings.remove(&room);
            }
            match answer {
                // What was said of a run that is over says nothing of this one, in which others may have asked again.
                _ if state.run(room.bucket()) != run => Err(OpenFailure::NotDone),
                Ok(()) if state.holdings.opened(&room, offer, now) => Ok(()),
                // The lease lapsed meanwhile: what was opened is given up.
                Ok(()) => Err(OpenFailure::Unknown),
                Err(failure) => {
                    state.holdings.open_failed(&room, offer, failure);
                    Err(failure)
                }
            }
        });
        metrics.opened(end);
        // Nobody waits any more: then nobody need be told.
        let _ = tell.send(Some(end));
    });
    told
}

/// Asks the store; gives the run in which it was asked, too.
async fn ask(
    node: &Node,
    store: &Arc<dyn NodeStore>,
    room: &RoomKey,
    offer: Offer,
) -> (Option<Run>, Result<(), OpenFailure>) {
    let held = Held { room: room.clone(), incarnation: offer.incarnation, epoch: offer.epoch };
    let (holding, sent) = node.with(|state, now| (state.holding(&held), now));
    let Some(holding) = holding else { return (None, Err(OpenFailure::NotDone)) };
    let run = holding.run.clone();
    let answer = match timeout(ANSWER_WITHIN, store.open(holding)).await {
        Ok(Ok(Opened::Yes)) => Ok(()),
        Ok(Ok(Opened::No { .. })) => Err(OpenFailure::Refused),
        Ok(Ok(Opened::NewRun { run })) => {
            node.note_run(room.bucket(), run, sent);
            Err(OpenFailure::NotDone)
        }
        Ok(Err(error)) => {
            tracing::warn!(%room, error = %causes(&error), "the store did not open a room");
            Err(match error {
                StoreError::Unavailable { .. } | StoreError::Refused { .. } => OpenFailure::NotDone,
                StoreError::Unknown { .. } | StoreError::Corrupt { .. } => OpenFailure::Unknown,
            })
        }
        Err(_) => {
            tracing::warn!(%room, "the store took too long to open a room");
            Err(OpenFailure::Unknown)
        }
    };
    (Some(run), answer)
}
