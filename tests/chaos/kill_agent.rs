//! An agent's process dies with its rooms.

use std::time::{Duration, Instant};

use roost_tests::cluster::{Cluster, NodePlan, Plan};
use tokio::task::JoinSet;

use roost_tests::Trouble;

use crate::caller::{Caller, addresses};
use crate::crowd::{Crowd, patience};
use crate::table::Row;
use crate::{full_or, run};

/// How many clients share the rooms.
const CALLERS: usize = 8;

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
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let mine = crowd.rooms.iter().skip(number).step_by(CALLERS);
            let mine = mine.map(|(room, told)| (room.clone(), told.epoch)).collect();
            callers.spawn(elsewhere(Caller::new(&addresses), number, mine, killed));
        }
        let (mut took, mut fallen) = (Vec::new(), 0);
        while let Some(done) = callers.join_next().await {
            let (durations, lower) = done??;
            took.extend(durations);
            fallen += lower;
        }
        took.sort_unstable();
        let mut row = Row::new(format!("kill -9 of an agent with {count} rooms: elsewhere"));
        row.within("p99", Duration::from_secs(1), took[took.len() * 99 / 100]);
        row.within("last", Duration::from_secs(1), took[took.len() - 1]);
        row.none("epochs fell", fallen);
        row.end()?;
        cluster.stop().await
    });
}

/// How long after the kill each room was answered with another node, and how many epochs had not grown.
async fn elsewhere(
    mut caller: Caller,
    number: usize,
    mut rooms: Vec<(String, u64)>,
    killed: Instant,
) -> Result<(Vec<Duration>, u64), Trouble> {
    let (mut took, mut fallen) = (Vec::new(), 0);
    while !rooms.is_empty() {
        let mut left = Vec::new();
        for (room, epoch) in rooms {
            match caller.look_up_once(number, &room, "{}").await {
                Ok(told) if told.node != "fra-1" => {
                    took.push(killed.elapsed());
                    fallen += u64::from(told.epoch <= epoch);
                }
                Ok(_) | Err(_) => left.push((room, epoch)),
            }
        }
        rooms = left;
        if let Some((room, _)) = rooms.first() {
            patience(killed, &format!("{room} stays").into()).await?;
        }
    }
    Ok((took, fallen))
}
