//! Redis is silent for long: connections are taken, nothing is answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::interval;

use roost_tests::cluster::{Cluster, Plan};
use roost_tests::participant::Welcome;

use crate::crowd::Crowd;
use crate::table::Row;
use crate::{LEASE, full_or, run};

#[test]
fn while_redis_is_silent_nobody_is_admitted_after_the_fence_and_sessions_go_on() {
    run(async {
        let away = Duration::from_secs(full_or(600, 15));
        let mut cluster = Cluster::start(Plan::small().with_redis(2)).await?;
        let rooms = (0..full_or(20, 5)).map(|index| format!("room-{index}")).collect();
        let crowd = Crowd::come(&cluster, rooms, "eu/central").await?;
        cluster.redis.as_mut().ok_or("no Redis")?.process().signal(Signal::STOP)?;
        let silent = Instant::now();
        let (mut before, mut late, mut wrong, mut splits) = (0, 0, 0, 0);
        let mut codes = BTreeMap::new();
        let mut pace = interval(Duration::from_secs(1));
        let mut round = 0;
        while silent.elapsed() < away {
            pace.tick().await;
            round += 1;
            for visit in crowd.visit(&cluster, round).await {
                match visit {
                    Ok(visit) => {
                        wrong += u64::from(!visit.is_right);
                        match visit.welcome {
                            Welcome::Admitted { .. } if visit.sent < silent + LEASE => before += 1,
                            Welcome::Admitted { .. } => late += 1,
                            Welcome::Refused { code } => *codes.entry(code).or_insert(0) += 1,
                            Welcome::Redirected { .. } => *codes.entry("redirect".to_owned()).or_insert(0) += 1,
                        }
                    }
                    Err(trouble) => *codes.entry(trouble.to_string()).or_insert(0) += 1,
                }
            }
            splits += crowd.let_in_elsewhere(&cluster).await?;
        }
        let ended = crowd.ended().len() as u64;
        cluster.redis.as_mut().ok_or("no Redis")?.process().signal(Signal::CONT)?;
        let took = crowd.recovered(&cluster, &mut wrong).await?;
        let mut row = Row::new(format!("{} s without Redis, it is silent", away.as_secs()));
        row.none("sessions ended", ended);
        row.note(format!("{before} joined before the fence"));
        row.none("after it", late);
        let is_stated = codes.keys().eq(["store_unavailable"]);
        row.hold(format!("refused with {codes:?}"), is_stated);
        row.none("splits", splits + wrong);
        row.within("recovered in", Duration::from_secs(10), took.all);
        row.none("sessions ended after that", crowd.ended().len() as u64 - ended);
        row.end()?;
        cluster.stop().await
    });
}
