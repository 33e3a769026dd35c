//! All rooms that the scheduler knows of, each in few bytes, and which news of a room is newer.

use std::collections::BTreeMap;
use std::ops::Bound;

use roost_proto::admin::RoomFilter;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::report::RoomReport;
use roost_proto::room::{Claim, ClaimState, Expected, RoomView, Run};
use roost_proto::time::Millis;

use crate::record::{NO_WORKER, Record, Slots, Stage};
use crate::reserve::{Homes, Steps};
use crate::size::{Lesson, Sizes, clamped};
use crate::time::{GRANT_TTL_MS, PROLONG_AFTER_MS};

/// A room's claim as last heard of, and what its node reports of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room<'a> {
    /// None where only a report, not the store, has told of the room.
    pub run: Option<&'a Run>,
    pub node: &'a NodeId,
    pub epoch: Epoch,
    pub incarnation: Incarnation,
    pub state: ClaimState,
    recorded: ClaimState,
    /// When a grant expires, on our clock.
    pub until: Millis,
    /// When this claim, or the report of it, was first heard of, on our clock.
    pub told: Millis,
    pub worker: Option<u16>,
    /// Which watch told of it last.
    watch: u32,
    pub participants: u32,
    /// What it counts on its node beyond its participants, in thousandths of one.
    pub reserved_milli: u32,
}

impl Room<'_> {
    /// The record as the store has it; none if it only has it from a report.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        let run = self.run?.clone();
        let (epoch, state, node, incarnation) = (self.epoch, self.recorded, self.node.clone(), self.incarnation);
        Some(Claim { run, epoch, state, node, incarnation })
    }

    /// The room as the APIs show it.
    #[must_use]
    pub fn view(&self, key: &RoomKey) -> RoomView {
        RoomView {
            namespace: key.namespace.clone(),
            room: key.room.clone(),
            state: self.state,
            node: self.node.clone(),
            worker: self.worker,
            epoch: self.epoch,
            participants: self.participants,
            edges: Vec::new(),
        }
    }
}

/// What becomes of a room that a sweep looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Lives,
    Over,
    /// Its claim is recorded, but whoever held it is gone for long.
    Orphaned,
}

/// All rooms, in order.
#[derive(Debug, Clone, Default)]
pub struct Rooms {
    rooms: BTreeMap<RoomKey, u32>,
    slots: Slots,
    homes: Homes,
    steps: Steps,
    sizes: Sizes,
    /// For each bucket, grows with each watch: what only an earlier one told may have ended unheard.
    watches: [u32; BUCKETS as usize],
    /// How far the sweep has come.
    swept: Option<RoomKey>,
}

/// How many rooms are looked at for one page, so that a rare kind does not hold up everything else.
pub const LOOKED_AT_PER_PAGE: usize = 20_000;

impl Rooms {
    /// How many there are, with those that have just ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// The room, if it is known and its grant did not expire.
    #[must_use]
    pub fn get(&self, key: &RoomKey, now: Millis) -> Option<Room<'_>> {
        let record = &self.slots[*self.rooms.get(key)?];
        (!record.is_expired(now)).then(|| self.room(record))
    }

    /// Whether the room's claim is known from the store, and the watch that runs has told of it, or its node has since.
    ///
    /// Reports and claims come on two ways: a report may come after the store's word that the room has ended.
    #[must_use]
    pub fn is_confirmed(&self, key: &RoomKey, room: &Room<'_>) -> bool {
        room.run.is_some() && room.watch == self.watch(key)
    }

    /// The watch that tells of the room.
    fn watch(&self, key: &RoomKey) -> u32 {
        self.watches[usize::from(key.bucket() % BUCKETS)]
    }

    /// What was learned about sizes.
    #[must_use]
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// What is reserved on the incarnation of the node, in thousandths of a participant.
    #[must_use]
    pub fn reserved_milli(&self, node: &NodeId, incarnation: Incarnation) -> u64 {
        self.homes.reserved_milli(node, incarnation)
    }

    /// How many rooms are open at the node, by what the store and the node told of each.
    #[must_use]
    pub fn open_at(&self, node: &NodeId) -> u32 {
        self.homes.open_rooms(node)
    }

    /// A node's incarnation on which something else is reserved than when it was taken last, and how much that is.
    pub(crate) fn take_changed(&mut self) -> Option<(NodeId, Incarnation, u64)> {
        self.homes.take_changed()
    }

    /// A new watch of these buckets begins: everything of them that it does not tell again may be gone.
    pub fn begin_watch(&mut self, buckets: &[u8]) {
        for bucket in buckets {
            let watch = &mut self.watches[usize::from(bucket % BUCKETS)];
            *watch = watch.wrapping_add(1);
        }
    }

    /// Takes a claim that the store told of. A higher epoch wins; in the same one open wins, and a grant told again
    /// with its `ttl_ms` starts its time anew. With 0 it is not known how old the grant is: it counts as one that the
    /// next lookup prolongs, which finds out.
    ///
    /// What is expected may be told before or after other news of the same epoch; its first telling counts.
    pub(crate) fn fold_claim(&mut self, key: RoomKey, claim: Claim, (ttl_ms, expected): (u64, Expected), now: Millis) {
        let home = (&claim.node, claim.incarnation);
        let Some(slot) = self.reach(&key, (claim.epoch, claim.state), home, now) else { return };
        let known = &self.slots[slot];
        let (is_older, known_home) = (claim.state < known.state, known.home);
        let is_news = (claim.state, claim.incarnation) != (known.state, self.homes.incarnation(known_home));
        if is_older && *self.homes.node(known_home) != claim.node {
            return;
        }
        if !is_older {
            self.rehome(slot, home);
        }
        let said = now.minus(expected.age_ms);
        let (watch, expected) = (self.watch(&key), self.believe(&key, slot, claim.state, expected, now));
        self.change(slot, now, |room| {
            if let Some((stage, participants, hint)) = expected {
                (room.stage, room.expected, room.hint) = (stage, participants, hint);
                room.since = room.since.min(said);
            }
            if room.goes_on && claim.state == ClaimState::Granted {
                (room.since, room.goes_on) = (now, false);
            }
            if is_older {
                // A compare-and-set goes by what the store has, not by what the node says.
                if room.run.is_none() || room.recorded == claim.state {
                    (room.run, room.recorded, room.watch) = (Some(claim.run), claim.state, watch);
                }
                return;
            }
            if is_news {
                room.told = now;
            }
            if ttl_ms > 0 {
                room.until = now.plus(ttl_ms);
            } else if room.is_expired(now) {
                room.until = now.plus(GRANT_TTL_MS - PROLONG_AFTER_MS);
            }
            (room.run, room.state, room.recorded, room.watch) = (Some(claim.run), claim.state, claim.state, watch);
        });
    }

    /// Takes what a node says of an open room. Reports and claims come on two ways: one of a generation that the store
    /// did not tell of yet is believed too. Numbers that are not `trusted` are shown, and teach nothing.
    pub(crate) fn fold_report(
        &mut self,
        report: &RoomReport,
        (node, incarnation): (&NodeId, Incarnation),
        trusted: bool,
        now: Millis,
    ) {
        let home = (node, incarnation);
        let Some(slot) = self.reach(&report.key, (report.epoch, ClaimState::Open), home, now) else { return };
        if self.homes.node(self.slots[slot].home) != node {
            return;
        }
        self.rehome(slot, home);
        let watch = self.watch(&report.key);
        self.change(slot, now, |room| {
            (room.state, room.watch) = (ClaimState::Open, watch);
            (room.worker, room.participants) = (report.worker, report.participants);
            if trusted {
                room.peak = room.peak.max(report.participants.min(u16::MAX.into()) as u16);
            }
        });
    }

    /// Forgets the room if it is known in this generation or an earlier one.
    pub(crate) fn forget(&mut self, key: &RoomKey, epoch: Epoch) {
        if let Some(slot) = self.rooms.get(key).copied()
            && self.slots[slot].epoch <= epoch
        {
            self.remove(key, slot);
        }
    }

    /// Looks at rooms whose reservations are due to change, `limit` at most.
    pub(crate) fn step(&mut self, limit: usize, now: Millis) {
        for _ in 0..limit {
            let Some(slot) = self.steps.due(now) else { return };
            let room = &self.slots[slot];
            if room.is_filled(now) {
                self.sizes.learn_error(room.space, room.hint, room.peak);
            }
            self.change(slot, now, |room| {
                if room.is_filled(now) {
                    room.stage = Stage::Settled;
                }
            });
        }
    }

    /// Looks at the next `limit` rooms and forgets those that are over, besides expired grants. Gives the claims that have
    /// no holder any more.
    pub(crate) fn sweep(
        &mut self,
        limit: usize,
        now: Millis,
        judge: impl Fn(&RoomKey, &Room<'_>, bool) -> Fate,
    ) -> Vec<(RoomKey, Claim)> {
        let from = self.swept.take().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut over, mut orphans) = (Vec::new(), Vec::new());
        let mut looked = 0;
        for (key, slot) in self.rooms.range((from, Bound::Unbounded)).take(limit) {
            looked += 1;
            let record = &self.slots[*slot];
            let room = self.room(record);
            match judge(key, &room, record.watch == self.watch(key)) {
                _ if record.is_expired(now) => over.push((key.clone(), *slot)),
                Fate::Over => over.push((key.clone(), *slot)),
                Fate::Orphaned => orphans.extend(room.claim().map(|claim| (key.clone(), claim))),
                Fate::Lives => {}
            }
            if looked == limit {
                self.swept = Some(key.clone());
            }
        }
        for (key, slot) in over {
            self.learn_absence(slot, now);
            self.remove(&key, slot);
        }
        orphans
    }

    /// Rooms after `after`, in order, `limit` at most; and where to go on, unless that was all.
    ///
    /// Looks at [`LOOKED_AT_PER_PAGE`] rooms at most, so a page of a rare kind may be short and still not the last.
    #[must_use]
    pub fn page(
        &self,
        filter: &RoomFilter,
        after: Option<&RoomKey>,
        limit: usize,
        now: Millis,
    ) -> (Vec<RoomView>, Option<RoomKey>) {
        let mut items = Vec::new();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (looked, (key, slot)) in self.rooms.range((from, Bound::Unbounded)).enumerate() {
            let record = &self.slots[*slot];
            let matches = filter.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
                && filter.node.as_ref().is_none_or(|node| node == self.homes.node(record.home));
            if matches && !record.is_expired(now) {
                items.push(self.room(record).view(key));
            }
            if items.len() >= limit || looked + 1 >= LOOKED_AT_PER_PAGE {
                let is_last = self.rooms.range((Bound::Excluded(key), Bound::Unbounded)).next().is_none();
                return (items, (!is_last).then(|| key.clone()));
            }
        }
        (items, None)
    }

    /// All rooms after `after`, in order.
    pub fn after(&self, after: Option<&RoomKey>, now: Millis) -> impl Iterator<Item = (&RoomKey, Room<'_>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let records = self.rooms.range((from, Bound::Unbounded)).map(|(key, slot)| (key, &self.slots[*slot]));
        records.filter(move |(_, record)| !record.is_expired(now)).map(|(key, record)| (key, self.room(record)))
    }

    fn room<'a>(&'a self, record: &'a Record) -> Room<'a> {
        Room {
            run: record.run.as_ref(),
            node: self.homes.node(record.home),
            epoch: record.epoch,
            incarnation: self.homes.incarnation(record.home),
            state: record.state,
            recorded: record.recorded,
            until: record.until,
            told: record.told,
            worker: (record.worker != NO_WORKER).then_some(record.worker),
            watch: record.watch,
            participants: record.participants,
            reserved_milli: record.reserved_milli,
        }
    }

    /// The room's slot for news of the epoch, which begins if it is a higher one; none if the news is of an earlier one.
    ///
    /// An open room that is open at its node in a later epoch goes on: its node asserted it again (rule 9). Everybody is
    /// still inside, and as many are still expected. Unless a grant of that epoch is told of: then it had ended between.
    fn reach(
        &mut self,
        key: &RoomKey,
        (epoch, state): (Epoch, ClaimState),
        home: (&NodeId, Incarnation),
        now: Millis,
    ) -> Option<u32> {
        let Some(slot) = self.rooms.get(key).copied() else {
            return Some(self.insert(key.clone(), epoch, home, now));
        };
        let known = &self.slots[slot];
        let (known_epoch, space, known_home) = (known.epoch, known.space, known.home);
        let is_open = known.state == ClaimState::Open && state == ClaimState::Open;
        if epoch > known_epoch && is_open && self.homes.node(known_home) == home.0 {
            self.rehome(slot, home);
            self.change(slot, now, |room| {
                (room.epoch, room.run, room.told, room.peak, room.goes_on) = (epoch, None, now, 0, true);
            });
        } else if epoch > known_epoch {
            self.learn_absence(slot, now);
            self.teach(key, slot);
            self.change(slot, now, |room| *room = Record::new(epoch, space, known_home, now));
            self.rehome(slot, home);
        }
        (epoch >= known_epoch).then_some(slot)
    }

    /// What the news lets expect of the room: what it says, if nothing was said before; of a grant of which nothing is
    /// said, what was learned.
    fn believe(
        &mut self,
        key: &RoomKey,
        slot: u32,
        state: ClaimState,
        told: Expected,
        now: Millis,
    ) -> Option<(Stage, u16, u16)> {
        let known = &self.slots[slot];
        let (participants, hint) = (clamped(told.participants), clamped(told.hint));
        if participants > 0 && (known.expected == 0 || known.stage == Stage::Assumed || known.goes_on) {
            self.sizes.learn_hint(known.space, hint);
            return Some((Stage::Told, participants, hint));
        }
        let is_news = state == ClaimState::Granted && known.state == state && known.expected == 0;
        is_news.then(|| (Stage::Assumed, self.sizes.expected(key, 0, now), 0))
    }

    /// Changes a room and all that follows from it.
    fn change(&mut self, slot: u32, now: Millis, change: impl FnOnce(&mut Record)) {
        let room = &mut self.slots[slot];
        let (reserved_milli, lesson, due, was_open) = (room.reserved_milli, room.lesson(), room.due, room.is_open());
        change(room);
        room.age(now);
        self.homes.open(room.home, was_open, room.is_open());
        self.homes.reserve(room.home, reserved_milli, room.reserved_milli);
        self.sizes.learn(room.space, lesson, room.lesson());
        self.steps.shift(slot, due, room.due);
    }

    /// Moves a room to another node or incarnation, with what is reserved for it.
    fn rehome(&mut self, slot: u32, (node, incarnation): (&NodeId, Incarnation)) {
        let room = &mut self.slots[slot];
        if (self.homes.node(room.home), self.homes.incarnation(room.home)) == (node, incarnation) {
            return;
        }
        self.homes.reserve(room.home, room.reserved_milli, 0);
        self.homes.open(room.home, room.is_open(), false);
        let left = std::mem::replace(&mut room.home, self.homes.enter(node, incarnation));
        self.homes.leave(left);
        self.homes.open(room.home, false, room.is_open());
        self.homes.reserve(room.home, 0, room.reserved_milli);
    }

    /// A grant for which nobody came in time proves its hint wrong, as far as one participant would.
    fn learn_absence(&mut self, slot: u32, now: Millis) {
        let room = &self.slots[slot];
        if room.is_expired(now) {
            self.sizes.learn_error(room.space, room.hint, 1);
        }
    }

    /// What a room's epoch teaches at its end.
    fn teach(&mut self, key: &RoomKey, slot: u32) {
        let room = &self.slots[slot];
        if room.stage != Stage::Settled {
            self.sizes.learn_error(room.space, room.hint, room.peak);
        }
        self.sizes.learn_end(room.space, key, room.peak);
    }

    fn insert(
        &mut self,
        mut key: RoomKey,
        epoch: Epoch,
        (node, incarnation): (&NodeId, Incarnation),
        now: Millis,
    ) -> u32 {
        let (space, home) = (self.sizes.space(&mut key.namespace), self.homes.enter(node, incarnation));
        let slot = self.slots.put(Record::new(epoch, space, home, now));
        self.rooms.insert(key, slot);
        slot
    }

    fn remove(&mut self, key: &RoomKey, slot: u32) {
        self.teach(key, slot);
        let room = &self.slots[slot];
        self.homes.reserve(room.home, room.reserved_milli, 0);
        self.homes.open(room.home, room.is_open(), false);
        self.sizes.learn(room.space, room.lesson(), Lesson::Nothing);
        self.steps.shift(slot, room.due, 0);
        self.homes.leave(room.home);
        self.slots.free(slot);
        self.rooms.remove(key);
    }
}

#[cfg(test)]
mod tests;
