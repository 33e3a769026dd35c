//! An agent's process dies with its rooms.

use std::time::{Duration, Instant};

use roost_tests::cluster::{Cluster, NodePlan, Plan};

use crate::caller::addresses;
use crate::crowd::Crowd;
use crate::elsewhere::elsewhere;
use crate::table::Row;
use crate::{full_or, run};

#[test]
fn all_rooms_of_a_killed_agent_are_elsewhere_within_a_second() {
    run(async {
        let count = full_or(200, 40);
        let mut plan = Plan::small().with_redis(2);
        plan.nodes.push(NodePlan::new("iad-2", "us/east"));
        let mut cluster = Cluster::start(plan).await?;
        let rooms: Vec<_> = (0..count).map(|index| format!("room-{index}")).collect();
        let crowd = Crowd::come(&cluster, rooms.clone(), "eu/central").await?;
        cluster.watched().await?;
        let addresses = addresses(&cluster);
        let killed = Instant::now();
        cluster.node_mut("fra-1")?.process.kill().await?;
        let elsewhere = elsewhere(&addresses, &crowd.rooms, killed).await?;
        let mut took: Vec<_> = elsewhere.values().map(|(when, _)| *when - killed).collect();
        let fallen = elsewhere.iter().filter(|(room, (_, epoch))| *epoch <= crowd.rooms[*room].epoch).count() as u64;
        took.sort_unstable();
        let mut row = Row::new(format!("kill -9 of an agent with {count} rooms: elsewhere"));
        row.within("p99", Duration::from_secs(1), took[took.len() * 99 / 100]);
        row.within("last", Duration::from_secs(1), took[took.len() - 1]);
        row.none("epochs fell", fallen);
        row.end()?;
        cluster.stop().await
    });
}
