//! Redis is gone for long, and its port refuses.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::interval;

use roost_tests::cluster::{Cluster, Plan};
use roost_tests::participant::Welcome;
use roost_tests::redis::Redis;

use crate::crowd::Crowd;
use crate::table::Row;
use crate::{full_or, run};

#[test]
fn while_redis_refuses_connections_living_rooms_are_joined_and_after_an_empty_restart_none_has_moved() {
    run(async {
        let away = Duration::from_secs(full_or(600, 15));
        let mut cluster = Cluster::start(Plan::small().with_redis(2)).await?;
        let rooms = (0..full_or(20, 5)).map(|index| format!("room-{index}")).collect();
        let crowd = Crowd::come(&cluster, rooms, "eu/central").await?;
        let redis = cluster.redis.as_mut().ok_or("no Redis")?;
        let port = redis.port();
        redis.process().kill().await?;
        let died = Instant::now();
        let (mut joined, mut refused, mut wrong, mut splits, mut placed) = (0, 0, 0, 0, 0);
        let mut pace = interval(Duration::from_secs(1));
        while died.elapsed() < away {
            pace.tick().await;
            for visit in crowd.visit(&cluster, joined).await {
                match visit {
                    Ok(visit) => {
                        wrong += u64::from(!visit.is_right);
                        joined += usize::from(matches!(visit.welcome, Welcome::Admitted { .. }));
                        refused += u64::from(!matches!(visit.welcome, Welcome::Admitted { .. }));
                    }
                    Err(trouble) => {
                        println!("{trouble}");
                        refused += 1;
                    }
                }
            }
            splits += crowd.let_in_elsewhere(&cluster).await?;
            let unknown = cluster.lookup_response(joined % 2, "default", "another", json!({})).await?;
            let is_told = unknown.status() == 503 && unknown.headers().contains_key("retry-after");
            placed += u64::from(!is_told || unknown.json::<Value>().await?["code"] != "store_unavailable");
        }
        let ended = crowd.ended().len() as u64;
        cluster.redis = Some(Redis::start_on(cluster.folder(), port).await?);
        let took = crowd.recovered(&cluster, &mut wrong).await?;
        let mut row = Row::new(format!("{} s without Redis, its port refuses", away.as_secs()));
        row.none("sessions ended", ended);
        row.hold(format!("{joined} joined living rooms"), joined > 0);
        row.none("refused", refused);
        row.none("new rooms not answered with store_unavailable", placed);
        row.none("splits", splits + wrong);
        row.within("recovered in", Duration::from_secs(10), took.all);
        row.none("sessions ended after that", crowd.ended().len() as u64 - ended);
        row.end()?;
        cluster.stop().await
    });
}
