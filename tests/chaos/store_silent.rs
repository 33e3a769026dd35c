//! Redis is silent for long: its packets are lost, or it takes connections and answers nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::interval;

use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, Plan};
use roost_tests::namespace::{ADDRESSES, Pair};
use roost_tests::participant::Welcome;

use crate::crowd::{Crowd, Visit};
use crate::table::Row;
use crate::{ADMITS, full_or, run, run_at_cable};

/// A new room's lookup waits for the store for some seconds: it is not asked for in each round.
const NEW_EACH: usize = 10;

#[test]
fn while_redis_answers_nothing_nobody_is_admitted_after_the_fence_and_sessions_go_on() {
    run(async { endure(Plan::small().with_redis(2), &Silence::Stopped, full_or(60, 15)).await });
}

#[test]
fn while_redis_has_its_packets_dropped_nobody_is_admitted_after_the_fence_and_sessions_go_on() {
    run_at_cable(async |_: &TempDir, pair: &Pair| {
        let apart = (pair.namespaces()[1].clone(), ADDRESSES[1].to_owned());
        let plan = Plan { redis_elsewhere: Some(apart), ..Plan::small().with_redis(2) };
        endure(plan, &Silence::Cut(pair), full_or(600, 15)).await
    });
}

/// Why nothing is heard of Redis.
enum Silence<'a> {
    Stopped,
    Cut(&'a Pair),
}

impl Silence<'_> {
    async fn begin(&self, cluster: &mut Cluster) -> Result<(), Trouble> {
        match self {
            Self::Stopped => cluster.redis.as_mut().ok_or("no Redis")?.process().signal(Signal::STOP),
            Self::Cut(pair) => pair.cut().await,
        }
    }

    async fn end(&self, cluster: &mut Cluster) -> Result<(), Trouble> {
        match self {
            Self::Stopped => cluster.redis.as_mut().ok_or("no Redis")?.process().signal(Signal::CONT),
            Self::Cut(pair) => pair.mend().await,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Stopped => "it answers nothing",
            Self::Cut(_) => "its packets are dropped",
        }
    }
}

/// What the doors said while nothing was heard of Redis.
#[derive(Debug, Default)]
struct Said {
    before: u64,
    late: u64,
    wrong: u64,
    refused: BTreeMap<String, u64>,
}

impl Said {
    fn note(&mut self, visit: Result<Visit, Trouble>, silent: Instant) {
        let code = match visit {
            Ok(Visit { sent, is_right, welcome }) => {
                self.wrong += u64::from(!is_right);
                match welcome {
                    Welcome::Admitted { .. } if sent < silent + ADMITS => return self.before += 1,
                    Welcome::Admitted { .. } => return self.late += 1,
                    Welcome::Refused { code } => code,
                    Welcome::Redirected { .. } => "redirect".to_owned(),
                }
            }
            Err(trouble) => trouble.to_string(),
        };
        *self.refused.entry(code).or_default() += 1;
    }
}

async fn endure(plan: Plan, silence: &Silence<'_>, away_s: u64) -> Result<(), Trouble> {
    let mut cluster = Cluster::start(plan).await?;
    let rooms = (0..full_or(20, 5)).map(|index| format!("room-{index}")).collect();
    let crowd = Crowd::come(&cluster, rooms, "eu/central").await?;
    silence.begin(&mut cluster).await?;
    let silent = Instant::now();
    let (mut said, mut splits, mut placed) = (Said::default(), 0, 0);
    let mut pace = interval(Duration::from_secs(1));
    let mut round = 0;
    while silent.elapsed() < Duration::from_secs(away_s) {
        pace.tick().await;
        for visit in crowd.visit(&cluster, round).await {
            said.note(visit, silent);
        }
        splits += crowd.let_in_elsewhere(&cluster).await?;
        if round % NEW_EACH == 0 {
            let unknown = cluster.lookup_response(round / NEW_EACH % 2, "default", "another", json!({})).await?;
            placed += u64::from(unknown.status() != 503 || !unknown.headers().contains_key("retry-after"));
        }
        round += 1;
    }
    let ended = crowd.ended().len() as u64;
    silence.end(&mut cluster).await?;
    let took = crowd.recovered(&cluster, &mut said.wrong).await?;
    let mut row = Row::new(format!("{away_s} s without Redis, {}", silence.name()));
    row.none("sessions ended", ended);
    row.note(format!("{} joined before the fence", said.before));
    row.none("after it", said.late);
    let is_stated = said.refused.keys().eq(["store_unavailable"]);
    row.hold(format!("refused with {:?}", said.refused), is_stated);
    row.none("new rooms not answered with 503 and Retry-After", placed);
    row.none("splits", splits + said.wrong);
    row.within("recovered in", Duration::from_secs(10), took.all);
    row.none("sessions ended after that", crowd.ended().len() as u64 - ended);
    row.end()?;
    cluster.stop().await
}
