//! Gives up the claims of rooms that ended, until the store has answered for each (rule 10).

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use roost_agent_core::hold::Held;
use roost_store::NodeStore;
use roost_store::operation::Released;

use super::parts::each_apart;
use crate::node::Node;
use roost_server::telemetry::causes;

/// How many are on their way at once; of one bucket, unless the process ends.
const AT_ONCE: usize = 16;
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Gives up what is to be given up, for ever.
pub(crate) async fn run(node: Arc<Node>, store: Arc<dyn NodeStore>) {
    let pending = || node.with(|state, _| state.holdings.releases());
    let due = || pending().iter().map(|held| held.room.bucket()).collect();
    let give_up = async |bucket| {
        let in_bucket = || pending().into_iter().filter(|held| held.room.bucket() == bucket).collect::<Vec<_>>();
        release_each(&node, &store, in_bucket()).await;
        in_bucket().is_empty()
    };
    each_apart(&node.release_wanted, due, give_up).await;
}

/// Asks once for each. True if nothing is left.
pub(crate) async fn release_all(node: &Arc<Node>, store: &Arc<dyn NodeStore>) -> bool {
    release_each(node, store, node.with(|state, _| state.holdings.releases())).await;
    node.with(|state, _| state.holdings.releases_len() == 0)
}

async fn release_each(node: &Arc<Node>, store: &Arc<dyn NodeStore>, pending: Vec<Held>) {
    stream::iter(pending).for_each_concurrent(AT_ONCE, |held| release(node, store, held)).await;
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
