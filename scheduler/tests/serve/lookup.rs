//! Lookups over HTTP.

use std::collections::BTreeSet;

use roost_proto::id::NamespaceId;
use roost_server::ClusterKeys;
use roost_store::operation::{NodeAnswer, Opened};
use serde_json::{Value, json};

use crate::agent::{Agent, report};
use crate::process::Scheduler;
use crate::wait;

#[tokio::test]
async fn a_first_lookup_places_the_room_and_the_next_finds_it_there() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    let first = scheduler.lookup_from("us/west", "a%2Fb%20%C3%BC").await;
    assert_eq!((&first["outcome"], &first["node"]["id"]), (&json!("placed"), &json!("iad-1")), "{first}");
    assert_eq!((&first["room"], &first["ttl_ms"]), (&json!("a/b ü"), &json!(30_000)));
    assert_eq!(first["node"]["signaling_url"], "ws://iad-1.example/signaling");
    assert_eq!(first["client"], json!({"ip": "127.0.0.1", "region": "us/west"}));
    let again = scheduler.lookup_from("eu/central", "a%2Fb%20%C3%BC").await;
    assert_eq!((&again["outcome"], &again["node"]), (&json!("existing"), &first["node"]), "{again}");
    assert_eq!(again["epoch"], first["epoch"]);
    let room: Value = scheduler.get("/v1/namespaces/default/rooms/a%2Fb%20%C3%BC").await.json().await.unwrap();
    assert_eq!((&room["state"], &room["node"], &room["epoch"]), (&json!("granted"), &json!("iad-1"), &first["epoch"]));
}

#[tokio::test]
async fn a_ticket_tells_the_nodes_door_what_was_looked_up() {
    let (scheduler, fra, _iad) = Scheduler::with_two_nodes().await;
    let found = scheduler.lookup_from("eu", "standup").await;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let ticket = ClusterKeys::dev().check_ticket(found["ticket"].as_str().unwrap(), now).unwrap();
    assert_eq!((ticket.room.as_str(), &ticket.node, ticket.incarnation), ("standup", &fra.node, fra.incarnation));
    assert_eq!(json!(ticket.epoch), found["epoch"]);
    assert!(!ticket.store.is_empty() && !ticket.id.is_empty());
    let life_ms = ticket.expires_store_ms - now;
    assert!((590_000..=601_000).contains(&life_ms), "{life_ms}");
    let answer = fra.open("standup", found["epoch"].as_u64().unwrap()).await;
    assert_eq!(answer, NodeAnswer::Opened(Opened::Yes));
    wait::until("the room is open", || async {
        let room: Value = scheduler.get("/v1/namespaces/default/rooms/standup").await.json().await.unwrap();
        (room["state"] == "open").then_some(())
    })
    .await;
    assert_eq!(scheduler.lookup("standup", json!({"avoid": ["fra-1"]})).await["node"]["id"], "fra-1");
}

#[tokio::test]
async fn of_racing_first_lookups_all_get_the_same_answer() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    for room in 0..10 {
        let room = format!("race-{room}");
        let lookups = (0..30).map(|_| scheduler.lookup(&room, json!({})));
        let answers = futures_util::future::join_all(lookups).await;
        let homes: BTreeSet<String> =
            answers.iter().map(|answer| format!("{} {}", answer["node"]["id"], answer["epoch"])).collect();
        assert_eq!(homes.len(), 1, "{homes:?}");
        assert!(answers.iter().filter(|answer| answer["outcome"] == "placed").count() <= 1);
    }
}

#[tokio::test]
async fn before_the_grace_is_over_an_unknown_room_gets_starting() {
    let scheduler = Scheduler::start().await;
    let response = scheduler.lookup_request("x", &json!({})).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "starting");
    let cluster = scheduler.admin("/v1/cluster").await;
    assert!(cluster["grace_left_ms"].as_u64().unwrap() > 0 && cluster["ready"] == false, "{cluster}");
}

#[tokio::test]
async fn avoid_moves_a_granted_room_and_alternatives_say_where_to() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    let first = scheduler.lookup("x", json!({"region": "eu", "alternatives": 8})).await;
    assert_eq!(first["node"]["id"], "fra-1");
    let other = json!([{"id": "iad-1", "signaling_url": "ws://iad-1.example/signaling"}]);
    assert_eq!(first["alternatives"], other);
    let moved = scheduler.lookup("x", json!({"region": "eu", "avoid": ["fra-1"]})).await;
    assert_eq!((&moved["outcome"], &moved["node"]["id"]), (&json!("placed"), &json!("iad-1")));
    assert!(moved["epoch"].as_u64() > first["epoch"].as_u64());
    let nowhere = json!({"avoid": ["fra-1", "iad-1"]});
    let refused = scheduler.lookup_request("x", &nowhere).send().await.unwrap();
    assert_eq!(refused.status(), 503);
}

#[tokio::test]
async fn no_node_is_answered_with_each_reason() {
    let scheduler = Scheduler::start().await.ready().await;
    let mut full = report("full", "eu");
    full.participants = 100;
    let mut foreign = report("foreign", "eu");
    foreign.description.namespaces = vec![NamespaceId::new("acme").unwrap()];
    let _full = Agent::start_with(&scheduler.cluster, full).await;
    let foreign = Agent::start_with(&scheduler.cluster, foreign).await;
    scheduler.knows(2).await;
    let response = scheduler.lookup_request("x", &json!({})).send().await.unwrap();
    assert!(response.status() == 503 && response.headers().contains_key("retry-after"));
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "no_node");
    let reasons = json!([
        {"node": "foreign", "reason": "wrong_namespace"},
        {"node": "full", "reason": "full_participants"},
    ]);
    assert_eq!(problem["rejections"], reasons);
    assert_eq!(problem["rejection_counts"].as_array().unwrap().len(), 2);
    foreign.say(|report| report.description.namespaces.clear());
    wait::until("a node takes the room", || async {
        scheduler.lookup_request("x", &json!({})).send().await.unwrap().status().is_success().then_some(())
    })
    .await;
    let metrics = scheduler.http.get(format!("http://{}/metrics", scheduler.admin)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("roost_rejections_total{reason=\"full_participants\"}"), "{metrics}");
}
