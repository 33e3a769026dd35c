//! Many clients ask for the same new rooms at once, at two schedulers with one Redis.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::iter;
use serde_json::json;

use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};

use crate::run;

const AT_ONCE: usize = 64;

#[test]
fn racing_first_lookups_agree_on_one_node_for_each_room() {
    run(race(2_000, 200));
}

#[test]
#[ignore = "the long version: 10 000 lookups of 1 000 rooms"]
fn ten_thousand_racing_first_lookups_agree() {
    run(race(10_000, 1_000));
}

async fn race(lookups: usize, rooms: usize) -> Result<(), Trouble> {
    let mut plan = Plan::small().with_redis(2);
    plan.nodes = (0..6).map(|index| NodePlan::new(&format!("n-{index}"), "eu/central")).collect();
    let cluster = Cluster::start(plan).await?;
    let started = std::time::Instant::now();
    let answers: Vec<_> = iter(0..lookups)
        .map(|index| {
            let cluster = &cluster;
            // The callers of one room stand side by side and ask both schedulers.
            let room = format!("race-{}", index * rooms / lookups);
            async move { (room.clone(), cluster.lookup(index % 2, "default", &room, json!({})).await) }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let took = started.elapsed();
    let mut homes = BTreeMap::new();
    for (room, answer) in answers {
        let answer = answer?;
        let home = (answer.node.id, answer.epoch);
        let first = homes.entry(room.clone()).or_insert_with(|| home.clone());
        assert_eq!(*first, home, "two answers for {room}");
    }
    assert_eq!(homes.len(), rooms);
    for scheduler in &cluster.schedulers {
        let seen = cluster.admin(scheduler, "/v1/rooms?limit=1000").await?;
        for room in seen["items"].as_array().ok_or("no items")? {
            let (node, epoch) = &homes[room["room"].as_str().unwrap()];
            assert_eq!((room["node"].as_str(), room["epoch"].as_u64()), (Some(node.as_str()), Some(epoch.0)));
        }
    }
    println!("{lookups} first lookups of {rooms} rooms over 2 schedulers agreed, in {took:?}");
    cluster.stop().await
}
