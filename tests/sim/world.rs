//! One run: what happens, one thing after the other, and after each the invariants.

use roost_proto::id::{Epoch, RoomKey};
use roost_proto::time::Millis;
use roost_scheduler_core::relocation::Ways;

use crate::agent::{Agent, node_id};
use crate::client::{self, Client};
use crate::invariants::{Invariants, Violation};
use crate::message::Body;
use crate::order::What;
use crate::plan::{CALM_MS, END_MS, Fault, MOST_NODES, Plan};
use crate::scheduler::Scheduler;
use crate::store::{Door, Store};
use crate::wire::{Happening, Place, Timer, Wire};

/// Everything that there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) wire: Wire,
    pub(crate) store: Store,
    /// None where a process has ended.
    pub(crate) agents: Vec<Option<Agent>>,
    pub(crate) schedulers: Vec<Option<Scheduler>>,
    pub(crate) clients: Vec<Client>,
    /// Their names.
    pub(crate) rooms: Vec<RoomKey>,
    /// Until when processes stand still.
    pauses: Vec<(Place, Millis)>,
    lives: u64,
}

/// A room at a node that would let somebody in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home<'a> {
    pub(crate) room: &'a RoomKey,
    pub(crate) agent: &'a Agent,
    pub(crate) epoch: Epoch,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    /// When it ended.
    pub(crate) at: Millis,
    /// How many times somebody was let in.
    pub(crate) admissions: u64,
    /// How many times a room was handed over.
    pub(crate) moves: u64,
    /// How many drains were finished.
    pub(crate) drained: usize,
    /// Empty unless it was wanted.
    pub(crate) trace: Vec<String>,
}

/// Runs the plan until its end, or until an invariant is broken.
pub(crate) fn run(plan: &Plan, traced: bool) -> Outcome {
    let mut world = World::new(plan, traced);
    let mut invariants = Invariants::default();
    let (mut violation, mut calm) = (None, false);
    while violation.is_none() {
        let Some(what) = world.wire.next() else { break };
        if world.wire.now >= Millis(END_MS) {
            violation = invariants.check_end(&world).err();
            break;
        }
        if !calm && world.wire.now >= Millis(CALM_MS) {
            calm = true;
            world.wire.calm();
        }
        if world.step(what) {
            violation = invariants.check(&mut world).err();
        }
    }
    let admissions = world.clients.iter().map(|client| client.admissions).sum();
    let moves = world.store.handed_over;
    let drained = invariants.drained();
    Outcome { violation, at: world.wire.now, admissions, moves, drained, trace: world.wire.trace.unwrap_or_default() }
}

impl World {
    pub(crate) fn new(plan: &Plan, traced: bool) -> Self {
        let mut wire = Wire::new(plan, traced);
        for (index, planned) in plan.faults.iter().enumerate() {
            wire.fault(planned.from, index, true);
            wire.fault(planned.until.max(planned.from.plus(1)), index, false);
        }
        for (index, order) in plan.orders.iter().enumerate() {
            wire.order(order.at, index);
        }
        let mut world = Self {
            plan: plan.clone(),
            store: Store::new(),
            agents: Vec::new(),
            schedulers: Vec::new(),
            clients: (0..plan.clients).map(|number| Client::start(number, &mut wire)).collect(),
            rooms: (0..plan.rooms).map(client::room).collect(),
            pauses: Vec::new(),
            lives: 0,
            wire,
        };
        world.agents.resize_with(plan.nodes, || None);
        world.schedulers.resize_with(plan.schedulers, || None);
        (0..plan.nodes).for_each(|number| world.start(Place::Agent(number)));
        (0..plan.schedulers).for_each(|number| world.start(Place::Scheduler(number)));
        world
    }

    /// The rooms that somebody could come into at this moment.
    pub(crate) fn homes(&self) -> impl Iterator<Item = Home<'_>> {
        self.agents.iter().flatten().flat_map(move |agent| {
            let now = agent.now(self.wire.now);
            let admits = move |room: &RoomKey, opened_as| agent.holdings.admits(room, opened_as, &agent.lease, now);
            let open = agent.holdings.iter().filter(move |(room, hold)| admits(room, hold.opened_as));
            open.map(move |(room, hold)| Home { room, agent, epoch: hold.epoch })
        })
    }

    /// One thing happens. False if it touched nothing that invariants are about.
    pub(crate) fn step(&mut self, what: Happening) -> bool {
        let place = match &what {
            Happening::Message { to, .. } => *to,
            Happening::Timer { at, .. } => *at,
            Happening::Fault { index, begins } => {
                self.befall(*index, *begins);
                return true;
            }
            Happening::Order { index } => Place::Scheduler(self.plan.orders[*index].scheduler),
        };
        if let Some(until) = self.paused_until(place) {
            self.wire.put_off(until, what);
            return false;
        }
        match what {
            Happening::Message { from, to, id, body } => self.deliver(from, to, id, body),
            Happening::Timer { at, life, timer } => self.wake(at, life, timer),
            Happening::Order { index } => self.order(index),
            Happening::Fault { .. } => {}
        }
        match place {
            Place::Agent(_) | Place::Store => true,
            Place::Scheduler(number) => self.schedulers[number].as_ref().is_some_and(Scheduler::has_spoken),
            Place::Client(_) => false,
        }
    }

    fn deliver(&mut self, from: Place, to: Place, id: u64, body: Body) {
        let wire = &mut self.wire;
        wire.tell(|| format!("{from} -> {to} #{id} {body:?}"));
        match (to, body) {
            (Place::Store, Body::Ask(ask)) => self.store.hear(from, id, ask, wire),
            (Place::Store, _) => {}
            (Place::Agent(number), body) => {
                match (self.agents.get_mut(number).and_then(Option::as_mut), body) {
                    (Some(agent), body) => agent.hear(from, id, body, wire),
                    // The host is there, and the process is not.
                    (None, Body::Dial) => wire.send(to, from, id, Body::Refused),
                    (None, Body::Ping) => wire.send(to, from, id, Body::Hangup),
                    (None, _) => {}
                }
            }
            (Place::Scheduler(number), body) => {
                if let Some(scheduler) = self.schedulers.get_mut(number).and_then(Option::as_mut) {
                    scheduler.hear(from, id, body, wire);
                }
            }
            (Place::Client(number), body) => self.clients[number].hear(body, wire),
        }
    }

    fn wake(&mut self, at: Place, life: u64, timer: Timer) {
        let wire = &mut self.wire;
        match at {
            Place::Store => {}
            Place::Agent(number) => {
                if let Some(agent) = self.agents[number].as_mut().filter(|agent| agent.life == life) {
                    agent.wake(timer, wire);
                }
            }
            Place::Scheduler(number) => {
                if let Some(scheduler) = self.schedulers[number].as_mut().filter(|process| process.life == life) {
                    scheduler.wake(timer, wire);
                }
            }
            Place::Client(number) => self.clients[number].wake(&self.plan, wire),
        }
    }

    fn order(&mut self, index: usize) {
        let order = self.plan.orders[index].clone();
        let (Some(scheduler), wire) = (&mut self.schedulers[order.scheduler], &mut self.wire) else { return };
        wire.tell(|| format!("an operator tells {}: {:?}", scheduler.place, order.what));
        match order.what {
            What::Move { room, to } => {
                let to = to.map(node_id);
                scheduler.relocate(&client::room(room), Ways { from: None, to: to.as_ref() }, wire);
            }
            What::Close { room } => scheduler.close(&client::room(room), wire),
            what => scheduler.obey(&what, wire),
        }
    }

    fn befall(&mut self, index: usize, begins: bool) {
        let planned = self.plan.faults[index].clone();
        self.wire.tell(|| format!("FAULT {} {:?}", if begins { "begins" } else { "ends" }, planned.fault));
        match (planned.fault, begins) {
            (Fault::Pause(place), true) => {
                let now = self.wire.now;
                self.pauses.retain(|(_, until)| *until > now);
                self.pauses.push((place, planned.until));
            }
            (Fault::Crash(place), true) => {
                self.pauses.retain(|(paused, _)| *paused != place);
                self.stop(place);
            }
            (Fault::Crash(place), false) => self.start(place),
            (Fault::Cut(from, to), true) => self.wire.cut(from, to),
            (Fault::Cut(from, to), false) => self.wire.mend(from, to),
            (Fault::Hold(from, to), true) => self.wire.hold(from, to, planned.until),
            (Fault::Refuses, true) => self.shut(Door::Refuses),
            (Fault::Silent, true) => self.shut(Door::Silent),
            (Fault::Refuses | Fault::Silent, false) => self.store.door = Door::Open,
            (Fault::Restart(_), true) => self.shut(Door::Refuses),
            (Fault::Restart(loss), false) => {
                self.store.restart(loss, &mut self.wire);
                self.store.door = Door::Open;
            }
            (Fault::Flush, true) => self.store.flush(&mut self.wire),
            (Fault::Save, true) => self.store.save(),
            (Fault::FailOver(room, loss), true) => {
                self.store.fail_over(client::room(room).bucket(), loss, &mut self.wire);
            }
            (Fault::ClockStep(ms), true) => self.store.ahead_ms += ms,
            (
                Fault::Pause(_)
                | Fault::Hold(..)
                | Fault::Flush
                | Fault::Save
                | Fault::FailOver(..)
                | Fault::ClockStep(_),
                false,
            ) => {}
        }
    }

    fn shut(&mut self, door: Door) {
        self.store.door = door;
        self.store.hang_up(&mut self.wire);
    }

    fn start(&mut self, place: Place) {
        self.lives += 1;
        let (life, wire) = (self.lives, &mut self.wire);
        match place {
            Place::Agent(number) => {
                let clock = self.plan.clocks[number];
                self.agents[number].get_or_insert_with(|| Agent::start(number, life, clock, wire));
            }
            Place::Scheduler(number) => {
                let clock = self.plan.clocks[MOST_NODES + number];
                self.schedulers[number].get_or_insert_with(|| Scheduler::start(number, life, clock, wire));
            }
            Place::Store | Place::Client(_) => {}
        }
    }

    fn stop(&mut self, place: Place) {
        match place {
            Place::Agent(number) => {
                if let Some(agent) = self.agents[number].take() {
                    agent.hang_up(&mut self.wire);
                }
            }
            Place::Scheduler(number) => self.schedulers[number] = None,
            Place::Store | Place::Client(_) => {}
        }
    }

    fn paused_until(&self, place: Place) -> Option<Millis> {
        let pauses = self.pauses.iter().filter(|(paused, until)| *paused == place && *until > self.wire.now);
        pauses.map(|(_, until)| *until).max()
    }
}
