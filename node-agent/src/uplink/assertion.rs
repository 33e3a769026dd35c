//! Asserts the node's rooms again after a lapse, or in a new run of the store, and confirms what it could assert only
//! provisionally (rules 9 and 16 to 20).

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use roost_agent_core::hold::{Held, Hold, Offer};
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation};
use roost_proto::room::Run;
use roost_proto::time::Millis;
use roost_store::operation::{Assert, Asserted, Raise, Right};
use roost_store::{NodeStore, StoreError};

use super::lost;
use super::pace::Pace;
use crate::clock;
use crate::door::lookup::Directory;
use crate::inside::Inside;
use crate::metrics::AgentMetrics;
use crate::node::{Node, State};
use roost_server::telemetry::causes;

/// How many are on their way at once.
const AT_ONCE: usize = 16;
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A grace that ends is looked at again not sooner than this.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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

/// What became of an assertion.
#[derive(Debug)]
enum Outcome {
    /// The room is this node's, or provisionally so.
    Held {
        epoch: Epoch,
        provisional: bool,
    },
    /// It is another's.
    Lost(Hold),
    /// The answer says nothing of the room as it stands; if it is still wanted it is asserted again.
    Again,
    NewRun,
    Failed(StoreError),
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
            // A grace may stand still, with little of it left.
            Some(ms) => drop(timeout(Duration::from_millis(ms).max(LOOK_AGAIN), wanted).await),
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
        let (sent, bucket) = (clock::now(), ask.held.room.bucket());
        let answer = timeout(ANSWER_WITHIN, self.store.assert(ask.asked.clone())).await;
        let answer = answer.unwrap_or_else(|_| Err(StoreError::Unknown { reason: "no answer in time".to_owned() }));
        let held = &ask.held;
        match self.node.with(|state, now| settle(state, &ask, answer, sent, now)) {
            Outcome::Held { epoch, provisional } => {
                if ask.asked.right != Right::Confirming {
                    self.metrics.rooms_asserted.inc();
                }
                tracing::info!(room = %held.room, before = %held.epoch, %epoch, provisional, "the room is this node's again");
            }
            Outcome::Lost(hold) => {
                self.metrics.rooms_lost.inc();
                self.send_away(held, &hold).await;
            }
            Outcome::NewRun => {
                tracing::debug!(bucket, "the bucket's run is another one");
                self.node.assert_wanted.notify_one();
                self.node.report_wanted.notify_one();
            }
            Outcome::Again => {}
            Outcome::Failed(error) => {
                tracing::debug!(room = %held.room, error = %causes(&error), "the store did not take an assertion");
            }
        }
    }

    /// The room is another node's: its participants go there.
    async fn send_away(&self, held: &Held, hold: &Hold) {
        let (room, inside) = (&held.room, &*self.inside);
        if lost::send_home(&self.node.id, &*self.directory, inside, room, hold).await.is_err() {
            lost::send_away(inside, room, hold);
        }
    }
}

/// Takes the answer to an assertion in, in the same moment in which its run is compared: what was said of a run that is
/// over says nothing of this one, and the room is asserted again.
fn settle(state: &mut State, ask: &Ask, answer: Result<Asserted, StoreError>, sent: Millis, now: Millis) -> Outcome {
    let Ask { held, asked } = ask;
    let bucket = held.room.bucket();
    if state.runs.get(bucket) != Some(&asked.held.run) {
        return Outcome::Again;
    }
    match answer {
        Ok(Asserted::Yes { epoch, provisional }) => {
            // A scheduler that does not know the question gives the old epoch as to a node that never lapsed.
            let provisional = provisional || (asked.right == Right::Provisional && epoch == held.epoch);
            let offer = Offer { incarnation: asked.incarnation, epoch };
            state.holdings.asserted(held, offer, provisional, &state.lease, sent);
            Outcome::Held { epoch, provisional }
        }
        // It may be this node's all the same, by an assertion whose answer was lost. It is asserted anew.
        Ok(Asserted::No { current }) => match state.open_here(current.as_ref()) {
            Some(current) if state.holdings.found(held, current, &state.lease) => Outcome::Again,
            _ => state.holdings.lost(held).map_or(Outcome::Again, Outcome::Lost),
        },
        Ok(Asserted::NewRun { run }) => {
            state.note_run(bucket, run, now);
            Outcome::NewRun
        }
        Err(error) => Outcome::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use roost_agent_core::hold::State as HoldState;
    use roost_proto::hash::BUCKETS;
    use roost_proto::id::{NodeId, RoomKey};

    use super::*;

    #[test]
    fn an_answer_of_a_run_that_is_over_leaves_the_room_to_be_asserted() {
        for answer in [
            Asserted::Yes { epoch: Epoch(10), provisional: false },
            Asserted::No { current: None },
            Asserted::NewRun { run: Run("first".into()) },
        ] {
            let (mut state, ask) = wanted(Right::Sure);
            state.note_run(room().bucket(), Run("third".into()), Millis(20));
            let before = state.holdings.get(&room()).cloned();
            assert!(matches!(settle(&mut state, &ask, Ok(answer), Millis(10), Millis(30)), Outcome::Again));
            assert_eq!(state.holdings.get(&room()).cloned(), before);
            assert_eq!(state.run(room().bucket()), Some(Run("third".into())));
        }
    }

    #[test]
    fn a_lapsed_node_waits_also_if_a_scheduler_does_not_know_of_provisional_assertions() {
        let (mut state, ask) = wanted(Right::Provisional);
        let old = |epoch| Ok(Asserted::Yes { epoch: Epoch(epoch), provisional: false });
        let outcome = settle(&mut state, &ask, old(10), Millis(10), Millis(10));
        assert!(matches!(outcome, Outcome::Held { provisional: true, .. }), "{outcome:?}");
        let hold = |state: &State| state.holdings.get(&room()).map(|hold| (hold.state, hold.epoch));
        assert_eq!(hold(&state), Some((HoldState::Provisional, Epoch(10))));
        // It confirms, and such a scheduler gives no other epoch.
        let held = state.holdings.provisional().next().expect("it is provisional");
        let asked = Assert { held: state.holding(&held).expect("known"), right: Right::Confirming, ..ask.asked };
        let ask = Ask { held, asked };
        settle(&mut state, &ask, old(10), Millis(6_000), Millis(6_000));
        assert_eq!(hold(&state), Some((HoldState::Open, Epoch(10))));
        // With an epoch of its own it is confirmed already.
        let (mut state, ask) = wanted(Right::Provisional);
        settle(&mut state, &ask, old(11), Millis(10), Millis(10));
        assert_eq!(hold(&state), Some((HoldState::Open, Epoch(11))));
    }

    /// A node whose room is to be asserted in the run `second`, and how it asks.
    fn wanted(right: Right) -> (State, Ask) {
        let node = Node::new(NodeId::new("fra-1").expect("valid"), 4_000);
        let offer = Offer { incarnation: Incarnation(1), epoch: Epoch(10) };
        node.with(|state, _| {
            let runs = |run: &str| vec![Run(run.into()); usize::from(BUCKETS)];
            state.note_runs(runs("first"), Millis(0));
            state.lease.registered(offer.incarnation, 0, Millis(0), Millis(0));
            state.holdings.begin_open(&room(), offer, Millis(0));
            assert!(state.holdings.opened(&room(), offer, Millis(0)));
            assert!(state.note_runs(runs("second"), Millis(5)));
        });
        let mut state = node.into_state();
        state.lease.registered(Incarnation(2), 0, Millis(6), Millis(6));
        let held = state.holdings.wanted().pop().expect("it is to be asserted");
        let asked = Assert { held: state.holding(&held).expect("known"), incarnation: Incarnation(2), right };
        (state, Ask { held, asked })
    }

    fn room() -> RoomKey {
        RoomKey::new("default", "standup").expect("valid")
    }
}
