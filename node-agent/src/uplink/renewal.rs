//! The beat of the agent: takes the node's lease, and renews it with each report.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use roost_agent_core::cadence::Cadence;
use roost_agent_core::lease::{Standing, renew_timeout_ms};
use roost_agent_core::sample::SHORTEST_MS;
use roost_proto::id::Incarnation;
use roost_proto::report::Report;
use roost_proto::room::Run;
use roost_proto::time::Millis;
use roost_server::Readiness;
use roost_server::telemetry::causes;
use roost_store::operation::{Register, Registered, Renew, Renewed};
use roost_store::{NodeStore, StoreError};

use super::pace::{Pace, random};
use crate::clock;
use crate::error::AgentError;
use crate::metrics::AgentMetrics;
use crate::node::{Node, State};
use crate::report::Reporter;

/// The store ends a slow call itself; this is for one that does not.
const SLACK: Duration = Duration::from_millis(250);
/// How often a lease that another process holds is looked at: it ends, or is renewed.
const TAKEN_AGAIN: Duration = Duration::from_millis(500);
/// While the store refuses connections each attempt renews the lease, so they must not grow rare. Half of it to one and a
/// half, so that the nodes do not all find it back in the same moment.
const REFUSED_AGAIN_MS: u64 = 500;

/// Keeps the node's lease for as long as it runs.
#[derive(Debug)]
pub(crate) struct Renewal {
    /// Whether a store that refuses connections counts as one that nobody can write to (rule 14).
    pub(crate) trust_refused: bool,
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<dyn NodeStore>,
    pub(crate) reporter: Reporter,
    pub(crate) metrics: Arc<AgentMetrics>,
    pub(crate) readiness: Readiness,
    /// Tells this process from all others.
    pub(crate) process: String,
}

/// Why one turn did not succeed.
enum Trouble {
    Store(StoreError),
    /// Another process has the lease, until then on the store's clock.
    Taken(u64),
    /// What is known of the store is old; look again.
    Changed,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Renewal {
    /// Registers and reports for ever, whatever happens to the store. Ends only if another process has this node's id.
    pub(crate) async fn run(mut self) -> AgentError {
        let mut pace = Pace::default();
        let mut trouble = None;
        let mut taken_until: Option<u64> = None;
        // The first report says what the machine does already: a busy one must not look idle.
        self.reporter.sample(clock::now());
        sleep(Duration::from_millis(SHORTEST_MS)).await;
        loop {
            match self.turn().await {
                Ok(()) => {
                    if trouble.take().is_some() {
                        tracing::info!("the store answers again");
                    }
                    self.readiness.set("store", "answers");
                    pace.reset();
                    taken_until = None;
                }
                Err(Trouble::Changed) => sleep(pace.next()).await,
                Err(Trouble::Store(error)) => {
                    self.tell(&error, &mut trouble);
                    let replaced_ms = self.store.replaced_ms();
                    self.node.with(|state, _| state.runs.unheard(state.lease.lease_ms(), replaced_ms));
                    let refused = matches!(error, StoreError::Refused { .. });
                    sleep(if refused { refused_again() } else { pace.next() }).await;
                    if let Err(error) = self.reconnect().await {
                        self.tell(&error, &mut trouble);
                    }
                }
                // One that ends by itself was the last run's of this node, killed a moment ago.
                Err(Trouble::Taken(until)) if taken_until.is_none_or(|before| until <= before) => {
                    if taken_until.is_none() {
                        tracing::warn!(node = %self.node.id, "another process holds the node's lease: waiting whether it renews it");
                    }
                    taken_until = Some(until);
                    sleep(TAKEN_AGAIN).await;
                }
                Err(Trouble::Taken(_)) => return AgentError::NodeIdTaken { node: self.node.id.clone() },
            }
        }
    }

    /// One registration, or one report when it is due.
    async fn turn(&mut self) -> Result<(), Trouble> {
        match self.check() {
            None => self.register().await,
            Some(incarnation) => {
                self.until_due().await;
                match self.check() {
                    Some(current) if current == incarnation => self.report(incarnation).await,
                    _ => Err(Trouble::Changed),
                }
            }
        }
    }

    /// Sees whether the lease is over by the node's own clock, and tells everybody how it stands.
    fn check(&self) -> Option<Incarnation> {
        let (over, standing, incarnation) =
            self.node.with(|state, now| (state.check_lease(now), state.lease.standing(now), state.lease.incarnation()));
        if let Some(over) = over {
            tracing::warn!(incarnation = %over, "the lease was not renewed for its whole length: it counts as lapsed");
        }
        let text = match standing {
            Standing::None => "none",
            Standing::Held => "held",
            Standing::Fenced => "fenced",
        };
        self.readiness.set("lease", text);
        self.node.incarnation.send_if_modified(|known| std::mem::replace(known, incarnation) != incarnation);
        incarnation
    }

    async fn until_due(&self) {
        let wait_ms = self.node.with(|state, now| {
            let due = state.cadence.poll_timeout();
            let due = state.lease.poll_timeout().map_or(due, |over| due.min(over));
            due.since(now)
        });
        tokio::select! {
            () = sleep(Duration::from_millis(wait_ms)) => {}
            () = self.node.report_wanted.notified() => {}
        }
    }

    /// Makes a new connection where one is needed, and learns the runs of the store (rule 1).
    async fn reconnect(&self) -> Result<(), StoreError> {
        let noted = self.learn_runs().await;
        self.node.assert_wanted.notify_one();
        if noted? {
            tracing::warn!("the store begins a new run: the lease is taken anew");
        }
        Ok(())
    }

    /// True if the lease is void by a new run.
    async fn learn_runs(&self) -> Result<bool, StoreError> {
        let sent = clock::now();
        let runs = self.store.runs().await?;
        Ok(self.node.with(|state, now| state.note_runs(runs, sent, now)))
    }

    /// Says what is wrong with the store, when that is something else than the last time.
    fn tell(&self, error: &StoreError, trouble: &mut Option<String>) {
        let text = causes(error);
        self.readiness.set("store", text.clone());
        if trouble.as_ref() != Some(&text) {
            tracing::warn!(error = text, "the store does not answer");
            *trouble = Some(text);
        }
    }

    async fn register(&mut self) -> Result<(), Trouble> {
        self.learn_runs().await?;
        let identity = self.within(self.store.identity()).await?;
        let (register, sent) = self.node.with(|state, now| {
            let register = state.own_run().map(|run| Register {
                node: self.node.id.clone(),
                run,
                process: self.process.clone(),
                after: state.lease.last_incarnation(),
                lease_ms: state.lease.lease_ms(),
            });
            (register, now)
        });
        let register = register.ok_or(Trouble::Changed)?;
        let run = register.run.clone();
        match self.within(self.store.register(register)).await? {
            Registered::Yes { incarnation, store_ms, steering } => {
                self.node.with(|state, _| {
                    state.note_store(identity);
                    state.steer(steering);
                });
                self.registered(&run, incarnation, store_ms, sent)
            }
            Registered::Taken { until_store_ms } => Err(Trouble::Taken(until_store_ms)),
            Registered::NewRun { run } => {
                self.node.with(|state, now| state.note_own_run(run, sent, now));
                Err(Trouble::Changed)
            }
        }
    }

    fn registered(&self, run: &Run, incarnation: Incarnation, store_ms: u64, sent: Millis) -> Result<(), Trouble> {
        let (is_new, wanted) = self.node.with(|state, now| {
            if state.own_run().as_ref() != Some(run) {
                // A newer run was heard of meanwhile: what was given in the old one is void (rule 2).
                return Err(Trouble::Changed);
            }
            let is_new = state.lease.registered(incarnation, store_ms, sent, now);
            if is_new {
                state.cadence = Cadence::new(now);
            }
            Ok((is_new, state.holdings.wanted().len()))
        })?;
        if is_new {
            tracing::info!(node = %self.node.id, %incarnation, wanted, "the node has its lease");
            self.metrics.incarnations.inc();
            self.readiness.set_ready(true);
            self.check();
            self.node.assert_wanted.notify_one();
        }
        Ok(())
    }

    async fn report(&mut self, incarnation: Incarnation) -> Result<(), Trouble> {
        let sample = self.reporter.sample(clock::now());
        self.metrics.skipped(&sample.skipped);
        let (renew, sent) = self.node.with(|state, now| {
            state.host = sample.host;
            let report: Report = self.reporter.compose(state, incarnation, sample, now);
            (state.own_run().map(|run| Renew { run, report, buckets: state.holdings.buckets() }), now)
        });
        let renew = renew.ok_or(Trouble::Changed)?;
        self.metrics.observe_report(&renew.report.host, &renew.report.workers, renew.report.streams);
        let answer = match self.within(self.store.renew(renew)).await {
            Err(StoreError::Refused { reason }) if !self.trust_refused => Err(StoreError::Unavailable { reason }),
            answer => answer,
        };
        self.check();
        let took = Duration::from_millis(clock::now().since(sent));
        let (result, outcome, is_steered) = self.node.with(|state, now| {
            let plan = state.steering;
            let (result, outcome) = settle(state, incarnation, answer, sent, now);
            (result, outcome, state.steering != plan)
        });
        if is_steered {
            // Whoever steered the node waits for its word.
            self.node.report_wanted.notify_one();
        }
        if result == "new_run_elsewhere" {
            tracing::warn!("a part of the store begins a new run: the node asserts its rooms there");
            self.node.assert_wanted.notify_one();
        }
        self.metrics.reported(result, took);
        if matches!(result, "lapsed" | "new_run") {
            tracing::warn!(%incarnation, result, "the lease is over: the node takes a new one, and asserts its rooms");
            self.check();
        }
        outcome
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let most = self.node.with(|state, _| renew_timeout_ms(state.lease.lease_ms()));
        let silent = || StoreError::Unknown { reason: "no answer in time".to_owned() };
        timeout(Duration::from_millis(most) + SLACK, call).await.unwrap_or_else(|_| Err(silent()))
    }
}

fn refused_again() -> Duration {
    Duration::from_millis(REFUSED_AGAIN_MS / 2 + random() % REFUSED_AGAIN_MS)
}

/// Takes the answer to a report in.
fn settle(
    state: &mut State,
    incarnation: Incarnation,
    answer: Result<Renewed, StoreError>,
    sent: Millis,
    now: Millis,
) -> (&'static str, Result<(), Trouble>) {
    if matches!(answer, Ok(Renewed::Yes { .. })) {
        state.cadence.answered();
    } else {
        state.cadence.failed(now);
    }
    match answer {
        Ok(Renewed::Yes { store_ms, steering, runs }) => {
            state.lease.renewed(incarnation, store_ms, sent, now);
            let is_new = state.runs.renewed(runs, sent, &mut state.lease, &mut state.holdings, now);
            if state.steer(steering) {
                tracing::info!(mode = ?state.mode(), drain = ?steering.and_then(|told| told.drain), "an operator steers the node");
            }
            (if is_new { "new_run_elsewhere" } else { "ok" }, Ok(()))
        }
        Ok(Renewed::Lapsed) => {
            state.lapsed(incarnation);
            ("lapsed", Ok(()))
        }
        Ok(Renewed::NewRun { run }) => {
            state.note_own_run(run, sent, now);
            ("new_run", Ok(()))
        }
        Err(error @ StoreError::Refused { .. }) => {
            state.runs.refused(incarnation, sent, &mut state.lease, &mut state.holdings, now);
            ("refused", Err(Trouble::Store(error)))
        }
        Err(error) => ("failed", Err(Trouble::Store(error))),
    }
}
