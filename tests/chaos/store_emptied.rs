//! Redis is killed and comes back empty, and is emptied while it runs, under load.

use std::time::Duration;

use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::redis::Redis;

use crate::caller::addresses;
use crate::crowd::Crowd;
use crate::load::Load;
use crate::table::Row;
use crate::{full_or, run};

/// More than a node of this machine's size takes by itself.
const MANY: [&str; 2] = ["--max-participants", "100000"];

#[test]
fn every_room_keeps_its_node_when_redis_is_emptied() {
    run(async {
        let count = full_or(1_000, 60);
        let mut plan = Plan::small().with_redis(3);
        plan.nodes = (0..4).map(|index| NodePlan::new(&format!("n-{index}"), "eu/central").with(&MANY)).collect();
        let mut cluster = Cluster::start(plan).await?;
        let rooms = (0..count).map(|index| format!("room-{index}")).collect();
        let crowd = Crowd::come(&cluster, rooms, "eu/central").await?;
        for (how, is_killed) in [("killed and emptied", true), ("emptied by FLUSHALL", false)] {
            let load = Load::start(&addresses(&cluster), &crowd, false);
            if is_killed {
                let redis = cluster.redis.as_mut().ok_or("no Redis")?;
                let port = redis.port();
                redis.process().kill().await?;
                cluster.redis = Some(Redis::start_on(cluster.folder(), port).await?);
            } else {
                flush(&cluster).await?;
            }
            let mut wrong = 0;
            let took = crowd.recovered(&cluster, &mut wrong).await?;
            let tally = load.stop().await?;
            let mut row = Row::new(format!("Redis {how}, {count} open rooms, {} lookups", tally.asked));
            row.none("wrong", wrong + tally.wrong);
            row.none("sessions ended", crowd.ended().len() as u64);
            row.within("all lookups right again in", Duration::from_secs(10), took.lookups);
            row.note(format!("all joined again and in the store in {:.2} s", took.all.as_secs_f64()));
            row.note(format!("{} lookups failed meanwhile", tally.failed));
            println!("{:?} {:?}", tally.examples, crowd.ended());
            row.end()?;
        }
        cluster.stop().await
    });
}

async fn flush(cluster: &Cluster) -> Result<(), Trouble> {
    let client = redis::Client::open(cluster.redis.as_ref().ok_or("no Redis")?.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    Ok(redis::cmd("FLUSHALL").query_async(&mut connection).await?)
}
