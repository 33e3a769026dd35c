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
async fn when_most_nodes_fall_silent_together_their_rooms_stay_until_the_operator_says_otherwise() {
    let scheduler = Scheduler::start().await.ready().await;
    let mut agents = Vec::new();
    for id in ["a", "b", "c", "d", "e"] {
        agents.push(Agent::start(&scheduler.cluster, id, "eu").await);
    }
    scheduler.knows(5).await;
    let first = scheduler.lookup_from("eu", "x").await;
    let home = first["node"]["id"].as_str().unwrap().to_owned();
    let epoch = first["epoch"].as_u64().unwrap();
    let at = agents.iter().position(|agent| agent.node.as_str() == home).unwrap();
    assert_eq!(agents[at].open("x", epoch).await, NodeAnswer::Opened(Opened::Yes));
    let other = agents.iter().position(|agent| agent.node.as_str() != home).unwrap();
    let living = agents.swap_remove(other);
    drop(agents);
    let held =
        wait::until("the brake holds", || async { scheduler.admin("/v1/cluster").await["brake_left_ms"].as_u64() })
            .await;
    assert!((20_000..=30_000).contains(&held), "{held}");
    let again = scheduler.lookup_from("eu", "x").await;
    assert_eq!((&again["node"]["id"], &again["epoch"]), (&json!(home), &json!(epoch)));
    let url = format!("http://{}/v1/cluster/brake", scheduler.admin);
    let released = scheduler.http.delete(url).send().await.unwrap();
    assert_eq!(released.status(), 200);
    assert_eq!(released.json::<serde_json::Value>().await.unwrap().get("brake_left_ms"), None);
    let moved = scheduler.lookup_from("eu", "x").await;
    assert_eq!(moved["node"]["id"], json!(living.node));
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
