//! Several callers want the same new room at the same moment, at several schedulers, which are killed and started again,
//! while connections to Redis are cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use roost_store::Store;
use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};

use crate::caller::{Caller, Told, addresses};
use crate::crowd::{read, store};
use crate::load::Tally;
use crate::table::Row;
use crate::{full_or, run};

const SEED: u64 = 1;
const SCHEDULERS: usize = 3;
/// Rooms that are asked for at the same time.
const GROUPS: usize = 24;
/// Callers who want a room at once.
const JOINS: usize = 3;
/// To one of so many rooms another one comes later.
const LATER: usize = 16;
/// A grant lives for 30 s; what is told after this time is not compared with what was told before.
const LIVES: Duration = Duration::from_secs(25);
const CUT_EACH: Duration = Duration::from_millis(200);

/// The race does not end before so many schedulers were killed.
const LEAST_KILLS: usize = 2;

/// What all groups share.
struct Race {
    addresses: Arc<[String]>,
    store: Arc<dyn Store>,
    next: AtomicUsize,
    rooms: usize,
    /// Enough was broken: the race may end when all rooms were asked for.
    is_broken: AtomicBool,
}

/// A room's name, its home, and when that was told.
type Given = (String, Told, Instant);

#[test]
fn racing_first_joins_agree_while_schedulers_are_killed_and_connections_cut() {
    run(async {
        let mut plan = Plan::small().with_redis(SCHEDULERS);
        plan.nodes = (0..4).map(|index| NodePlan::new(&format!("n-{index}"), "eu/central")).collect();
        let mut cluster = Cluster::start(plan).await?;
        let race = Arc::new(Race {
            addresses: addresses(&cluster),
            store: store(&cluster)?,
            next: AtomicUsize::new(0),
            rooms: full_or(333_600, 1_000),
            is_broken: AtomicBool::new(false),
        });
        let started = Instant::now();
        let mut groups = JoinSet::new();
        for number in 0..GROUPS {
            groups.spawn(go_on(number, race.clone()));
        }
        let cutter = tokio::spawn(cut(cluster.redis.as_ref().ok_or("no Redis")?.url(), race.clone()));
        let mut random = Pcg64Mcg::seed_from_u64(SEED);
        let mut kills = 0;
        while !race.is_over() {
            cluster.restart_scheduler(random.random_range(0..SCHEDULERS)).await?;
            cluster.settled().await?;
            kills += 1;
            race.is_broken.store(kills >= LEAST_KILLS, Ordering::Relaxed);
        }
        let mut tally = Tally::default();
        while let Some(done) = groups.join_next().await {
            tally.add(done??);
        }
        let took = started.elapsed();
        let cuts = cutter.await??;
        println!("{:?}", tally.examples);
        let rooms = race.next.load(Ordering::Relaxed).min(race.rooms);
        let racing = rooms * JOINS;
        let mut row = Row::new(format!("{racing} racing first joins over {SCHEDULERS} schedulers"));
        row.note(format!("{kills} kills, {cuts} cuts, {} asked again, {:.0} s", tally.retried, took.as_secs_f64()));
        row.none("wrong answers or rooms on two nodes", tally.wrong);
        row.none("failed", tally.failed);
        row.hold(format!("{rooms} rooms"), racing >= full_or(1_000_000, 3_000));
        row.note(format!("{} lookups", tally.asked));
        row.end()?;
        cluster.stop().await
    });
}

impl Race {
    fn is_over(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.rooms && self.is_broken.load(Ordering::Relaxed)
    }
}

/// One group of callers: asks for one room after the other, at all schedulers at once.
async fn go_on(number: usize, race: Arc<Race>) -> Result<Tally, Trouble> {
    let mut callers: Vec<_> = (0..JOINS).map(|_| Caller::new(&race.addresses)).collect();
    let mut late = Caller::new(&race.addresses);
    let mut given: Option<Given> = None;
    let mut tally = Tally::default();
    while !race.is_over() {
        let index = race.next.fetch_add(1, Ordering::Relaxed);
        let room = format!("race-{index}");
        let asked = callers.iter_mut().enumerate().map(|(at, caller)| caller.look_up(number + at, &room, "{}"));
        let mut first: Option<Told> = None;
        for told in join_all(asked).await {
            check(&room, told, &mut first, &mut tally);
        }
        let Some(first) = first else { continue };
        let claim = read(&race.store, &room).await?;
        if claim.as_ref().is_none_or(|claim| claim.node.as_str() != first.node || claim.epoch.0 != first.epoch) {
            tally.wrong(format!("{room}: told {first:?}, the store has {claim:?}"));
        }
        if index.is_multiple_of(LATER)
            && let Some((room, first, when)) = given.replace((room, first, Instant::now()))
        {
            let told = late.look_up(index, &room, "{}").await;
            if when.elapsed() < LIVES {
                check(&room, told, &mut Some(first), &mut tally);
            }
        }
    }
    Ok(tally)
}

/// Counts an answer, and compares it with the first one of its room.
fn check(room: &str, told: Result<Told, Trouble>, first: &mut Option<Told>, tally: &mut Tally) {
    tally.asked += 1;
    match told {
        Ok(told) => {
            tally.retried += u64::from(told.retried.is_some());
            let first = first.get_or_insert_with(|| told.clone());
            if (&first.node, first.epoch) != (&told.node, told.epoch) {
                tally.wrong(format!("{room}: {first:?} and {told:?}"));
            }
        }
        Err(trouble) => tally.failed(&trouble),
    }
}

/// Cuts one of Redis's connections after the other, at random; gives how many.
async fn cut(url: String, race: Arc<Race>) -> Result<u64, Trouble> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let own: u64 = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
    let mut random = Pcg64Mcg::seed_from_u64(SEED);
    let mut pace = interval(CUT_EACH);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cuts = 0;
    while !race.is_over() {
        pace.tick().await;
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await?;
        let id = |line: &str| line.strip_prefix("id=")?.split(' ').next()?.parse::<u64>().ok();
        let others: Vec<u64> = list.lines().filter_map(id).filter(|id| *id != own).collect();
        if !others.is_empty() {
            let victim = others[random.random_range(0..others.len())];
            cuts += redis::cmd("CLIENT").arg(&["KILL", "ID"]).arg(victim).query_async::<u64>(&mut connection).await?;
        }
    }
    Ok(cuts)
}
