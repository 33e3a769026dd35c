//! The store: the specification of ownership, and what a server around it may do: restart, be emptied, or come back old.

use std::collections::{BTreeMap, BTreeSet};

use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::report::Report;
use roost_proto::room::{Claim, Expected, Run};
use roost_proto::steer::Steering;
use roost_proto::time::Millis;
use roost_store::claim::{Bucket, Step};
use roost_store::operation::{Asserted, NodeAnswer, NodeOperation, Renewed};

use crate::message::{Ask, Body, Said};
use crate::wire::{Place, Wire};

const CLOCK_BEGINS_MS: u64 = 1_700_000_000_000;
/// A watcher finds out within this time that nothing comes any more.
const DEAF_MS: u64 = 2_000;

/// A scheduler that is not heard of for so long is not there.
const ENLISTED_MS: u64 = 5_000;

/// How the store's data ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// A restart with all data.
    Nothing,
    /// An earlier copy comes back.
    Latest,
    Everything,
}

/// Whether the store can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    Refuses,
    Silent,
}

/// The store's server.
#[derive(Debug)]
pub(crate) struct Store {
    buckets: Vec<Bucket>,
    copy: Vec<Bucket>,
    reports: BTreeMap<NodeId, Report>,
    watchers: Vec<Watcher>,
    runs: u64,
    life: u64,
    /// Requests that came while it listened, and those that it refused. A refused one was never sent, so that no copy of it
    /// comes later, nor is a copy refused of one that came.
    heard: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    pub(crate) door: Door,
    /// How far its clock was set forward.
    pub(crate) ahead_ms: u64,
    /// When its run began.
    pub(crate) began: Millis,
    /// Records that were asserted provisionally, as far as nothing was written since.
    provisional: BTreeMap<RoomKey, Claim>,
    /// Until when it knows which schedulers live.
    enlisted: BTreeMap<Place, u64>,
    /// Nodes that were purged since the last look: for invariants.
    pub(crate) purged: Vec<NodeId>,
    /// How often a room was handed over.
    pub(crate) handed_over: u64,
}

#[derive(Debug)]
struct Watcher {
    place: Place,
    id: u64,
    last: Millis,
}

impl Store {
    pub(crate) fn new() -> Self {
        let buckets: Vec<Bucket> = (0..BUCKETS).map(|_| Bucket::new(run(1))).collect();
        Self {
            copy: buckets.clone(),
            buckets,
            reports: BTreeMap::new(),
            watchers: Vec::new(),
            runs: 1,
            life: 1,
            heard: BTreeSet::new(),
            refused: BTreeSet::new(),
            door: Door::Open,
            ahead_ms: 0,
            began: Millis(0),
            provisional: BTreeMap::new(),
            enlisted: BTreeMap::new(),
            purged: Vec::new(),
            handed_over: 0,
        }
    }

    /// The store's clock.
    pub(crate) fn clock(&self, now: Millis) -> u64 {
        CLOCK_BEGINS_MS + now.0 + self.ahead_ms
    }

    /// What it keeps.
    pub(crate) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// The room's claim at this moment.
    pub(crate) fn claim(&self, room: &RoomKey, now: Millis) -> Option<&Claim> {
        self.buckets[usize::from(room.bucket())].read(room, self.clock(now))
    }

    /// Whether the claim is there provisionally: its node admits nobody, and gives way to a higher epoch (rule 18).
    pub(crate) fn is_provisional(&self, room: &RoomKey, claim: &Claim) -> bool {
        self.provisional.get(room) == Some(claim)
    }

    /// What is wanted of the node, by the store's clock.
    fn steering(&self, node: &NodeId, now: u64) -> Option<Steering> {
        self.buckets[usize::from(node.bucket())].steering(node, now)
    }

    /// What is wanted of the node.
    pub(crate) fn wanted(&self, node: &NodeId, now: Millis) -> Option<Steering> {
        self.steering(node, self.clock(now))
    }

    /// How many claims there are.
    pub(crate) fn claims_len(&self, now: Millis) -> usize {
        self.buckets.iter().map(|bucket| bucket.claims(self.clock(now)).count()).sum()
    }

    /// Writes the copy that a later loss may bring back.
    pub(crate) fn save(&mut self) {
        self.copy = self.buckets.clone();
    }

    /// A new process over what is left of the data: a new run in all buckets. All connections end.
    pub(crate) fn restart(&mut self, loss: Loss, wire: &mut Wire) {
        self.life += 1;
        self.begin(loss, wire.now);
        if loss != Loss::Nothing {
            self.reports.clear();
            self.enlisted.clear();
        }
        self.hang_up(wire);
    }

    /// Everything is forgotten, and the process goes on.
    pub(crate) fn flush(&mut self, wire: &mut Wire) {
        self.begin(Loss::Everything, wire.now);
        self.reports.clear();
        self.enlisted.clear();
        self.hang_up(wire);
    }

    /// Another server takes over one bucket, with what it has of it: a new run of that bucket alone.
    pub(crate) fn fail_over(&mut self, bucket: u8, loss: Loss, wire: &mut Wire) {
        self.runs += 1;
        let run = run(self.runs);
        let number = usize::from(bucket);
        match loss {
            Loss::Nothing => {}
            Loss::Latest => self.buckets[number] = self.copy[number].clone(),
            Loss::Everything => self.buckets[number] = Bucket::new(run.clone()),
        }
        self.buckets[number].begin(run);
        self.began = wire.now;
        self.hang_up(wire);
    }

    fn begin(&mut self, loss: Loss, now: Millis) {
        self.runs += 1;
        let run = run(self.runs);
        match loss {
            Loss::Nothing => {}
            Loss::Latest => self.buckets.clone_from(&self.copy),
            Loss::Everything => self.buckets = (0..BUCKETS).map(|_| Bucket::new(run.clone())).collect(),
        }
        self.buckets.iter_mut().for_each(|bucket| bucket.begin(run.clone()));
        self.began = now;
    }

    /// Ends every watch.
    pub(crate) fn hang_up(&mut self, wire: &mut Wire) {
        for watcher in std::mem::take(&mut self.watchers) {
            hang_up(&watcher, wire);
        }
    }

    /// A request has come.
    pub(crate) fn hear(&mut self, from: Place, id: u64, ask: Ask, wire: &mut Wire) {
        match self.door {
            Door::Silent => return,
            Door::Refuses if self.heard.contains(&id) => return,
            Door::Refuses => {
                self.refused.insert(id);
                return wire.send(Place::Store, from, id, Body::Refused);
            }
            Door::Open if self.refused.contains(&id) => return,
            Door::Open => drop(self.heard.insert(id)),
        }
        let (said, event) = self.answer(from, id, ask, wire.now);
        if let Some(event) = event {
            self.publish(&event, wire);
        }
        wire.send(Place::Store, from, id, Body::Said { life: self.life, store_ms: self.clock(wire.now), said });
    }

    fn answer(&mut self, from: Place, id: u64, ask: Ask, at: Millis) -> Step<Said> {
        let now = self.clock(at);
        match ask {
            Ask::Node(operation) => {
                // A scheduler's beat enlists it, too.
                if let (Place::Scheduler(_), NodeOperation::Runs) = (from, &operation) {
                    self.enlisted.insert(from, now + ENLISTED_MS);
                }
                let (answer, event) = self.operate(operation, now);
                (Said::Node(answer), event)
            }
            Ask::Read(room) => (Said::Read(self.of(&room).read(&room, now).cloned()), None),
            Ask::Grant(grant) => {
                let (granted, event) = self.of(&grant.room).grant(&grant, now);
                (Said::Granted(granted, grant.expected), event)
            }
            Ask::Prolong { room, claim, ttl_ms } => {
                let (prolonged, event) = self.of(&room).prolong(&room, &claim, ttl_ms, now);
                (Said::Prolonged(prolonged), event)
            }
            Ask::Leases(node) => (Said::Leases(self.bucket(node.bucket()).leases(&node, now)), None),
            Ask::Steer(steer) => {
                let (answer, event) = self.bucket(steer.node.bucket()).steer(&steer, now);
                (Said::Steered(answer), event)
            }
            Ask::Purge(node, run) => {
                let (answer, event) = self.bucket(node.bucket()).purge(&node, &run, now);
                if event.is_some() {
                    self.reports.remove(&node);
                    self.purged.push(node);
                }
                (Said::Purged(answer), event)
            }
            Ask::Schedulers => {
                let living = self.enlisted.iter().filter(|(_, until)| **until > now);
                (Said::Schedulers(living.map(|(place, _)| place.to_string()).collect()), None)
            }
            Ask::Watch => {
                // A request that came late, or twice, ends no other watch.
                self.watchers.retain(|watcher| watcher.place != from || watcher.id > id);
                self.watchers.push(Watcher { place: from, id, last: at });
                (Said::Watching(self.all(now)), None)
            }
        }
    }

    fn operate(&mut self, operation: NodeOperation, now: u64) -> Step<NodeAnswer> {
        match operation {
            NodeOperation::Runs => {
                (NodeAnswer::Runs(self.buckets.iter().map(|bucket| bucket.run().clone()).collect()), None)
            }
            NodeOperation::Register(register) => {
                (NodeAnswer::Registered(self.bucket(register.node.bucket()).register(&register, now)), None)
            }
            NodeOperation::Renew(renew) => {
                let mut answer = self.bucket(renew.report.node.bucket()).renew(&renew, now);
                if let Renewed::Yes { runs, .. } = &mut answer {
                    let run = |bucket: &u8| (*bucket, self.buckets[usize::from(*bucket)].run().clone());
                    *runs = Some(renew.buckets.iter().map(run).collect());
                }
                let event = matches!(answer, Renewed::Yes { .. }).then(|| {
                    let mut report = renew.report;
                    if let Renewed::Yes { steering: Some(steering), .. } = &answer {
                        report.steer(*steering);
                    }
                    self.reports.insert(report.node.clone(), report.clone());
                    Event::Reported(Box::new(report))
                });
                (NodeAnswer::Renewed(answer), event)
            }
            NodeOperation::Open(holding) => {
                let (answer, event) = self.of(&holding.room).open(&holding, now);
                (NodeAnswer::Opened(answer), event)
            }
            NodeOperation::Assert(assert) => {
                let (answer, event) = self.of(&assert.held.room).assert(&assert, now);
                if let (Asserted::Yes { provisional: true, .. }, Some(Event::Claimed { key, claim, .. })) =
                    (&answer, &event)
                {
                    self.provisional.insert(key.clone(), claim.clone());
                }
                (NodeAnswer::Asserted(answer), event)
            }
            NodeOperation::Release(holding) => {
                let (answer, event) = self.of(&holding.room).release(&holding, now);
                (NodeAnswer::Released(answer), event)
            }
            NodeOperation::HandOver(hand_over) => {
                let (answer, event) = self.of(&hand_over.held.room).hand_over(&hand_over, now);
                self.handed_over += u64::from(event.is_some());
                (NodeAnswer::HandedOver(answer), event)
            }
            NodeOperation::Raise(raise) => (NodeAnswer::Raised(self.bucket(raise.bucket).raise(&raise)), None),
            _ => (NodeAnswer::Unavailable("not simulated".to_owned()), None),
        }
    }

    /// All that a watcher is told first.
    fn all(&self, now: u64) -> Vec<Event> {
        let claims = self.buckets.iter().flat_map(|bucket| bucket.claims(now));
        let claimed = |(key, claim, ttl_ms): (&RoomKey, &Claim, u64)| Event::Claimed {
            key: key.clone(),
            claim: claim.clone(),
            ttl_ms,
            expected: Expected::default(),
            handed_over: false,
        };
        let reported = |report: &Report| {
            let mut report = report.clone();
            report.steer_by_later(self.steering(&report.node, now));
            Event::Reported(Box::new(report))
        };
        let reports = self.reports.values().map(reported);
        claims.map(claimed).chain(reports).collect()
    }

    /// A watcher that one event does not reach gets none after it.
    fn publish(&mut self, event: &Event, wire: &mut Wire) {
        self.watchers.retain_mut(|watcher| {
            let body = Body::Told(Box::new(event.clone()));
            let is_there = wire.stream((Place::Store, watcher.place), watcher.id, body, &mut watcher.last);
            if !is_there {
                hang_up(watcher, wire);
            }
            is_there
        });
    }

    fn bucket(&mut self, number: u8) -> &mut Bucket {
        &mut self.buckets[usize::from(number)]
    }

    fn of(&mut self, room: &RoomKey) -> &mut Bucket {
        self.bucket(room.bucket())
    }
}

/// The watcher finds out by itself, a while later.
fn hang_up(watcher: &Watcher, wire: &mut Wire) {
    let after = wire.draw(0, DEAF_MS);
    let at = watcher.last.max(wire.now.plus(after));
    let body = Body::Hangup;
    wire.put_off(at, crate::wire::Happening::Message { from: Place::Store, to: watcher.place, id: watcher.id, body });
}

fn run(number: u64) -> Run {
    Run(format!("run-{number}").into())
}
