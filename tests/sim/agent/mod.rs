//! An agent: the real lease, holdings and cadence, driven as node-agent/src does it, each await one message.

mod door;
mod links;
mod moving;
mod rooms;
mod uplink;

use std::collections::{BTreeMap, BTreeSet};

use roost_agent_core::cadence::Cadence;
use roost_agent_core::hold::{Held, Holdings, Offer};
use roost_agent_core::inbox::{self, Todo};
use roost_agent_core::lease::{LEASE_MS, Lease};
use roost_agent_core::runs::Runs;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::mode::Mode;
use roost_proto::room::{Claim, Run};
use roost_proto::steer::Steering;
use roost_proto::time::Millis;
use roost_store::operation::{Assert, Holding, NodeOperation};

use crate::message::{Ask, Body, Said, Ticket};
use crate::wire::{Clock, Place, Timer, Wire};

/// An answer to an opening, assertion or release is waited for so long.
const ANSWER_WITHIN_MS: u64 = 3_000;
/// Rooms without participants are looked for so often.
const TICK_MS: u64 = 200;
/// A room without participants lives so long.
const EMPTY_ROOM_MS: u64 = 1_000;

/// One process of an agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: NodeId,
    pub(crate) place: Place,
    clock: Clock,
    /// Grows with each start; timers of an earlier process are nothing to a later one.
    pub(crate) life: u64,
    pub(crate) lease: Lease,
    pub(crate) holdings: Holdings,
    cadence: Cadence,
    runs: Runs,
    /// The latest process of the store that was heard.
    store_life: u64,
    asked: BTreeMap<u64, Purpose>,
    beat: uplink::Beat,
    assertion: rooms::Round,
    release: rooms::Round,
    moving: rooms::Round,
    /// The incarnation for which each bucket's highest epoch was posted, and the run in which it was.
    raised: BTreeMap<u8, (Incarnation, Run)>,
    /// Who waits for a room to be opened.
    waiting: BTreeMap<RoomKey, Vec<(Place, u64, Ticket)>>,
    /// Who was let in, by a number: the room as it was opened.
    guests: BTreeMap<u64, (RoomKey, Epoch)>,
    links: Vec<links::Link>,
    pub(crate) steering: Option<Steering>,
    /// What was let in since the last look: for invariants.
    pub(crate) admitted: Vec<(RoomKey, Epoch)>,
    /// Rooms that were lost since the last look, and who has them: for invariants.
    pub(crate) lost: Vec<(RoomKey, Epoch, Option<Claim>)>,
}

/// What an answer is for; where it may tell of a run, when it was asked for.
#[derive(Debug, Clone)]
enum Purpose {
    Beat(uplink::Call),
    Raise(u8, (Incarnation, Run)),
    Assert(Held, Assert, Millis),
    Release(Held, Millis),
    Move(Held, Millis),
    Open(RoomKey, Offer, Run, Millis),
}

/// How a call ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Refused,
    TooLate,
}

impl Agent {
    /// A process that starts.
    pub(crate) fn start(number: usize, life: u64, clock: Clock, wire: &mut Wire) -> Self {
        let place = Place::Agent(number);
        let mut agent = Self {
            id: node_id(number),
            place,
            clock,
            life,
            lease: Lease::new(LEASE_MS),
            holdings: Holdings::default(),
            cadence: Cadence::new(clock.at(wire.now)),
            runs: Runs::new(node_id(number).bucket()),
            store_life: 0,
            asked: BTreeMap::new(),
            beat: uplink::Beat::default(),
            assertion: rooms::Round::default(),
            release: rooms::Round::default(),
            moving: rooms::Round::default(),
            raised: BTreeMap::new(),
            waiting: BTreeMap::new(),
            guests: BTreeMap::new(),
            links: Vec::new(),
            steering: None,
            admitted: Vec::new(),
            lost: Vec::new(),
        };
        agent.beat_in(0, uplink::Then::Turn, wire);
        wire.timer(place, life, TICK_MS, Timer::Tick);
        agent
    }

    /// What its clock shows.
    pub(crate) fn now(&self, now: Millis) -> Millis {
        self.clock.at(now)
    }

    /// How many calls of the store are on their way.
    pub(crate) fn asked_len(&self) -> usize {
        self.asked.len()
    }

    /// A message has come.
    pub(crate) fn hear(&mut self, from: Place, id: u64, body: Body, wire: &mut Wire) {
        match body {
            Body::Said { life, .. } if life < self.store_life => {}
            Body::Said { life, said, .. } => {
                self.store_life = life;
                if let (Some(purpose), Said::Node(answer)) = (self.asked.remove(&id), said) {
                    self.answered(purpose, Ok(answer), wire);
                }
            }
            Body::Refused => {
                if let Some(purpose) = self.asked.remove(&id) {
                    self.answered(purpose, Err(Silence::Refused), wire);
                }
            }
            Body::Dial => self.dialled(from, id, wire),
            Body::Ping => self.pinged(from, id, wire),
            Body::Knock(ticket) => self.knocked(from, id, ticket, wire),
            Body::Command { node, command } if node == self.id => {
                match inbox::read(&command, self.lease.incarnation()) {
                    Ok(Todo::ReportAll) => {
                        self.cadence.want_all(self.now(wire.now));
                        self.report_wanted(wire);
                    }
                    Ok(Todo::Move { room, epoch, to }) => self.begin_move(&room, epoch, to, wire),
                    Ok(Todo::Close { room, epoch }) => self.close(&room, epoch),
                    Err(_) => {}
                }
            }
            _ => {}
        }
        self.after(wire);
    }

    /// A timer is due.
    pub(crate) fn wake(&mut self, timer: Timer, wire: &mut Wire) {
        match timer {
            Timer::Beat(number) => self.beat(number, wire),
            Timer::Timeout(id) => {
                if let Some(purpose) = self.asked.remove(&id) {
                    self.answered(purpose, Err(Silence::TooLate), wire);
                }
            }
            Timer::Tick => {
                let now = self.now(wire.now);
                for (room, opened_as) in self.holdings.idle(EMPTY_ROOM_MS, now) {
                    self.holdings.end_if_empty(&room, opened_as);
                }
                wire.timer(self.place, self.life, TICK_MS, Timer::Tick);
            }
            Timer::Assert => self.assert_again(wire),
            Timer::Release => self.release_again(wire),
            Timer::Move => self.move_again(wire),
            Timer::Arrive(guest) => self.arrived(guest, wire),
            Timer::Leave(guest) => self.left(guest, wire),
            Timer::Confirm => self.confirm_due(wire),
            Timer::Watch | Timer::LookAgain(_) => {}
        }
        self.after(wire);
    }

    fn answered(
        &mut self,
        purpose: Purpose,
        answer: Result<roost_store::operation::NodeAnswer, Silence>,
        wire: &mut Wire,
    ) {
        match purpose {
            Purpose::Beat(call) => self.beat_answered(call, answer, wire),
            Purpose::Raise(bucket, mark) => self.raise_answered(bucket, mark, &answer, wire),
            Purpose::Assert(held, asked, sent) => self.assert_answered(&held, (&asked, sent), answer, wire),
            Purpose::Release(held, sent) => self.release_answered(&held, sent, answer, wire),
            Purpose::Move(held, sent) => self.move_answered(&held, sent, answer, wire),
            Purpose::Open(room, offer, run, sent) => self.open_answered(&room, (offer, &run, sent), answer, wire),
        }
    }

    fn ask(&mut self, operation: NodeOperation, purpose: Purpose, within_ms: u64, wire: &mut Wire) {
        let id = wire.id();
        self.asked.insert(id, purpose);
        wire.timer(self.place, self.life, within_ms, Timer::Timeout(id));
        wire.send(self.place, Place::Store, id, Body::Ask(Ask::Node(operation)));
    }

    fn note_runs(&mut self, runs: Vec<Run>, sent: Millis, wire: &Wire) {
        let now = self.now(wire.now);
        self.runs.hear_all(runs, sent, &mut self.lease, &mut self.holdings, now);
    }

    fn note_run(&mut self, bucket: u8, run: Run, sent: Millis, wire: &Wire) {
        let now = self.now(wire.now);
        self.runs.hear(bucket, run, sent, &mut self.lease, &mut self.holdings, now);
    }

    /// As node.rs has it: the lease is over by the node's own clock (rule 8).
    fn check_lease(&mut self, wire: &Wire) {
        if self.lease.handle_timeout(self.now(wire.now)).is_some() {
            self.holdings.suspend_all(Millis(0));
        }
    }

    /// What the node takes by the operator's word.
    pub(crate) fn mode(&self) -> Mode {
        self.steering.map_or(Mode::Serving, |steering| steering.mode)
    }

    /// As commands.rs has it: what is only granted here can never be opened then.
    fn close(&mut self, room: &RoomKey, epoch: Epoch) {
        if let Some(incarnation) = self.lease.incarnation() {
            self.holdings.disown(room, Offer { incarnation, epoch }, &self.lease);
        }
        if let Some(hold) = self.holdings.get(room).filter(|hold| hold.epoch == epoch) {
            let opened_as = hold.opened_as;
            self.holdings.end(room, opened_as);
        }
    }

    fn run(&self, bucket: u8) -> Option<Run> {
        self.runs.get(bucket).cloned()
    }

    fn holding(&self, held: &Held) -> Option<Holding> {
        Some(Holding {
            room: held.room.clone(),
            run: self.run(held.room.bucket())?,
            node: self.id.clone(),
            incarnation: held.incarnation,
            epoch: held.epoch,
        })
    }

    /// What a run that was heard of in passing leads to.
    fn note_run_in_passing(&mut self, bucket: u8, run: Run, sent: Millis, wire: &mut Wire) {
        self.note_run(bucket, run, sent, wire);
        self.assert_wanted(wire);
        self.report_wanted(wire);
    }

    /// Rooms that are gone take their guests along, and there may be something to give up.
    fn after(&mut self, wire: &mut Wire) {
        // Whoever is inside these goes where a lookup says.
        self.holdings.take_doubtful();
        let holdings = &self.holdings;
        let is_here =
            |(room, opened_as): &(RoomKey, Epoch)| holdings.get(room).is_some_and(|hold| hold.opened_as == *opened_as);
        let gone: BTreeSet<u64> =
            self.guests.iter().filter(|(_, guest)| !is_here(guest)).map(|(number, _)| *number).collect();
        self.guests.retain(|number, _| !gone.contains(number));
        if self.holdings.releases_len() > 0 {
            self.release_wanted(wire);
        }
        self.tell_links(wire);
    }
}

/// The name of the node of this number.
pub(crate) fn node_id(number: usize) -> NodeId {
    NodeId::new(format!("node-{number}")).expect("valid")
}
