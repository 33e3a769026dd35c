//! A scheduler dies every ten seconds, and comes back.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::time::interval;

use roost_tests::cluster::{Cluster, NodePlan, Plan};

use crate::caller::addresses;
use crate::crowd::{Crowd, store};
use crate::load::Load;
use crate::table::Row;
use crate::{full_or, run};

const SEED: u64 = 8;

#[test]
fn no_lookup_fails_twice_while_one_scheduler_after_the_other_is_killed() {
    run(async {
        let mut plan = Plan::small().with_redis(3);
        plan.nodes = (0..4).map(|index| NodePlan::new(&format!("n-{index}"), "eu/central")).collect();
        let mut cluster = Cluster::start(plan).await?;
        let rooms = (0..full_or(100, 10)).map(|index| format!("room-{index}")).collect();
        let crowd = Crowd::come(&cluster, rooms, "eu/central").await?;
        let load = Load::start(&addresses(&cluster), &crowd, true);
        let mut random = Pcg64Mcg::seed_from_u64(SEED);
        let kills = full_or(30, 3);
        let mut pace = interval(full_or(Duration::from_secs(10), Duration::from_secs(1)));
        for _ in 0..kills {
            pace.tick().await;
            let index = random.random_range(0..cluster.schedulers.len());
            cluster.restart_scheduler(index).await?;
            cluster.settled().await?;
        }
        let tally = load.stop().await?;
        let mut row = Row::new(format!("kill -9 of a random scheduler, {kills} times, under load"));
        row.note(format!("{} lookups", tally.asked));
        row.note(format!("{} asked again", tally.retried));
        row.none("failed", tally.failed);
        row.none("wrong", tally.wrong);
        row.none("sessions ended", crowd.ended().len() as u64);
        row.none("rooms misplaced", crowd.misplaced(&store(&cluster)?).await?.len() as u64);
        println!("{:?}", tally.examples);
        row.end()?;
        cluster.stop().await
    });
}
