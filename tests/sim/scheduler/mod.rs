//! A scheduler: the real view and decisions, driven as scheduler/src/app does it, each await one message.

mod close;
mod drain;
mod follow;
mod links;
mod lookup;
mod orphans;
mod relocate;
mod steering;

use std::collections::BTreeMap;

use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, NodeId, RoomKey};
use roost_proto::room::{Claim, Expected, Run};
use roost_proto::time::Millis;
use roost_scheduler_core::drain::Running;
use roost_scheduler_core::time::TICK_MS;
use roost_scheduler_core::view::View;

use crate::message::{Ask, Body, Said};
use crate::plan::MOST_NODES;
use crate::wire::{Clock, Place, Timer, Wire};

/// A call of the store is given up after this time.
const ANSWER_WITHIN_MS: u64 = 1_000;

/// One process of a scheduler.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) place: Place,
    clock: Clock,
    pub(crate) life: u64,
    pub(crate) view: View,
    store_life: u64,
    asked: BTreeMap<u64, Purpose>,
    /// The watch that runs.
    watch: Option<u64>,
    failures: usize,
    /// What was posted of each bucket.
    posted: Vec<Option<(Run, Epoch)>>,
    lookups: BTreeMap<u64, lookup::Course>,
    /// By the agent's number.
    links: [links::Link; MOST_NODES],
    /// How far the store's clock is ahead of ours.
    store_ahead_ms: u64,
    drains: drain::Drains,
    closings: BTreeMap<RoomKey, close::Closing>,
    /// Where rooms were to go by our word since the last look: for invariants.
    pub(crate) given: Vec<(RoomKey, NodeId)>,
    /// Rooms that we said were closed since the last look, each in its last generation: for invariants.
    pub(crate) closed: Vec<(RoomKey, Epoch)>,
}

/// What an answer is for.
#[derive(Debug, Clone)]
enum Purpose {
    WatchRuns,
    Watch,
    BeatRuns,
    Raise(u8, Run, Epoch),
    Lookup(u64, lookup::Call),
    /// A granted room is granted to another node.
    Regrant(RoomKey, Claim),
    /// Whether the holder of an orphaned room is gone.
    Orphan(RoomKey, Claim),
    OrphanEnded,
    Steer(steering::Attempt),
    Purge(NodeId, usize),
    /// Which of these drains are ours.
    Duty(Vec<Running>),
    /// Whether the node of a drain of this plan has no lease.
    LostDrain(NodeId, u64),
}

/// How a call ended.
type Answer = Result<Said, Silence>;

/// How a call ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Refused,
    TooLate,
}

impl Scheduler {
    /// A process that starts.
    pub(crate) fn start(number: usize, life: u64, clock: Clock, wire: &mut Wire) -> Self {
        let place = Place::Scheduler(number);
        wire.timer(place, life, 0, Timer::Watch);
        wire.timer(place, life, 0, Timer::Tick);
        wire.timer(place, life, 0, Timer::Beat(0));
        Self {
            place,
            clock,
            life,
            view: View::new(clock.at(wire.now)),
            store_life: 0,
            asked: BTreeMap::new(),
            watch: None,
            failures: 0,
            posted: vec![None; usize::from(BUCKETS)],
            lookups: BTreeMap::new(),
            links: [links::Link::default(); MOST_NODES],
            store_ahead_ms: 0,
            drains: drain::Drains::default(),
            closings: BTreeMap::new(),
            given: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// How many calls of the store, and lookups, are on their way.
    pub(crate) fn busy_len(&self) -> usize {
        self.asked.len() + self.lookups.len()
    }

    /// Whether it has said something since the last look that invariants are about.
    pub(crate) fn has_spoken(&self) -> bool {
        !self.given.is_empty() || !self.closed.is_empty()
    }

    /// A message has come.
    pub(crate) fn hear(&mut self, from: Place, id: u64, body: Body, wire: &mut Wire) {
        if self.hear_link(from, id, &body, wire) {
            return;
        }
        match body {
            Body::Said { life, .. } if life < self.store_life => {}
            Body::Said { life, store_ms, said } => {
                self.store_life = life;
                self.store_ahead_ms = self.store_ahead_ms.max(store_ms.saturating_sub(self.now(wire).0));
                if let Some(purpose) = self.asked.remove(&id) {
                    self.answered(id, purpose, Ok(said), wire);
                }
            }
            Body::Refused => {
                if let Some(purpose) = self.asked.remove(&id) {
                    self.answered(id, purpose, Err(Silence::Refused), wire);
                }
            }
            Body::Told(event) if self.watch == Some(id) => self.fold(*event, wire),
            Body::Hangup if self.watch == Some(id) => self.hung_up(wire),
            // What came before it on the connection is lost with it.
            Body::Hangup => {
                if let Some(purpose) = self.asked.remove(&id) {
                    self.answered(id, purpose, Err(Silence::TooLate), wire);
                }
            }
            Body::Lookup(room, avoid) => self.look_up((from, id), room, avoid, wire),
            _ => {}
        }
    }

    /// A timer is due.
    pub(crate) fn wake(&mut self, timer: Timer, wire: &mut Wire) {
        match timer {
            Timer::Tick => {
                self.view.tick(self.now(wire));
                self.tend_links(wire);
                self.clear_orphans(wire);
                self.tend_drains(wire);
                self.tend_closings(wire);
                wire.timer(self.place, self.life, TICK_MS, Timer::Tick);
            }
            Timer::Watch => self.begin_watch(wire),
            Timer::Beat(_) => self.beat(wire),
            Timer::Timeout(id) => {
                if let Some(purpose) = self.asked.remove(&id) {
                    self.answered(id, purpose, Err(Silence::TooLate), wire);
                }
            }
            Timer::LookAgain(lookup) => self.look_again(lookup, wire),
            Timer::Assert | Timer::Confirm | Timer::Release | Timer::Move | Timer::Arrive(_) | Timer::Leave(_) => {}
        }
    }

    fn answered(&mut self, id: u64, purpose: Purpose, answer: Answer, wire: &mut Wire) {
        match purpose {
            Purpose::WatchRuns | Purpose::Watch => self.watch_answered(id, answer, wire),
            Purpose::BeatRuns => self.beat_answered(answer, wire),
            Purpose::Raise(bucket, run, epoch) => {
                if answer.is_ok() {
                    self.posted[usize::from(bucket)] = Some((run, epoch));
                }
            }
            Purpose::Lookup(lookup, call) => self.lookup_answered(lookup, call, answer, wire),
            Purpose::Regrant(room, claim) => self.regranted(room, claim, answer, wire),
            Purpose::Orphan(room, claim) => self.orphan_answered(room, claim, answer, wire),
            Purpose::OrphanEnded => {}
            Purpose::Steer(attempt) => self.steered(attempt, answer, wire),
            Purpose::Purge(node, tries_left) => self.purged(node, tries_left, answer, wire),
            Purpose::LostDrain(node, plan) => self.lost_drain_answered(node, plan, answer, wire),
            Purpose::Duty(due) => self.duty_answered(due, answer, wire),
        }
    }

    fn now(&self, wire: &Wire) -> Millis {
        self.clock.at(wire.now)
    }

    fn store_now_ms(&self, wire: &Wire) -> u64 {
        self.now(wire).0 + self.store_ahead_ms
    }

    fn ask(&mut self, ask: Ask, purpose: Purpose, wire: &mut Wire) {
        let id = wire.id();
        self.asked.insert(id, purpose);
        wire.timer(self.place, self.life, ANSWER_WITHIN_MS, Timer::Timeout(id));
        wire.send(self.place, Place::Store, id, Body::Ask(ask));
    }

    /// As lookup.rs has it: folds what the store has of the room.
    fn fold_current(&mut self, room: &RoomKey, current: Option<Claim>, known: Option<Epoch>, wire: &Wire) {
        let now = self.now(wire);
        match (current, known) {
            (Some(claim), _) => {
                self.view.fold_claim(room.clone(), claim, (0, Expected::default()), now);
            }
            (None, Some(epoch)) => self.view.forget(room, epoch),
            (None, None) => {}
        }
    }
}
