//! The use cases, one file each, over the state that they share.

mod close;
pub(crate) mod cluster;
mod cursor;
pub(crate) mod drain;
mod duty;
pub(crate) mod explain;
pub(crate) mod follow;
pub(crate) mod lookup;
pub(crate) mod nodes;
pub(crate) mod orphans;
pub(crate) mod read_room;
pub(crate) mod rebalance;
pub(crate) mod relocate;
pub(crate) mod rooms;
mod steering;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use roost_proto::error::{Code, Problem};
use roost_proto::id::NamespaceId;
use roost_scheduler_core::brake::BrakeSettings;
use roost_scheduler_core::view::View;
use roost_server::{AllowedOrigins, ClientAddress, ClusterKeys, Readiness, Shared};
use roost_store::Store;
use roost_store::operation::SchedulerEntry;
use tokio::sync::{Semaphore, watch};

use crate::clock::Clock;
use crate::decision_log::DecisionLog;
use crate::geo::Geo;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::record::Recorder;

/// How many lookups may wait for something at once; further ones are told to come again.
const MOST_WAITING: usize = 4_096;
/// Until the next look at whether a node has done what it is told again and again.
const URGING_PAUSE: Duration = Duration::from_millis(20);

/// One scheduler: what all its listeners and tasks share.
#[derive(Debug)]
pub(crate) struct Scheduler {
    /// This scheduler, as others know it.
    pub entry: SchedulerEntry,
    pub rules: Rules,
    pub geo: Geo,
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    pub metrics: Metrics,
    pub decisions: DecisionLog,
    pub kept: Kept,
    pub readiness: Readiness,
    /// Turns true when the process is told to end.
    pub stopping: watch::Receiver<bool>,
    view: RwLock<View>,
    /// Which store it is; empty before the first connection.
    store_identity: RwLock<String>,
    waiting: Semaphore,
    tickets: AtomicU64,
}

/// What is kept of what happens, where that is asked for.
#[derive(Debug)]
pub(crate) struct Kept {
    pub recorder: Option<Recorder>,
    pub ledger: Option<Ledger>,
}

/// What configuration says about requests.
#[derive(Debug)]
pub(crate) struct Rules {
    pub dev: bool,
    pub allow_unknown_namespaces: bool,
    /// Whether a refused connection may prove that an agent is dead.
    pub trust_refused: bool,
    pub brake: BrakeSettings,
    pub client_address: ClientAddress,
    pub origins: AllowedOrigins,
    pub keys: ClusterKeys,
    pub shared: Shared,
}

impl Scheduler {
    pub(crate) fn new(
        entry: SchedulerEntry,
        rules: Rules,
        geo: Geo,
        store: Arc<dyn Store>,
        kept: Kept,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let clock = Clock::new();
        let mut view = View::new(clock.now());
        view.set_brake(rules.brake);
        let metrics = Metrics::new();
        if let Some(ledger) = &kept.ledger {
            ledger.metrics.declare(&metrics.registry);
        }
        Self {
            entry,
            rules,
            geo,
            store,
            metrics,
            decisions: DecisionLog::default(),
            kept,
            readiness: Readiness::new(),
            stopping,
            view: RwLock::new(view),
            store_identity: RwLock::new(String::new()),
            waiting: Semaphore::new(MOST_WAITING),
            tickets: AtomicU64::new(0),
            clock,
        }
    }

    /// The view, to be read. Never held over an await.
    pub(crate) fn view(&self) -> RwLockReadGuard<'_, View> {
        // After a fold that panicked (a bug) the process ends; until then it answers from what is there.
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The view, to be changed. Never held over an await, and never for long: lookups wait.
    pub(crate) fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which store it is, as tickets say it.
    pub(crate) fn store_identity(&self) -> String {
        self.store_identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tickets say so from now on.
    pub(crate) fn set_store_identity(&self, identity: String) {
        if self.store_identity() != identity {
            *self.store_identity.write().unwrap_or_else(PoisonError::into_inner) = identity;
        }
    }

    /// The identity of the store, if this scheduler keeps it in its own memory: no other one may serve the same nodes.
    pub(crate) async fn own_store(&self) -> Option<String> {
        if self.store.kind() == "embedded" { self.store.identity().await.ok() } else { None }
    }

    /// Resolves when the process is told to end.
    pub(crate) async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        // Fails when the sender is gone: then it ends too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

impl Kept {
    /// Writes what is left.
    pub(crate) fn finish(&self) {
        if let Some(recorder) = &self.recorder {
            recorder.finish();
        }
        if let Some(ledger) = &self.ledger {
            ledger.finish();
        }
    }
}

impl Rules {
    /// Refuses a namespace that is not configured, if those are not allowed.
    pub(crate) fn check_namespace(&self, namespace: &NamespaceId) -> Result<(), Problem> {
        if self.allow_unknown_namespaces || self.shared.namespaces.has(namespace) {
            return Ok(());
        }
        let detail = format!("namespace {namespace}: expected one that is configured");
        Err(Problem::new(Code::NamespaceNotAllowed, detail))
    }
}
