//! What becomes of rooms whose node is gone.

use std::time::{Duration, Instant};

use roost_store::operation::{NodeAnswer, Opened};
use serde_json::json;

use crate::agent::Agent;
use crate::process::Scheduler;
use crate::wait;

#[tokio::test]
async fn an_open_room_of_a_silent_node_moves_after_its_lease_and_not_before() {
    let (scheduler, fra, _iad) = Scheduler::with_two_nodes().await;
    let first = scheduler.lookup_from("eu", "x").await;
    let epoch = first["epoch"].as_u64().unwrap();
    assert_eq!(fra.open("x", epoch).await, NodeAnswer::Opened(Opened::Yes));
    let silent_since = Instant::now();
    drop(fra);
    let moved = wait::until("the room moves", || async {
        let answer = scheduler.lookup_from("eu", "x").await;
        (answer["node"]["id"] == "iad-1").then_some(answer)
    })
    .await;
    assert!(silent_since.elapsed() > Duration::from_millis(3_600), "{:?}", silent_since.elapsed());
    assert!(moved["epoch"].as_u64().unwrap() > epoch && moved["outcome"] == "placed");
    wait::until("the next tick", || async {
        (scheduler.admin("/v1/nodes/fra-1").await["state"] == "lost").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_open_room_of_a_node_that_left_moves_at_once() {
    let (scheduler, fra, _iad) = Scheduler::with_two_nodes().await;
    let first = scheduler.lookup_from("eu", "x").await;
    fra.open("x", first["epoch"].as_u64().unwrap()).await;
    fra.leave().await;
    let left = Instant::now();
    wait::until("the room moves", || async {
        (scheduler.lookup_from("eu", "x").await["node"]["id"] == "iad-1").then_some(())
    })
    .await;
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
}

#[tokio::test]
async fn a_granted_room_follows_its_node_into_its_next_incarnation_with_a_new_epoch() {
    let (scheduler, fra, _iad) = Scheduler::with_two_nodes().await;
    let first = scheduler.lookup_from("eu", "x").await;
    fra.leave().await;
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu/central").await;
    wait::until("the new incarnation is known", || async {
        let node = scheduler.admin("/v1/nodes/fra-1").await;
        (node["incarnation"] == json!(fra.incarnation)).then_some(())
    })
    .await;
    let second = scheduler.lookup_from("eu", "x").await;
    assert_eq!((&second["node"]["id"], &second["outcome"]), (&json!("fra-1"), &json!("placed")));
    let epoch = second["epoch"].as_u64().unwrap();
    assert!(epoch > first["epoch"].as_u64().unwrap());
    assert_eq!(fra.open("x", epoch).await, NodeAnswer::Opened(Opened::Yes));
}
