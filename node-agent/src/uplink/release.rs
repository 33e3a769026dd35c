//! Gives up the claims of rooms that ended, until the store has answered for each (rule 10).

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use roost_agent_core::hold::Held;
use roost_store::NodeStore;
use roost_store::operation::Released;

use super::pace::Pace;
use crate::node::Node;
use roost_server::telemetry::causes;

/// How many are on their way at once.
const AT_ONCE: usize = 16;
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Gives up what is to be given up, for ever.
pub(crate) async fn run(node: Arc<Node>, store: Arc<dyn NodeStore>) {
    let mut pace = Pace::default();
    loop {
        node.release_wanted.notified().await;
        while !release_all(&node, &store).await {
            sleep(pace.next()).await;
        }
        pace.reset();
    }
}

/// Asks once for each. True if nothing is left.
pub(crate) async fn release_all(node: &Arc<Node>, store: &Arc<dyn NodeStore>) -> bool {
    let pending = node.with(|state, _| state.holdings.releases());
    let asked = stream::iter(pending).for_each_concurrent(AT_ONCE, |held| release(node, store, held));
    asked.await;
    node.with(|state, _| state.holdings.releases_len() == 0)
}

/// Asks once.
pub(crate) async fn release(node: &Arc<Node>, store: &Arc<dyn NodeStore>, held: Held) {
    let (holding, sent) = node.with(|state, now| (state.holding(&held), now));
    let Some(holding) = holding else { return };
    match timeout(ANSWER_WITHIN, store.release(holding)).await {
        Ok(Ok(Released::Yes)) => {
            node.with(|state, _| state.holdings.released(&held));
            tracing::debug!(room = %held.room, epoch = %held.epoch, "released");
        }
        Ok(Ok(Released::NewRun { run })) => {
            node.note_run(held.room.bucket(), run, sent);
        }
        Ok(Err(error)) => {
            tracing::debug!(room = %held.room, error = %causes(&error), "the store did not take a release");
        }
        Err(_) => tracing::debug!(room = %held.room, "the store took too long to take a release"),
    }
}
