//! What is reserved on nodes: participants that rooms are expected to get and that are not reported yet.
//!
//! All schedulers compute it from what all of them are told, so that it needs no agreement of its own.

use std::collections::{BTreeMap, BTreeSet};

use roost_proto::id::{Incarnation, NodeId};
use roost_proto::time::Millis;

use crate::time::{EXPECT_MS, EXPECT_STEP_MS, FILL_MS, TICK_MS};

/// How far a room is known: what was said of it, and what is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Participants that the room is expected to get; 0: nothing is reserved for it.
    pub expected: u16,
    /// A caller's hint is behind that.
    pub is_hinted: bool,
    /// Participants as last reported.
    pub reported: u32,
    /// The most that were reported.
    pub peak: u16,
    /// How long ago the room's claim was first told of.
    pub age_ms: u64,
}

/// How far a room's own growth moves what is expected of it.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// As many participants that came as expected say as much as the expectation does.
    strength: f64,
    /// A room that grows fast counts as this many times what was expected, at most: one that fills in seconds looks as if
    /// it went on for minutes.
    most_times: f64,
}

const LEARNED: Doubt = Doubt { strength: 1.0, most_times: 2.0 };
const HINTED: Doubt = Doubt { strength: 4.0, most_times: 1.5 };

impl Growth {
    /// What the room counts beyond what is reported of it, in thousandths of a participant.
    ///
    /// Until it has filled: what is missing to what was expected. And what its growth so far lets expect further, if
    /// that is more: participants beyond the first come as a Poisson process over [`FILL_MS`] whose rate has a gamma
    /// prior with the expectation for its mean and `Doubt::strength` for its shape, so that the mean of what is still to come
    /// is the time left times the posterior's rate (conjugate prior, for example Gelman et al., Bayesian Data Analysis,
    /// 2.6). From [`FILL_MS`] on growth says nothing more, and what is missing counts less in steps of
    /// [`EXPECT_STEP_MS`], until at [`EXPECT_MS`] it is nothing.
    #[must_use]
    pub fn reserved_milli(self) -> u32 {
        // Whoever looks at the room next does so after a tick at most: rather a tick early than late.
        let age_ms = self.age_ms.saturating_add(TICK_MS);
        if self.expected == 0 || age_ms >= EXPECT_MS {
            return 0;
        }
        let missing =
            if self.peak < self.expected { u32::from(self.expected).saturating_sub(self.reported) } else { 0 };
        let missing_milli = u64::from(missing) * 1_000;
        if age_ms >= FILL_MS {
            let steps_past = (age_ms - FILL_MS) / EXPECT_STEP_MS;
            return (missing_milli * (FADING_STEPS - steps_past) / (FADING_STEPS + 1)) as u32;
        }
        missing_milli.max((self.to_come(age_ms) * 1_000.0) as u64) as u32
    }

    /// How many participants the room's growth lets expect beyond its peak.
    fn to_come(self, age_ms: u64) -> f64 {
        if self.peak == 0 {
            return 0.0;
        }
        let (expected, peak) = (f64::from(self.expected), f64::from(self.peak));
        let passed = age_ms as f64 / FILL_MS as f64;
        let Doubt { strength, most_times } = if self.is_hinted { HINTED } else { LEARNED };
        let rate = (expected - 1.0) * (strength + peak - 1.0) / (strength + passed * (expected - 1.0));
        (rate * (1.0 - passed)).min(most_times * expected - peak).max(0.0)
    }
}

/// In how many steps an expectation fades, before the last one that leaves nothing of it.
const FADING_STEPS: u64 = (EXPECT_MS - FILL_MS) / EXPECT_STEP_MS;

/// When an expectation that began at `since` is to be looked at after `now`; none when it is over.
#[must_use]
pub fn next_step(since: Millis, now: Millis) -> Option<Millis> {
    let steps = now.plus(TICK_MS).since(since) / EXPECT_STEP_MS + 1;
    (steps * EXPECT_STEP_MS <= EXPECT_MS).then(|| since.plus(steps * EXPECT_STEP_MS))
}

/// Which rooms, by their slots, are to be looked at when.
#[derive(Debug, Clone, Default)]
pub struct Steps(BTreeSet<(u32, u32)>);

impl Steps {
    /// Moves a room's step from one tick to another; 0 is none.
    pub fn shift(&mut self, slot: u32, from: u32, to: u32) {
        if from != to {
            if from > 0 {
                self.0.remove(&(from, slot));
            }
            if to > 0 {
                self.0.insert((to, slot));
            }
        }
    }

    /// The next room that is due.
    #[must_use]
    pub fn due(&self, now: Millis) -> Option<u32> {
        self.0.first().filter(|(tick, _)| *tick <= tick_of(now)).map(|(_, slot)| *slot)
    }
}

/// Time in ticks: never 0, and in half the bytes.
#[must_use]
pub fn tick_of(time: Millis) -> u32 {
    u32::try_from(time.0 / TICK_MS + 1).unwrap_or(u32::MAX)
}

/// The incarnations of nodes that have rooms, each with what is reserved for these. What was reserved for rooms of an
/// earlier incarnation does not count for the next one, until that has them too.
#[derive(Debug, Clone, Default)]
pub struct Homes {
    homes: Vec<Home>,
    by_incarnation: BTreeMap<(NodeId, Incarnation), u32>,
    free: Vec<u32>,
    /// Those whose reservations changed since somebody asked.
    changed: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Home {
    node: NodeId,
    incarnation: Incarnation,
    rooms: u32,
    open: u32,
    reserved_milli: u64,
    is_changed: bool,
}

impl Homes {
    /// One more room lives with the incarnation of the node.
    pub fn enter(&mut self, node: &NodeId, incarnation: Incarnation) -> u32 {
        let home = self.find(node, incarnation).unwrap_or_else(|| self.build(node, incarnation));
        self.homes[home as usize].rooms += 1;
        home
    }

    /// One room less lives there.
    pub fn leave(&mut self, home: u32) {
        self.homes[home as usize].rooms -= 1;
        self.recycle(home);
    }

    /// What is reserved at the home changes by so much.
    pub fn reserve(&mut self, home: u32, before_milli: u32, after_milli: u32) {
        if before_milli == after_milli {
            return;
        }
        let changed = &mut self.homes[home as usize];
        changed.reserved_milli = changed.reserved_milli + u64::from(after_milli) - u64::from(before_milli);
        if !changed.is_changed {
            changed.is_changed = true;
            self.changed.push(home);
        }
    }

    /// One room at the home opens, or is open no more.
    pub fn open(&mut self, home: u32, was_open: bool, is_open: bool) {
        let open = &mut self.homes[home as usize].open;
        *open = *open + u32::from(is_open) - u32::from(was_open);
    }

    /// How many rooms are open at the node, whichever of its incarnations they belong to.
    #[must_use]
    pub fn open_rooms(&self, node: &NodeId) -> u32 {
        let (first, last) = ((node.clone(), Incarnation(0)), (node.clone(), Incarnation(u64::MAX)));
        self.by_incarnation.range(first..=last).map(|(_, home)| self.homes[*home as usize].open).sum()
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self, home: u32) -> &NodeId {
        &self.homes[home as usize].node
    }

    /// The node's incarnation.
    #[must_use]
    pub fn incarnation(&self, home: u32) -> Incarnation {
        self.homes[home as usize].incarnation
    }

    /// The home with the incarnation of the node, if any room lives there.
    #[must_use]
    pub fn find(&self, node: &NodeId, incarnation: Incarnation) -> Option<u32> {
        self.by_incarnation.get(&(node.clone(), incarnation)).copied()
    }

    /// What is reserved at the incarnation of the node, in thousandths of a participant.
    #[must_use]
    pub fn reserved_milli(&self, node: &NodeId, incarnation: Incarnation) -> u64 {
        self.find(node, incarnation).map_or(0, |home| self.homes[home as usize].reserved_milli)
    }

    /// An incarnation of a node whose reservation changed since it was asked for last, and what it is.
    pub fn take_changed(&mut self) -> Option<(NodeId, Incarnation, u64)> {
        let home = self.changed.pop()?;
        let changed = &mut self.homes[home as usize];
        changed.is_changed = false;
        let news = (changed.node.clone(), changed.incarnation, changed.reserved_milli);
        self.recycle(home);
        Some(news)
    }

    fn build(&mut self, node: &NodeId, incarnation: Incarnation) -> u32 {
        let home = Home { node: node.clone(), incarnation, rooms: 0, open: 0, reserved_milli: 0, is_changed: false };
        let index = match self.free.pop() {
            Some(index) => {
                self.homes[index as usize] = home;
                index
            }
            None => {
                self.homes.push(home);
                u32::try_from(self.homes.len() - 1).expect("fewer nodes than rooms, which are fewer")
            }
        };
        self.by_incarnation.insert((node.clone(), incarnation), index);
        index
    }

    /// A home without rooms is free as soon as its last change was asked for.
    fn recycle(&mut self, home: u32) {
        let left = &self.homes[home as usize];
        if left.rooms == 0 && !left.is_changed {
            self.by_incarnation.remove(&(left.node.clone(), left.incarnation));
            self.free.push(home);
        }
    }
}

#[cfg(test)]
mod tests;
