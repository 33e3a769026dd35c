//! The store in the memory of one process: the specification itself behind a lock. For one scheduler and for tests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use tokio::sync::mpsc;

use roost_proto::command::Command;
use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Incarnation, NodeId, RoomKey};
use roost_proto::report::Report;
use roost_proto::room::{Claim, Expected, Run};

use crate::claim::{Bucket, DURATION_LIMIT_MS, Step};
use crate::contract::{NodeStore, Store};
use crate::dropped::DroppedReports;
use crate::error::StoreError;
use crate::nonce;
use crate::operation::{
    Assert, Asserted, Grant, Granted, HandOver, HandedOver, Holding, Lease, Leave, Opened, Prolonged, Purged, Raise,
    Raised, Register, Registered, Released, Renew, Renewed, SchedulerEntry, Steer, Steered,
};

/// How many events a watcher may be behind, besides the records that were there when it came.
pub const WATCH_CAPACITY: usize = 16_384;
/// How many commands a node may be behind.
pub const COMMAND_CAPACITY: usize = 256;
/// The most schedulers on the list.
pub const SCHEDULERS_KEPT: usize = 256;
/// How long a node's last report is kept after its lease, for watchers that come later.
pub const REPORT_KEPT_MS: u64 = 300_000;
/// What is absent anyway is forgotten once in this time.
const SWEEP_MS: u64 = 10_000;

/// The store's clock: ms since 1970. It should never be set back.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// A store that lives as long as this value. Each one is a run of its own.
pub struct EmbeddedStore {
    clock: Clock,
    state: Mutex<State>,
    dropped: DroppedReports,
}

#[derive(Debug)]
struct State {
    identity: String,
    buckets: Vec<Bucket>,
    reports: BTreeMap<NodeId, LastReport>,
    watchers: Vec<mpsc::Sender<Event>>,
    inboxes: Vec<Inbox>,
    schedulers: BTreeMap<String, Enlisted>,
    swept_ms: u64,
}

#[derive(Debug)]
struct LastReport {
    report: Report,
    until_ms: u64,
}

#[derive(Debug)]
struct Inbox {
    node: NodeId,
    incarnation: Incarnation,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
struct Enlisted {
    entry: SchedulerEntry,
    until_ms: u64,
}

impl Default for EmbeddedStore {
    fn default() -> Self {
        Self::new()
    }
}

impl EmbeddedStore {
    /// An empty store on this machine's clock: the time of day when it was made, then the monotonic clock.
    #[must_use]
    pub fn new() -> Self {
        let started = Instant::now();
        let day = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self::with_clock(Box::new(move || u64::try_from((day + started.elapsed()).as_millis()).unwrap_or(u64::MAX)))
    }

    /// An empty store on a clock of the caller's.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self { clock, state: Mutex::new(State::new()), dropped: DroppedReports::default() }
    }

    /// Begins a new run in every bucket, as a restart with the old data does. Watchers and commands end.
    pub fn restart(&self) {
        let mut state = self.state();
        for bucket in &mut state.buckets {
            bucket.begin(nonce::run());
        }
        state.watchers.clear();
        state.inboxes.clear();
    }

    /// Begins a new run and forgets everything, as a restart without the old data does. Watchers and commands end.
    pub fn wipe(&self) {
        *self.state() = State::new();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A step that panicked (a broken invariant) has not written yet, so the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step on one bucket; its event goes to all watchers before the next step.
    fn step<T>(&self, bucket: u8, step: impl FnOnce(&mut Bucket, u64) -> Step<T>) -> T {
        let mut state = self.state();
        let now = (self.clock)();
        state.sweep(now);
        let (answer, event) = step(state.bucket(bucket), now);
        if let Some(event) = event {
            state.publish(&event);
        }
        answer
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

impl State {
    /// Nothing, in a run that never was.
    fn new() -> Self {
        Self {
            identity: nonce::text(),
            buckets: (0..BUCKETS).map(|_| Bucket::new(nonce::run())).collect(),
            reports: BTreeMap::new(),
            watchers: Vec::new(),
            inboxes: Vec::new(),
            schedulers: BTreeMap::new(),
            swept_ms: 0,
        }
    }

    fn bucket(&mut self, bucket: u8) -> &mut Bucket {
        &mut self.buckets[usize::from(bucket % BUCKETS)]
    }

    /// A watcher that fell behind loses its channel.
    fn publish(&mut self, event: &Event) {
        self.watchers.retain(|watcher| watcher.try_send(event.clone()).is_ok());
    }

    fn sweep(&mut self, now: u64) {
        if now < self.swept_ms.saturating_add(SWEEP_MS) {
            return;
        }
        self.swept_ms = now;
        for bucket in &mut self.buckets {
            bucket.sweep(now);
        }
        self.reports.retain(|_, last| last.until_ms > now);
        self.schedulers.retain(|_, enlisted| enlisted.until_ms > now);
        self.inboxes.retain(|inbox| !inbox.commands.is_closed());
    }
}

#[async_trait]
impl NodeStore for EmbeddedStore {
    async fn runs(&self) -> Result<Vec<Run>, StoreError> {
        Ok(self.state().buckets.iter().map(|bucket| bucket.run().clone()).collect())
    }

    async fn identity(&self) -> Result<String, StoreError> {
        Ok(self.state().identity.clone())
    }

    async fn register(&self, register: Register) -> Result<Registered, StoreError> {
        Ok(self.step(register.node.bucket(), |bucket, now| (bucket.register(&register, now), None)))
    }

    async fn renew(&self, renew: Renew) -> Result<Renewed, StoreError> {
        let mut state = self.state();
        let now = (self.clock)();
        let mut answer = state.bucket(renew.report.node.bucket()).renew(&renew, now);
        if let Renewed::Yes { runs, .. } = &mut answer {
            let run = |bucket: &u8| (*bucket, state.bucket(*bucket).run().clone());
            *runs = Some(renew.asked().iter().map(run).collect());
        }
        if let Renewed::Yes { steering, .. } = answer
            && self.dropped.check(&renew.report).is_ok()
        {
            let mut report = renew.report;
            if let Some(steering) = steering {
                report.steer(steering);
            }
            state.publish(&Event::Reported(Box::new(report.clone())));
            let until_ms = now + report.lease_ms.min(DURATION_LIMIT_MS) + REPORT_KEPT_MS;
            state.reports.insert(report.node.clone(), LastReport { report, until_ms });
        }
        Ok(answer)
    }

    async fn open(&self, holding: Holding) -> Result<Opened, StoreError> {
        Ok(self.step(holding.room.bucket(), |bucket, now| bucket.open(&holding, now)))
    }

    async fn assert(&self, assert: Assert) -> Result<Asserted, StoreError> {
        Ok(self.step(assert.held.room.bucket(), |bucket, now| bucket.assert(&assert, now)))
    }

    async fn release(&self, holding: Holding) -> Result<Released, StoreError> {
        Ok(self.step(holding.room.bucket(), |bucket, now| bucket.release(&holding, now)))
    }

    async fn hand_over(&self, hand_over: HandOver) -> Result<HandedOver, StoreError> {
        Ok(self.step(hand_over.held.room.bucket(), |bucket, now| bucket.hand_over(&hand_over, now)))
    }

    async fn raise(&self, raise: Raise) -> Result<Raised, StoreError> {
        Ok(self.step(raise.bucket, |bucket, _| (bucket.raise(&raise), None)))
    }

    async fn leave(&self, leave: Leave) -> Result<(), StoreError> {
        let mut state = self.state();
        let now = (self.clock)();
        let ((), left) = state.bucket(leave.node.bucket()).leave(&leave, now);
        let Some(left) = left else { return Ok(()) };
        state.publish(&left);
        if state.reports.get(&leave.node).is_some_and(|last| last.report.incarnation == leave.incarnation) {
            state.reports.remove(&leave.node);
        }
        Ok(())
    }

    async fn commands(&self, node: &NodeId, incarnation: Incarnation) -> Result<mpsc::Receiver<Command>, StoreError> {
        let (commands, receiver) = mpsc::channel(COMMAND_CAPACITY);
        self.state().inboxes.push(Inbox { node: node.clone(), incarnation, commands });
        Ok(receiver)
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerEntry>, StoreError> {
        let state = self.state();
        let now = (self.clock)();
        let living = state.schedulers.values().filter(|enlisted| enlisted.until_ms > now);
        Ok(living.map(|enlisted| enlisted.entry.clone()).collect())
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    async fn grant(&self, grant: Grant) -> Result<Granted, StoreError> {
        Ok(self.step(grant.room.bucket(), |bucket, now| bucket.grant(&grant, now)))
    }

    async fn prolong(&self, room: &RoomKey, claim: &Claim, ttl_ms: u64) -> Result<Prolonged, StoreError> {
        Ok(self.step(room.bucket(), |bucket, now| bucket.prolong(room, claim, ttl_ms, now)))
    }

    async fn read(&self, room: &RoomKey) -> Result<Option<Claim>, StoreError> {
        Ok(self.step(room.bucket(), |bucket, now| (bucket.read(room, now).cloned(), None)))
    }

    async fn leases(&self, node: &NodeId) -> Result<Vec<Lease>, StoreError> {
        Ok(self.step(node.bucket(), |bucket, now| (bucket.leases(node, now), None)))
    }

    async fn steer(&self, steer: Steer) -> Result<Steered, StoreError> {
        Ok(self.step(steer.node.bucket(), |bucket, now| bucket.steer(&steer, now)))
    }

    async fn purge(&self, node: &NodeId, run: &Run) -> Result<Purged, StoreError> {
        let mut state = self.state();
        let now = (self.clock)();
        let (answer, purged) = state.bucket(node.bucket()).purge(node, run, now);
        if let Some(purged) = purged {
            state.reports.remove(node);
            state.publish(&purged);
        }
        Ok(answer)
    }

    async fn now_ms(&self) -> Result<u64, StoreError> {
        Ok((self.clock)())
    }

    async fn watch(&self) -> Result<mpsc::Receiver<Event>, StoreError> {
        let mut state = self.state();
        let now = (self.clock)();
        state.sweep(now);
        let mut events = Vec::new();
        for bucket in &state.buckets {
            events.extend(bucket.claims(now).map(|(key, claim, ttl_ms)| Event::Claimed {
                key: key.clone(),
                claim: claim.clone(),
                ttl_ms,
                expected: Expected::default(),
                handed_over: false,
            }));
        }
        let last = state.reports.values().filter(|last| last.until_ms > now);
        events.extend(last.map(|last| {
            let mut report = last.report.clone();
            let wanted = state.buckets[usize::from(report.node.bucket())].steering(&report.node, now);
            report.steer_by_later(wanted);
            Event::Reported(Box::new(report))
        }));
        let (watcher, receiver) = mpsc::channel(events.len() + WATCH_CAPACITY);
        for event in events {
            watcher.try_send(event).expect("the channel was made large enough for all of them");
        }
        state.watchers.push(watcher);
        Ok(receiver)
    }

    fn dropped_reports(&self) -> &DroppedReports {
        &self.dropped
    }

    async fn send(&self, node: &NodeId, command: Command) -> Result<(), StoreError> {
        let mut state = self.state();
        // An agent that fell behind, or is gone, loses its channel and subscribes again.
        state.inboxes.retain(|inbox| {
            let is_addressed = inbox.node == *node && inbox.incarnation == command.incarnation;
            !is_addressed || inbox.commands.try_send(command.clone()).is_ok()
        });
        Ok(())
    }

    async fn enlist(&self, entry: SchedulerEntry, ttl_ms: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        let until_ms = (self.clock)() + ttl_ms.min(DURATION_LIMIT_MS);
        if state.schedulers.len() < SCHEDULERS_KEPT || state.schedulers.contains_key(&entry.id) {
            state.schedulers.insert(entry.id.clone(), Enlisted { entry, until_ms });
        }
        Ok(())
    }
}
