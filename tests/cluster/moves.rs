//! Rooms that live are moved to other nodes, with everybody inside.

use std::sync::Arc;
use std::time::Duration;

use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::participant::Participant;
use roost_tests::wait;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::run;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_room_that_an_operator_moves_takes_its_participants_along() {
    for plan in [Plan::small(), Plan::small().with_redis(2)] {
        run(async {
            let cluster = Cluster::start(plan).await?;
            let found = cluster.lookup_from("eu/central", "standup").await?;
            assert_eq!(found.node.id.as_str(), "fra-1");
            let mut inside = Vec::new();
            for peer in ["anna", "ben"] {
                let url = cluster.door("fra-1", "standup", peer, &found.ticket)?;
                let mut participant = Participant::connect(&url).await?;
                participant.join(peer).await?;
                inside.push(participant);
            }
            let last = cluster.schedulers.len() - 1;
            let moved = wait::until("every scheduler knows that it is open, and it moves", SOON, || async {
                let (status, answer) = order(&cluster, last, "standup", json!({"node": "iad-1"})).await.ok()?;
                (status == 200).then_some(answer)
            })
            .await?;
            assert_eq!((&moved["node"], &moved["room"]), (&json!("iad-1"), &json!("standup")));
            assert!(moved["epoch"].as_u64() > Some(found.epoch.0), "{moved}");
            for mut participant in inside {
                follow(&mut participant, "iad-1").await?;
            }
            let there = order(&cluster, last, "standup", json!({"node": "iad-1"})).await?;
            assert_eq!((there.0, &there.1["node"], &there.1["epoch"]), (200, &json!("iad-1"), &moved["epoch"]));
            let back = order(&cluster, last, "standup", json!({})).await?;
            assert_eq!((back.0, &back.1["node"]), (200, &json!("fra-1")), "placement chooses the other node");
            cluster.stop().await
        });
    }
}

#[test]
fn what_cannot_be_moved_stays_and_says_why() {
    run(async {
        let mut plan = Plan::small();
        plan.nodes[1].arguments = vec!["--namespace".to_owned(), "other".to_owned()];
        let cluster = Cluster::start(plan).await?;
        let found = cluster.lookup_from("eu/central", "standup").await?;
        for (room, body, status, code) in [
            ("none", json!({}), 404, "room_not_found"),
            ("standup", json!({"node": "sin-1"}), 404, "node_not_found"),
            ("standup", json!({"node": "SIN"}), 400, "bad_id"),
            ("standup", json!({"node": "iad-1"}), 503, "no_node"),
            ("standup", json!({}), 503, "no_node"),
        ] {
            let (was, answer) = order(&cluster, 0, room, body).await?;
            assert_eq!((was, &answer["code"]), (status, &json!(code)), "{answer}");
            if code == "no_node" {
                let rejections = answer["rejections"].as_array().ok_or("no reasons")?;
                assert!(rejections.contains(&json!({"node": "iad-1", "reason": "wrong_namespace"})), "{answer}");
            }
        }
        let after = cluster.lookup_from("eu/central", "standup").await?;
        assert_eq!((after.node.id.as_str(), after.epoch), ("fra-1", found.epoch));
        cluster.stop().await
    });
}

/// Asks scheduler `index` to move a room; gives the status and the body.
async fn order(cluster: &Cluster, index: usize, room: &str, body: Value) -> Result<(u16, Value), Trouble> {
    post(cluster, index, &format!("/v1/namespaces/default/rooms/{room}/move"), body).await
}

async fn post(cluster: &Cluster, index: usize, path: &str, body: Value) -> Result<(u16, Value), Trouble> {
    let admin = &cluster.schedulers[index].admin;
    let response = cluster.http.post(format!("http://{admin}{path}")).json(&body).send().await?;
    Ok((response.status().as_u16(), response.json().await?))
}

/// The participant is redirected to the node, and comes in there.
async fn follow(participant: &mut Participant, node: &str) -> Result<Participant, Trouble> {
    let redirect = participant.expect("redirect").await?;
    assert_eq!(redirect["node"], node);
    let closed = participant.closed().await?;
    assert_eq!((closed.code, closed.reason.as_str()), (4000, "redirect"));
    let mut again = Participant::connect(redirect["location"].as_str().ok_or("no location")?).await?;
    again.join("again").await?;
    Ok(again)
}

const ROOMS: usize = 40;
/// So many rooms of one node move at once (scheduler/src/app/drain.rs): whoever was told to goes on, also when the scheduler
/// that told is dead.
const ON_THE_WAY: usize = 8;

#[test]
fn a_drain_that_moves_empties_a_node_also_when_a_scheduler_dies_in_the_middle() {
    // One of the two is the one that moves the rooms.
    for victim in [0, 1] {
        run(async {
            let mut plan = Plan::small().with_redis(2);
            plan.nodes.push(NodePlan::new("iad-2", "us/east"));
            let mut cluster = Cluster::start(plan).await?;
            let (mut guests, first) = (JoinSet::new(), Arc::new(Notify::new()));
            for number in 0..ROOMS {
                let room = format!("room-{number}");
                let found = cluster.lookup_from("eu/central", &room).await?;
                assert_eq!(found.node.id.as_str(), "fra-1");
                let mut anna = Participant::connect(&cluster.door("fra-1", &room, "anna", &found.ticket)?).await?;
                anna.join("anna").await?;
                let first = first.clone();
                guests.spawn(async move {
                    let moved = go_along(&mut anna, &first).await.map_err(|trouble| trouble.to_string());
                    (room, found.epoch.0, moved)
                });
            }
            let (status, drain) = post(&cluster, victim, "/v1/nodes/fra-1/drain", json!({"move": true})).await?;
            assert_eq!((status, &drain["state"]), (200, &json!("running")), "{drain}");
            tokio::time::timeout(SOON, first.notified()).await?;
            cluster.schedulers[victim].process.kill().await?;
            let other = &cluster.schedulers[1 - victim];
            let rooms = cluster.admin(other, "/v1/rooms?node=fra-1").await?;
            let left = rooms["items"].as_array().map_or(0, Vec::len);
            assert!((ON_THE_WAY + 1..ROOMS).contains(&left), "{left} of {ROOMS} rooms are left for the other one");
            let mut arrived = 0;
            while let Some(guest) = guests.join_next().await {
                let (room, before, moved) = guest?;
                let (node, epoch) = moved.map_err(|trouble| format!("{room}: {trouble}"))?;
                assert!(node.starts_with("iad-") && epoch > before, "{room}: {node} {epoch} {before}");
                arrived += 1;
            }
            assert_eq!(arrived, ROOMS);
            wait::until("the drain is finished", Duration::from_secs(30), || async {
                let node = cluster.admin(other, "/v1/nodes/fra-1").await.ok()?;
                let is_empty = node["rooms"] == 0 && node["mode"] == "maintenance";
                (is_empty && node["drain"]["state"] == "finished").then_some(())
            })
            .await?;
            println!("scheduler {victim} killed with {left} of {ROOMS} rooms left: all moved");
            Ok(())
        });
    }
}

/// Waits to be redirected, says so, and comes in there; gives the node and the epoch.
async fn go_along(participant: &mut Participant, redirected: &Notify) -> Result<(String, u64), Trouble> {
    let redirect = tokio::time::timeout(Duration::from_secs(40), next_redirect(participant)).await??;
    redirected.notify_one();
    let mut again = Participant::connect(redirect["location"].as_str().ok_or("no location")?).await?;
    again.join("anna").await?;
    let node = redirect["node"].as_str().ok_or("no node")?.to_owned();
    Ok((node, redirect["epoch"].as_u64().ok_or("no epoch")?))
}

/// A participant waits 10 s for each frame; one whose room moves late asks again.
async fn next_redirect(participant: &mut Participant) -> Result<Value, Trouble> {
    loop {
        match participant.expect("redirect").await {
            Err(trouble) if trouble.to_string().contains("silent") => {}
            answer => return answer,
        }
    }
}
