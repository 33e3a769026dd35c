//! Asserts the node's rooms again after a lapse, or in a new run of the store, and confirms what it could assert only
//! provisionally (rules 9 and 16 to 20).

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use roost_agent_core::hold::{Held, Hold, Offer};
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation};
use roost_proto::room::{Claim, ClaimState, Run};
use roost_store::NodeStore;
use roost_store::operation::{Assert, Asserted, Raise, Right};

use super::lost;
use super::pace::Pace;
use crate::clock;
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

/// A room, and what the store is asked about it.
struct Ask {
    held: Held,
    asked: Assert,
}

impl Assertion {
    /// Asserts whenever there is something to assert, for ever.
    pub(crate) async fn run(mut self) {
        let mut pace = Pace::default();
        loop {
            self.until_wanted().await;
            while !self.assert_all().await {
                sleep(pace.next()).await;
            }
            pace.reset();
        }
    }

    /// Until there is something to assert, or the grace of a provisional assertion is over.
    async fn until_wanted(&self) {
        let replaced_ms = self.store.replaced_ms();
        let confirm_in_ms = self.node.with(|state, now| state.confirm_in_ms(replaced_ms, now));
        let wanted = self.node.assert_wanted.notified();
        match confirm_in_ms {
            Some(ms) => drop(timeout(Duration::from_millis(ms), wanted).await),
            None => wanted.await,
        }
    }

    /// Asks once for each room. True if nothing is left, or nothing can be done before the next registration.
    async fn assert_all(&mut self) -> bool {
        let (is_registered, raised) = self.node.with(|state, _| {
            let incarnation = state.lease.incarnation();
            (incarnation.is_some(), incarnation.map(|incarnation| (incarnation, state.runs.all())))
        });
        if !is_registered {
            return true;
        }
        if self.raised != raised {
            if !self.raise_all().await {
                return false;
            }
            self.raised = raised;
        }
        let asks = self.asks();
        let this = &*self;
        stream::iter(asks).for_each_concurrent(AT_ONCE, |ask| this.assert(ask)).await;
        self.asks().is_empty()
    }

    /// What is to be asked at this moment.
    fn asks(&self) -> Vec<Ask> {
        let replaced_ms = self.store.replaced_ms();
        self.node.with(|state, now| {
            let Some(incarnation) = state.lease.incarnation() else { return Vec::new() };
            let right = |held: &Held| match state.holdings.get(&held.room) {
                Some(hold) if hold.lapsed => Right::Provisional,
                _ => Right::Sure,
            };
            let wanted = state.holdings.wanted().into_iter().map(|held| (right(&held), held));
            let due = state.to_confirm(replaced_ms, now).into_iter().map(|held| (Right::Confirming, held));
            let ask = |(right, held): (Right, Held)| {
                let asked = Assert { held: state.holding(&held)?, incarnation, right };
                Some(Ask { held, asked })
            };
            wanted.chain(due).filter_map(ask).collect()
        })
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

    async fn assert(&self, ask: Ask) {
        let Ask { held, asked } = ask;
        let (run, right, incarnation) = (asked.held.run.clone(), asked.right, asked.incarnation);
        let bucket = held.room.bucket();
        let sent = clock::now();
        let answer = timeout(ANSWER_WITHIN, self.store.assert(asked)).await;
        if self.node.with(|state, _| state.run(bucket)) != Some(run) {
            // Of a run that is over: it is asked again in the next one.
            return;
        }
        match answer {
            Ok(Ok(Asserted::Yes { epoch, provisional })) => {
                let offer = Offer { incarnation, epoch };
                self.node.with(|state, _| state.holdings.asserted(&held, offer, provisional, &state.lease, sent));
                if right != Right::Confirming {
                    self.metrics.rooms_asserted.inc();
                }
                tracing::info!(room = %held.room, before = %held.epoch, %epoch, provisional, "the room is this node's again");
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
                self.node.note_run(bucket, run);
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
