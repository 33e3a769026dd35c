//! What a seed stands for: how many there are, how bad the network is, and which faults befall whom, when.

use rand::RngExt as _;
use rand_pcg::Pcg64;
use roost_proto::time::Millis;
use roost_sim::random::stream;

use crate::order::{self, Order, What};
use crate::store::Loss;
use crate::wire::{Clock, Place};

/// The most nodes of a run.
pub(crate) const MOST_NODES: usize = 4;
const MOST_SCHEDULERS: usize = 3;
const MOST_ORDERS: usize = 8;
const SHORTLY_MS: u64 = 2_000;
/// Faults happen between these two; before, the first grace passes.
pub(crate) const FAULTS_MS: [u64; 2] = [6_000, 26_000];
/// Scenes begin so long before the last faults at the latest; all are over before it is calm.
const LONGEST_SCENE_MS: u64 = 6_000;
/// From here on nothing bad happens any more, and everything has to recover.
pub(crate) const CALM_MS: u64 = 30_000;
/// A run ends here.
pub(crate) const END_MS: u64 = 50_000;
/// An hour.
pub(crate) const HOUR_MS: u64 = 3_600_000;
/// How far apart clocks are at most.
const SKEW_MS: u64 = 120_000;
/// How much faster than others a clock may go.
const DRIFT_PPM: u64 = 2_000;

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) schedulers: usize,
    pub(crate) clients: usize,
    pub(crate) rooms: u64,
    pub(crate) network: Network,
    /// Of agents first, then of schedulers.
    pub(crate) clocks: Vec<Clock>,
    pub(crate) faults: Vec<Planned>,
    pub(crate) orders: Vec<Order>,
}

/// How often messages come late, twice or never, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) loss_permille: u64,
    pub(crate) repeat_permille: u64,
    pub(crate) slow_permille: u64,
    /// How late at most.
    pub(crate) slow_ms: u64,
}

/// A fault, with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) from: Millis,
    pub(crate) until: Millis,
    pub(crate) fault: Fault,
}

/// What may go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process stands still, and its clock goes on.
    Pause(Place),
    /// The process ends, and another one starts in its place.
    Crash(Place),
    /// Nothing goes this way.
    Cut(Place, Place),
    /// What is sent this way arrives at the end.
    Hold(Place, Place),
    /// The store's host is there, and nobody listens.
    Refuses,
    /// The store does not answer.
    Silent,
    /// The store's process ends, and another one starts.
    Restart(Loss),
    /// The store forgets everything, and its process goes on.
    Flush,
    /// Another server takes over the bucket of the room of this number, and nothing else.
    FailOver(u64, Loss),
    /// The store writes the copy that a later loss brings back.
    Save,
    /// The store's clock is set forward.
    ClockStep(u64),
}

impl Plan {
    /// What the seed stands for.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = stream(seed, "plan");
        let nodes = random.random_range(2..=MOST_NODES);
        let schedulers = random.random_range(2..=MOST_SCHEDULERS);
        let clock = |random: &mut Pcg64| Clock {
            ahead_ms: random.random_range(0..=SKEW_MS),
            drift_ppm: random.random_range(0..=DRIFT_PPM),
        };
        let mut plan = Self {
            seed,
            nodes,
            schedulers,
            clients: random.random_range(2..=5),
            rooms: random.random_range(1..=4),
            network: network(&mut random),
            clocks: (0..MOST_NODES + MOST_SCHEDULERS).map(|_| clock(&mut random)).collect(),
            faults: Vec::new(),
            orders: Vec::new(),
        };
        for _ in 0..random.random_range(1..=6) {
            plan.draw(FAULTS_MS, CALM_MS, &mut random);
        }
        plan.draw_links(&mut stream(seed, "links"));
        plan.orders = plan.orders(&mut stream(seed, "operator"));
        plan.draw_scene(&mut stream(seed, "scene"));
        if order::is_steered(seed) {
            order::steer(&mut plan, &mut stream(seed, "steering"));
        }
        plan
    }

    /// Whether nothing but what `is_meant` befalls anybody between two moments, and the network does what it should.
    pub(crate) fn is_calm(&self, from: Millis, until: Millis, is_meant: impl Fn(&Fault) -> bool) -> bool {
        let touches = |planned: &Planned| planned.from <= until && from <= planned.until;
        self.network == Network::default()
            && self.faults.iter().all(|planned| !touches(planned) || is_meant(&planned.fault))
    }

    /// One in three is given to two schedulers, who need not agree on where the room goes.
    fn orders(&self, random: &mut Pcg64) -> Vec<Order> {
        let mut orders = Vec::new();
        for _ in 0..random.random_range(0..=MOST_ORDERS) {
            let mut at = Millis(random.random_range(FAULTS_MS[0]..=CALM_MS));
            // Many shortly before something goes wrong: that is when answers are lost.
            if !self.faults.is_empty() && random.random_range(0..2) == 0 {
                let fault = random.random_range(0..self.faults.len());
                at = self.faults[fault].from.minus(random.random_range(0..=SHORTLY_MS));
            }
            let room = random.random_range(0..self.rooms);
            let both = random.random_range(0..3) == 0;
            for scheduler in 0..if both { 2 } else { 1 } {
                let to = Some(random.random_range(0..=self.nodes)).filter(|node| *node < self.nodes);
                orders.push(Order { at, scheduler, what: What::Move { room, to } });
            }
        }
        orders
    }

    /// `hours` in which something goes wrong each minute or two. The first agent and the first scheduler live through it
    /// all, so that what they forget to give away grows.
    pub(crate) fn day(seed: u64, hours: u64) -> Self {
        let mut random = stream(seed, "day");
        let network = Network { loss_permille: 2, repeat_permille: 5, slow_permille: 10, slow_ms: 500 };
        let mut plan = Self {
            nodes: MOST_NODES,
            schedulers: MOST_SCHEDULERS,
            clients: 5,
            rooms: 24,
            network,
            faults: Vec::new(),
            orders: Vec::new(),
            ..Self::of(seed)
        };
        let mut at_ms = FAULTS_MS[0];
        while at_ms < hours * HOUR_MS {
            plan.draw([at_ms, at_ms + 10_000], at_ms + 40_000, &mut random);
            at_ms += random.random_range(50_000..=110_000);
        }
        let lives_on = |place: Place| matches!(place, Place::Agent(0) | Place::Scheduler(0));
        plan.faults.retain(|planned| !matches!(planned.fault, Fault::Crash(place) if lives_on(place)));
        plan
    }

    /// Ways between schedulers and agents are cut besides.
    fn draw_links(&mut self, random: &mut Pcg64) {
        for _ in 0..random.random_range(0..=2) {
            let from = Millis(random.random_range(FAULTS_MS[0]..=FAULTS_MS[1]));
            let scheduler = Place::Scheduler(random.random_range(0..self.schedulers));
            let agent = Place::Agent(random.random_range(0..self.nodes));
            let ways = [(scheduler, agent), (agent, scheduler)];
            for (one, other) in &ways[random.random_range(0..=1)..] {
                let lasts_ms = random.random_range(500..=CALM_MS - from.0);
                self.push(from, lasts_ms, Fault::Cut(*one, *other));
            }
        }
    }

    /// In one seed of three, faults that each seldom come together: only in that order, that close, do they show what some
    /// rules are for.
    fn draw_scene(&mut self, random: &mut Pcg64) {
        let from = Millis(random.random_range(FAULTS_MS[0]..=FAULTS_MS[1] - LONGEST_SCENE_MS));
        let number = random.random_range(0..self.nodes);
        let (agent, scheduler) = (Place::Agent(number), random.random_range(0..self.schedulers));
        match random.random_range(0..12) {
            // The answer to the last renewal before the node is cut off comes late.
            0 => {
                self.push(from, random.random_range(1_300..=2_500), Fault::Hold(Place::Store, agent));
                self.push(from.plus(1_000), random.random_range(5_000..=8_000), Fault::Cut(agent, Place::Store));
            }
            // Nodes give their rooms away and never hear that; then the store forgets it, too.
            1 => {
                (0..self.nodes).for_each(|node| self.push(from, 500, Fault::Cut(Place::Store, Place::Agent(node))));
                self.order_all(scheduler, from, None);
                self.push(from.plus(random.random_range(1_000..=2_500)), 0, Fault::Flush);
            }
            // The refusal that proves a process dead comes when there is another in its place, with rooms, which cannot
            // be reached.
            2 => {
                let (down_ms, late_ms) = (random.random_range(4_500..=5_500), random.random_range(600..=1_500));
                let (back, watcher) = (from.plus(down_ms), Place::Scheduler(scheduler));
                self.push(from, down_ms, Fault::Crash(agent));
                self.push(back.minus(300), 300 + late_ms, Fault::Hold(agent, watcher));
                self.push(back, 3_000, Fault::Cut(watcher, agent));
                self.order_all((scheduler + 1) % self.schedulers, back.plus(200), Some(number));
            }
            // The store comes back empty, and refuses again before everybody has seen that.
            3 => {
                let down_ms = random.random_range(10..=500);
                let back = from.plus(down_ms);
                self.push(from, down_ms, Fault::Restart(Loss::Everything));
                self.push(back.plus(random.random_range(50..=400)), 6_000, Fault::Refuses);
            }
            // The same, and a scheduler that has seen it stands still for as long. A node hears of it only after that.
            4 => {
                let (down_ms, seen_ms, refuses_ms) = (random.random_range(10..=300), 1_000, 5_500);
                let (back, begins) = (from.plus(down_ms), from.plus(down_ms + seen_ms));
                let (ends, watcher) = (begins.plus(refuses_ms), Place::Scheduler(scheduler));
                self.push(from, down_ms, Fault::Restart(Loss::Everything));
                self.push(from, begins.plus(50).since(from), Fault::Hold(agent, Place::Store));
                self.push(begins, refuses_ms, Fault::Refuses);
                self.push(ends.minus(100), 2_500, Fault::Cut(agent, Place::Store));
                let asleep = back.plus(random.random_range(700..=1_000));
                let wakes = ends.plus(random.random_range(50..=1_500));
                self.push(asleep, wakes.since(asleep), Fault::Pause(watcher));
            }
            // The store's clock steps forward again and again, where a scheduler's watch may lag.
            5 => {
                self.network = Network { loss_permille: 0, repeat_permille: 0, slow_permille: 60, slow_ms: 6_000 };
                for step in 0..6 {
                    let at = from.plus(900 * step + random.random_range(0..=800));
                    self.push(at, 0, Fault::ClockStep(random.random_range(3_500..=5_000)));
                }
            }
            // A node hears of the store's new run, and what it says of its rooms then comes when others have had them.
            6 => {
                let down_ms = random.random_range(10..=300);
                self.push(from, down_ms, Fault::Restart(Loss::Everything));
                let heard = from.plus(down_ms + random.random_range(100..=900));
                self.push(heard, 9_000, Fault::Hold(agent, Place::Store));
                let at = heard.plus(random.random_range(6_500..=7_500));
                let close = |room: u64| Order { at, scheduler, what: What::Close { room } };
                self.orders.extend((0..self.rooms).map(close));
            }
            _ => {}
        }
    }

    /// Every room is to be moved, within a moment.
    fn order_all(&mut self, scheduler: usize, from: Millis, to: Option<usize>) {
        let order = |room: u64| Order { at: from.plus(30 * room), scheduler, what: What::Move { room, to } };
        self.orders.extend((0..self.rooms).map(order));
    }

    fn draw(&mut self, within_ms: [u64; 2], calm_ms: u64, random: &mut Pcg64) {
        let from = Millis(random.random_range(within_ms[0]..=within_ms[1]));
        let process = self.process(random);
        let longest = calm_ms - from.0;
        let lasts = |random: &mut Pcg64, from: u64, to: u64| random.random_range(from..=to).min(longest);
        let loss = [Loss::Nothing, Loss::Latest, Loss::Everything][random.random_range(0..3)];
        let (fault, lasts_ms) = match random.random_range(0..21) {
            0..=2 => (Fault::Pause(process), lasts(random, 500, 12_000)),
            3..=4 => (Fault::Crash(process), lasts(random, 10, 6_000)),
            5..=6 => {
                self.push(from, lasts(random, 500, 12_000), Fault::Cut(process, Place::Store));
                (Fault::Cut(Place::Store, process), lasts(random, 500, 12_000))
            }
            7 => (Fault::Cut(process, Place::Store), lasts(random, 500, 12_000)),
            8 => (Fault::Cut(Place::Store, process), lasts(random, 500, 12_000)),
            9 => (Fault::Refuses, lasts(random, 500, 15_000)),
            10 => (Fault::Silent, lasts(random, 500, 15_000)),
            11..=12 => {
                let saved = random.random_range(within_ms[0]..=from.0);
                self.push(Millis(saved), 0, Fault::Save);
                (Fault::Restart(loss), lasts(random, 10, 3_000))
            }
            13 => (Fault::Flush, 0),
            14..=15 => (Fault::Hold(process, Place::Store), lasts(random, 1_000, 6_000)),
            16 => {
                // What was written is known late, and nothing can be written after it.
                let later = from.plus(random.random_range(0..=1_000));
                self.push(from, random.random_range(500..=1_800), Fault::Hold(Place::Store, process));
                self.push(later, lasts(random, 5_000, 12_000), Fault::Cut(process, Place::Store));
                return;
            }
            17..=19 => {
                let saved = random.random_range(FAULTS_MS[0]..=from.0);
                self.push(Millis(saved), 0, Fault::Save);
                (Fault::FailOver(random.random_range(0..self.rooms), loss), 0)
            }
            _ => (Fault::ClockStep(random.random_range(500..=5_000)), 0),
        };
        self.push(from, lasts_ms, fault);
    }

    pub(crate) fn push(&mut self, from: Millis, lasts_ms: u64, fault: Fault) {
        self.faults.push(Planned { from, until: from.plus(lasts_ms), fault });
    }

    fn process(&self, random: &mut Pcg64) -> Place {
        if random.random_range(0..3) == 0 {
            Place::Scheduler(random.random_range(0..self.schedulers))
        } else {
            Place::Agent(random.random_range(0..self.nodes))
        }
    }
}

fn network(random: &mut Pcg64) -> Network {
    match random.random_range(0..3) {
        0 => Network::default(),
        1 => Network { loss_permille: 10, repeat_permille: 20, slow_permille: 50, slow_ms: 1_000 },
        _ => Network {
            loss_permille: random.random_range(0..=100),
            repeat_permille: random.random_range(0..=100),
            slow_permille: random.random_range(0..=200),
            slow_ms: random.random_range(100..=6_000),
        },
    }
}
