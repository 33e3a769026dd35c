//! All rooms that the scheduler knows of, each in few bytes, and which news of a room is newer.

use std::collections::BTreeMap;
use std::ops::Bound;

use roost_proto::admin::RoomFilter;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::report::RoomReport;
use roost_proto::room::{Claim, ClaimState, RoomView, Run};
use roost_proto::time::Millis;

use crate::time::{GRANT_TTL_MS, PROLONG_AFTER_MS};

/// A room's claim as last heard of, and what its node reports of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// None where only a report, not the store, has told of the room.
    pub run: Option<Run>,
    pub node: NodeId,
    pub epoch: Epoch,
    pub incarnation: Incarnation,
    pub state: ClaimState,
    /// When a grant expires, on our clock.
    pub until: Millis,
    /// When this claim, or the report of it, was first heard of, on our clock.
    pub told: Millis,
    pub worker: Option<u16>,
    /// Which watch told of it last.
    watch: u32,
    pub participants: u32,
}

impl Room {
    /// The record as the store has it; none if it only has it from a report.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        let run = self.run.clone()?;
        let (epoch, state, node, incarnation) = (self.epoch, self.state, self.node.clone(), self.incarnation);
        Some(Claim { run, epoch, state, node, incarnation })
    }

    /// Whether it is a grant for which nobody came in time.
    #[must_use]
    pub fn is_expired(&self, now: Millis) -> bool {
        self.state == ClaimState::Granted && now >= self.until
    }
}

/// All rooms, in order.
#[derive(Debug, Clone, Default)]
pub struct Rooms {
    rooms: BTreeMap<RoomKey, Room>,
    /// Grows with each watch: what only an earlier one told may have ended unheard.
    watch: u32,
    /// How far the sweep has come.
    swept: Option<RoomKey>,
}

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
    pub fn get(&self, key: &RoomKey, now: Millis) -> Option<&Room> {
        self.rooms.get(key).filter(|room| !room.is_expired(now))
    }

    /// Whether the room's claim is known from the store, and the watch that runs has told of it, or its node has since.
    ///
    /// Reports and claims come on two ways: a report may come after the store's word that the room has ended.
    #[must_use]
    pub fn is_confirmed(&self, room: &Room) -> bool {
        room.run.is_some() && room.watch == self.watch
    }

    /// A new watch begins: everything that it does not tell again may be gone.
    pub fn begin_watch(&mut self) {
        self.watch = self.watch.wrapping_add(1);
    }

    /// Takes a claim that the store told of. A higher epoch wins; in the same one open wins, and a grant told again
    /// with its `ttl_ms` starts its time anew. With 0 it is not known how old the grant is: it counts as one that the
    /// next lookup prolongs, which finds out.
    pub fn fold_claim(&mut self, key: RoomKey, claim: Claim, ttl_ms: u64, now: Millis) {
        let watch = self.watch;
        let mut until = now.plus(if ttl_ms == 0 { GRANT_TTL_MS - PROLONG_AFTER_MS } else { ttl_ms });
        if let Some(room) = self.rooms.get_mut(&key) {
            if (claim.epoch, claim.state) < (room.epoch, room.state) {
                return;
            }
            if (claim.epoch, claim.state, claim.incarnation) != (room.epoch, room.state, room.incarnation) {
                room.told = now;
            }
            if claim.epoch > room.epoch {
                (room.worker, room.participants) = (None, 0);
            } else if ttl_ms == 0 && !room.is_expired(now) {
                until = room.until;
            }
            (room.run, room.node, room.incarnation) = (Some(claim.run), claim.node, claim.incarnation);
            (room.epoch, room.state, room.until, room.watch) = (claim.epoch, claim.state, until, watch);
            return;
        }
        let Claim { run, epoch, state, node, incarnation } = claim;
        let (run, told) = (Some(run), now);
        let room = Room { run, node, epoch, incarnation, state, until, told, worker: None, watch, participants: 0 };
        self.insert(key, room);
    }

    /// Takes what a node says of an open room. Reports and claims come on two ways: one of a generation that the store
    /// did not tell of yet is believed too.
    pub fn fold_report(&mut self, report: RoomReport, node: &NodeId, incarnation: Incarnation, now: Millis) {
        let watch = self.watch;
        if let Some(room) = self.rooms.get_mut(&report.key) {
            if report.epoch < room.epoch || (report.epoch == room.epoch && room.node != *node) {
                return;
            }
            if report.epoch > room.epoch {
                (room.run, room.node, room.epoch, room.told) = (None, node.clone(), report.epoch, now);
            }
            (room.incarnation, room.state, room.watch) = (incarnation, ClaimState::Open, watch);
            (room.worker, room.participants) = (Some(report.worker), report.participants);
            return;
        }
        let room = Room {
            run: None,
            node: node.clone(),
            epoch: report.epoch,
            incarnation,
            state: ClaimState::Open,
            until: Millis(0),
            told: now,
            worker: Some(report.worker),
            watch,
            participants: report.participants,
        };
        self.insert(report.key, room);
    }

    /// All rooms of a namespace share one copy of its name. They stand side by side, so a neighbour has it.
    fn insert(&mut self, mut key: RoomKey, room: Room) {
        let before = self.rooms.range(..&key).next_back();
        let after = || self.rooms.range(&key..).next();
        let is_same = |other: &(&RoomKey, &Room)| other.0.namespace == key.namespace;
        if let Some((neighbour, _)) = before.filter(is_same).or_else(|| after().filter(is_same)) {
            key.namespace = neighbour.namespace.clone();
        }
        self.rooms.insert(key, room);
    }

    /// Forgets the room if it is known in this generation or an earlier one.
    pub fn forget(&mut self, key: &RoomKey, epoch: Epoch) {
        if self.rooms.get(key).is_some_and(|room| room.epoch <= epoch) {
            self.rooms.remove(key);
        }
    }

    /// Looks at the next `limit` rooms and forgets those that `is_over` says are over, besides expired grants.
    pub fn sweep(&mut self, limit: usize, now: Millis, is_over: impl Fn(&RoomKey, &Room, bool) -> bool) {
        let from = self.swept.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut over = Vec::new();
        let mut looked = 0;
        for (key, room) in self.rooms.range((from, Bound::Unbounded)).take(limit) {
            looked += 1;
            if room.is_expired(now) || is_over(key, room, room.watch == self.watch) {
                over.push(key.clone());
            }
            if looked == limit {
                self.swept = Some(key.clone());
            }
        }
        for key in over {
            self.rooms.remove(&key);
        }
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
        for (looked, (key, room)) in self.rooms.range((from, Bound::Unbounded)).enumerate() {
            let matches = filter.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
                && filter.node.as_ref().is_none_or(|node| *node == room.node);
            if matches && !room.is_expired(now) {
                items.push(room.view(key));
            }
            if items.len() >= limit || looked + 1 >= LOOKED_AT_PER_PAGE {
                let is_last = self.rooms.range((Bound::Excluded(key), Bound::Unbounded)).next().is_none();
                return (items, (!is_last).then(|| key.clone()));
            }
        }
        (items, None)
    }
}

/// How many rooms are looked at for one page, so that a rare kind does not hold up everything else.
pub const LOOKED_AT_PER_PAGE: usize = 20_000;

impl Room {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{claim, node, room};
    use roost_proto::id::NamespaceId;

    const NOW: Millis = Millis(1_000);

    fn folded(claims: &[(&str, u64, ClaimState)]) -> Room {
        let mut rooms = Rooms::default();
        for (id, epoch, state) in claims {
            rooms.fold_claim(room("x"), claim(id, *epoch, *state), 30_000, NOW);
        }
        rooms.get(&room("x"), NOW).unwrap().clone()
    }

    #[test]
    fn an_older_generation_never_overwrites_a_newer_one() {
        use ClaimState::{Granted, Open};
        for (claims, (id, epoch, state)) in [
            (vec![("a", 1, Granted), ("b", 2, Granted)], ("b", 2, Granted)),
            (vec![("b", 2, Granted), ("a", 1, Open)], ("b", 2, Granted)),
            (vec![("a", 1, Granted), ("a", 1, Open)], ("a", 1, Open)),
            (vec![("a", 1, Open), ("a", 1, Granted)], ("a", 1, Open)),
            (vec![("a", 1, Open), ("a", 2, Granted)], ("a", 2, Granted)),
        ] {
            let got = folded(&claims);
            assert_eq!((got.node, got.epoch, got.state), (node(id), Epoch(epoch), state), "{claims:?}");
        }
    }

    #[test]
    fn a_grant_expires_on_our_clock_and_starts_anew_when_told_again() {
        let mut rooms = Rooms::default();
        rooms.fold_claim(room("x"), claim("a", 1, ClaimState::Granted), 30_000, NOW);
        assert!(rooms.get(&room("x"), Millis(30_999)).is_some());
        assert!(rooms.get(&room("x"), Millis(31_000)).is_none());
        rooms.fold_claim(room("x"), claim("a", 1, ClaimState::Granted), 30_000, Millis(20_000));
        assert!(rooms.get(&room("x"), Millis(49_999)).is_some());
        rooms.fold_claim(room("x"), claim("a", 1, ClaimState::Granted), 0, Millis(40_000));
        assert!(rooms.get(&room("x"), Millis(50_000)).is_none(), "of unknown age: what was known still holds");
        rooms.fold_claim(room("x"), claim("a", 2, ClaimState::Granted), 0, Millis(60_000));
        assert!(rooms.get(&room("x"), Millis(79_999)).is_some() && rooms.get(&room("x"), Millis(80_000)).is_none());
    }

    #[test]
    fn a_report_of_an_unknown_generation_is_believed_and_a_late_one_is_not() {
        let mut rooms = Rooms::default();
        let report = |epoch, participants| RoomReport {
            key: room("x"),
            epoch: Epoch(epoch),
            worker: 1,
            participants,
            producers: 0,
            consumers: 0,
        };
        rooms.fold_report(report(5, 2), &node("a"), Incarnation(1), NOW);
        let got = rooms.get(&room("x"), NOW).unwrap();
        assert_eq!((got.claim(), got.participants, got.worker), (None, 2, Some(1)));
        rooms.fold_claim(room("x"), claim("a", 5, ClaimState::Open), 0, NOW);
        let got = rooms.get(&room("x"), NOW).unwrap();
        assert_eq!((got.claim().is_some(), got.participants), (true, 2), "the store's word adds the run");
        rooms.fold_report(report(4, 9), &node("a"), Incarnation(1), NOW);
        rooms.fold_report(report(5, 9), &node("b"), Incarnation(1), NOW);
        assert_eq!(rooms.get(&room("x"), NOW).unwrap().participants, 2);
    }

    #[test]
    fn a_room_is_forgotten_only_in_its_generation() {
        let mut rooms = Rooms::default();
        rooms.fold_claim(room("x"), claim("a", 5, ClaimState::Open), 0, NOW);
        rooms.forget(&room("x"), Epoch(4));
        assert_eq!(rooms.len(), 1);
        rooms.forget(&room("x"), Epoch(5));
        assert!(rooms.is_empty());
    }

    #[test]
    fn a_sweep_passes_all_rooms_in_steps() {
        let mut rooms = Rooms::default();
        for i in 0..10 {
            let state = if i % 2 == 0 { ClaimState::Granted } else { ClaimState::Open };
            rooms.fold_claim(room(&format!("r{i}")), claim("a", 1, state), 100, NOW);
        }
        for _ in 0..4 {
            rooms.sweep(3, Millis(2_000), |key, _, confirmed| confirmed && key.room.as_str() == "r9");
        }
        assert_eq!(rooms.len(), 4, "five grants expired, and r9");
        rooms.begin_watch();
        rooms.sweep(100, Millis(2_000), |_, _, confirmed| !confirmed);
        assert!(rooms.is_empty(), "no watch told of them again");
    }

    #[test]
    fn all_rooms_of_a_namespace_share_one_copy_of_its_name() {
        let mut rooms = Rooms::default();
        for (namespace, name) in [("b", "m"), ("a", "z"), ("c", "a"), ("b", "z"), ("b", "a")] {
            let key = RoomKey::new(namespace, name).unwrap();
            rooms.fold_claim(key, claim("a", 1, ClaimState::Open), 0, NOW);
        }
        let names: Vec<_> = rooms.rooms.keys().map(|key| key.namespace.as_str()).collect();
        assert_eq!(names, ["a", "b", "b", "b", "c"]);
        assert!(names[1..4].iter().all(|name| std::ptr::eq(*name, names[1])));
    }

    #[test]
    fn pages_join_up_to_the_whole_list() {
        let mut rooms = Rooms::default();
        for i in 0..25 {
            let owner = if i % 3 == 0 { "b" } else { "a" };
            rooms.fold_claim(room(&format!("r{i:02}")), claim(owner, 1, ClaimState::Open), 0, NOW);
        }
        let filter = RoomFilter { namespace: None, node: Some(node("a")) };
        let (mut names, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let (items, next) = rooms.page(&filter, after.as_ref(), 5, NOW);
            assert!(items.len() <= 5);
            names.extend(items.into_iter().map(|item| item.room));
            pages += 1;
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((names.len(), pages), (16, 4));
        assert!(names.is_sorted());
        let none = RoomFilter { namespace: Some(NamespaceId::new("other").unwrap()), node: None };
        assert_eq!(rooms.page(&none, None, 5, NOW), (vec![], None));
    }
}
