//! The compact form in which rooms are kept: a million of them are ordinary.

use std::ops::{Index, IndexMut};

use roost_proto::id::Epoch;
use roost_proto::room::{ClaimState, Run};
use roost_proto::time::Millis;

use crate::reserve::{Growth, next_step, tick_of};
use crate::size::Lesson;
use crate::time::{FILL_MS, TICK_MS};

/// A room's claim as last heard of, what its node reports of it, and what is expected of it.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// None as long as only its node has told of this epoch.
    pub(crate) run: Option<Run>,
    pub(crate) epoch: Epoch,
    pub(crate) until: Millis,
    pub(crate) told: Millis,
    /// When this epoch was first heard of.
    pub(crate) since: Millis,
    pub(crate) home: u32,
    pub(crate) watch: u32,
    pub(crate) participants: u32,
    /// What is reserved for it at its home.
    pub(crate) reserved_milli: u32,
    /// The tick at which it is to be looked at again; 0: none.
    pub(crate) due: u32,
    /// Where its namespace's sizes are learned.
    pub(crate) space: u16,
    pub(crate) worker: u16,
    pub(crate) peak: u16,
    pub(crate) expected: u16,
    pub(crate) hint: u16,
    pub(crate) state: ClaimState,
    /// The state that the store told of last. Its node may have said *open* before the store opened it.
    pub(crate) recorded: ClaimState,
    pub(crate) stage: Stage,
    /// What is expected was said of an earlier epoch, from which it goes on.
    pub(crate) goes_on: bool,
}

const _: () = assert!(size_of::<Record>() <= 88);

/// How far this epoch of a room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its size is what it has: it is past the time in which rooms fill, or nobody said that it would begin.
    Settled,
    /// It fills. What it is expected to get was not said with its grant, so it is what was learned.
    Assumed,
    /// It fills.
    Told,
}

/// A worker that is not known.
pub(crate) const NO_WORKER: u16 = u16::MAX;

impl Record {
    /// An epoch of which nothing else is known: a grant that is over.
    pub(crate) fn new(epoch: Epoch, space: u16, home: u32, now: Millis) -> Self {
        Self {
            run: None,
            epoch,
            until: Millis(0),
            told: now,
            since: now,
            home,
            watch: 0,
            participants: 0,
            reserved_milli: 0,
            due: 0,
            space,
            worker: NO_WORKER,
            peak: 0,
            expected: 0,
            hint: 0,
            state: ClaimState::Granted,
            recorded: ClaimState::Granted,
            stage: Stage::Settled,
            goes_on: false,
        }
    }

    /// Whether it is a grant for which nobody came in time.
    pub(crate) fn is_expired(&self, now: Millis) -> bool {
        self.state == ClaimState::Granted && now >= self.until
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.state == ClaimState::Open
    }

    /// What it teaches of its namespace's sizes.
    pub(crate) fn lesson(&self) -> Lesson {
        match self.stage {
            _ if self.peak == 0 => Lesson::Nothing,
            Stage::Settled => Lesson::Settled { size: self.peak },
            Stage::Assumed | Stage::Told => Lesson::Filling { since: self.since, size: self.peak },
        }
    }

    /// Brings up to date what depends on the time: what is reserved, and when to look again.
    pub(crate) fn age(&mut self, now: Millis) {
        let is_over = self.is_expired(now.plus(TICK_MS));
        let growth = Growth {
            expected: if is_over { 0 } else { self.expected },
            is_hinted: self.hint > 0,
            reported: self.participants,
            peak: self.peak,
            age_ms: now.since(self.since),
        };
        self.reserved_milli = growth.reserved_milli();
        let is_filling = self.stage != Stage::Settled;
        let step = (!is_over && (is_filling || self.reserved_milli > 0)).then(|| next_step(self.since, now)).flatten();
        // With nothing reserved there is nothing to see before it settles.
        let step = step.map(|step| if self.reserved_milli == 0 { self.since.plus(FILL_MS).max(step) } else { step });
        let expiry = (self.state == ClaimState::Granted).then_some(self.until);
        self.due = step.map_or(0, |step| tick_of(expiry.map_or(step, |expiry| expiry.min(step))));
    }

    /// Whether it fills and the time for that is over.
    pub(crate) fn is_filled(&self, now: Millis) -> bool {
        self.stage != Stage::Settled && now.plus(TICK_MS).since(self.since) >= FILL_MS
    }
}

/// Keeps records in place, in blocks: growing copies nothing, and a slot stays the room's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots {
    blocks: Vec<Vec<Record>>,
    free: Vec<u32>,
}

const BLOCK: usize = 1_024;

impl Slots {
    /// Puts the record into a slot of its own.
    pub(crate) fn put(&mut self, record: Record) -> u32 {
        if let Some(slot) = self.free.pop() {
            self[slot] = record;
            return slot;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let before = (self.blocks.len() - 1) * BLOCK;
        let block = self.blocks.last_mut().expect("there is one with space");
        block.push(record);
        u32::try_from(before + block.len() - 1).expect("memory ends long before")
    }

    /// Frees the slot.
    pub(crate) fn free(&mut self, slot: u32) {
        self[slot].run = None;
        self.free.push(slot);
    }
}

impl Index<u32> for Slots {
    type Output = Record;

    fn index(&self, slot: u32) -> &Record {
        &self.blocks[slot as usize / BLOCK][slot as usize % BLOCK]
    }
}

impl IndexMut<u32> for Slots {
    fn index_mut(&mut self, slot: u32) -> &mut Record {
        &mut self.blocks[slot as usize / BLOCK][slot as usize % BLOCK]
    }
}
