//! What a restart and a loss of the data do (rules 1, 2, 17 to 20).

use roost_proto::id::{Epoch, Incarnation};
use roost_proto::room::{Claim, ClaimState, Expected};
use roost_store::operation::{
    Assert, Asserted, Grant, Granted, Leave, Opened, Prolonged, Raise, Raised, Register, Registered, Released, Renewed,
    Right,
};

use crate::made::{
    LONG_MS, assertion, grant, grant_and_open, holding, node, register, renewal, room, run_of, try_grant,
};
use crate::stage::{Stage, ended};

pub(crate) async fn in_a_new_run_everything_written_before_is_void(mut stage: Stage) {
    let room = room("standup");
    let high = Epoch(stage.store.now_ms().await.unwrap() + 1_000_000);
    let run = run_of(&*stage.store, &room).await;
    stage.store.raise(Raise { bucket: room.bucket(), run, epoch: high }).await.unwrap();
    let claim = grant_and_open(&*stage.store, &room, "fra-1", 1).await;
    let incarnation = register(&*stage.store, "fra-1", 0, LONG_MS).await;
    let old_renewal = renewal(&*stage.store, "fra-1", incarnation, LONG_MS).await;
    stage.restart().await;
    let store = &*stage.store;
    assert_ne!(run_of(store, &room).await, claim.run);
    refuses_what_names_the_old_run(store, &claim, &old_renewal).await;
    assert_eq!(store.read(&room).await.unwrap(), None);
    assert_eq!(store.leases(&node("fra-1")).await.unwrap(), []);
    let renewed = store.renew(renewal(store, "fra-1", incarnation, LONG_MS).await).await.unwrap();
    assert_eq!(renewed, Renewed::Lapsed, "the lease is void");
    assert!(register(store, "fra-1", 0, LONG_MS).await > incarnation, "no incarnation comes twice");
    assert!(grant(store, &room, "fra-2", 1).await.epoch > claim.epoch, "the counter stays");
}

async fn refuses_what_names_the_old_run(
    store: &dyn roost_store::Store,
    claim: &Claim,
    renewal: &roost_store::operation::Renew,
) {
    let room = room("standup");
    let run = run_of(store, &room).await;
    let held = holding(&room, claim);
    let grant = Grant {
        room: room.clone(),
        run: claim.run.clone(),
        seen: Some(claim.clone()),
        node: node("fra-2"),
        incarnation: claim.incarnation,
        ttl_ms: LONG_MS,
        expected: Expected::default(),
    };
    assert_eq!(store.grant(grant).await.unwrap(), Granted::NewRun { run: run.clone() });
    assert_eq!(store.prolong(&room, claim, LONG_MS).await.unwrap(), Prolonged::NewRun { run: run.clone() });
    assert_eq!(store.open(held.clone()).await.unwrap(), Opened::NewRun { run: run.clone() });
    let assert = Assert { held: held.clone(), incarnation: claim.incarnation, right: Right::Sure };
    assert_eq!(store.assert(assert).await.unwrap(), Asserted::NewRun { run: run.clone() });
    assert_eq!(store.release(held).await.unwrap(), Released::NewRun { run: run.clone() });
    let raise = Raise { bucket: room.bucket(), run: claim.run.clone(), epoch: Epoch(9) };
    assert_eq!(store.raise(raise).await.unwrap(), Raised::NewRun { run });
    let run = crate::made::run_of_node(store, &renewal.report.node).await;
    assert_eq!(store.renew(renewal.clone()).await.unwrap(), Renewed::NewRun { run: run.clone() });
    let register = Register {
        node: renewal.report.node.clone(),
        run: renewal.run.clone(),
        process: "process".to_owned(),
        after: renewal.report.incarnation,
        lease_ms: LONG_MS,
    };
    assert_eq!(store.register(register).await.unwrap(), Registered::NewRun { run });
    let leave =
        Leave { node: renewal.report.node.clone(), run: renewal.run.clone(), incarnation: renewal.report.incarnation };
    store.leave(leave).await.unwrap();
}

pub(crate) async fn a_wipe_is_a_new_run(mut stage: Stage) {
    let room = room("standup");
    let claim = grant_and_open(&*stage.store, &room, "fra-1", 1).await;
    let (identity, before) = (stage.store.identity().await.unwrap(), stage.store.runs().await.unwrap());
    stage.wipe().await;
    // Nobody reconnects: the first who asks for anything learns of it, and so does everybody then.
    let answer = stage.store.open(holding(&room, &claim)).await.unwrap();
    let after = stage.store.runs().await.unwrap();
    assert_eq!(answer, Opened::NewRun { run: after[usize::from(room.bucket())].clone() });
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "in every bucket");
    assert_ne!(stage.store.identity().await.unwrap(), identity, "the data is another");
    let other = stage.second.open(holding(&room, &claim)).await.unwrap();
    assert_eq!(other, answer);
    assert_eq!(stage.second.runs().await.unwrap(), after);
    assert_eq!(stage.store.read(&room).await.unwrap(), None);
    grant(&*stage.second, &room, "fra-2", 1).await;
}

pub(crate) async fn an_unlapsed_node_keeps_its_epoch_in_a_new_run_and_beats_lower_ones(mut stage: Stage) {
    let room = room("standup");
    let older = grant_and_open(&*stage.store, &room, "fra-1", 1).await;
    let Granted::Yes { epoch, .. } = try_grant(&*stage.store, &room, Some(older.clone()), "fra-2", 4).await else {
        panic!("exactly what is there was seen");
    };
    let newer = Claim { epoch, node: node("fra-2"), incarnation: Incarnation(4), ..older.clone() };
    stage.restart().await;
    let store = &*stage.store;
    let run = run_of(store, &room).await;
    let in_run = |claim: &Claim| Claim { run: run.clone(), ..claim.clone() };
    let assert = assertion(store, &room, &older, 1).await;
    assert_eq!(store.assert(assert.clone()).await.unwrap(), yes(older.epoch));
    assert_eq!(store.assert(assert.clone()).await.unwrap(), yes(older.epoch), "once more");
    assert_eq!(store.read(&room).await.unwrap(), Some(in_run(&older)));
    let beating = assertion(store, &room, &newer, 4).await;
    assert_eq!(store.assert(beating).await.unwrap(), yes(newer.epoch));
    assert_eq!(store.assert(assert).await.unwrap(), Asserted::No { current: Some(in_run(&newer)) });
}

pub(crate) async fn after_the_first_epoch_of_a_run_no_older_one_is_accepted(mut stage: Stage) {
    let room = room("standup");
    let first = grant_and_open(&*stage.store, &room, "fra-1", 1).await;
    let Granted::Yes { epoch, .. } = try_grant(&*stage.store, &room, Some(first.clone()), "fra-2", 1).await else {
        panic!("exactly what is there was seen");
    };
    stage.restart().await;
    let store = &*stage.store;
    // The older holder was faster, and the bucket is closed by another room's grant.
    let assert = assertion(store, &room, &first, 1).await;
    assert_eq!(store.assert(assert).await.unwrap(), yes(first.epoch));
    let neighbour = neighbour_of(&room);
    grant(store, &neighbour, "fra-3", 1).await;
    let late = Claim { epoch, node: node("fra-2"), ..first.clone() };
    let assert = assertion(store, &room, &late, 1).await;
    let current = Some(Claim { run: run_of(store, &room).await, ..first.clone() });
    assert_eq!(store.assert(assert).await.unwrap(), Asserted::No { current });
    // A room that nobody has is claimed anew, under an epoch of this run.
    let gone = Claim { epoch: Epoch(epoch.0 - 1), ..late };
    store.release(holding(&room, &store.read(&room).await.unwrap().unwrap())).await.unwrap();
    let Asserted::Yes { epoch: anew, .. } = store.assert(assertion(store, &room, &gone, 1).await).await.unwrap() else {
        panic!("nobody's room");
    };
    assert!(anew > epoch);
}

pub(crate) async fn a_lapsed_node_asserts_provisionally_in_a_new_run(mut stage: Stage) {
    let room = room("standup");
    let claim = grant_and_open(&*stage.store, &room, "fra-1", 1).await;
    stage.restart().await;
    let store = &*stage.store;
    for incarnation in [2, 2, 3] {
        // Once more without an answer, then after another lapse: it stays as it is.
        let held = Claim { incarnation: Incarnation(incarnation.min(2)), ..claim.clone() };
        let assert = Assert { right: Right::Provisional, ..assertion(store, &room, &held, incarnation).await };
        let provisional = Asserted::Yes { epoch: claim.epoch, provisional: true };
        assert_eq!(store.assert(assert).await.unwrap(), provisional, "the old epoch");
        let read = store.read(&room).await.unwrap().unwrap();
        assert_eq!((read.state, read.incarnation.0), (ClaimState::Open, incarnation));
    }
    let higher = Claim { epoch: Epoch(claim.epoch.0 + 1), node: node("fra-2"), ..claim.clone() };
    let assert = assertion(store, &room, &higher, 1).await;
    assert_eq!(store.assert(assert).await.unwrap(), yes(higher.epoch), "the higher epoch wins");
    let late = Claim { incarnation: Incarnation(3), ..claim };
    let confirm = Assert { right: Right::Confirming, ..assertion(store, &room, &late, 3).await };
    let current = store.read(&room).await.unwrap();
    assert_eq!(store.assert(confirm).await.unwrap(), Asserted::No { current }, "and is not taken from");
    assert!(grant(store, &neighbour_of(&room), "fra-1", 2).await.epoch > higher.epoch);
}

pub(crate) async fn a_confirmation_gives_a_new_epoch_and_closes_the_bucket(mut stage: Stage) {
    let (room, neighbour) = (room("standup"), neighbour_of(&room("standup")));
    let claim = grant_and_open(&*stage.store, &room, "fra-1", 1).await;
    let other = grant_and_open(&*stage.store, &neighbour, "fra-2", 1).await;
    stage.restart().await;
    let store = &*stage.store;
    let assert = Assert { right: Right::Provisional, ..assertion(store, &room, &claim, 2).await };
    let provisional = Asserted::Yes { epoch: claim.epoch, provisional: true };
    assert_eq!(store.assert(assert.clone()).await.unwrap(), provisional);
    let held = Claim { incarnation: Incarnation(2), ..claim.clone() };
    let confirm = Assert { right: Right::Confirming, ..assertion(store, &room, &held, 2).await };
    let Asserted::Yes { epoch, provisional: false } = store.assert(confirm.clone()).await.unwrap() else {
        panic!("its own room");
    };
    assert!(epoch > claim.epoch.max(other.epoch));
    assert_eq!(store.assert(confirm).await.unwrap(), yes(epoch), "the answer was lost");
    assert_eq!(store.assert(assert).await.unwrap(), yes(epoch), "a late assertion takes nothing back");
    let read = store.read(&room).await.unwrap().unwrap();
    assert_eq!((read.epoch, read.state, read.incarnation.0), (epoch, ClaimState::Open, 2));
    // Closed: the neighbour's old epoch is not accepted any more, but nobody has the room.
    let Asserted::Yes { epoch: anew, .. } = store.assert(assertion(store, &neighbour, &other, 1).await).await.unwrap()
    else {
        panic!("nobody's room");
    };
    assert!(anew > epoch);
}

pub(crate) async fn a_lapse_in_a_new_run_closes_no_bucket(mut stage: Stage) {
    let (room, neighbour) = (room("standup"), neighbour_of(&room("standup")));
    let claim = grant_and_open(&*stage.store, &room, "fra-1", 1).await;
    let other = grant_and_open(&*stage.store, &neighbour, "fra-2", 1).await;
    stage.restart().await;
    let store = &*stage.store;
    for incarnation in [1, 2] {
        store.assert(assertion(store, &room, &claim, incarnation).await).await.unwrap();
    }
    assert!(store.read(&room).await.unwrap().unwrap().epoch > other.epoch, "rule 9 gave a new epoch");
    let assert = assertion(store, &neighbour, &other, 1).await;
    assert_eq!(store.assert(assert).await.unwrap(), yes(other.epoch), "no grace need have passed");
}

pub(crate) async fn an_agent_of_an_earlier_run_leaves_unheard(mut stage: Stage) {
    let incarnation = register(&*stage.store, "fra-1", 0, LONG_MS).await;
    stage.restart().await;
    let store = &*stage.store;
    let mut events = store.watch().await.unwrap();
    let run = crate::made::run_of_node(store, &node("fra-1")).await;
    store.leave(Leave { node: node("fra-1"), run, incarnation }).await.unwrap();
    // On the same stream, so that it would have come first.
    let incarnation = register(store, "fra-1", incarnation.0, LONG_MS).await;
    store.renew(renewal(store, "fra-1", incarnation, LONG_MS).await).await.unwrap();
    assert!(matches!(crate::stage::next(&mut events).await, roost_proto::event::Event::Reported(_)));
}

pub(crate) async fn a_new_run_ends_watchers(mut stage: Stage) {
    let mut watches = [stage.store.watch().await.unwrap(), stage.second.watch().await.unwrap()];
    let mut commands = stage.store.commands(&node("fra-1"), roost_proto::id::Incarnation(1)).await.unwrap();
    stage.restart().await;
    for watch in &mut watches {
        ended(watch).await;
    }
    ended(&mut commands).await;
    let mut watch = stage.store.watch().await.unwrap();
    stage.wipe().await;
    ended(&mut watch).await;
}

fn yes(epoch: Epoch) -> Asserted {
    Asserted::Yes { epoch, provisional: false }
}

/// Another room of the same bucket.
fn neighbour_of(room: &roost_proto::id::RoomKey) -> roost_proto::id::RoomKey {
    let names = (0..1_000).map(|number| crate::made::room(&format!("neighbour-{number}")));
    names.into_iter().find(|other| other.bucket() == room.bucket()).expect("one in sixteen")
}
