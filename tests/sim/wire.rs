//! Everything between the processes: one queue of what is to happen, their clocks, and a network that loses, delays,
//! repeats and cuts. Whatever goes from one place to another, and every timer, passes here.

use std::fmt;

use rand::RngExt as _;
use rand_pcg::Pcg64;
use roost_proto::time::Millis;
use roost_sim::queue::Queue;
use roost_sim::random::stream;

use crate::message::Body;
use crate::plan::{Network, Plan};

/// What every process's clock shows at the beginning, but for its skew.
const CLOCKS_BEGIN_MS: u64 = 1_000_000;
/// A message that is repeated, or slow, is so by at most this much more than others.
const FAST_MS: u64 = 15;

/// Who reads a stream asks for more all the time, and gives it up when no answer has come for so long.
const LAG_MS: u64 = 1_000;

/// Where something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Store,
    Scheduler(usize),
    Agent(usize),
    Client(usize),
}

/// What a process wakes up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Its main loop goes on; an older beat than the last one set is over.
    Beat(u64),
    /// No answer to the request came in time.
    Timeout(u64),
    Tick,
    Watch,
    Assert,
    /// The grace of a provisional assertion may be over.
    Confirm,
    Release,
    Move,
    LookAgain(u64),
    /// Somebody who was let in has their transport.
    Arrive(u64),
    Leave(u64),
}

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    Message {
        from: Place,
        to: Place,
        id: u64,
        body: Body,
    },
    /// For one life of a process: a later one has its own.
    Timer {
        at: Place,
        life: u64,
        timer: Timer,
    },
    Fault {
        index: usize,
        begins: bool,
    },
    /// An operator orders something.
    Order {
        index: usize,
    },
}

/// A process's clock: it only goes forward, and not exactly as fast as others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    pub(crate) ahead_ms: u64,
    pub(crate) drift_ppm: u64,
}

impl Clock {
    /// What it shows.
    pub(crate) fn at(self, now: Millis) -> Millis {
        Millis(CLOCKS_BEGIN_MS + self.ahead_ms + now.0 + now.0 * self.drift_ppm / 1_000_000)
    }
}

/// The ways between the processes.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) now: Millis,
    queue: Queue<Happening>,
    network: Network,
    random: Pcg64,
    ids: u64,
    /// Ways that let nothing through, each as often as it was cut.
    cut: Vec<(Place, Place)>,
    /// Ways on which everything comes late: not before that time.
    held: Vec<(Place, Place, Millis)>,
    /// Empty unless a trace is wanted.
    pub(crate) trace: Option<Vec<String>>,
}

impl Wire {
    pub(crate) fn new(plan: &Plan, traced: bool) -> Self {
        Self {
            now: Millis(0),
            queue: Queue::new(),
            network: plan.network,
            random: stream(plan.seed, "wire"),
            ids: 0,
            cut: Vec::new(),
            held: Vec::new(),
            trace: traced.then(Vec::new),
        }
    }

    /// The next thing that happens; the time goes on to it.
    pub(crate) fn next(&mut self) -> Option<Happening> {
        let (at, what) = self.queue.pop()?;
        self.now = self.now.max(at);
        Some(what)
    }

    /// It happens later: its process stands still until then.
    pub(crate) fn put_off(&mut self, until: Millis, what: Happening) {
        self.queue.push(until, what);
    }

    pub(crate) fn fault(&mut self, at: Millis, index: usize, begins: bool) {
        self.queue.push(at, Happening::Fault { index, begins });
    }

    pub(crate) fn order(&mut self, at: Millis, index: usize) {
        self.queue.push(at, Happening::Order { index });
    }

    /// A number that nothing else has.
    pub(crate) fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// A number that is drawn.
    pub(crate) fn draw(&mut self, from: u64, to: u64) -> u64 {
        self.random.random_range(from..=to)
    }

    /// Sends a message, which may come late, twice or never.
    pub(crate) fn send(&mut self, from: Place, to: Place, id: u64, body: Body) {
        if self.is_cut(from, to) || self.chance(self.network.loss_permille) {
            self.tell(|| format!("{from:?} -> {to:?} #{id} LOST {body:?}"));
            return;
        }
        if self.chance(self.network.repeat_permille) {
            let at = self.arrives(from, to);
            self.queue.push(at, Happening::Message { from, to, id, body: body.clone() });
        }
        let at = self.arrives(from, to);
        self.queue.push(at, Happening::Message { from, to, id, body });
    }

    /// Sends a part of a stream, which keeps its order; `last` is when the part before arrives. False if it is broken.
    pub(crate) fn stream(&mut self, (from, to): (Place, Place), id: u64, body: Body, last: &mut Millis) -> bool {
        if self.is_cut(from, to) || self.chance(self.network.loss_permille / 8) {
            return false;
        }
        let at = self.arrives(from, to).max(*last);
        if at.since(self.now) > LAG_MS {
            return false;
        }
        *last = at;
        self.queue.push(at, Happening::Message { from, to, id, body });
        true
    }

    pub(crate) fn timer(&mut self, at: Place, life: u64, after_ms: u64, timer: Timer) {
        self.queue.push(self.now.plus(after_ms), Happening::Timer { at, life, timer });
    }

    pub(crate) fn cut(&mut self, from: Place, to: Place) {
        self.cut.push((from, to));
    }

    /// What is sent this way arrives after `until`, as when lost packets are sent again.
    pub(crate) fn hold(&mut self, from: Place, to: Place, until: Millis) {
        let now = self.now;
        self.held.retain(|(.., until)| *until > now);
        self.held.push((from, to, until));
    }

    pub(crate) fn mend(&mut self, from: Place, to: Place) {
        if let Some(found) = self.cut.iter().position(|way| *way == (from, to)) {
            self.cut.swap_remove(found);
        }
    }

    /// From here on the network does what it should.
    pub(crate) fn calm(&mut self) {
        self.network = Network::default();
    }

    /// Notes a line, if somebody wants to read it.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6} {}", now.0, line()));
        }
    }

    fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cut.contains(&(from, to))
    }

    fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.draw(0, 999) < permille
    }

    fn arrives(&mut self, from: Place, to: Place) -> Millis {
        let slow = if self.chance(self.network.slow_permille) { self.draw(0, self.network.slow_ms) } else { 0 };
        let took = self.draw(1, FAST_MS);
        let held = self.held.iter().filter(|held| (held.0, held.1) == (from, to)).map(|held| held.2).max();
        self.now.max(held.unwrap_or_default()).plus(took + slow)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => write!(f, "store"),
            Self::Scheduler(n) => write!(f, "scheduler {n}"),
            Self::Agent(n) => write!(f, "agent {n}"),
            Self::Client(n) => write!(f, "client {n}"),
        }
    }
}
