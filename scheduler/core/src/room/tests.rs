//! Rooms by themselves: which news is newer, what is forgotten, what is listed.

use super::*;
use crate::sample::{claim, node, room};
use crate::time::{EXPECT_MS, EXPECT_STEP_MS, TICK_MS};
use roost_proto::id::NamespaceId;

const NOW: Millis = Millis(1_000);

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
        let mut rooms = Rooms::default();
        for (id, epoch, state) in &claims {
            fold(&mut rooms, "x", claim(id, *epoch, *state), 30_000, NOW);
        }
        let got = rooms.get(&room("x"), NOW).unwrap();
        assert_eq!((got.node, got.epoch, got.state), (&node(id), Epoch(epoch), state), "{claims:?}");
    }
}

#[test]
fn a_grant_expires_on_our_clock_and_starts_anew_when_told_again() {
    let mut rooms = Rooms::default();
    fold(&mut rooms, "x", claim("a", 1, ClaimState::Granted), 30_000, NOW);
    assert!(rooms.get(&room("x"), Millis(30_999)).is_some());
    assert!(rooms.get(&room("x"), Millis(31_000)).is_none());
    fold(&mut rooms, "x", claim("a", 1, ClaimState::Granted), 30_000, Millis(20_000));
    assert!(rooms.get(&room("x"), Millis(49_999)).is_some());
    fold(&mut rooms, "x", claim("a", 1, ClaimState::Granted), 0, Millis(40_000));
    assert!(rooms.get(&room("x"), Millis(50_000)).is_none(), "of unknown age: what was known still holds");
    fold(&mut rooms, "x", claim("a", 2, ClaimState::Granted), 0, Millis(60_000));
    assert!(rooms.get(&room("x"), Millis(79_999)).is_some() && rooms.get(&room("x"), Millis(80_000)).is_none());
}

#[test]
fn an_expired_grant_reserves_nothing_although_it_is_not_swept_yet() {
    let mut rooms = Rooms::default();
    fold(&mut rooms, "x", claim("a", 1, ClaimState::Granted), 20_000, NOW);
    rooms.step(10, Millis(20_000));
    assert_eq!(rooms.reserved_milli(&node("a"), Incarnation(1)), 4_000);
    rooms.step(10, Millis(21_000));
    assert_eq!((rooms.len(), rooms.reserved_milli(&node("a"), Incarnation(1))), (1, 0));
    fold(&mut rooms, "x", claim("a", 1, ClaimState::Granted), 20_000, Millis(21_000));
    assert_eq!(rooms.reserved_milli(&node("a"), Incarnation(1)), 4_000, "it was prolonged after all");
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
    rooms.fold_report(&report(5, 2), (&node("a"), Incarnation(1)), true, NOW);
    let got = rooms.get(&room("x"), NOW).unwrap();
    assert_eq!((got.claim(), got.participants, got.worker), (None, 2, Some(1)));
    fold(&mut rooms, "x", claim("a", 5, ClaimState::Open), 0, NOW);
    let got = rooms.get(&room("x"), NOW).unwrap();
    assert_eq!((got.claim().is_some(), got.participants), (true, 2), "the store's word adds the run");
    rooms.fold_report(&report(4, 9), (&node("a"), Incarnation(1)), true, NOW);
    rooms.fold_report(&report(5, 9), (&node("b"), Incarnation(1)), true, NOW);
    assert_eq!(rooms.get(&room("x"), NOW).unwrap().participants, 2);
}

#[test]
fn a_compare_and_set_goes_by_what_the_store_has_and_not_by_what_its_node_says() {
    use ClaimState::{Granted, Open};
    let report = RoomReport { key: room("x"), epoch: Epoch(5), worker: 1, participants: 1, producers: 0, consumers: 0 };
    for is_granted_first in [true, false] {
        let mut rooms = Rooms::default();
        if is_granted_first {
            fold(&mut rooms, "x", claim("a", 5, Granted), 30_000, NOW);
        }
        rooms.fold_report(&report, (&node("a"), Incarnation(1)), true, NOW);
        fold(&mut rooms, "x", claim("a", 5, Granted), 0, NOW);
        let got = rooms.get(&room("x"), NOW).unwrap();
        assert_eq!((got.state, got.claim()), (Open, Some(claim("a", 5, Granted))), "the store did not open it yet");
        fold(&mut rooms, "x", claim("a", 5, Open), 0, NOW);
        fold(&mut rooms, "x", claim("a", 5, Granted), 0, NOW);
        let got = rooms.get(&room("x"), NOW).unwrap();
        assert_eq!(got.claim(), Some(claim("a", 5, Open)), "an answer that comes late changes nothing");
    }
}

#[test]
fn a_room_is_forgotten_only_in_its_generation() {
    let mut rooms = Rooms::default();
    fold(&mut rooms, "x", claim("a", 5, ClaimState::Open), 0, NOW);
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
        fold(&mut rooms, &format!("r{i}"), claim("a", 1, state), 100, NOW);
    }
    for _ in 0..4 {
        rooms.sweep(3, Millis(2_000), |key, _, confirmed| over(confirmed && key.room.as_str() == "r9"));
    }
    assert_eq!(rooms.len(), 4, "five grants expired, and r9");
    rooms.begin_watch(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    rooms.sweep(100, Millis(2_000), |_, _, confirmed| over(!confirmed));
    assert!(rooms.is_empty(), "no watch told of them again");
}

#[test]
fn all_rooms_of_a_namespace_share_one_copy_of_its_name() {
    let mut rooms = Rooms::default();
    for (namespace, name) in [("b", "m"), ("a", "z"), ("c", "a"), ("b", "z"), ("b", "a")] {
        let key = RoomKey::new(namespace, name).unwrap();
        rooms.fold_claim(key, claim("a", 1, ClaimState::Open), (0, Expected::default()), NOW);
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
        fold(&mut rooms, &format!("r{i:02}"), claim(owner, 1, ClaimState::Open), 0, NOW);
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

/// Folds a claim with which nothing is said of what is expected.
fn fold(rooms: &mut Rooms, name: &str, claim: Claim, ttl_ms: u64, now: Millis) {
    rooms.fold_claim(room(name), claim, (ttl_ms, Expected::default()), now);
}

impl Rooms {
    /// What is reserved on which incarnation by all rooms one by one, after a check of each against its own news at `now`, when
    /// a tick has just passed.
    pub(crate) fn audit(&self, now: Millis) -> BTreeMap<(NodeId, Incarnation), u64> {
        let mut sums = BTreeMap::new();
        let mut open: BTreeMap<NodeId, u32> = BTreeMap::new();
        for (key, slot) in &self.rooms {
            let room = &self.slots[*slot];
            let reserved_at = |time: Millis| {
                let mut room = room.clone();
                room.age(time);
                room.reserved_milli
            };
            // Between two steps what its growth lets expect is that of the last one.
            let least = reserved_at(now);
            let most = reserved_at(now.minus(EXPECT_STEP_MS + TICK_MS).max(room.since));
            assert!((least..=most).contains(&room.reserved_milli), "{key} {least} {most} {room:?}");
            let is_over = room.is_expired(now) || now.since(room.since) >= EXPECT_MS;
            assert!(!is_over || room.reserved_milli == 0, "{key} {room:?}");
            let home = (self.homes.node(room.home).clone(), self.homes.incarnation(room.home));
            *open.entry(home.0.clone()).or_default() += u32::from(room.is_open());
            *sums.entry(home).or_default() += u64::from(room.reserved_milli);
        }
        assert!(open.iter().all(|(node, open)| self.open_at(node) == *open), "{open:?}");
        sums
    }

    /// What all living rooms teach, of which `sizes` keeps sums.
    pub(crate) fn lessons(&self) -> Sizes {
        let mut sizes = Sizes::default();
        for (key, slot) in &self.rooms {
            let space = sizes.space(&mut key.namespace.clone());
            sizes.learn(space, Lesson::Nothing, self.slots[*slot].lesson());
        }
        sizes
    }
}
fn over(is_over: bool) -> Fate {
    if is_over { Fate::Over } else { Fate::Lives }
}
