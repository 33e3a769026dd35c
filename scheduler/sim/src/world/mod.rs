//! One run: everything that happens in it, one thing after the other, in simulated time.

mod doors;
mod lookups;
mod rules;
mod spells;
mod tally;

use std::collections::BTreeMap;
use std::rc::Rc;

use rand::RngExt as _;
use rand_pcg::Pcg64;
use roost_agent_core::hold::{Held, Offer};
use roost_proto::event::Event;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::report::{Mode, Report};
use roost_proto::time::Millis;
use roost_store::operation::{Holding, Opened, Renew, Renewed};

use crate::network::Network;
use crate::node::SimNode;
use crate::plan::{NodePlan, Plan};
use crate::policies::PolicyName;
use crate::queue::Queue;
use crate::random::stream;
use crate::scheduler::{Mind, SimScheduler};
use crate::store::{SimStore, first_run, store_ms};
use lookups::{Answer, Call, Lookup};
use tally::Tally;
pub use tally::{Figures, NodeFigures, Sample};
pub(crate) use tally::{is_full, max_mean, share};

/// What a run comes to.
#[derive(Debug, Clone)]
pub struct Run {
    pub figures: Figures,
    /// In the plan's order.
    pub nodes: Vec<NodeFigures>,
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

/// Runs the plan to its end, and tells how far it is each time the load is looked at.
#[must_use]
pub fn run(plan: &Plan, setting: Setting, tell: impl Fn(Millis)) -> Run {
    let mut world = World::new(plan, setting);
    while let Some((at, what)) = world.next().filter(|(at, _)| *at <= plan.end) {
        world.now = at;
        if matches!(what, Happening::Sample) {
            tell(at);
        }
        world.happen(what);
    }
    world.now = plan.end;
    world.finish()
}

/// Up to so long before the first arrival all schedulers hear the same, and one does for all. Enough for each node to
/// report a few times.
const APART_MS: u64 = 5_000;

/// Everything that there is.
#[derive(Debug)]
struct World<'a> {
    plan: &'a Plan,
    now: Millis,
    queue: Queue<Happening>,
    /// The first visit that has not begun. Visits are in order: the queue need not hold them all.
    to_come: usize,
    network: Network,
    store: SimStore,
    nodes: Vec<SimNode>,
    numbers: BTreeMap<NodeId, usize>,
    setting: Setting,
    schedulers: Vec<SimScheduler>,
    guests: Vec<Guest>,
    settling: Settling,
    /// Who is in which room from the beginning.
    inside: BTreeMap<u32, Vec<u32>>,
    /// Which scheduler a client asks.
    routes: Pcg64,
    tally: Tally,
}

/// Whether there is anything left to decide: rooms that are not open, or that may end.
///
/// When there is not, schedulers hear of nothing any more and participants go straight to their room's door: the longest
/// part of a burst takes no time, and nobody ends up elsewhere.
#[derive(Debug)]
struct Settling {
    is_open: Vec<bool>,
    left: usize,
}

impl Settling {
    fn of(plan: &Plan) -> Self {
        let may_end = plan.visits.iter().any(|visit| visit.leaves_at.is_some())
            || plan.nodes.iter().any(|node| node.spells.iter().any(|(_, until)| *until <= plan.end));
        let rooms = plan.rooms.len();
        Self { is_open: vec![false; rooms], left: if may_end { usize::MAX } else { rooms } }
    }

    fn opened(&mut self, room: u32) {
        if !std::mem::replace(&mut self.is_open[room as usize], true) {
            self.left -= 1;
        }
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }
}

/// Something that happens, or arrives.
#[derive(Debug)]
enum Happening {
    Part,
    Begin { node: usize },
    Vanish { node: usize },
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
        let mut world = Self {
            plan,
            now: Millis(0),
            queue: Queue::new(),
            to_come: plan.visits.partition_point(|visit| visit.at == Millis(0)),
            network: Network::new(plan.delays, schedulers.into(), seed),
            store: SimStore::new(),
            nodes: Vec::new(),
            numbers: plan.nodes.iter().enumerate().map(|(number, node)| (node.id.clone(), number)).collect(),
            setting,
            schedulers: policy.is_core().then(|| SimScheduler::new(None)).into_iter().collect(),
            guests: vec![Guest::default(); plan.visits.len()],
            settling: Settling::of(plan),
            inside: BTreeMap::new(),
            routes: stream(seed, "routes"),
            tally: Tally::new(plan, policy, keep_samples),
        };
        world.queue.push(plan.warm_up.minus(APART_MS), Happening::Part);
        let mut paces = stream(seed, "paces");
        for (number, node) in plan.nodes.iter().enumerate() {
            let [least, most] = node.report_every_ms;
            let begin = Millis(paces.random_range(0..1_000));
            world.nodes.push(SimNode::new(node, paces.random_range(least..=most), begin));
            for (from, until) in &node.spells {
                world.queue.push(begin.max(*from), Happening::Begin { node: number });
                world.queue.push(*until, Happening::Vanish { node: number });
            }
            for (at, mode) in &node.mode_changes {
                world.queue.push(*at, Happening::Mode { node: number, mode: *mode });
            }
        }
        for (visit, plan) in (0..).zip(&plan.visits[..world.to_come]) {
            world.inside.entry(plan.room).or_default().push(visit);
        }
        let first = if keep_samples { plan.warm_up } else { plan.measure_from };
        world.queue.push(first, Happening::Sample);
        world
    }

    /// What happens next; of what happens at once, visits first.
    fn next(&mut self) -> Option<(Millis, Happening)> {
        let coming = self.plan.visits.get(self.to_come).map(|visit| visit.at);
        match (coming, self.queue.next_at()) {
            (Some(at), due) if due.is_none_or(|due| at <= due) => {
                self.to_come += 1;
                Some((at, Happening::Visit { visit: self.to_come as u32 - 1 }))
            }
            _ => self.queue.pop(),
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Part => self.part(),
            Happening::Begin { node } => self.begin(node),
            Happening::Vanish { node } => self.vanish(node),
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

    fn report(&mut self, node: usize) {
        let now = self.now;
        self.nodes[node].end_idle(now);
        self.send_releases(node);
        // Without a lease it has vanished.
        let Some(report) = self.nodes[node].report(&self.plan.nodes[node], now) else { return };
        let arrives = self.network.store(now);
        self.queue.push(arrives, Happening::Renewal { node, report: Box::new(report), sent: now });
        let next = self.nodes[node].next_report(now);
        self.queue.push(next, Happening::Report { node });
    }

    fn renewal(&mut self, node: usize, report: Box<Report>, sent: Millis) {
        let (now, bucket, incarnation) = (self.now, self.plan.nodes[node].id.bucket(), report.incarnation);
        let renew = Renew { run: first_run(), report: *report, buckets: Vec::new() };
        let renewed = self.store.bucket(bucket).renew(&renew, store_ms(now));
        if matches!(renewed, Renewed::Yes { .. }) {
            self.publish(bucket, Some(Event::Reported(Box::new(renew.report))));
        }
        let answered = self.network.store(now);
        self.queue.push(answered, Happening::Renewed { node, incarnation, renewed, sent });
    }

    fn renewed(&mut self, node: usize, incarnation: Incarnation, renewed: Renewed, sent: Millis) {
        let (node, now) = (&mut self.nodes[node], self.now);
        match renewed {
            Renewed::Yes { store_ms, .. } => {
                node.lease.renewed(incarnation, store_ms, sent, now);
                // The one run of this store goes on in all buckets.
                node.runs.renewed(None, sent, &mut node.lease, &mut node.holdings, now);
                node.cadence.answered();
            }
            Renewed::Lapsed | Renewed::NewRun { .. } => node.cadence.failed(self.now),
        }
    }

    /// Tells all schedulers of what the store has written in a bucket.
    fn publish(&mut self, bucket: u8, event: Option<Event>) {
        let Some(event) = event.filter(|_| !self.settling.is_over()).map(Rc::new) else { return };
        for (number, scheduler) in self.schedulers.iter_mut().enumerate() {
            let arrives = self.network.event(number, bucket, self.now);
            scheduler.expect(event.clone(), arrives);
        }
    }

    /// Each scheduler hears for itself from here on, as its policy says. Another system's rule needs no more than the
    /// reports that still come before the first arrival.
    fn part(&mut self) {
        let Setting { policy, schedulers, seed, .. } = self.setting;
        if !self.schedulers.is_empty() {
            self.wake(0);
        }
        for number in self.schedulers.len()..usize::from(schedulers) {
            let twin = self.schedulers.first().and_then(SimScheduler::twin);
            let scheduler = twin.unwrap_or_else(|| SimScheduler::new(policy.selector(self.plan, seed, number)));
            self.schedulers.push(scheduler);
        }
        for scheduler in &mut self.schedulers {
            scheduler.begin(policy, self.now);
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
        self.tally.finish()
    }

    fn plan_of(&self, node: usize) -> &'a NodePlan {
        &self.plan.nodes[node]
    }

    fn is_core(&self, scheduler: usize) -> bool {
        matches!(self.schedulers[scheduler].mind, Mind::Core(_))
    }
}
