//! Tickets and limits at a node's door, in a cluster that is not in development mode.

use std::collections::BTreeMap;

use serde_json::json;
use tempfile::TempDir;

use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::participant::Participant;

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
            let mut participant = Participant::connect(&cluster.door(node, "standup", "p", ticket)?).await?;
            let problem = participant.expect("error").await?;
            assert_eq!(problem["code"], code, "{problem}");
            assert_eq!(participant.closed().await?.code, 4000, "{code}");
        }
        let mut anna = Participant::connect(&cluster.door(right, "standup", "anna", &room.ticket)?).await?;
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
        let door = cluster.door(room.node.id.as_str(), "standup", "anna", &room.ticket)?;
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
            let mut participant = Participant::connect(&cluster.door("fra-1", "standup", peer, &room.ticket)?).await?;
            participant.join(peer).await?;
            inside.push(participant);
        }
        let mut third = Participant::connect(&cluster.door("fra-1", "standup", "c", &room.ticket)?).await?;
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

#[test]
fn of_three_times_as_many_who_come_at_once_exactly_the_limit_gets_in() {
    run(async {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("roost.toml");
        std::fs::write(&file, "[namespaces.default]\nmax_participants_per_room = 4\n")?;
        let config = file.display().to_string();
        let mut plan = Plan::small();
        let limits = ["--max-participants", "10", "--leave-s", "0", "--config", config.as_str()];
        plan.nodes = vec![NodePlan::new("fra-1", "eu/central").with(&limits)];
        let cluster = Cluster::start(plan).await?;
        let mut doors = BTreeMap::new();
        for room in ["one", "two", "three"] {
            let ticket = cluster.lookup_from("eu/central", room).await?.ticket;
            doors.insert(room, cluster.door("fra-1", room, "p", &ticket)?);
        }
        // The room is full before the node is.
        let (inside, refusals) = come_at_once(&doors["one"], 12).await?;
        assert_eq!((inside.len(), refusals), (4, BTreeMap::from([("room_full".to_owned(), 8)])));
        let (mut others, mut codes) = (inside, BTreeMap::new());
        let (two, three) = tokio::join!(come_at_once(&doors["two"], 15), come_at_once(&doors["three"], 15));
        for (inside, refusals) in [two?, three?] {
            others.extend(inside);
            refusals.into_iter().for_each(|(code, count)| *codes.entry(code).or_insert(0) += count);
        }
        assert_eq!(others.len(), 10, "{codes:?}");
        assert!(codes.keys().all(|code| ["room_full", "full_participants"].contains(&code.as_str())), "{codes:?}");
        assert_eq!(codes.values().sum::<usize>(), 24, "{codes:?}");
        let text = cluster.http.get(format!("http://{}/metrics", cluster.node("fra-1")?.control)).send().await?;
        assert!(text.text().await?.contains("roost_agent_participants 10\n"));
        cluster.stop().await
    });
}

/// So many come at the same moment: those who got in, and how many were refused for which reason.
async fn come_at_once(url: &str, count: usize) -> Result<(Vec<Participant>, BTreeMap<String, usize>), Trouble> {
    let come = (0..count).map(|peer| {
        let url = url.replace("peerId=p", &format!("peerId=p{peer}"));
        async move {
            let mut participant = Participant::connect(&url).await?;
            let joined = participant.join("p").await;
            let Some(problem) = participant.take("error") else {
                return joined.map(|_| Ok(participant));
            };
            let closed = participant.closed().await?;
            assert_eq!((closed.code, closed.reason.as_str()), (4503, problem["code"].as_str().unwrap()), "{problem}");
            let reason = problem["rejections"][0]["reason"].as_str().or(problem["code"].as_str());
            Ok::<_, Trouble>(Err(reason.unwrap().to_owned()))
        }
    });
    let (mut inside, mut refusals) = (Vec::new(), BTreeMap::new());
    for outcome in futures_util::future::try_join_all(come).await? {
        match outcome {
            Ok(participant) => inside.push(participant),
            Err(reason) => *refusals.entry(reason).or_insert(0) += 1,
        }
    }
    Ok((inside, refusals))
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
