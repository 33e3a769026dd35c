//! Processes are killed while they run.

use std::time::{Duration, Instant};

use serde_json::json;

use roost_proto::lookup::{LookupReply, Outcome};
use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::participant::Participant;
use roost_tests::wait;

use crate::run;

const LEASE: Duration = Duration::from_secs(4);

#[test]
fn the_rooms_of_a_killed_agent_are_placed_elsewhere_at_once() {
    for plan in [Plan::small(), Plan::small().with_redis(2)] {
        run(async {
            let mut cluster = Cluster::start(plan).await?;
            let (before, _anna) = standup_with_anna(&cluster).await?;
            cluster.watched().await?;
            cluster.node_mut("fra-1")?.process.kill().await?;
            let killed = Instant::now();
            for index in 0..cluster.schedulers.len() {
                let after = wait::until("the room has another node", LEASE * 3, || async {
                    let body = json!({"region": "eu/central"});
                    let found = cluster.lookup(index, "default", "standup", body).await.ok()?;
                    (found.node.id.as_str() == "iad-1").then_some(found)
                })
                .await?;
                assert!(after.epoch > before.epoch, "epochs only grow");
            }
            println!("placed elsewhere {:?} after the kill", killed.elapsed());
            assert!(killed.elapsed() < Duration::from_secs(2), "given away after {:?}", killed.elapsed());
            cluster.stop().await
        });
    }
}

#[test]
fn where_refusals_prove_nothing_the_rooms_of_a_killed_agent_wait_for_its_lease() {
    run(async {
        let mut plan = Plan::small();
        plan.scheduler_arguments.extend(["--trust-refused".to_owned(), "false".to_owned()]);
        let mut cluster = Cluster::start(plan).await?;
        let (before, _anna) = standup_with_anna(&cluster).await?;
        cluster.watched().await?;
        cluster.node_mut("fra-1")?.process.kill().await?;
        let after = moved(&cluster, Instant::now()).await?;
        assert!(after.epoch > before.epoch, "epochs only grow");
        cluster.stop().await
    });
}

#[test]
fn a_suspended_agent_refuses_nobody_and_keeps_its_rooms_for_its_lease() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        let (before, _anna) = standup_with_anna(&cluster).await?;
        cluster.watched().await?;
        let process = &cluster.node("fra-1")?.process;
        process.signal(rustix::process::Signal::STOP)?;
        let after = moved(&cluster, Instant::now()).await?;
        assert!(after.epoch > before.epoch, "epochs only grow");
        process.signal(rustix::process::Signal::CONT)?;
        let again = cluster.lookup_from("eu/central", "standup").await?;
        assert_eq!((again.node.id.as_str(), again.epoch), ("iad-1", after.epoch));
        cluster.stop().await
    });
}

#[test]
fn a_minute_after_an_agent_was_killed_no_claim_of_its_rooms_is_left_though_nobody_asked_for_them() {
    run(async {
        let mut cluster = Cluster::start(Plan::small().with_redis(2)).await?;
        let (before, _anna) = standup_with_anna(&cluster).await?;
        cluster.node_mut("fra-1")?.process.kill().await?;
        for scheduler in &cluster.schedulers {
            wait::until("the room is forgotten", Duration::from_secs(60), || async {
                let rooms = cluster.admin(scheduler, "/v1/rooms").await.ok()?;
                (rooms["items"].as_array()?.is_empty()).then_some(())
            })
            .await?;
        }
        let after = cluster.lookup_from("eu/central", "standup").await?;
        assert_eq!((after.outcome, after.node.id.as_str()), (Outcome::Placed, "iad-1"));
        assert!(after.epoch > before.epoch, "epochs only grow");
        cluster.stop().await
    });
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
        let mut anna = Participant::connect(&cluster.door("fra-1", "room-0", "anna", &first.ticket)?).await?;
        anna.join("Anna").await?;
        cluster.restart_scheduler(0).await?;
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
        let mut anna = Participant::connect(&cluster.door(&leaving, "standup", "anna", &before.ticket)?).await?;
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

/// A room with one participant, on the node in Frankfurt.
pub(crate) async fn standup_with_anna(cluster: &Cluster) -> Result<(LookupReply, Participant), Trouble> {
    let found = cluster.lookup_from("eu/central", "standup").await?;
    let mut anna = Participant::connect(&cluster.door("fra-1", "standup", "anna", &found.ticket)?).await?;
    anna.join("Anna").await?;
    Ok((found, anna))
}

/// Waits until the room is on the other node, which must not be before the lease is over.
async fn moved(cluster: &Cluster, gone: Instant) -> Result<LookupReply, Trouble> {
    let after = wait::until("the room has another node", LEASE * 3, || async {
        let found = cluster.lookup_from("eu/central", "standup").await.ok()?;
        (found.node.id.as_str() == "iad-1").then_some(found)
    })
    .await?;
    println!("placed elsewhere after {:?}", gone.elapsed());
    // A renewal may have come just before; nothing is given away before the lease is over.
    assert!(gone.elapsed() > LEASE - Duration::from_millis(1_500), "given away after {:?}", gone.elapsed());
    Ok(after)
}
