//! A node's time-limited right to its rooms, one for each of its incarnations.

use roost_proto::event::Event;
use roost_proto::id::Incarnation;
use roost_store::operation::{Leave, Registered, Renewed};

use crate::made::{LONG_MS, node, register, renewal, run_of_node, try_register};
use crate::stage::{Stage, next};

pub(crate) async fn a_lapsed_lease_is_never_renewed_and_its_report_not_published(stage: Stage) {
    let store = &*stage.store;
    let incarnation = register(store, "fra-1", 0, 4_000).await;
    for _ in 0..3 {
        stage.pass(3_000).await;
        let renewed = store.renew(renewal(store, "fra-1", incarnation, 4_000).await).await.unwrap();
        assert!(matches!(renewed, Renewed::Yes { .. }), "{renewed:?}");
    }
    let mut events = store.watch().await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Reported(report) if report.incarnation == incarnation));
    stage.pass(4_001).await;
    for _ in 0..2 {
        let renewed = store.renew(renewal(store, "fra-1", incarnation, LONG_MS).await).await.unwrap();
        assert_eq!(renewed, Renewed::Lapsed);
    }
    let unknown = store.renew(renewal(store, "fra-1", Incarnation(7), LONG_MS).await).await.unwrap();
    assert_eq!(unknown, Renewed::Lapsed, "an incarnation that the store does not know");
    assert!(store.leases(&node("fra-1")).await.unwrap()[0].lapsed);
    let later = register(store, "fra-1", incarnation.0, 4_000).await;
    assert!(later > incarnation);
    let renewed = store.renew(renewal(store, "fra-1", later, 4_000).await).await.unwrap();
    assert!(matches!(renewed, Renewed::Yes { .. }));
    assert!(
        matches!(next(&mut events).await, Event::Reported(report) if report.incarnation == later),
        "nothing was published in between"
    );
}

pub(crate) async fn a_node_of_another_process_is_refused_until_the_lease_is_over(stage: Stage) {
    let store = &*stage.store;
    let first = register(store, "fra-1", 0, 4_000).await;
    let taken = try_register(&*stage.second, "fra-1", "other", 0, 4_000).await;
    assert!(matches!(taken, Registered::Taken { until_store_ms } if until_store_ms > 0), "{taken:?}");
    assert!(matches!(try_register(store, "fra-2", "other", 0, 4_000).await, Registered::Yes { .. }), "another node");
    stage.pass(4_001).await;
    let later = try_register(&*stage.second, "fra-1", "other", 0, 4_000).await;
    assert!(matches!(later, Registered::Yes { incarnation, .. } if incarnation > first), "{later:?}");
    let taken = try_register(store, "fra-1", "process", first.0, 4_000).await;
    assert!(matches!(taken, Registered::Taken { .. }), "{taken:?}");
}

pub(crate) async fn a_new_incarnation_ends_no_older_lease(stage: Stage) {
    let store = &*stage.store;
    let first = register(store, "fra-1", 0, 4_000).await;
    let second = register(store, "fra-1", first.0, 2_000).await;
    for incarnation in [first, second] {
        let renewed = store.renew(renewal(store, "fra-1", incarnation, 1_000).await).await.unwrap();
        assert!(matches!(renewed, Renewed::Yes { .. }));
    }
    let leases = store.leases(&node("fra-1")).await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.incarnation).collect::<Vec<_>>(), [first, second], "newest last");
    assert!(leases.iter().all(|lease| !lease.lapsed));
    assert!(leases[0].until_store_ms > leases[1].until_store_ms, "what was promised before still holds");
    stage.pass(2_500).await;
    let lapsed: Vec<_> = store.leases(&node("fra-1")).await.unwrap().iter().map(|lease| lease.lapsed).collect();
    assert_eq!(lapsed, [false, true]);
}

pub(crate) async fn an_agent_that_leaves_is_over_at_once(stage: Stage) {
    let store = &*stage.store;
    let first = register(store, "fra-1", 0, LONG_MS).await;
    let second = register(store, "fra-1", first.0, LONG_MS).await;
    let leave = Leave { node: node("fra-1"), run: run_of_node(store, &node("fra-1")).await, incarnation: first };
    store.leave(leave.clone()).await.unwrap();
    store.leave(leave.clone()).await.unwrap();
    store.leave(Leave { incarnation: Incarnation(5), ..leave }).await.unwrap();
    let leases = store.leases(&node("fra-1")).await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.lapsed).collect::<Vec<_>>(), [true, false]);
    assert!(leases[0].until_store_ms <= store.now_ms().await.unwrap());
    let renewed = store.renew(renewal(store, "fra-1", first, LONG_MS).await).await.unwrap();
    assert_eq!(renewed, Renewed::Lapsed);
    let renewed = store.renew(renewal(store, "fra-1", second, LONG_MS).await).await.unwrap();
    assert!(matches!(renewed, Renewed::Yes { .. }));
}

pub(crate) async fn a_bounded_number_of_leases_is_remembered(stage: Stage) {
    let store = &*stage.store;
    let mut last = Incarnation(0);
    for _ in 0..20 {
        let incarnation = register(store, "fra-1", last.0, 0).await;
        assert!(incarnation > last);
        last = incarnation;
    }
    let leases = store.leases(&node("fra-1")).await.unwrap();
    assert_eq!(leases.len(), roost_store::lease::LEASES_KEPT);
    assert_eq!(leases.last().unwrap().incarnation, last);
    assert!(leases.iter().all(|lease| lease.lapsed));
    assert!(leases.is_sorted_by_key(|lease| lease.incarnation));
}

pub(crate) async fn a_living_lease_is_never_forgotten(stage: Stage) {
    let store = &*stage.store;
    let first = register(store, "fra-1", 0, LONG_MS).await;
    for _ in 0..20 {
        register(store, "fra-1", 0, 0).await;
    }
    for _ in 1..roost_store::lease::LEASES_KEPT {
        register(store, "fra-1", 0, LONG_MS).await;
    }
    let refused = try_register(store, "fra-1", "process", 0, LONG_MS).await;
    assert!(matches!(refused, Registered::Taken { .. }), "{refused:?}");
    let leases = store.leases(&node("fra-1")).await.unwrap();
    assert_eq!((leases.len(), leases[0].incarnation), (roost_store::lease::LEASES_KEPT, first));
    assert!(leases.iter().all(|lease| !lease.lapsed));
}
