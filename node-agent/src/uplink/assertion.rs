//! Asserts the node's rooms again after a lapse, or in a new run of the store (rules 9 and 16 to 20).

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use roost_agent_core::hold::{Held, Hold, Offer};
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation};
use roost_proto::room::{Claim, ClaimState, Run};
use roost_store::NodeStore;
use roost_store::operation::{Assert, Asserted, Raise};

use super::lost;
use super::pace::Pace;
use crate::door::lookup::Directory;
use crate::inside::Inside;
use crate::metrics::AgentMetrics;
use crate::node::Node;
use roost_server::telemetry::causes;

/// How many are on their way at once.
const AT_ONCE: usize = 16;
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Asserts what is wanted.
#[derive(Debug)]
pub(crate) struct Assertion {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<dyn NodeStore>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) inside: Arc<dyn Inside>,
    pub(crate) metrics: Arc<AgentMetrics>,
    /// The incarnation for which the highest epochs were posted, and the runs in which they were.
    pub(crate) raised: Option<(Incarnation, Vec<Run>)>,
}

impl Assertion {
    /// Asserts whenever there is something to assert, for ever.
    pub(crate) async fn run(mut self) {
        let mut pace = Pace::default();
        loop {
            self.node.assert_wanted.notified().await;
            while !self.assert_all().await {
                sleep(pace.next()).await;
            }
            pace.reset();
        }
    }

    /// Asks once for each room. True if nothing is left, or nothing can be done before the next registration.
    async fn assert_all(&mut self) -> bool {
        let (wanted, incarnation) = self.node.with(|state, _| (state.holdings.wanted(), state.lease.incarnation()));
        let Some(incarnation) = incarnation else { return true };
        let runs = self.node.with(|state, _| state.runs().to_vec());
        if self.raised.as_ref() != Some(&(incarnation, runs.clone())) {
            if !self.raise_all().await {
                return false;
            }
            self.raised = Some((incarnation, runs));
        }
        let this = &*self;
        stream::iter(wanted).for_each_concurrent(AT_ONCE, |held| this.assert(held, incarnation)).await;
        self.node.with(|state, _| state.holdings.wanted().is_empty())
    }

    /// Posts the highest epoch that this node knows of each bucket, before anything is asserted there (rule 20).
    async fn raise_all(&self) -> bool {
        let raises: Vec<Raise> = self.node.with(|state, _| {
            let known = |bucket: u8| (state.holdings.highest_epoch(bucket), state.run(bucket));
            let raise = |bucket: u8| match known(bucket) {
                (epoch, Some(run)) if epoch > Epoch(0) => Some(Raise { bucket, run, epoch }),
                _ => None,
            };
            (0..BUCKETS).filter_map(raise).collect()
        });
        for raise in raises {
            match timeout(ANSWER_WITHIN, self.store.raise(raise)).await {
                // A new run is learned of with the next call that needs it.
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = %causes(&error), "the store did not take an epoch");
                    return false;
                }
                Err(_) => return false,
            }
        }
        true
    }

    async fn assert(&self, held: Held, incarnation: Incarnation) {
        let Some(holding) = self.node.with(|state, _| state.holding(&held)) else { return };
        let asked = self.store.assert(Assert { held: holding, incarnation });
        match timeout(ANSWER_WITHIN, asked).await {
            Ok(Ok(Asserted::Yes { epoch })) => {
                let offer = Offer { incarnation, epoch };
                self.node.with(|state, _| state.holdings.asserted(&held, offer, &state.lease));
                self.metrics.rooms_asserted.inc();
                tracing::info!(room = %held.room, before = %held.epoch, %epoch, "the room is this node's again");
            }
            Ok(Ok(Asserted::No { current })) => {
                if self.is_found(&held, current.as_ref()) {
                    return;
                }
                if let Some(hold) = self.node.with(|state, _| state.holdings.lost(&held)) {
                    self.metrics.rooms_lost.inc();
                    self.send_away(&held, &hold).await;
                }
            }
            Ok(Ok(Asserted::NewRun { run })) => {
                self.node.note_run(held.room.bucket(), run);
            }
            Ok(Err(error)) => {
                tracing::debug!(room = %held.room, error = %causes(&error), "the store did not take an assertion");
            }
            Err(_) => tracing::debug!(room = %held.room, "the store took too long to take an assertion"),
        }
    }

    /// Whether the room is this node's all the same, by an assertion whose answer was lost. It is asserted anew.
    fn is_found(&self, held: &Held, current: Option<&Claim>) -> bool {
        let open = current.filter(|claim| claim.node == self.node.id && claim.state == ClaimState::Open);
        open.is_some_and(|claim| {
            let current = Offer { incarnation: claim.incarnation, epoch: claim.epoch };
            self.node.with(|state, _| state.holdings.found(held, current, &state.lease))
        })
    }

    /// The room is another node's: its participants go there.
    async fn send_away(&self, held: &Held, hold: &Hold) {
        let (room, inside) = (&held.room, &*self.inside);
        if lost::send_home(&self.node.id, &*self.directory, inside, room, hold).await.is_err() {
            lost::send_away(inside, room, hold);
        }
    }
}
