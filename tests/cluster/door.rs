//! Tickets and limits at a node's door, in a cluster that is not in development mode.

use serde_json::json;
use tempfile::TempDir;

use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::participant::Participant;

use crate::lookup::url;
use crate::run;

#[test]
fn only_the_right_ticket_opens_the_door() {
    run(async {
        let folder = tempfile::tempdir()?;
        let cluster = Cluster::start(guarded(&folder)?).await?;
        let (room, other) =
            (cluster.lookup_from("eu/central", "standup").await?, cluster.lookup_from("eu/central", "other").await?);
        let right = room.node.id.as_str();
        let wrong = if right == "fra-1" { "fra-2" } else { "fra-1" };
        let forged = format!("{}AAAA", &room.ticket[..room.ticket.len() - 4]);
        for (node, ticket, code) in [
            (right, "", "ticket_required"),
            (right, "nonsense", "ticket_invalid"),
            (right, forged.as_str(), "ticket_invalid"),
            (right, other.ticket.as_str(), "ticket_wrong_room"),
            (wrong, room.ticket.as_str(), "ticket_wrong_node"),
        ] {
            let mut participant = Participant::connect(&url(&cluster, node, "standup", "p", ticket)?).await?;
            let problem = participant.expect("error").await?;
            assert_eq!(problem["code"], code, "{problem}");
            assert_eq!(participant.closed().await?.code, 4000, "{code}");
        }
        let mut anna = Participant::connect(&url(&cluster, right, "standup", "anna", &room.ticket)?).await?;
        anna.join("Anna").await?;
        cluster.stop().await
    });
}

#[test]
fn the_ticket_of_a_room_that_has_ended_is_stale() {
    run(async {
        let folder = tempfile::tempdir()?;
        let cluster = Cluster::start(guarded(&folder)?).await?;
        let room = cluster.lookup_from("eu/central", "standup").await?;
        let door = url(&cluster, room.node.id.as_str(), "standup", "anna", &room.ticket)?;
        let mut anna = Participant::connect(&door).await?;
        anna.join("Anna").await?;
        anna.leave().await?;
        let path = format!("http://{}/v1/namespaces/default/rooms/standup", cluster.schedulers[0].public);
        roost_tests::wait::until("the empty room has ended", std::time::Duration::from_secs(10), || async {
            (cluster.http.get(&path).send().await.ok()?.status() == 404).then_some(())
        })
        .await?;
        let mut late = Participant::connect(&door).await?;
        assert_eq!(late.expect("error").await?["code"], "ticket_stale");
        cluster.stop().await
    });
}

#[test]
fn a_full_node_lets_nobody_in_and_gets_no_new_room() {
    run(async {
        let mut plan = Plan::small();
        plan.nodes = vec![NodePlan::new("fra-1", "eu/central").with(&["--max-participants", "2"])];
        let cluster = Cluster::start(plan).await?;
        let room = cluster.lookup_from("eu/central", "standup").await?;
        let mut inside = Vec::new();
        for peer in ["a", "b"] {
            let mut participant = Participant::connect(&url(&cluster, "fra-1", "standup", peer, &room.ticket)?).await?;
            participant.join(peer).await?;
            inside.push(participant);
        }
        let mut third = Participant::connect(&url(&cluster, "fra-1", "standup", "c", &room.ticket)?).await?;
        let problem = third.expect("error").await?;
        assert_eq!(problem["rejections"], json!([{"node": "fra-1", "reason": "full_participants"}]), "{problem}");
        assert_eq!(third.closed().await?.code, 4503);
        roost_tests::wait::until("new rooms are refused", std::time::Duration::from_secs(5), || async {
            let response = cluster.lookup_response(0, "default", "new", json!({})).await.ok()?;
            let problem: serde_json::Value = response.json().await.ok()?;
            (problem["rejections"][0]["reason"] == "full_participants").then_some(())
        })
        .await?;
        cluster.stop().await
    });
}

/// Two nodes in one region, a cluster key, and tickets required.
fn guarded(folder: &TempDir) -> Result<Plan, Trouble> {
    let key = folder.path().join("cluster-key");
    std::fs::write(&key, "a-key-for-this-test-alone-0123456789abcdef\n")?;
    let mut plan = Plan::small();
    plan.dev = false;
    plan.cluster_key = Some(key);
    let urls = ["--empty-room-s", "1"];
    plan.nodes = ["fra-1", "fra-2"].map(|id| NodePlan::new(id, "eu/central").with(&urls)).to_vec();
    Ok(plan)
}
