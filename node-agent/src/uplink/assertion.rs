//! Asserts the node's rooms again after a lapse, or in a new run of the store, and confirms what it could assert only
//! provisionally (rules 9 and 16 to 20).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, FuturesUnordered, StreamExt};
use tokio::time::{sleep, timeout};

use roost_agent_core::hold::{self, Held, Hold, Offer};
use roost_agent_core::lease::spread_ms;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation};
use roost_proto::room::Run;
use roost_proto::time::Millis;
use roost_store::operation::{Assert, Asserted, Raise, Right};
use roost_store::{NodeStore, StoreError};

use super::lost::LostRooms;
use super::pace::{Pace, random};
use crate::clock;
use crate::metrics::AgentMetrics;
use crate::node::{Node, State};
use roost_server::telemetry::causes;

/// How many of one bucket are on their way at once.
const AT_ONCE: usize = 4;
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A grace that ends is looked at again not sooner than this.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Asserts what is wanted.
#[derive(Debug)]
pub(crate) struct Assertion {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<dyn NodeStore>,
    pub(crate) lost: LostRooms,
    pub(crate) metrics: Arc<AgentMetrics>,
}

/// The incarnation for which a bucket's highest epoch was posted, and the run in which it was.
type Mark = (Incarnation, Run);

/// One bucket of the store. Each goes its own way: one that cannot be reached holds up no other.
#[derive(Debug)]
struct Part {
    bucket: u8,
    raised: Option<Mark>,
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
    pub(crate) async fn run(self) {
        let mut idle: Vec<Part> = (0..BUCKETS).map(|bucket| Part { bucket, raised: None }).collect();
        let mut busy = FuturesUnordered::new();
        loop {
            let asked: BTreeSet<u8> = self.asks().iter().map(|ask| ask.held.room.bucket()).collect();
            let is_due = |part: &mut Part| asked.contains(&part.bucket) || self.to_raise(part).is_some();
            busy.extend(idle.extract_if(.., is_due).map(|part| self.assert_in(part)));
            tokio::select! {
                Some(part) = busy.next() => idle.push(part),
                () = self.until_wanted() => {}
            }
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

    /// Asserts the rooms of one bucket, until nothing is left or nothing can be done before the next registration.
    async fn assert_in(&self, mut part: Part) -> Part {
        if self.to_raise(&part).is_some() {
            sleep(self.spread(&part)).await;
        }
        let mut pace = Pace::default();
        while !self.assert_once(&mut part).await {
            sleep(pace.next()).await;
        }
        part
    }

    /// How long to wait, so that not all nodes come at the moment in which the store is back. Rooms whose doors are closed
    /// until their grace is over have time.
    fn spread(&self, part: &Part) -> Duration {
        let left_ms = self.node.with(|state, now| {
            let wanted = state.holdings.iter().filter(|(room, _)| room.bucket() == part.bucket);
            let left = wanted.filter_map(|(_, hold)| match hold.state {
                hold::State::Wanted { .. } if hold.lapsed => Some(u64::MAX),
                hold::State::Wanted { until } => Some(until.since(now)),
                _ => None,
            });
            left.min().unwrap_or(0)
        });
        Duration::from_millis(spread_ms(random(), left_ms))
    }

    /// Asks once for each room of a bucket, after its highest epoch was posted. True if nothing is left.
    async fn assert_once(&self, part: &mut Part) -> bool {
        if let Some((mark, raise)) = self.to_raise(part) {
            if !self.raise(raise).await {
                return false;
            }
            part.raised = Some(mark);
        }
        let asks = || self.asks().into_iter().filter(|ask| ask.held.room.bucket() == part.bucket).collect::<Vec<_>>();
        stream::iter(asks()).for_each_concurrent(AT_ONCE, |ask| self.assert(ask)).await;
        asks().is_empty() && self.to_raise(part).is_none()
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

    /// The highest epoch that this node knows of a bucket, if it is still to be posted before anything is asserted there
    /// (rule 20).
    fn to_raise(&self, part: &Part) -> Option<(Mark, Raise)> {
        let bucket = part.bucket;
        self.node.with(|state, _| {
            let epoch = Some(state.holdings.highest_epoch(bucket)).filter(|epoch| *epoch > Epoch(0))?;
            let mark = (state.lease.incarnation()?, state.run(bucket)?);
            let raise = Raise { bucket, run: mark.1.clone(), epoch };
            (part.raised.as_ref() != Some(&mark)).then_some((mark, raise))
        })
    }

    async fn raise(&self, raise: Raise) -> bool {
        match timeout(ANSWER_WITHIN, self.store.raise(raise)).await {
            // A new run is learned of with the next call that needs it.
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::debug!(error = %causes(&error), "the store did not take an epoch");
                false
            }
            Err(_) => false,
        }
    }

    async fn assert(&self, ask: Ask) {
        let (sent, bucket) = (clock::now(), ask.held.room.bucket());
        let answer = timeout(ANSWER_WITHIN, self.store.assert(ask.asked.clone())).await;
        let answer = answer.unwrap_or_else(|_| Err(StoreError::Unknown { reason: "no answer in time".to_owned() }));
        match self.node.with(|state, now| settle(state, &ask, answer, sent, now)) {
            Outcome::Held { epoch, provisional } => {
                if ask.asked.right != Right::Confirming {
                    self.metrics.rooms_asserted.inc();
                }
                tracing::info!(room = %ask.held.room, before = %ask.held.epoch, %epoch, provisional, "the room is this node's again");
            }
            Outcome::Lost(hold) => {
                self.metrics.rooms_lost.inc();
                self.lost.send_home(ask.held.room, hold, 1);
            }
            Outcome::NewRun => {
                tracing::debug!(bucket, "the bucket's run is another one");
                self.node.assert_wanted.notify_one();
                self.node.report_wanted.notify_one();
            }
            Outcome::Again => {}
            Outcome::Failed(error) => {
                tracing::debug!(room = %ask.held.room, error = %causes(&error), "the store did not take an assertion");
            }
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
            state.note_run(bucket, run, sent, now);
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
            state.note_run(room().bucket(), Run("third".into()), Millis(20), Millis(20));
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
            state.note_runs(runs("first"), Millis(0), Millis(0));
            state.lease.registered(offer.incarnation, 0, Millis(0), Millis(0));
            state.holdings.begin_open(&room(), offer, Millis(0));
            assert!(state.holdings.opened(&room(), offer, Millis(0)));
            assert!(state.note_runs(runs("second"), Millis(5), Millis(5)));
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
