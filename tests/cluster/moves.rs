//! Rooms that live are moved to other nodes, with everybody inside.

use std::time::Duration;

use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, Plan};
use roost_tests::participant::Participant;
use roost_tests::wait;
use serde_json::{Value, json};

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
