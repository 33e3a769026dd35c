//! Processes are killed while they run.

use std::time::{Duration, Instant};

use serde_json::json;

use roost_proto::lookup::Outcome;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::participant::Participant;
use roost_tests::wait;

use crate::lookup::url;
use crate::run;

const LEASE: Duration = Duration::from_secs(4);

#[test]
fn the_rooms_of_a_killed_agent_are_placed_elsewhere_after_its_lease() {
    for plan in [Plan::small(), Plan::small().with_redis(2)] {
        run(async {
            let mut cluster = Cluster::start(plan).await?;
            let before = cluster.lookup_from("eu/central", "standup").await?;
            let mut anna = Participant::connect(&url(&cluster, "fra-1", "standup", "anna", &before.ticket)?).await?;
            anna.join("Anna").await?;
            cluster.node_mut("fra-1")?.process.kill().await?;
            let killed = Instant::now();
            let after = wait::until("the room has another node", LEASE * 3, || async {
                let found = cluster.lookup_from("eu/central", "standup").await.ok()?;
                (found.node.id.as_str() == "iad-1").then_some(found)
            })
            .await?;
            println!("placed elsewhere {:?} after the kill", killed.elapsed());
            assert!(after.epoch > before.epoch, "epochs only grow");
            // A renewal may have come just before the kill; nothing is given away before the lease is over.
            assert!(killed.elapsed() > LEASE - Duration::from_millis(1_500), "given away after {:?}", killed.elapsed());
            cluster.stop().await
        });
    }
}

#[test]
fn a_scheduler_that_is_killed_and_started_again_with_redis_loses_nothing() {
    run(async {
        let mut cluster = Cluster::start(Plan::small().with_redis(2)).await?;
        let mut rooms = Vec::new();
        for index in 0..20 {
            rooms.push(cluster.lookup_from("eu/central", &format!("room-{index}")).await?);
        }
        let first = &rooms[0];
        let mut anna = Participant::connect(&url(&cluster, "fra-1", "room-0", "anna", &first.ticket)?).await?;
        anna.join("Anna").await?;
        let mut killed = cluster.schedulers.remove(0);
        killed.process.kill().await?;
        let again = cluster.start_scheduler(0, Some(&killed)).await?;
        cluster.schedulers.insert(0, again);
        cluster.settled().await?;
        for room in &rooms {
            let found = cluster.lookup(0, "default", room.room.as_str(), json!({})).await?;
            assert_eq!((found.outcome, &found.node, found.epoch), (Outcome::Existing, &room.node, room.epoch));
        }
        anna.ask("changeDisplayName", json!({"displayName": "Anne"})).await?;
        cluster.stop().await
    });
}

#[test]
fn an_agent_that_is_told_to_stop_hands_its_rooms_over_and_ends_cleanly() {
    run(async {
        let mut plan = Plan::small();
        plan.nodes.push(NodePlan::new("fra-2", "eu/central"));
        let mut cluster = Cluster::start(plan).await?;
        let before = cluster.lookup_from("eu/central", "standup").await?;
        let leaving = before.node.id.to_string();
        let mut anna = Participant::connect(&url(&cluster, &leaving, "standup", "anna", &before.ticket)?).await?;
        anna.join("Anna").await?;
        cluster.node(&leaving)?.process.signal(rustix::process::Signal::TERM)?;
        let redirect = anna.expect("redirect").await?;
        assert_eq!(anna.closed().await?.code, 4000);
        let location = redirect["location"].as_str().ok_or("no location")?;
        let mut anna = Participant::arrive(location).await?;
        anna.join("Anna").await?;
        let after = cluster.lookup_from("eu/central", "standup").await?;
        assert!(after.node.id != before.node.id && after.epoch > before.epoch, "{after:?}");
        assert_eq!(cluster.node_mut(&leaving)?.process.stop().await?, Some(0));
        cluster.stop().await
    });
}

#[test]
fn a_second_agent_with_the_same_id_is_refused() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        let mut second = cluster.start_node(&NodePlan::new("fra-1", "eu/central")).await?;
        let code = wait::until("the second agent ends", Duration::from_secs(10), || {
            let ended = second.process.exit_code();
            async move { ended }
        })
        .await?;
        assert_eq!(code, 1);
        assert!(second.process.log_tail().contains("node_id_taken"), "{}", second.process.log_tail());
        cluster.stop().await
    });
}
