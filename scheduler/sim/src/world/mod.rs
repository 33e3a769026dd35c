//! One run: everything that happens in it, one thing after the other, in simulated time.

mod doors;
mod lookups;
mod rules;
mod tally;

use std::collections::BTreeMap;
use std::rc::Rc;

use rand::RngExt as _;
use rand_pcg::Pcg64;
use roost_agent_core::hold::{Held, Offer};
use roost_proto::event::Event;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::report::{Mode, Report};
use roost_proto::room::Expected;
use roost_proto::time::Millis;
use roost_scheduler_core::time::GRANT_TTL_MS;
use roost_store::operation::{Grant, Granted, Holding, Opened, Register, Registered, Renew, Renewed};

use crate::network::Network;
use crate::node::SimNode;
use crate::plan::{NodePlan, Plan, Resident};
use crate::policies::PolicyName;
use crate::queue::Queue;
use crate::random::stream;
use crate::scheduler::{Mind, SimScheduler};
use crate::store::{SimStore, first_run, store_ms};
use lookups::{Answer, Call, Lookup};
use tally::Tally;
pub use tally::{Figures, Sample};

/// What a run comes to.
#[derive(Debug, Clone)]
pub struct Run {
    pub figures: Figures,
    /// How long the core decided, in real time.
    pub deciding: std::time::Duration,
    /// Load over time, if it was asked for.
    pub samples: Vec<Sample>,
}

/// Who runs it, and what is kept of it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub policy: PolicyName,
    pub schedulers: u16,
    pub seed: u64,
    /// Keep the load over time.
    pub keep_samples: bool,
}

/// Runs the plan to its end.
#[must_use]
pub fn run(plan: &Plan, setting: Setting) -> Run {
    let mut world = World::new(plan, setting);
    while let Some((at, what)) = world.queue.pop().filter(|(at, _)| *at <= plan.end) {
        world.now = at;
        world.happen(what);
    }
    world.now = plan.end;
    world.finish()
}

/// Everything that there is.
#[derive(Debug)]
struct World<'a> {
    plan: &'a Plan,
    now: Millis,
    queue: Queue<Happening>,
    network: Network,
    store: SimStore,
    nodes: Vec<SimNode>,
    numbers: BTreeMap<NodeId, usize>,
    schedulers: Vec<SimScheduler>,
    guests: Vec<Guest>,
    /// Which scheduler a client asks.
    routes: Pcg64,
    tally: Tally,
}

/// Something that happens, or arrives.
#[derive(Debug)]
enum Happening {
    Begin { node: usize },
    Report { node: usize },
    Renewal { node: usize, report: Box<Report>, sent: Millis },
    Renewed { node: usize, incarnation: Incarnation, renewed: Renewed, sent: Millis },
    Mode { node: usize, mode: Mode },
    Visit { visit: u32 },
    LookAgain(Box<Lookup>),
    Call(Box<Lookup>, Call),
    Answer(Box<Lookup>, Answer),
    Knock { visit: u32, node: usize, offer: Offer },
    Opening { node: usize, room: RoomKey, offer: Offer },
    Opened { node: usize, room: RoomKey, offer: Offer, opened: Opened },
    Release { node: usize, held: Held },
    Leave { visit: u32 },
    Sample,
}

/// A participant, from the first lookup on.
#[derive(Debug, Clone, Default)]
struct Guest {
    place: Place,
    tries: u8,
    avoid: Vec<NodeId>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    Inside {
        node: usize,
        opened_as: Epoch,
    },
    /// Wanted to be there.
    TurnedAway {
        node: usize,
    },
    Gone,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, setting: Setting) -> Self {
        let Setting { policy, schedulers, seed, keep_samples } = setting;
        let count = usize::from(schedulers);
        let scheduler = |number| SimScheduler::new(policy, policy.selector(plan, seed, number));
        let mut world = Self {
            plan,
            now: Millis(0),
            queue: Queue::new(),
            network: Network::new(plan.delays, count, seed),
            store: SimStore::new(),
            nodes: Vec::new(),
            numbers: plan.nodes.iter().enumerate().map(|(number, node)| (node.id.clone(), number)).collect(),
            schedulers: (0..count).map(scheduler).collect(),
            guests: vec![Guest::default(); plan.visits.len()],
            routes: stream(seed, "routes"),
            tally: Tally::new(plan, policy, keep_samples),
        };
        let mut paces = stream(seed, "paces");
        for (number, node) in plan.nodes.iter().enumerate() {
            let [least, most] = node.report_every_ms;
            let begin = Millis(paces.random_range(0..1_000));
            world.nodes.push(SimNode::new(node, paces.random_range(least..=most), begin));
            world.queue.push(begin, Happening::Begin { node: number });
            for (at, mode) in &node.mode_changes {
                world.queue.push(*at, Happening::Mode { node: number, mode: *mode });
            }
        }
        for (number, visit) in plan.visits.iter().enumerate() {
            world.queue.push(visit.at, Happening::Visit { visit: number as u32 });
        }
        let first = if keep_samples { plan.warm_up } else { plan.measure_from };
        world.queue.push(first, Happening::Sample);
        world
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Begin { node } => self.begin(node),
            Happening::Report { node } => self.report(node),
            Happening::Renewal { node, report, sent } => self.renewal(node, report, sent),
            Happening::Renewed { node, incarnation, renewed, sent } => self.renewed(node, incarnation, renewed, sent),
            Happening::Mode { node, mode } => self.nodes[node].mode = mode,
            Happening::Visit { visit } => self.visit(visit),
            Happening::LookAgain(lookup) => self.decide(lookup),
            Happening::Call(lookup, call) => self.call(lookup, call),
            Happening::Answer(lookup, answer) => self.answer(lookup, answer),
            Happening::Knock { visit, node, offer } => self.knock(visit, node, offer),
            Happening::Opening { node, room, offer } => self.opening(node, room, offer),
            Happening::Opened { node, room, offer, opened } => self.opened(node, &room, offer, opened),
            Happening::Release { node, held } => self.release(node, &held),
            Happening::Leave { visit } => self.leave(visit),
            Happening::Sample => self.sample(),
        }
    }

    /// The node takes its lease, and has the rooms that are there from the beginning.
    fn begin(&mut self, node: usize) {
        let plan = &self.plan.nodes[node];
        let register = Register {
            node: plan.id.clone(),
            run: first_run(),
            process: plan.id.to_string(),
            after: Incarnation(0),
            lease_ms: self.nodes[node].lease.lease_ms(),
        };
        let registered = self.store.bucket(plan.id.bucket()).register(&register, store_ms(self.now));
        let Registered::Yes { incarnation, store_ms } = registered else { return };
        self.nodes[node].lease.registered(incarnation, store_ms, self.now, self.now);
        for resident in self.plan.residents.iter().filter(|resident| resident.node as usize == node) {
            self.settle(resident, incarnation);
        }
        self.report(node);
    }

    /// A room that is open on its node from the beginning.
    fn settle(&mut self, resident: &Resident, incarnation: Incarnation) {
        let (node, now) = (resident.node as usize, self.now);
        let key = &self.plan.rooms[resident.room as usize].key;
        let id = self.plan.nodes[node].id.clone();
        let (room, run, seen) = (key.clone(), first_run(), None);
        let expected = Expected { participants: resident.participants, hint: 0 };
        let grant = Grant { room, run, seen, node: id, incarnation, ttl_ms: GRANT_TTL_MS, expected };
        let (granted, event) = self.store.of(key).grant(&grant, store_ms(now));
        self.publish(key.bucket(), event);
        let Granted::Yes { epoch, .. } = granted else { return };
        let offer = Offer { incarnation, epoch };
        self.nodes[node].holdings.begin_open(key, offer, now);
        let holding = self.holding(node, key, offer);
        let (_, event) = self.store.of(key).open(&holding, store_ms(now));
        self.publish(key.bucket(), event);
        self.nodes[node].holdings.opened(key, offer, now);
        for _ in 0..resident.participants {
            self.nodes[node].enter(key);
        }
        self.tally.promise(self.plan, node, resident.participants);
    }

    fn report(&mut self, node: usize) {
        let now = self.now;
        self.nodes[node].end_idle(now);
        self.send_releases(node);
        if let Some(report) = self.nodes[node].report(&self.plan.nodes[node], now) {
            let arrives = self.network.store(now);
            self.queue.push(arrives, Happening::Renewal { node, report: Box::new(report), sent: now });
        }
        let next = self.nodes[node].next_report(now);
        self.queue.push(next, Happening::Report { node });
    }

    fn renewal(&mut self, node: usize, report: Box<Report>, sent: Millis) {
        let (now, bucket, incarnation) = (self.now, self.plan.nodes[node].id.bucket(), report.incarnation);
        let renew = Renew { run: first_run(), report: *report };
        let renewed = self.store.bucket(bucket).renew(&renew, store_ms(now));
        if matches!(renewed, Renewed::Yes { .. }) {
            self.publish(bucket, Some(Event::Reported(Box::new(renew.report))));
        }
        let answered = self.network.store(now);
        self.queue.push(answered, Happening::Renewed { node, incarnation, renewed, sent });
    }

    fn renewed(&mut self, node: usize, incarnation: Incarnation, renewed: Renewed, sent: Millis) {
        let node = &mut self.nodes[node];
        match renewed {
            Renewed::Yes { store_ms } => {
                node.lease.renewed(incarnation, store_ms, sent, self.now);
                node.cadence.answered();
            }
            Renewed::Lapsed | Renewed::NewRun { .. } => node.cadence.failed(self.now),
        }
    }

    /// Tells all schedulers of what the store has written in a bucket.
    fn publish(&mut self, bucket: u8, event: Option<Event>) {
        let Some(event) = event.map(Rc::new) else { return };
        for (number, scheduler) in self.schedulers.iter_mut().enumerate() {
            let arrives = self.network.event(number, bucket, self.now);
            scheduler.expect(event.clone(), arrives);
        }
    }

    /// Brings a scheduler up to this moment.
    fn wake(&mut self, scheduler: usize) {
        for node in self.schedulers[scheduler].catch_up(&self.numbers, self.now) {
            self.nodes[node].cadence.want_all(self.now);
        }
    }

    fn holding(&self, node: usize, room: &RoomKey, offer: Offer) -> Holding {
        Holding {
            room: room.clone(),
            run: first_run(),
            node: self.plan.nodes[node].id.clone(),
            incarnation: offer.incarnation,
            epoch: offer.epoch,
        }
    }

    fn sample(&mut self) {
        self.check_all();
        self.tally.sample(self.plan, &self.nodes, self.now);
        let next = self.now.plus(self.plan.sample_ms);
        if next < self.plan.end {
            self.queue.push(next, Happening::Sample);
        }
    }

    fn finish(mut self) -> Run {
        self.check_all();
        self.tally.sample(self.plan, &self.nodes, self.now);
        // Schedulers that nobody asked lately have their news folded too: whatever is wrong with it must show.
        for scheduler in 0..self.schedulers.len() {
            self.wake(scheduler);
        }
        self.tally.finish()
    }

    fn plan_of(&self, node: usize) -> &'a NodePlan {
        &self.plan.nodes[node]
    }

    fn is_core(&self, scheduler: usize) -> bool {
        matches!(self.schedulers[scheduler].mind, Mind::Core(_))
    }
}
