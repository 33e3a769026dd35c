//! What operators want of nodes: plans, one after the other.

use roost_proto::event::Event;
use roost_proto::id::Incarnation;
use roost_proto::report::Mode;
use roost_proto::steer::Steering;
use roost_store::Store;
use roost_store::lease::NODE_KEPT_MS;
use roost_store::operation::{Purged, Registered, Renewed, Steer, Steered};

use crate::made::{DRAIN, node, register, renewal, run_of_node, try_register};
use crate::stage::{Stage, next};

pub(crate) async fn a_plan_counts_only_if_the_one_before_was_known(stage: Stage) {
    let store = &*stage.store;
    let first = steered(try_steer(store, 0, Mode::BlockNewRooms).await);
    assert!(first.plan >= store.now_ms().await.unwrap().saturating_sub(60_000), "at least the store's time: {first:?}");
    let late = try_steer(&*stage.second, 0, Mode::Maintenance).await;
    assert_eq!(late, Steered::No { current: first });
    let second = steered(try_steer(&*stage.second, first.plan, Mode::Draining).await);
    assert!(second.plan > first.plan && second.drain == Some(DRAIN), "{second:?}");
    assert_eq!(try_steer(store, first.plan, Mode::Serving).await, Steered::No { current: second });
}

pub(crate) async fn a_node_hears_with_its_renewal_what_is_wanted_of_it(mut stage: Stage) {
    let incarnation = register(&*stage.store, "fra-1", 0, 4_000).await;
    let mut events = stage.store.watch().await.unwrap();
    let wanted = steered(try_steer(&*stage.second, 0, Mode::Draining).await);
    assert_eq!(next(&mut events).await, Event::Steered { node: node("fra-1"), steering: wanted });
    assert_eq!(renewed(&*stage.store, incarnation, None).await, Some(wanted));
    let Event::Reported(report) = next(&mut events).await else { panic!("no report") };
    assert_eq!((report.mode, report.steering), (Mode::Draining, Some(wanted)), "as if it had heard of it");
    assert_eq!(renewed(&*stage.store, incarnation, Some(wanted)).await, None, "no news");
    stage.restart().await;
    let registered = try_register(&*stage.store, "fra-1", "another", 0, 4_000).await;
    assert!(matches!(registered, Registered::Yes { steering: Some(told), .. } if told == wanted), "{registered:?}");
}

pub(crate) async fn a_late_watcher_hears_what_was_wanted_of_a_node_since_its_last_report(stage: Stage) {
    let store = &*stage.store;
    let incarnation = register(store, "fra-1", 0, 4_000).await;
    renewed(store, incarnation, None).await;
    let mut plan = 0;
    for mode in [Mode::Maintenance, Mode::Draining] {
        let wanted = steered(try_steer(store, plan, mode).await);
        plan = wanted.plan;
        let mut events = stage.second.watch().await.unwrap();
        let Event::Reported(report) = next(&mut events).await else { panic!("no report") };
        assert_eq!((report.mode, report.steering), (mode, Some(wanted)));
    }
}

pub(crate) async fn a_store_that_was_emptied_learns_from_the_node_what_was_wanted_of_it(mut stage: Stage) {
    let wanted = steered(try_steer(&*stage.store, 0, Mode::Maintenance).await);
    stage.wipe().await;
    // The first call after a wipe may only find that out.
    while stage.store.runs().await.is_err() {}
    let incarnation = loop {
        match try_register(&*stage.store, "fra-1", "process", 0, 4_000).await {
            Registered::Yes { incarnation, steering, .. } => {
                assert_eq!(steering, None);
                break incarnation;
            }
            Registered::NewRun { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(renewed(&*stage.store, incarnation, Some(wanted)).await, None);
    assert_eq!(renewed(&*stage.store, incarnation, None).await, Some(wanted), "it is kept again");
    stage.wipe().await;
    let run = loop {
        match try_steer(&*stage.store, wanted.plan, Mode::Serving).await {
            Steered::Yes { steering } => break steering,
            Steered::NewRun { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(run.plan > wanted.plan, "who knows the plan from the node need not wait for it");
}

pub(crate) async fn what_is_wanted_of_a_node_is_forgotten_when_it_was_gone_for_long(stage: Stage) {
    let store = &*stage.store;
    let wanted = steered(try_steer(store, 0, Mode::Maintenance).await);
    stage.pass(NODE_KEPT_MS - 60_000).await;
    let incarnation = register(store, "fra-1", 0, 4_000).await;
    assert_eq!(renewed(store, incarnation, None).await, Some(wanted));
    stage.pass(NODE_KEPT_MS - 60_000).await;
    assert!(matches!(try_steer(store, 0, Mode::Serving).await, Steered::No { .. }), "it was there since");
    stage.pass(120_000).await;
    steered(try_steer(store, 0, Mode::Serving).await);
}

pub(crate) async fn only_a_node_without_a_lease_is_purged(stage: Stage) {
    let store = &*stage.store;
    let incarnation = register(store, "fra-1", 0, 4_000).await;
    steered(try_steer(store, 0, Mode::Maintenance).await);
    renewed(store, incarnation, None).await;
    let run = run_of_node(store, &node("fra-1")).await;
    let held = store.purge(&node("fra-1"), &run).await.unwrap();
    assert!(matches!(held, Purged::Held { .. }), "{held:?}");
    stage.pass(4_001).await;
    let mut events = store.watch().await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Reported(_)));
    assert_eq!(stage.second.purge(&node("fra-1"), &run).await.unwrap(), Purged::Yes);
    assert_eq!(next(&mut events).await, Event::Purged { node: node("fra-1") });
    steered(try_steer(store, 0, Mode::Serving).await);
    let mut later = stage.second.watch().await.unwrap();
    steered(try_steer(store, store_plan(store).await, Mode::Serving).await);
    assert!(matches!(next(&mut later).await, Event::Steered { .. }), "no report is left");
    assert!(store.leases(&node("fra-1")).await.unwrap().iter().any(|lease| lease.incarnation == incarnation), "rule 6");
}

async fn try_steer(store: &dyn Store, seen_plan: u64, mode: Mode) -> Steered {
    let run = run_of_node(store, &node("fra-1")).await;
    let drain = (mode == Mode::Draining).then_some(DRAIN);
    store.steer(Steer { node: node("fra-1"), run, seen_plan, mode, drain }).await.unwrap()
}

/// The plan that is stored.
async fn store_plan(store: &dyn Store) -> u64 {
    match try_steer(store, 1, Mode::Serving).await {
        Steered::No { current } => current.plan,
        other => panic!("{other:?}"),
    }
}

fn steered(answer: Steered) -> Steering {
    let Steered::Yes { steering } = answer else { panic!("{answer:?}") };
    steering
}

/// What a renewal tells the node, which knows of `known`.
async fn renewed(store: &dyn Store, incarnation: Incarnation, known: Option<Steering>) -> Option<Steering> {
    let mut renew = renewal(store, "fra-1", incarnation, 4_000).await;
    if let Some(known) = known {
        renew.report.steer(known);
    }
    match store.renew(renew).await.unwrap() {
        Renewed::Yes { steering, .. } => steering,
        other => panic!("{other:?}"),
    }
}
