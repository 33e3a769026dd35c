//! What schedulers and agents are told unasked.

use roost_proto::command::{Action, Command};
use roost_proto::event::Event;
use roost_proto::id::Incarnation;
use roost_proto::room::{Claim, Expected};
use roost_store::operation::{Asserted, Leave, Opened, Prolonged, Released, SchedulerEntry};

use crate::made::{EXPECTED, LONG_MS, assertion, at, grant, holding, node, register, renewal, room, run_of_node};
use crate::stage::{Stage, ended, next};

pub(crate) async fn a_watcher_sees_what_happens_in_order(stage: Stage) {
    let (store, room) = (&*stage.store, room("standup"));
    let mut events = stage.second.watch().await.unwrap();
    let told = |claim: &Claim, ttl_ms, expected| Event::Claimed {
        key: room.clone(),
        claim: claim.clone(),
        ttl_ms,
        expected,
        handed_over: false,
    };
    let claimed = |claim: &Claim, ttl_ms| told(claim, ttl_ms, Expected::default());
    let granted = grant(store, &room, "fra-1", 1).await;
    assert_eq!(next(&mut events).await, told(&granted, 30_000, EXPECTED));
    assert_eq!(store.prolong(&room, &granted, 20_000).await.unwrap(), Prolonged::Yes);
    assert_eq!(next(&mut events).await, claimed(&granted, 20_000));
    // Nothing is told twice.
    for _ in 0..2 {
        assert_eq!(store.open(holding(&room, &granted)).await.unwrap(), Opened::Yes);
    }
    let open = at(&granted, granted.epoch, 1);
    let Asserted::Yes { epoch, .. } = store.assert(assertion(store, &room, &open, 2).await).await.unwrap() else {
        panic!("its own room");
    };
    let again = at(&open, epoch, 2);
    for _ in 0..2 {
        assert_eq!(store.release(holding(&room, &again)).await.unwrap(), Released::Yes);
    }
    let next_grant = grant(store, &room, "fra-2", 1).await;
    for expected in [
        claimed(&open, 0),
        claimed(&again, 0),
        Event::Released { key: room.clone(), epoch },
        told(&next_grant, 30_000, EXPECTED),
    ] {
        assert_eq!(next(&mut events).await, expected);
    }
    let incarnation = register(store, "fra-1", 0, LONG_MS).await;
    let renewal = renewal(store, "fra-1", incarnation, LONG_MS).await;
    store.renew(renewal.clone()).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Reported(Box::new(renewal.report)));
    store.leave(Leave { node: node("fra-1"), run: renewal.run, incarnation }).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Left { node: node("fra-1"), incarnation });
}

pub(crate) async fn a_late_watcher_gets_what_is_there(stage: Stage) {
    let store = &*stage.store;
    let open = grant(store, &room("open"), "fra-1", 1).await;
    store.open(holding(&room("open"), &open)).await.unwrap();
    let granted = grant(store, &room("granted"), "fra-2", 1).await;
    let ended = grant(store, &room("ended"), "fra-2", 1).await;
    store.release(holding(&room("ended"), &ended)).await.unwrap();
    let incarnation = register(store, "fra-1", 0, 60_000).await;
    let renewal = renewal(store, "fra-1", incarnation, 60_000).await;
    store.renew(renewal.clone()).await.unwrap();
    stage.pass(10_000).await;
    let mut events = stage.second.watch().await.unwrap();
    let mut claims = Vec::new();
    let mut reports = Vec::new();
    while claims.len() < 2 || reports.is_empty() {
        match next(&mut events).await {
            Event::Claimed { key, claim, ttl_ms, .. } => claims.push((key.room.as_str().to_owned(), claim, ttl_ms)),
            Event::Reported(report) => reports.push(*report),
            other => panic!("{other:?}"),
        }
    }
    claims.sort_by(|a, b| a.0.cmp(&b.0));
    let left = claims[0].2;
    assert!((1..=20_000).contains(&left), "what is left of the grant: {left}");
    assert_eq!(claims[0], ("granted".to_owned(), granted, left));
    assert_eq!(claims[1], ("open".to_owned(), at(&open, open.epoch, 1), 0));
    assert_eq!(reports, [renewal.report]);
    grant(store, &room("later"), "fra-1", 1).await;
    assert!(matches!(next(&mut events).await, Event::Claimed { key, .. } if key == room("later")));
}

pub(crate) async fn a_node_that_left_is_not_in_a_later_snapshot(stage: Stage) {
    let store = &*stage.store;
    for name in ["fra-1", "fra-2"] {
        let older = register(store, name, 0, LONG_MS).await;
        let incarnation = register(store, name, older.0, LONG_MS).await;
        store.renew(renewal(store, name, incarnation, LONG_MS).await).await.unwrap();
        // That an older incarnation left says nothing of this one.
        let left = if name == "fra-1" { incarnation } else { older };
        let run = run_of_node(store, &node(name)).await;
        store.leave(Leave { node: node(name), run, incarnation: left }).await.unwrap();
    }
    let mut events = store.watch().await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Reported(report) if report.node == node("fra-2")));
    grant(store, &room("later"), "fra-1", 1).await;
    assert!(matches!(next(&mut events).await, Event::Claimed { .. }), "nothing else was there");
}

pub(crate) async fn commands_reach_the_incarnation_they_are_for(stage: Stage) {
    let close = |incarnation: u64, name: &str| Command {
        v: 1,
        incarnation: Incarnation(incarnation),
        action: Action::CloseRoom { key: room(name), epoch: roost_proto::id::Epoch(7) },
    };
    let send = async |to: &str, command: Command| stage.second.send(&node(to), command).await.unwrap();
    send("fra-1", close(2, "before")).await;
    let mut commands = stage.store.commands(&node("fra-1"), Incarnation(2)).await.unwrap();
    let mut older = stage.store.commands(&node("fra-1"), Incarnation(1)).await.unwrap();
    for number in 0..3 {
        send("fra-1", close(1, "other incarnation")).await;
        send("fra-2", close(2, "other node")).await;
        send("fra-1", close(2, &number.to_string())).await;
    }
    for number in 0..3 {
        let command = tokio::time::timeout(std::time::Duration::from_secs(10), commands.recv()).await.unwrap();
        assert_eq!(command, Some(close(2, &number.to_string())));
    }
    assert_eq!(older.recv().await, Some(close(1, "other incarnation")));
    // One that nobody reads is bounded, and ends.
    for number in 0..600 {
        send("fra-1", close(2, &number.to_string())).await;
        tokio::task::yield_now().await;
    }
    ended(&mut commands).await;
}

pub(crate) async fn schedulers_are_listed_while_they_enlist(stage: Stage) {
    let entry = |id: &str, version: &str| SchedulerEntry {
        id: id.to_owned(),
        cluster_url: format!("http://{id}:7402"),
        version: version.to_owned(),
    };
    let listed = async || {
        let mut entries = stage.second.schedulers().await.unwrap();
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        entries
    };
    assert_eq!(listed().await, []);
    stage.store.enlist(entry("a", "1"), 10_000).await.unwrap();
    stage.store.enlist(entry("b b", "1"), 30_000).await.unwrap();
    stage.store.enlist(entry("a", "2"), 10_000).await.unwrap();
    assert_eq!(listed().await, [entry("a", "2"), entry("b b", "1")]);
    stage.pass(20_000).await;
    assert_eq!(listed().await, [entry("b b", "1")]);
    stage.store.enlist(entry("c", "1"), 10_000).await.unwrap();
    assert_eq!(listed().await, [entry("b b", "1"), entry("c", "1")]);
    assert_eq!(stage.store.identity().await.unwrap(), stage.second.identity().await.unwrap());
}
