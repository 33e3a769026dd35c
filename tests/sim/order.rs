//! What operators order, and when: rooms are moved and closed, nodes are steered and purged.

use rand::RngExt as _;
use rand_pcg::Pcg64;
use roost_proto::mode::Mode;
use roost_proto::time::Millis;

use crate::plan::{CALM_MS, FAULTS_MS, Fault, Plan};
use crate::store::Loss;
use crate::wire::Place;

/// One seed in so many is about steering.
const STEERED: u64 = 8;
/// The last word is given so long before all is calm.
const LAST_WORD_MS: u64 = 5_000;
/// How long a drain gives its rooms at most.
const LONGEST_DRAIN_MS: u64 = 5_000;

/// A scheduler is told something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) at: Millis,
    pub(crate) scheduler: usize,
    pub(crate) what: What,
}

/// What it is told. Rooms and nodes by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// To the node, or, if there is none, wherever placement says.
    Move {
        room: u64,
        to: Option<usize>,
    },
    Close {
        room: u64,
    },
    Mode {
        node: usize,
        mode: Mode,
    },
    Drain {
        node: usize,
        move_rooms: bool,
        deadline_ms: u64,
    },
    Cancel {
        node: usize,
    },
    Purge {
        node: usize,
    },
}

/// Whether the seed is one of those in which nodes are steered. The others stay as they are without.
pub(crate) fn is_steered(seed: u64) -> bool {
    seed % STEERED == STEERED - 1
}

/// Has operators close rooms and steer nodes. One node, which can take all rooms, is left alone.
pub(crate) fn steer(plan: &mut Plan, random: &mut Pcg64) {
    let spared = random.random_range(0..2);
    let victim = (spared + random.random_range(1..plan.nodes)) % plan.nodes;
    for _ in 0..random.random_range(0..=3) {
        let (at, room) = (moment(random), random.random_range(0..plan.rooms));
        order(plan, at, What::Close { room }, random);
    }
    let at = moment(random);
    let begun = drain(victim, random);
    let scheduler = order(plan, at, begun, random);
    // Whoever began the drain does not carry it on.
    if random.random_range(0..2) == 0 {
        let from = at.plus(random.random_range(20..=3_000));
        plan.push(from, CALM_MS - from.0, Fault::Crash(Place::Scheduler(scheduler)));
    }
    match random.random_range(0..6) {
        // It is taken back, and perhaps begun again at once.
        0 => {
            let back = at.plus(random.random_range(50..=6_000));
            order(plan, back, What::Cancel { node: victim }, random);
            if random.random_range(0..3) > 0 {
                let again = drain(victim, random);
                order(plan, back.plus(random.random_range(50..=3_000)), again, random);
            }
        }
        // The plan is lost with the store, which comes back as it was before, or empty.
        1 => {
            plan.push(at.minus(random.random_range(0..=1_000)), 0, Fault::Save);
            let loss = if random.random_range(0..2) == 0 { Loss::Latest } else { Loss::Everything };
            plan.push(at.plus(random.random_range(200..=3_000)), 50, Fault::Restart(loss));
        }
        // Its node hears of it late.
        2 => {
            let from = at.minus(random.random_range(0..=1_000));
            plan.push(from, random.random_range(1_000..=3_500), Fault::Hold(Place::Store, Place::Agent(victim)));
        }
        // Its node is gone for long, and given up.
        3 => {
            let from = at.plus(random.random_range(0..=2_000));
            let gone = if random.random_range(0..2) == 0 { Fault::Crash } else { Fault::Pause };
            plan.push(from, random.random_range(4_500..=9_000), gone(Place::Agent(victim)));
            for after_ms in [4_000, 4_600, 6_000, 8_000] {
                let at = from.plus(after_ms + random.random_range(0..=500));
                order(plan, at, What::Purge { node: victim }, random);
            }
        }
        // Others say otherwise at the same moment.
        4 => {
            for _ in 0..random.random_range(1..=3) {
                let mode = mode(random);
                order(plan, at.plus(random.random_range(0..=60)), What::Mode { node: victim, mode }, random);
            }
        }
        _ => {}
    }
    for _ in 0..random.random_range(0..=3) {
        let node = (spared + random.random_range(1..plan.nodes)) % plan.nodes;
        let what = match random.random_range(0..4) {
            0 => drain(node, random),
            1 => What::Cancel { node },
            _ => What::Mode { node, mode: mode(random) },
        };
        let at = moment(random);
        order(plan, at, what, random);
    }
}

fn order(plan: &mut Plan, at: Millis, what: What, random: &mut Pcg64) -> usize {
    let scheduler = random.random_range(0..plan.schedulers);
    plan.orders.push(Order { at: at.min(Millis(CALM_MS - LAST_WORD_MS)), scheduler, what });
    scheduler
}

fn drain(node: usize, random: &mut Pcg64) -> What {
    let move_rooms = random.random_range(0..2) == 0;
    What::Drain { node, move_rooms, deadline_ms: random.random_range(500..=LONGEST_DRAIN_MS) }
}

fn mode(random: &mut Pcg64) -> Mode {
    Mode::ALL[random.random_range(0..Mode::ALL.len())]
}

fn moment(random: &mut Pcg64) -> Millis {
    Millis(random.random_range(FAULTS_MS[0]..=CALM_MS - 2 * LAST_WORD_MS))
}
