//! One home for each room: grants, openings, releases, re-assertions within one run.

use std::collections::BTreeSet;
use std::sync::Arc;

use roost_proto::id::{Epoch, Incarnation};
use roost_proto::room::{Claim, ClaimState, Expected};
use roost_store::operation::{
    Assert, Asserted, Grant, Granted, HandOver, HandedOver, Opened, Prolonged, Raise, Raised, Released, Right,
};

use crate::made::{EXPECTED, LONG_MS, assertion, at, grant, grant_and_open, holding, node, room, run_of, try_grant};
use crate::stage::Stage;

pub(crate) async fn the_first_grant_wins_and_the_others_are_told_who_has_it(stage: Stage) {
    let room = room("standup");
    let claim = grant(&*stage.store, &room, "fra-1", 1).await;
    assert!(claim.epoch.0 <= stage.store.now_ms().await.unwrap(), "the store's time in ms");
    let second = try_grant(&*stage.second, &room, None, "fra-2", 1).await;
    assert_eq!(second, Granted::No { current: Some(claim.clone()) });
    assert_eq!(stage.second.read(&room).await.unwrap(), Some(claim));
}

pub(crate) async fn a_grant_replaces_exactly_the_record_that_was_seen(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let first = grant(store, &room, "fra-1", 1).await;
    for seen in [
        Claim { epoch: Epoch(first.epoch.0 + 1), ..first.clone() },
        Claim { state: ClaimState::Open, ..first.clone() },
        Claim { node: node("fra-2"), ..first.clone() },
        at(&first, first.epoch, 2),
    ] {
        let refused = try_grant(store, &room, Some(seen), "fra-3", 1).await;
        assert_eq!(refused, Granted::No { current: Some(first.clone()) });
    }
    let Granted::Yes { epoch, .. } = try_grant(store, &room, Some(first.clone()), "fra-3", 1).await else {
        panic!("exactly what is there was seen");
    };
    assert!(epoch > first.epoch);
    assert_eq!(store.read(&room).await.unwrap().unwrap().node, node("fra-3"));
    let absent = try_grant(store, &crate::made::room("other"), Some(first), "fra-3", 1).await;
    assert_eq!(absent, Granted::No { current: None });
}

pub(crate) async fn a_grant_that_nobody_opens_is_absent_after_its_time(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let claim = grant(store, &room, "fra-1", 1).await;
    stage.pass(31_000).await;
    assert_eq!(store.read(&room).await.unwrap(), None);
    assert_eq!(store.open(holding(&room, &claim)).await.unwrap(), Opened::No { current: None });
    assert!(grant(store, &room, "fra-2", 1).await.epoch > claim.epoch);
}

pub(crate) async fn a_lookup_starts_the_time_of_a_grant_anew(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let claim = grant(store, &room, "fra-1", 1).await;
    stage.pass(20_000).await;
    assert_eq!(store.prolong(&room, &claim, 30_000).await.unwrap(), Prolonged::Yes);
    stage.pass(20_000).await;
    assert_eq!(store.read(&room).await.unwrap(), Some(claim.clone()));
    let earlier = Claim { epoch: Epoch(claim.epoch.0 - 1), ..claim.clone() };
    let refused = store.prolong(&room, &earlier, LONG_MS).await.unwrap();
    assert_eq!(refused, Prolonged::No { current: Some(claim.clone()) });
    assert_eq!(store.open(holding(&room, &claim)).await.unwrap(), Opened::Yes);
    assert_eq!(store.prolong(&room, &claim, 1).await.unwrap(), Prolonged::Yes, "opened in the same generation");
    stage.pass(LONG_MS).await;
    assert_eq!(store.read(&room).await.unwrap().unwrap().state, ClaimState::Open, "an open room has no end");
}

pub(crate) async fn a_room_is_opened_once_and_in_its_generation_only(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let claim = grant(store, &room, "fra-1", 1).await;
    for wrong in [
        at(&claim, claim.epoch, 2),
        at(&claim, Epoch(claim.epoch.0 - 1), 1),
        Claim { node: node("fra-2"), ..claim.clone() },
    ] {
        let refused = store.open(holding(&room, &wrong)).await.unwrap();
        assert_eq!(refused, Opened::No { current: Some(claim.clone()) });
    }
    for _ in 0..2 {
        assert_eq!(store.open(holding(&room, &claim)).await.unwrap(), Opened::Yes);
        assert_eq!(store.read(&room).await.unwrap(), Some(at(&claim, claim.epoch, 1)));
    }
}

pub(crate) async fn a_room_that_opened_since_is_not_taken_by_who_saw_it_granted(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let seen = grant(store, &room, "fra-1", 1).await;
    assert_eq!(store.open(holding(&room, &seen)).await.unwrap(), Opened::Yes);
    let open = at(&seen, seen.epoch, 1);
    let refused = try_grant(&*stage.second, &room, Some(seen), "fra-2", 1).await;
    assert_eq!(refused, Granted::No { current: Some(open.clone()) });
    // Who has proof names the open record.
    assert!(matches!(try_grant(&*stage.second, &room, Some(open), "fra-2", 1).await, Granted::Yes { .. }));
}

pub(crate) async fn a_late_release_ends_no_later_generation(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let first = grant_and_open(store, &room, "fra-1", 1).await;
    for _ in 0..2 {
        assert_eq!(store.release(holding(&room, &first)).await.unwrap(), Released::Yes);
        assert_eq!(store.read(&room).await.unwrap(), None);
    }
    let second = grant(store, &room, "fra-1", 1).await;
    assert_eq!(store.release(holding(&room, &first)).await.unwrap(), Released::Yes);
    assert_eq!(store.read(&room).await.unwrap(), Some(second.clone()));
    assert_eq!(store.release(holding(&room, &second)).await.unwrap(), Released::Yes, "a granted one too");
    assert_eq!(store.read(&room).await.unwrap(), None);
}

pub(crate) async fn after_a_lapse_a_room_is_its_nodes_again_under_a_new_epoch(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let claim = grant_and_open(store, &room, "fra-1", 1).await;
    let mut epochs = BTreeSet::from([claim.epoch]);
    // The second time, the answer to the first was lost.
    for _ in 0..2 {
        let assert = assertion(store, &room, &claim, 2).await;
        let Asserted::Yes { epoch, .. } = store.assert(assert).await.unwrap() else { panic!("its own room") };
        assert_eq!(store.read(&room).await.unwrap(), Some(at(&claim, epoch, 2)));
        epochs.insert(epoch);
    }
    assert_eq!(epochs.len(), 2);
    let open = store.read(&room).await.unwrap().unwrap();
    assert_eq!(store.release(holding(&room, &open)).await.unwrap(), Released::Yes);
    let assert = assertion(store, &room, &open, 3).await;
    let Asserted::Yes { epoch, .. } = store.assert(assert).await.unwrap() else { panic!("nobody's room") };
    assert!(epoch > open.epoch);
}

pub(crate) async fn after_a_lapse_a_room_that_another_took_is_lost(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let claim = grant_and_open(store, &room, "fra-1", 1).await;
    let Granted::Yes { epoch, .. } = try_grant(store, &room, Some(claim.clone()), "fra-2", 1).await else {
        panic!("exactly what is there was seen");
    };
    let taken = Claim { epoch, node: node("fra-2"), state: ClaimState::Granted, ..claim.clone() };
    for incarnation in [1, 2] {
        let assert = assertion(store, &room, &claim, incarnation).await;
        assert_eq!(store.assert(assert).await.unwrap(), Asserted::No { current: Some(taken.clone()) });
    }
    // A grant to this very node is no proof that it had the room: it opens it like any other.
    let room = crate::made::room("granted");
    let granted = grant(store, &room, "fra-1", 2).await;
    let assert = assertion(store, &room, &at(&granted, Epoch(1), 1), 2).await;
    assert_eq!(store.assert(assert).await.unwrap(), Asserted::No { current: Some(granted) });
}

pub(crate) async fn an_open_room_is_handed_over_by_its_holder_alone_and_only_once(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let granted = grant(store, &room, "fra-1", 1).await;
    let hand_over = |claim: &Claim| HandOver {
        held: holding(&room, claim),
        to: node("fra-2"),
        to_incarnation: Incarnation(7),
        ttl_ms: 30_000,
        expected: EXPECTED,
    };
    let refused = store.hand_over(hand_over(&granted)).await.unwrap();
    assert_eq!(refused, HandedOver::No { current: Some(granted.clone()) }, "nobody is inside");
    assert_eq!(store.open(holding(&room, &granted)).await.unwrap(), Opened::Yes);
    let open = at(&granted, granted.epoch, 1);
    for wrong in
        [at(&open, open.epoch, 2), at(&open, Epoch(open.epoch.0 - 1), 1), Claim { node: node("fra-3"), ..open.clone() }]
    {
        let refused = store.hand_over(hand_over(&wrong)).await.unwrap();
        assert_eq!(refused, HandedOver::No { current: Some(open.clone()) });
    }
    let mut events = stage.second.watch().await.unwrap();
    let mut told = async || match crate::stage::next(&mut events).await {
        roost_proto::event::Event::Claimed { claim, handed_over, .. } => (claim, handed_over),
        other => panic!("{other:?}"),
    };
    assert_eq!(told().await, (open.clone(), false));
    let HandedOver::Yes { epoch } = store.hand_over(hand_over(&open)).await.unwrap() else { panic!("its own room") };
    assert!(epoch > open.epoch);
    let there = Claim { node: node("fra-2"), epoch, incarnation: Incarnation(7), ..granted };
    assert_eq!(told().await, (there.clone(), true));
    assert_eq!(store.read(&room).await.unwrap(), Some(there.clone()));
    // The answer was lost: it is asked again, before and after somebody came in there.
    assert_eq!(store.hand_over(hand_over(&open)).await.unwrap(), HandedOver::Yes { epoch });
    assert_eq!(store.open(holding(&room, &there)).await.unwrap(), Opened::Yes);
    assert_eq!(stage.second.hand_over(hand_over(&open)).await.unwrap(), HandedOver::Yes { epoch });
    let elsewhere = HandOver { to: node("fra-3"), ..hand_over(&open) };
    let current = Some(Claim { state: ClaimState::Open, ..there });
    assert_eq!(store.hand_over(elsewhere).await.unwrap(), HandedOver::No { current });
    let assert = assertion(store, &room, &open, 2).await;
    assert!(matches!(store.assert(assert).await.unwrap(), Asserted::No { .. }), "it is not got back");
}

pub(crate) async fn epochs_grow_over_rooms_that_ended(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let mut last = Epoch(0);
    for _ in 0..20 {
        let claim = grant_and_open(store, &room, "fra-1", 1).await;
        assert!(claim.epoch > last);
        last = claim.epoch;
        assert_eq!(store.release(holding(&room, &claim)).await.unwrap(), Released::Yes);
    }
}

pub(crate) async fn a_raised_counter_is_below_every_later_epoch(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let high = Epoch(store.now_ms().await.unwrap() + 1_000_000_000);
    for epoch in [high, Epoch(3)] {
        let raise = Raise { bucket: room.bucket(), run: run_of(store, &room).await, epoch };
        assert_eq!(store.raise(raise).await.unwrap(), Raised::Yes);
    }
    assert_eq!(grant(store, &room, "fra-1", 1).await.epoch, Epoch(high.0 + 1));
}

pub(crate) async fn a_number_that_cannot_be_one_of_ours_changes_nothing(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let run = run_of(store, &room).await;
    for epoch in [1 << 52, 1 << 53, u64::MAX] {
        let raise = Raise { bucket: room.bucket(), run: run.clone(), epoch: Epoch(epoch) };
        assert_eq!(store.raise(raise).await.unwrap(), Raised::Yes);
        let claim = Claim {
            run: run.clone(),
            epoch: Epoch(epoch),
            state: ClaimState::Open,
            node: node("fra-1"),
            incarnation: roost_proto::id::Incarnation(u64::MAX),
        };
        let assert = Assert { held: holding(&room, &claim), incarnation: claim.incarnation, right: Right::Sure };
        assert_eq!(store.assert(assert).await.unwrap(), Asserted::No { current: None });
        assert_eq!(store.release(holding(&room, &claim)).await.unwrap(), Released::Yes);
        assert_eq!(store.open(holding(&room, &claim)).await.unwrap(), Opened::No { current: None });
    }
    assert!(grant(store, &room, "fra-1", u64::MAX).await.epoch.0 < 1 << 52);
    assert_eq!(store.read(&room).await.unwrap().unwrap().incarnation.0, u64::MAX);
    let registered = crate::made::register(store, "fra-1", u64::MAX, u64::MAX).await;
    assert!(registered.0 < 1 << 52);
    let until = store.leases(&node("fra-1")).await.unwrap()[0].until_store_ms;
    assert!(until <= store.now_ms().await.unwrap() + 30 * 24 * 3_600_000);
}

pub(crate) async fn rooms_of_any_name_are_kept_apart(stage: Stage) {
    let store = &*stage.store;
    let names = ["a", "a/b", " a", "a ", "{b1}", "}:room:a", "*", "a\\", "é", "🙂", "default/a", "'", "\"", "%s"];
    let mut epochs = BTreeSet::new();
    for name in names {
        epochs.insert(grant_and_open(store, &room(name), "fra-1", 1).await.epoch.0);
    }
    let other = roost_proto::id::RoomKey::new("other", "a").unwrap();
    assert_eq!(store.read(&other).await.unwrap(), None);
    let mut events = store.watch().await.unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < names.len() {
        if let roost_proto::event::Event::Claimed { key, .. } = crate::stage::next(&mut events).await {
            seen.insert(key.room.as_str().to_owned());
        }
    }
    assert_eq!(seen, names.into_iter().map(str::to_owned).collect());
}

pub(crate) async fn racing_grants_have_one_winner(stage: Stage) {
    let run = stage.store.runs().await.unwrap();
    let mut racers = tokio::task::JoinSet::new();
    for racer in 0..8u64 {
        let store = Arc::clone(if racer % 2 == 0 { &stage.store } else { &stage.second });
        let run = run.clone();
        racers.spawn(async move {
            let mut homes = Vec::new();
            for number in 0..50 {
                let room = room(&format!("room-{number}"));
                let grant = Grant {
                    run: run[usize::from(room.bucket())].clone(),
                    room,
                    seen: None,
                    node: node(&format!("node-{racer}")),
                    incarnation: roost_proto::id::Incarnation(racer),
                    ttl_ms: LONG_MS,
                    expected: Expected::default(),
                };
                homes.push(match store.grant(grant.clone()).await.unwrap() {
                    Granted::Yes { epoch, .. } => (grant.node, epoch, true),
                    Granted::No { current: Some(claim) } => (claim.node, claim.epoch, false),
                    other => panic!("{other:?}"),
                });
            }
            homes
        });
    }
    let homes = racers.join_all().await;
    for room in 0..50 {
        let answers: BTreeSet<_> = homes.iter().map(|homes| (homes[room].0.clone(), homes[room].1)).collect();
        assert_eq!(answers.len(), 1, "everybody has the same answer");
        assert_eq!(homes.iter().filter(|homes| homes[room].2).count(), 1, "one has won");
    }
}
