//! Ends claims that have no holder any more: of processes that died, or were cut off for good, and whose rooms nobody has
//! looked up since. Else they would stay for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use roost_proto::id::{Incarnation, NodeId, RoomKey};
use roost_proto::room::Claim;
use roost_store::operation::{Holding, Released};
use tokio::time::{MissedTickBehavior, interval};

use super::Scheduler;

const EVERY: Duration = Duration::from_secs(5);

/// Looks for them until the process ends.
pub(crate) async fn end_all(scheduler: Arc<Scheduler>) {
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        scheduler.end_orphans().await;
    }
}

impl Scheduler {
    /// One scheduler does it for each bucket. Should two think that they are it, the second finds nothing left.
    async fn end_orphans(&self) {
        let orphans = self.view_mut().take_orphans();
        if orphans.is_empty() {
            return;
        }
        let Some(schedulers) = self.schedulers().await else { return };
        let mut of_holders: BTreeMap<(NodeId, Incarnation), Vec<(RoomKey, Claim)>> = BTreeMap::new();
        for (room, claim) in orphans.into_iter().filter(|(room, _)| self.is_ours(&[room.bucket()], &schedulers)) {
            of_holders.entry((claim.node.clone(), claim.incarnation)).or_default().push((room, claim));
        }
        for ((node, incarnation), claims) in of_holders {
            // Rule 12: we heard nothing for long, and the store says that the lease is over.
            if !self.is_over(&node, incarnation).await {
                continue;
            }
            let mut ended = 0;
            for (room, claim) in claims {
                let Claim { run, epoch, .. } = claim;
                let holding = Holding { room, run, node: node.clone(), incarnation, epoch };
                let released = self.store.release(holding).await;
                self.metrics.store_called("release", &released);
                match released {
                    Ok(Released::Yes) => ended += 1,
                    Ok(Released::NewRun { .. }) => {}
                    Err(error) => tracing::debug!(%error, "a claim without a holder could not be ended"),
                }
            }
            self.metrics.orphans_ended(ended);
            tracing::info!(%node, %incarnation, claims = ended, "claims are ended whose holder is gone");
        }
    }
}
