//! How large rooms get: learned from the rooms there are and were, and from how far callers' hints were off.
//!
//! Sizes of a namespace's rooms are taken as lognormal with a deviation as large as their mean: what one may assume of
//! meetings of which nothing is known. All of it is estimates that rank nodes; nothing is refused by them.

use std::collections::BTreeMap;

use roost_proto::hash::stable_hash;
use roost_proto::id::{NamespaceId, RoomKey};
use roost_proto::lookup::MOST_EXPECTED;
use roost_proto::time::Millis;

use crate::time::FILL_MS;

/// Of so many namespaces sizes are learned one by one; all others are learned together.
pub const MOST_NAMESPACES: usize = 1_024;
/// So many rooms that ended are kept in mind by name.
pub const MOST_RECURRING: usize = 65_536;

/// Variance of the logarithm of a room's size: ln 2, where the standard deviation of a lognormal is its mean.
pub const LOG_VARIANCE: f64 = std::f64::consts::LN_2;
/// What is expected where nothing is known, and how many rooms that belief is worth.
const PRIOR: Sum = Sum { rooms: 4.0, beyond_first: 4.0 * 3.0 };
/// How many ended rooms and hints are kept in mind: each further one fades the others by this part.
const REMEMBERED: f64 = 512.0;
/// The variance of the logarithm of hints that is assumed, and how many hints that assumption is worth.
const HINT_LOG_VARIANCE: f64 = 0.8;
const HINT_PRIOR: f64 = 16.0;
/// No hint is believed more than this.
const MOST_BELIEF: f64 = 0.97;
/// Sizes count for at most so many rooms when the middle of hinted rooms is sought, so that hints can tell that they
/// are given for rooms of another kind.
const MOST_MIDDLE: f64 = 20.0;
/// The last size of a room of this name says as much as so many times the namespace's mean.
const RECURRING_WEIGHT: f64 = 3.0;

/// What one living room teaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// Nobody came so far: nothing.
    Nothing,
    /// It has reached this size, and others may follow.
    Filling { since: Millis, size: u16 },
    /// This is its size.
    Settled { size: u16 },
}

/// What was learned about sizes.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// The first is for all namespaces that have none of their own.
    spaces: Vec<Space>,
    by_name: BTreeMap<NamespaceId, u16>,
    recurring: Recurring,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { spaces: vec![Space::default()], by_name: BTreeMap::new(), recurring: Recurring::default() }
    }
}

impl Sizes {
    /// Where the namespace's sizes are learned. `namespace` becomes the copy of the name that all its rooms share.
    pub fn space(&mut self, namespace: &mut NamespaceId) -> u16 {
        if let Some((name, space)) = self.by_name.get_key_value(namespace) {
            namespace.clone_from(name);
            return *space;
        }
        if self.by_name.len() >= MOST_NAMESPACES {
            return 0;
        }
        let space = u16::try_from(self.spaces.len()).unwrap_or(0);
        self.spaces.push(Space::default());
        self.by_name.insert(namespace.clone(), space);
        space
    }

    /// A room of the space taught one thing and teaches another from here on.
    pub fn learn(&mut self, space: u16, before: Lesson, after: Lesson) {
        if before != after {
            let space = self.at(space);
            space.add(before, -1);
            space.add(after, 1);
        }
    }

    /// A room has ended at this size. Its lesson as a living one was taken back.
    pub fn learn_end(&mut self, space: u16, key: &RoomKey, size: u16) {
        if size > 0 {
            let ended = &mut self.at(space).ended;
            ended.fade();
            ended.add(size);
            self.recurring.note(name_hash(key), size);
        }
    }

    /// A caller has given a hint.
    pub fn learn_hint(&mut self, space: u16, hint: u16) {
        if hint > 0 {
            self.at(space).hints.add(log(hint), 0.0);
        }
    }

    /// A room for which a hint was given has reached its size.
    pub fn learn_error(&mut self, space: u16, hint: u16, size: u16) {
        if hint > 0 && size > 0 {
            self.at(space).errors.add(log(hint), log(size));
        }
    }

    /// How many participants a room is expected to get, at least 1. A `hint` of 0 is none.
    ///
    /// The mean of a lognormal posterior: the logarithms of what the namespace's rooms, the last room of this name and
    /// the hint say are weighed by their precisions (conjugate normal prior, for example Gelman et al., Bayesian Data
    /// Analysis, 2.5), in units of the one of the namespace's rooms.
    #[must_use]
    pub fn expected(&self, key: &RoomKey, hint: u32, now: Millis) -> u16 {
        let space = &self.spaces[usize::from(self.by_name.get(&key.namespace).copied().unwrap_or(0))];
        let hint = clamped(hint);
        let (mut weight, mut sum) = (1.0, if hint > 0 { space.middle(now) } else { space.log_mean(now) });
        if let Some(last) = self.recurring.last(name_hash(key)) {
            weight += RECURRING_WEIGHT;
            sum += RECURRING_WEIGHT * log(last);
        }
        if hint > 0 {
            let belief = space.belief();
            let precision = belief / (1.0 - belief);
            weight += precision;
            sum += precision * (log(hint) - space.bias());
        }
        let expected = (sum / weight + LOG_VARIANCE / weight / 2.0).exp();
        expected.round().clamp(1.0, f64::from(MOST_EXPECTED)) as u16
    }

    /// The sums over living rooms, in namespaces that have any.
    #[cfg(test)]
    pub(crate) fn living(&self) -> Vec<(Count, i128, Count)> {
        let sums = self.spaces.iter().map(|space| (space.filling.count, space.filling.began, space.settled));
        sums.filter(|sums| *sums != Default::default()).collect()
    }

    fn at(&mut self, space: u16) -> &mut Space {
        let known = if usize::from(space) < self.spaces.len() { usize::from(space) } else { 0 };
        &mut self.spaces[known]
    }
}

/// What somebody says that a room will have, cut to what counts.
#[must_use]
pub fn clamped(participants: u32) -> u16 {
    participants.min(MOST_EXPECTED) as u16
}

const _: () = assert!(MOST_EXPECTED <= u16::MAX as u32);
const _: () = assert!(MOST_NAMESPACES < u16::MAX as usize);

/// What was learned in one namespace.
#[derive(Debug, Clone, Default)]
struct Space {
    filling: Filling,
    settled: Count,
    ended: Sum,
    /// All hints that were given.
    hints: Pairs,
    /// Hints and what became of them.
    errors: Pairs,
}

/// Rooms that fill: exact sums, so that what a room added can be taken off again.
#[derive(Debug, Clone, Default)]
struct Filling {
    count: Count,
    /// The sum of when they began, in ms.
    began: i128,
}

/// Rooms, and their participants beyond each room's first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    rooms: i64,
    beyond_first: i64,
}

/// The same, in parts of rooms.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    rooms: f64,
    beyond_first: f64,
}

impl Space {
    fn add(&mut self, lesson: Lesson, sign: i64) {
        match lesson {
            Lesson::Nothing => {}
            Lesson::Filling { since, size } => {
                self.filling.count.add(size, sign);
                self.filling.began += i128::from(sign) * i128::from(since.0);
            }
            Lesson::Settled { size } => self.settled.add(size, sign),
        }
    }

    /// All sizes. Participants beyond the first are taken to come evenly over [`FILL_MS`], so that a room teaches as
    /// the part of a room that it is old: a ratio estimate of the rate at which they come.
    fn sizes(&self, now: Millis) -> Sum {
        let Filling { count, began } = self.filling;
        let age_ms = i128::from(count.rooms) * i128::from(now.0) - began;
        let filled = (age_ms as f64 / FILL_MS as f64).clamp(0.0, count.rooms as f64);
        let beyond_first = (count.beyond_first + self.settled.beyond_first) as f64;
        Sum {
            rooms: PRIOR.rooms + filled + self.settled.rooms as f64 + self.ended.rooms,
            beyond_first: PRIOR.beyond_first + beyond_first + self.ended.beyond_first,
        }
    }

    /// The mean of the logarithms of sizes: of a lognormal, that of the mean less half the variance.
    fn log_mean(&self, now: Millis) -> f64 {
        self.sizes(now).mean().ln() - LOG_VARIANCE / 2.0
    }

    /// The same for the rooms that come with hints, by these and by all rooms' sizes.
    fn middle(&self, now: Millis) -> f64 {
        let sizes = self.sizes(now);
        let weight = sizes.rooms.min(MOST_MIDDLE);
        let all = sizes.mean().ln() - LOG_VARIANCE / 2.0;
        (weight * all + self.hints.x - self.hints.count * self.bias()) / (weight + self.hints.count)
    }

    /// By how much hints exceed what becomes of them, as a logarithm.
    fn bias(&self) -> f64 {
        (self.errors.x - self.errors.y) / (self.errors.count + HINT_PRIOR)
    }

    /// How far hints are believed, from 0 to [`MOST_BELIEF`]: how much of a difference between two hints is one of the
    /// rooms.
    ///
    /// Before rooms have settled the spread of hints tells: what they spread more than sizes do is error. Then the
    /// regression of sizes on hints does, with the former for a prior (ridge regression towards it).
    fn belief(&self) -> f64 {
        let spread = (HINT_PRIOR * HINT_LOG_VARIANCE + self.hints.xx()) / (HINT_PRIOR + self.hints.count);
        let prior = LOG_VARIANCE / spread.max(LOG_VARIANCE);
        let prior_weight = HINT_PRIOR * spread;
        let slope = (prior_weight * prior + self.errors.xy()) / (prior_weight + self.errors.xx());
        slope.clamp(0.0, MOST_BELIEF)
    }
}

impl Count {
    fn add(&mut self, size: u16, sign: i64) {
        self.rooms += sign;
        self.beyond_first += sign * (i64::from(size) - 1);
    }
}

impl Sum {
    fn add(&mut self, size: u16) {
        self.rooms += 1.0;
        self.beyond_first += f64::from(size) - 1.0;
    }

    fn fade(&mut self) {
        self.rooms -= self.rooms / REMEMBERED;
        self.beyond_first -= self.beyond_first / REMEMBERED;
    }

    /// Never less than 1: only rooms in which there was somebody count.
    fn mean(&self) -> f64 {
        (1.0 + self.beyond_first / self.rooms).max(1.0)
    }
}

/// Sums over pairs, of which the older ones fade.
#[derive(Debug, Clone, Copy, Default)]
struct Pairs {
    count: f64,
    x: f64,
    y: f64,
    squares: f64,
    products: f64,
}

impl Pairs {
    fn add(&mut self, x: f64, y: f64) {
        for (sum, value) in [
            (&mut self.count, 1.0),
            (&mut self.x, x),
            (&mut self.y, y),
            (&mut self.squares, x * x),
            (&mut self.products, x * y),
        ] {
            *sum += value - *sum / REMEMBERED;
        }
    }

    /// Sum of the squares of x about its mean.
    fn xx(&self) -> f64 {
        (self.squares - self.x * self.x / self.count.max(1.0)).max(0.0)
    }

    /// Sum of the products of x and y about their means.
    fn xy(&self) -> f64 {
        self.products - self.x * self.y / self.count.max(1.0)
    }
}

/// The last sizes of rooms by their names' hash; the one that ended longest ago goes first.
#[derive(Debug, Clone, Default)]
struct Recurring {
    sizes: BTreeMap<u64, (u64, u16)>,
    by_age: BTreeMap<u64, u64>,
    noted: u64,
}

impl Recurring {
    fn last(&self, name: u64) -> Option<u16> {
        self.sizes.get(&name).map(|(_, size)| *size)
    }

    fn note(&mut self, name: u64, size: u16) {
        self.noted += 1;
        if let Some((before, _)) = self.sizes.insert(name, (self.noted, size)) {
            self.by_age.remove(&before);
        }
        self.by_age.insert(self.noted, name);
        if self.sizes.len() > MOST_RECURRING
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.sizes.remove(&oldest);
        }
    }
}

fn name_hash(key: &RoomKey) -> u64 {
    stable_hash(&[key.namespace.as_str().as_bytes(), key.room.as_str().as_bytes()])
}

fn log(size: u16) -> f64 {
    f64::from(size.max(1)).ln()
}

#[cfg(test)]
mod tests;
