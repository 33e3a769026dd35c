//! What an operator wants of a node is written into the store, which tells the node and all schedulers.

use std::time::Duration;

use roost_proto::admin::{DrainRequest, DrainView, NodeState, NodeView};
use roost_proto::command::Action;
use roost_proto::error::{Code, Problem};
use roost_proto::event::Event;
use roost_proto::id::{Incarnation, NodeId};
use roost_proto::mode::Mode;
use roost_proto::steer::{DrainState, Steering};
use roost_scheduler_core::drain::Word;
use roost_scheduler_core::node::Node;
use roost_scheduler_core::stuck::Stuck;
use roost_store::StoreError;
use roost_store::operation::{Purged, Steer, Steered};

use super::Scheduler;
use crate::error::unknown_node;

/// How often a plan is made anew because another one came in between.
const ATTEMPTS: usize = 5;
/// How long an answer waits for the node at most.
const SAFE_WITHIN_MS: u64 = 2_500;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Scheduler {
    /// Sets a node's mode. `draining` is a drain with the defaults, any other takes a drain back that runs.
    pub(crate) async fn set_mode(&self, id: &NodeId, mode: Mode) -> Result<NodeView, Problem> {
        let deadline_store_ms = self.deadline_store_ms(&DrainRequest::default());
        self.steer(id, Word::Mode { mode, deadline_store_ms }).await?;
        self.node(id)
    }

    /// Starts a drain, or gives the one that runs another deadline.
    pub(crate) async fn drain(&self, id: &NodeId, wanted: &DrainRequest) -> Result<DrainView, Problem> {
        let deadline_store_ms = self.deadline_store_ms(wanted);
        self.steer(id, Word::Drain { move_rooms: wanted.move_rooms, deadline_store_ms }).await?;
        self.drain_of(id).await
    }

    /// How far a node's drain has come, and, if it runs, which of its rooms could not be moved.
    pub(crate) async fn drain_of(&self, id: &NodeId) -> Result<DrainView, Problem> {
        let mut drain = self.node(id)?.drain.ok_or_else(|| no_drain(id))?;
        if drain.state == DrainState::Running {
            let mut stuck = Stuck::of(id.clone());
            while !stuck.look_on(&self.view(), &self.rules.shared.namespaces, self.clock.now()) {
                tokio::task::yield_now().await;
            }
            drain.stuck = Some(stuck.counts());
        }
        Ok(drain)
    }

    /// Takes a drain back: the node has the mode that it had before.
    pub(crate) async fn cancel_drain(&self, id: &NodeId) -> Result<DrainView, Problem> {
        self.steer(id, Word::Cancel).await?;
        self.drain_of(id).await
    }

    /// Finishes a drain, if its plan is still this one, be it that its node is `lost`.
    pub(super) async fn finish_drain(&self, id: &NodeId, plan: u64, lost: bool) -> Result<bool, Problem> {
        self.steer(id, Word::Finish { plan, lost }).await.map(|written| written.is_some())
    }

    /// Forgets a node that is lost, both in our own eyes and by the store's word (rule 12).
    pub(crate) async fn purge(&self, id: &NodeId) -> Result<NodeView, Problem> {
        for _ in 0..ATTEMPTS {
            let node = self.node(id)?;
            self.check_lost(id)?;
            let run = self.view().grace.run(id.bucket()).cloned().ok_or_else(unreachable)?;
            let purged = self.store.purge(id, &run).await;
            self.metrics.store_called("purge", &purged);
            match purged.map_err(|error| failed(id, &error))? {
                Purged::Yes => {
                    self.view_mut().apply(Event::Purged { node: id.clone() }, self.clock.now());
                    tracing::warn!(node = %id, "a lost node was purged by the operator");
                    return Ok(node);
                }
                Purged::Held { until_store_ms } => {
                    let left_ms = until_store_ms.saturating_sub(self.clock.store_now_ms());
                    let detail = format!("node {id}: its lease holds for another {left_ms} ms unless it is renewed");
                    return Err(Problem::new(Code::NodeNotLost, detail));
                }
                Purged::NewRun { run } => drop(self.view_mut().see_run(id.bucket(), &run, self.clock.now())),
            }
        }
        Err(unreachable())
    }

    fn check_lost(&self, id: &NodeId) -> Result<(), Problem> {
        let (view, now) = (self.view(), self.clock.now());
        let Some(node) = view.node(id) else { return Err(unknown_node(id, &view, now)) };
        if view.state(node, now) != NodeState::Lost {
            let detail = format!("node {id}: it was heard of {} ms ago, less than a lease", now.since(node.seen()));
            return Err(Problem::new(Code::NodeNotLost, detail));
        }
        if !view.has_heard_all(id.bucket(), now) {
            let detail = format!("node {id}: this scheduler has not listened for a full lease yet");
            return Err(Problem::new(Code::NodeNotLost, detail));
        }
        Ok(())
    }

    /// Writes what the word makes of the plan that is there, nothing if that is nothing; gives what was written.
    async fn steer(&self, id: &NodeId, word: Word) -> Result<Option<Steering>, Problem> {
        let mut found: Option<(u64, Option<Steering>)> = None;
        for _ in 0..ATTEMPTS {
            let (known, run) = {
                let view = self.view();
                let Some(node) = view.node(id) else { return Err(unknown_node(id, &view, self.clock.now())) };
                (node.report.steering, view.grace.run(id.bucket()).cloned().ok_or_else(unreachable)?)
            };
            let (seen_plan, seen) = found.unwrap_or((Steering::plan_of(known), known));
            let Some((mode, drain)) = word.wanted(seen.as_ref()) else { return Ok(None) };
            let steered = self.store.steer(Steer { node: id.clone(), run, seen_plan, mode, drain }).await;
            self.metrics.store_called("steer", &steered);
            match steered.map_err(|error| failed(id, &error))? {
                Steered::Yes { steering } => {
                    self.has_steered(id, steering).await;
                    return Ok(Some(steering));
                }
                Steered::No { current } => {
                    self.view_mut().apply(Event::Steered { node: id.clone(), steering: current }, self.clock.now());
                    found = Some((current.plan, Some(current)));
                }
                Steered::Unreadable { plan } => {
                    tracing::warn!(node = %id, plan, "a plan that a later version wrote is replaced");
                    found = Some((plan, None));
                }
                Steered::NewRun { run } => drop(self.view_mut().see_run(id.bucket(), &run, self.clock.now())),
            }
        }
        Err(Problem::new(Code::Unfinished, format!("node {id}: others keep changing what is wanted of it")))
    }

    /// The answer must show it. The node is told to report, and hears of it with the answer; else it would within a second.
    async fn has_steered(&self, id: &NodeId, steering: Steering) {
        let drain = steering.drain.map(|drain| drain.state);
        tracing::info!(node = %id, mode = steering.mode.as_str(), ?drain, plan = steering.plan, "a node is steered");
        self.view_mut().apply(Event::Steered { node: id.clone(), steering }, self.clock.now());
        let node = self.view().node(id).map(|node| (node.report.incarnation, node.report.seq));
        if let Some((incarnation, seq)) = node {
            self.command(id, incarnation, Action::ReportAll).await;
            self.until_it_is_safe(id, incarnation, seq).await;
        }
    }

    /// A plan in this process's own memory is lost with it as long as the node does not know it either: the report after the
    /// next one tells that it has had the answer to that.
    async fn until_it_is_safe(&self, id: &NodeId, incarnation: Incarnation, seq: u64) {
        let asked = self.clock.now();
        let waits = |node: &Node| {
            let is_silent = node.state == NodeState::Lost || node.report.incarnation != incarnation;
            !is_silent && node.report.seq < seq + 2
        };
        while self.store.kind() == "embedded"
            && self.clock.now().since(asked) < SAFE_WITHIN_MS
            && self.view().node(id).is_some_and(waits)
        {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn deadline_store_ms(&self, wanted: &DrainRequest) -> u64 {
        self.clock.store_now_ms().saturating_add(wanted.deadline_s.saturating_mul(1_000))
    }
}

fn no_drain(id: &NodeId) -> Problem {
    Problem::new(Code::DrainNotFound, format!("node {id}: it was never drained, or its mode was set since"))
}

/// What a call that the store did not answer is to the operator.
fn failed(id: &NodeId, error: &StoreError) -> Problem {
    let code = match error {
        StoreError::Unavailable { .. } | StoreError::Refused { .. } => Code::StoreUnavailable,
        StoreError::Unknown { .. } => Code::Unfinished,
        StoreError::Corrupt { .. } => Code::Internal,
    };
    Problem::new(code, format!("node {id}: {error}"))
}

fn unreachable() -> Problem {
    Problem::new(Code::StoreUnavailable, "the shared store does not answer")
}
