//! Redis dies, or falls silent, under running rooms: what goes on, what does not, and how it ends.

use std::time::{Duration, Instant};

use roost_proto::lookup::{LookupReply, Outcome};
use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, Plan};
use roost_tests::participant::Participant;
use roost_tests::redis::Redis;
use roost_tests::wait;
use rustix::process::Signal;
use serde_json::json;

use crate::lookup::url;
use crate::run;

/// Three leases: whoever is fenced by silence is fenced by then.
const AWAY: Duration = Duration::from_secs(12);
const RECOVERS_WITHIN: Duration = Duration::from_secs(10);
const ROOMS: usize = 5;

#[test]
fn while_redis_refuses_connections_living_rooms_are_joined_and_after_an_empty_restart_none_has_moved() {
    run(async {
        let mut cluster = Cluster::start(Plan::small().with_redis(2)).await?;
        let mut open = open_rooms(&cluster).await?;
        let redis = cluster.redis.as_mut().ok_or("no Redis")?;
        let port = redis.port();
        redis.process().kill().await?;
        let died = Instant::now();
        let mut guests = Vec::new();
        let mut pace = tokio::time::interval(Duration::from_secs(1));
        while died.elapsed() < AWAY {
            pace.tick().await;
            for (before, anna) in &mut open {
                // Who says nothing for 15 s counts as gone.
                anna.ask("changeDisplayName", json!({"displayName": "Anna"})).await?;
                let found = cluster.lookup(guests.len() % 2, "default", before.room.as_str(), json!({})).await?;
                assert_eq!((found.outcome, &found.node, found.epoch), (Outcome::Existing, &before.node, before.epoch));
                guests.push(enter(&cluster, &found, &format!("guest-{}", guests.len())).await?);
            }
            let refused = cluster.lookup_response(0, "default", "another", json!({})).await?;
            assert_eq!(refused.status(), 503);
            assert!(refused.headers().contains_key("retry-after"));
            assert_eq!(refused.json::<serde_json::Value>().await?["code"], "store_unavailable");
        }
        cluster.redis = Some(Redis::start_on(cluster.folder(), port).await?);
        recovered(&cluster, &open).await?;
        for (_, anna) in &mut open {
            anna.ask("changeDisplayName", json!({"displayName": "Anne"})).await?;
        }
        cluster.stop().await
    });
}

#[test]
fn while_redis_is_silent_nobody_is_admitted_after_the_fence_and_sessions_go_on() {
    run(async {
        let mut cluster = Cluster::start(Plan::small().with_redis(2)).await?;
        let mut open = open_rooms(&cluster).await?;
        cluster.redis.as_mut().ok_or("no Redis")?.process().signal(Signal::STOP)?;
        let (before, _) = &open[0];
        let refused = wait::until("the node is fenced", AWAY, || async {
            let found = cluster.lookup(0, "default", before.room.as_str(), json!({})).await.ok()?;
            enter(&cluster, &found, "late").await.err()
        })
        .await?;
        println!("refused with {refused}");
        assert!(refused.to_string().contains("store_unavailable"), "{refused}");
        for (_, anna) in &mut open {
            anna.ask("changeDisplayName", json!({"displayName": "Anne"})).await?;
        }
        cluster.redis.as_mut().ok_or("no Redis")?.process().signal(Signal::CONT)?;
        let back = Instant::now();
        for (before, anna) in &mut open {
            let found = wait::until("the room is joined again", RECOVERS_WITHIN, || async {
                let found = cluster.lookup(1, "default", before.room.as_str(), json!({})).await.ok()?;
                enter(&cluster, &found, "late").await.ok()?;
                Some(found)
            })
            .await?;
            assert_eq!(found.node, before.node, "nobody else took it");
            assert!(found.epoch >= before.epoch, "epochs only grow");
            anna.ask("changeDisplayName", json!({"displayName": "Anna"})).await?;
        }
        println!("all joined again {:?} after Redis was back", back.elapsed());
        cluster.stop().await
    });
}

/// Rooms with a participant each.
async fn open_rooms(cluster: &Cluster) -> Result<Vec<(LookupReply, Participant)>, Trouble> {
    let mut open = Vec::new();
    for index in 0..ROOMS {
        let found = cluster.lookup_from("eu/central", &format!("room-{index}")).await?;
        let anna = enter(cluster, &found, "anna").await?;
        open.push((found, anna));
    }
    // Every scheduler has heard that they are open.
    for scheduler in &cluster.schedulers {
        wait::until("all rooms are known to be open", AWAY, || async {
            let rooms = cluster.admin(scheduler, "/v1/rooms").await.ok()?;
            let is_open = |room: &serde_json::Value| room["state"] == "open";
            (rooms["items"].as_array()?.iter().filter(|room| is_open(room)).count() == ROOMS).then_some(())
        })
        .await?;
    }
    Ok(open)
}

async fn enter(cluster: &Cluster, found: &LookupReply, peer: &str) -> Result<Participant, Trouble> {
    let url = url(cluster, found.node.id.as_str(), found.room.as_str(), peer, &found.ticket)?;
    let mut participant = Participant::connect(&url).await?;
    participant.join(peer).await?;
    Ok(participant)
}

/// Each room is where it was, under an epoch that has not fallen, at every scheduler; and a new one gets a node.
async fn recovered(cluster: &Cluster, open: &[(LookupReply, Participant)]) -> Result<(), Trouble> {
    let back = Instant::now();
    for index in 0..cluster.schedulers.len() {
        for (before, _) in open {
            let found = cluster.lookup(index, "default", before.room.as_str(), json!({})).await?;
            assert_eq!((&found.node, found.outcome), (&before.node, Outcome::Existing));
            assert!(found.epoch >= before.epoch, "epochs only grow");
        }
        let name = format!("new-{index}");
        wait::until("a new room is placed", RECOVERS_WITHIN, || async {
            cluster.lookup(index, "default", &name, json!({})).await.ok()
        })
        .await?;
    }
    println!("new rooms are placed {:?} after Redis was back", back.elapsed());
    for (before, _) in open {
        let found = cluster.lookup(0, "default", before.room.as_str(), json!({})).await?;
        assert_eq!((&found.node, found.outcome), (&before.node, Outcome::Existing));
        enter(cluster, &found, "after").await?;
    }
    Ok(())
}
