//! The store in Redis 7 (or Valkey): the specification as Lua scripts, one slot and one round trip each.
//!
//! README.md of the package lists the commands that an ACL user needs.

mod attempt;
mod cluster;
mod commands;
mod eviction;
mod keys;
mod lately;
mod reach;
mod record;
mod refusal;
mod script;
mod session;
mod settings;
mod shard;
mod snapshot;
mod steering;
mod tail;
mod takeover;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use redis::{Cmd, Value};
use tokio::sync::mpsc;

use roost_proto::command::Command;
use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation, NUMBER_LIMIT, NodeId, RoomKey};
use roost_proto::room::{Claim, ClaimState, Run};
use roost_proto::steer::Steering;

use crate::claim::DURATION_LIMIT_MS;
use crate::contract::{NodeStore, Store};
use crate::dropped::DroppedReports;
use crate::embedded::{REPORT_KEPT_MS, SCHEDULERS_KEPT};
use crate::error::StoreError;
use crate::operation::{
    Assert, Asserted, Grant, Granted, HandOver, HandedOver, Holding, Lease, Leave, Opened, Prolonged, Purged, Raise,
    Raised, Register, Registered, Released, Renew, Renewed, Right, SchedulerEntry, Steer, Steered,
};
use script::{SCRIPTS, Script};
use session::Sessions;

pub use settings::{InvalidSetting, RedisSettings};

/// What a script answers first.
const YES: i64 = 1;
const NO: i64 = 0;
/// Has what is not of one room or node, see [`keys`].
const FIRST_BUCKET: u8 = 0;

/// A store in Redis. Nothing is sent before the first call.
#[derive(Debug)]
pub struct RedisStore {
    sessions: Arc<Sessions>,
}

/// A script's answer: yes or no with what follows, or that the bucket is in another run.
enum Answer {
    Yes(Vec<Value>),
    No(Vec<Value>),
    NewRun(Run),
}

impl RedisStore {
    /// A store at `url`: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…` or `unix:///PATH`;
    /// `redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/MASTER[/DB]` or `redis+cluster://[USER:PASSWORD@]HOST[:PORT],…`,
    /// with TLS `rediss+sentinel://…`, `rediss+cluster://…`.
    pub fn new(url: &str, settings: &RedisSettings) -> Result<Self, InvalidSetting> {
        let place = settings.place(url)?;
        let keys = keys::Keys::new(&settings.prefix);
        let sessions = Sessions::new(place, keys, settings.timeout, settings.connections);
        Ok(Self { sessions: Arc::new(sessions) })
    }

    /// A script that compares the run and answers with a list.
    async fn ask(&self, bucket: u8, command: &Cmd) -> Result<Answer, StoreError> {
        let Value::Array(mut values) = self.sessions.call(bucket, command).await? else {
            return Err(strange("no list"));
        };
        let rest = if values.is_empty() { Vec::new() } else { values.split_off(1) };
        match values.first() {
            Some(Value::Int(YES)) => Ok(Answer::Yes(rest)),
            Some(Value::Int(NO)) => Ok(Answer::No(rest)),
            Some(Value::Int(_)) => Ok(Answer::NewRun(self.sessions.renewed_run(bucket).await?)),
            _ => Err(strange("no number first")),
        }
    }

    /// The call of a script on one room.
    fn on_room(&self, script: &Script, room: &RoomKey, key: &str, run: &Run) -> Cmd {
        let bucket = self.sessions.keys.bucket(room.bucket());
        let mut call = script.call(&[&bucket.meta, key, &bucket.claims]);
        call.arg(&*run.0);
        call
    }
}

#[async_trait]
impl NodeStore for RedisStore {
    async fn runs(&self) -> Result<Vec<Run>, StoreError> {
        Ok(self.sessions.life().await?.runs)
    }

    async fn identity(&self) -> Result<String, StoreError> {
        Ok(self.sessions.life().await?.identity)
    }

    async fn register(&self, register: Register) -> Result<Registered, StoreError> {
        let bucket = register.node.bucket();
        let keys = &self.sessions.keys;
        let mut call = SCRIPTS.register.call(&[
            &keys.bucket(bucket).meta,
            &keys.lease(&register.node),
            &keys.steering(&register.node),
        ]);
        let after = if register.after.0 < NUMBER_LIMIT { register.after.0 } else { 0 };
        let lease_ms = register.lease_ms.min(DURATION_LIMIT_MS);
        call.arg(&*register.run.0).arg(&register.process).arg(after).arg(lease_ms);
        Ok(match self.ask(bucket, &call).await? {
            Answer::Yes(rest) => Registered::Yes {
                incarnation: Incarnation(number(&rest, 0)?),
                store_ms: number(&rest, 1)?,
                steering: steering::answered(&rest, 2)?,
            },
            Answer::No(rest) => Registered::Taken { until_store_ms: number(&rest, 0)? },
            Answer::NewRun(run) => Registered::NewRun { run },
        })
    }

    async fn renew(&self, renew: Renew) -> Result<Renewed, StoreError> {
        let report = &renew.report;
        let (bucket, buckets) = (report.node.bucket(), renew.asked());
        let keys = &self.sessions.keys;
        let fixed = keys.bucket(bucket);
        let (lease, last, steer) = (keys.lease(&report.node), keys.report(&report.node), keys.steering(&report.node));
        let text = serde_json::to_string(report)
            .map_err(|error| StoreError::Unavailable { reason: format!("the report cannot be written: {error}") })?;
        let lease_ms = report.lease_ms.min(DURATION_LIMIT_MS);
        let mut call = SCRIPTS.renew.call(&[&fixed.meta, &lease, &last, &fixed.reports, &steer]);
        call.arg(&*renew.run.0).arg(report.incarnation.0).arg(lease_ms).arg(text).arg(lease_ms + REPORT_KEPT_MS);
        let steering = report.steering.filter(Steering::is_possible);
        call.arg(Steering::plan_of(steering)).arg(steering::text(steering.as_ref())?);
        let asked = self.ask(bucket, &call);
        let (answer, runs) = tokio::join!(asked, self.sessions.going_on(&buckets));
        Ok(match answer? {
            Answer::Yes(rest) => Renewed::Yes {
                store_ms: number(&rest, 0)?,
                steering: steering::answered(&rest, 1)?,
                runs: Some(runs.unwrap_or_else(|| self.sessions.known(&buckets))),
            },
            Answer::No(_) => Renewed::Lapsed,
            Answer::NewRun(run) => Renewed::NewRun { run },
        })
    }

    async fn open(&self, holding: Holding) -> Result<Opened, StoreError> {
        let key = self.sessions.keys.room(&holding.room);
        let mut call = self.on_room(&SCRIPTS.open, &holding.room, &key, &holding.run);
        call.arg(record::of_holding(&holding, ClaimState::Granted));
        call.arg(record::of_holding(&holding, ClaimState::Open));
        Ok(match self.ask(holding.room.bucket(), &call).await? {
            Answer::Yes(_) => Opened::Yes,
            Answer::No(rest) => Opened::No { current: record::current(&key, text(&rest, 0)?, &holding.run.0)? },
            Answer::NewRun(run) => Opened::NewRun { run },
        })
    }

    async fn assert(&self, assert: Assert) -> Result<Asserted, StoreError> {
        let held = &assert.held;
        let key = self.sessions.keys.room(&held.room);
        let wanted = Holding { incarnation: assert.incarnation, ..held.clone() };
        let mut call = self.on_room(&SCRIPTS.assert, &held.room, &key, &held.run);
        call.arg(record::of_holding(held, ClaimState::Open)).arg(record::of_holding(&wanted, ClaimState::Open));
        call.arg(held.epoch.0).arg(record::ending(ClaimState::Open, &held.node, assert.incarnation));
        call.arg(match assert.right {
            Right::Sure => "s",
            Right::Provisional => "p",
            Right::Confirming => "c",
        });
        Ok(match self.ask(held.room.bucket(), &call).await? {
            Answer::Yes(rest) => Asserted::Yes { epoch: Epoch(number(&rest, 0)?), provisional: number(&rest, 1)? == 1 },
            Answer::No(rest) => Asserted::No { current: record::current(&key, text(&rest, 0)?, &held.run.0)? },
            Answer::NewRun(run) => Asserted::NewRun { run },
        })
    }

    async fn release(&self, holding: Holding) -> Result<Released, StoreError> {
        let key = self.sessions.keys.room(&holding.room);
        let mut call = self.on_room(&SCRIPTS.release, &holding.room, &key, &holding.run);
        call.arg(record::of_holding(&holding, ClaimState::Granted));
        call.arg(record::of_holding(&holding, ClaimState::Open)).arg(holding.epoch.0);
        Ok(match self.ask(holding.room.bucket(), &call).await? {
            Answer::Yes(_) | Answer::No(_) => Released::Yes,
            Answer::NewRun(run) => Released::NewRun { run },
        })
    }

    async fn hand_over(&self, hand_over: HandOver) -> Result<HandedOver, StoreError> {
        let HandOver { held, to, to_incarnation, ttl_ms, expected } = hand_over;
        let key = self.sessions.keys.room(&held.room);
        let mut call = self.on_room(&SCRIPTS.hand_over, &held.room, &key, &held.run);
        call.arg(record::of_holding(&held, ClaimState::Open)).arg(held.epoch.0);
        call.arg(record::ending(ClaimState::Granted, &to, to_incarnation));
        call.arg(record::ending(ClaimState::Open, &to, to_incarnation));
        call.arg(ttl_ms.clamp(1, DURATION_LIMIT_MS)).arg(format!("{} {}", expected.participants, expected.hint));
        Ok(match self.ask(held.room.bucket(), &call).await? {
            Answer::Yes(rest) => HandedOver::Yes { epoch: Epoch(number(&rest, 0)?) },
            Answer::No(rest) => HandedOver::No { current: record::current(&key, text(&rest, 0)?, &held.run.0)? },
            Answer::NewRun(run) => HandedOver::NewRun { run },
        })
    }

    async fn raise(&self, raise: Raise) -> Result<Raised, StoreError> {
        let mut call = SCRIPTS.raise.call(&[&self.sessions.keys.bucket(raise.bucket).meta]);
        call.arg(&*raise.run.0).arg(raise.epoch.0);
        Ok(match self.ask(raise.bucket, &call).await? {
            Answer::Yes(_) | Answer::No(_) => Raised::Yes,
            Answer::NewRun(run) => Raised::NewRun { run },
        })
    }

    async fn leave(&self, leave: Leave) -> Result<(), StoreError> {
        let keys = &self.sessions.keys;
        let fixed = keys.bucket(leave.node.bucket());
        let (lease, last) = (keys.lease(&leave.node), keys.report(&leave.node));
        let mut call = SCRIPTS.leave.call(&[&fixed.meta, &lease, &last, &fixed.reports]);
        call.arg(&*leave.run.0).arg(leave.incarnation.0).arg(leave.node.as_str());
        self.sessions.call(leave.node.bucket(), &call).await.map(drop)
    }

    async fn commands(&self, node: &NodeId, incarnation: Incarnation) -> Result<mpsc::Receiver<Command>, StoreError> {
        commands::subscribe(&self.sessions, node, incarnation).await
    }

    fn replaced_ms(&self) -> u64 {
        self.sessions.replaced_ms()
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerEntry>, StoreError> {
        let keys = &self.sessions.keys;
        let call = SCRIPTS.schedulers.call(&[&keys.schedulers]);
        let Value::Array(values) = self.sessions.call(FIRST_BUCKET, &call).await? else {
            return Err(strange("no list"));
        };
        let parse = |index| {
            serde_json::from_str(text(&values, index)?)
                .map_err(|error| StoreError::Corrupt { key: keys.schedulers.clone(), reason: error.to_string() })
        };
        (0..values.len()).map(parse).collect()
    }
}

#[async_trait]
impl Store for RedisStore {
    fn kind(&self) -> &'static str {
        "redis"
    }

    async fn grant(&self, grant: Grant) -> Result<Granted, StoreError> {
        let key = self.sessions.keys.room(&grant.room);
        let mut call = self.on_room(&SCRIPTS.grant, &grant.room, &key, &grant.run);
        call.arg(grant.seen.as_ref().map(record::of_claim).unwrap_or_default());
        call.arg(record::ending(ClaimState::Granted, &grant.node, grant.incarnation));
        call.arg(grant.ttl_ms.clamp(1, DURATION_LIMIT_MS));
        call.arg(format!("{} {}", grant.expected.participants, grant.expected.hint));
        Ok(match self.ask(grant.room.bucket(), &call).await? {
            Answer::Yes(rest) => Granted::Yes { epoch: Epoch(number(&rest, 0)?), store_ms: number(&rest, 1)? },
            Answer::No(rest) => Granted::No { current: record::current(&key, text(&rest, 0)?, &grant.run.0)? },
            Answer::NewRun(run) => Granted::NewRun { run },
        })
    }

    async fn prolong(&self, room: &RoomKey, claim: &Claim, ttl_ms: u64) -> Result<Prolonged, StoreError> {
        let key = self.sessions.keys.room(room);
        let granted = if claim.state == ClaimState::Granted { record::of_claim(claim) } else { "-".to_owned() };
        let mut call = self.on_room(&SCRIPTS.prolong, room, &key, &claim.run);
        call.arg(granted).arg(record::of_claim(&Claim { state: ClaimState::Open, ..claim.clone() }));
        call.arg(ttl_ms.clamp(1, DURATION_LIMIT_MS));
        Ok(match self.ask(room.bucket(), &call).await? {
            Answer::Yes(_) => Prolonged::Yes,
            Answer::No(rest) => Prolonged::No { current: record::current(&key, text(&rest, 0)?, &claim.run.0)? },
            Answer::NewRun(run) => Prolonged::NewRun { run },
        })
    }

    async fn read(&self, room: &RoomKey) -> Result<Option<Claim>, StoreError> {
        let key = self.sessions.keys.room(room);
        let call = SCRIPTS.read.call(&[&self.sessions.keys.bucket(room.bucket()).meta, &key]);
        let Value::Array(values) = self.sessions.call(room.bucket(), &call).await? else {
            return Err(strange("no list"));
        };
        record::current(&key, text(&values, 1)?, text(&values, 0)?)
    }

    async fn leases(&self, node: &NodeId) -> Result<Vec<Lease>, StoreError> {
        let keys = &self.sessions.keys;
        let call = SCRIPTS.leases.call(&[&keys.bucket(node.bucket()).meta, &keys.lease(node)]);
        let Value::Array(values) = self.sessions.call(node.bucket(), &call).await? else {
            return Err(strange("no list"));
        };
        let mut leases = Vec::with_capacity(values.len() / 2);
        for pair in values.chunks_exact(2) {
            let [Value::Int(incarnation), Value::Int(deadline)] = pair else {
                return Err(strange("no pair of numbers"));
            };
            let incarnation = Incarnation(u64::try_from(*incarnation).map_err(|_| strange("a negative incarnation"))?);
            let lease = Lease { incarnation, until_store_ms: deadline.unsigned_abs(), lapsed: *deadline < 0 };
            leases.push(lease);
        }
        leases.sort_by_key(|lease| lease.incarnation);
        Ok(leases)
    }

    async fn steer(&self, steer: Steer) -> Result<Steered, StoreError> {
        steering::steer(self, steer).await
    }

    async fn purge(&self, node: &NodeId, run: &Run) -> Result<Purged, StoreError> {
        steering::purge(self, node, run).await
    }

    async fn now_ms(&self) -> Result<u64, StoreError> {
        let Value::Array(values) = self.sessions.call(FIRST_BUCKET, &redis::cmd("TIME")).await? else {
            return Err(strange("no list"));
        };
        let part = |index| text(&values, index)?.parse::<u64>().map_err(|_| strange("no time"));
        Ok(part(0)? * 1_000 + part(1)? / 1_000)
    }

    async fn watch(&self) -> Result<mpsc::Receiver<Event>, StoreError> {
        let (buckets, events) = watch::watch_some(&self.sessions).await?;
        if buckets.len() < usize::from(BUCKETS) {
            return Err(StoreError::Unavailable { reason: "a part of the store is away".to_owned() });
        }
        Ok(events)
    }

    async fn watch_some(&self) -> Result<(Vec<u8>, mpsc::Receiver<Event>), StoreError> {
        watch::watch_some(&self.sessions).await
    }

    fn dropped_reports(&self) -> &DroppedReports {
        &self.sessions.dropped
    }

    async fn send(&self, node: &NodeId, command: Command) -> Result<(), StoreError> {
        let text = serde_json::to_string(&command)
            .map_err(|error| StoreError::Unavailable { reason: format!("the command cannot be written: {error}") })?;
        let mut call = SCRIPTS.send.call(&[&self.sessions.keys.commands(node)]);
        call.arg(text);
        self.sessions.call(node.bucket(), &call).await.map(drop)
    }

    async fn enlist(&self, entry: SchedulerEntry, ttl_ms: u64) -> Result<(), StoreError> {
        let text = serde_json::to_string(&entry)
            .map_err(|error| StoreError::Unavailable { reason: format!("the entry cannot be written: {error}") })?;
        let mut call = SCRIPTS.enlist.call(&[&self.sessions.keys.schedulers]);
        call.arg(entry.id).arg(text).arg(ttl_ms.min(DURATION_LIMIT_MS)).arg(SCHEDULERS_KEPT);
        self.sessions.call(FIRST_BUCKET, &call).await.map(drop)
    }
}

fn number(values: &[Value], index: usize) -> Result<u64, StoreError> {
    match values.get(index) {
        Some(Value::Int(number)) => u64::try_from(*number).map_err(|_| strange("a negative number")),
        _ => Err(strange("no number")),
    }
}

fn text(values: &[Value], index: usize) -> Result<&str, StoreError> {
    match values.get(index) {
        Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).map_err(|_| strange("no UTF-8")),
        _ => Err(strange("no text")),
    }
}

/// An answer of a shape that our scripts do not give.
fn strange(found: &str) -> StoreError {
    StoreError::Unknown { reason: format!("an answer of unexpected shape: {found}") }
}
