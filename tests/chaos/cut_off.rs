//! An agent is cut off: its packets are lost, both ways, and nobody refuses anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::timeout;

use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::namespace::{ADDRESSES, Pair, enter};
use roost_tests::participant::{Participant, Welcome};

use crate::caller::{Caller, addresses};
use crate::crowd::knock;
use crate::elsewhere::elsewhere;
use crate::table::Row;
use crate::{ADMITS, LEASE, full_or, run_at_cable};

/// How long somebody waits at the door of the agent that is cut off.
const WAITS: Duration = Duration::from_secs(2);

/// What its door let in, once the cable was cut.
#[derive(Debug, Default)]
struct Door {
    /// Knocks that were let in: when they were made.
    admitted: Vec<Instant>,
    refused: u64,
    code: Option<String>,
}

#[test]
fn the_rooms_of_an_agent_that_is_cut_off_are_elsewhere_after_its_lease_and_not_before_it_stopped_admitting() {
    run_at_cable(cut_off);
}

async fn cut_off(folder: &TempDir, pair: &Pair) -> Result<(), Trouble> {
    let count = full_or(200, 10);
    let cluster = Cluster::start(guarded(folder, &pair.namespaces()[1])?).await?;
    cluster.watched().await?;
    let mut caller = Caller::new(&addresses(&cluster));
    let (mut rooms, mut doors, mut stay) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut index = 0;
    while rooms.len() < count {
        let room = format!("room-{index}");
        index += 1;
        let found = caller.look_up(0, &room, "{}").await?;
        let (welcome, anna) = knock(&cluster, &found, &room, "anna").await?;
        if !matches!(welcome, Welcome::Admitted { .. }) {
            return Err(format!("{room}: {welcome:?}").into());
        }
        stay.push(anna);
        if found.node == "far" {
            doors.push(cluster.door("far", &room, "berta", &found.ticket)?);
            rooms.insert(room, found);
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let door = stand_at_the_door(&pair.namespaces()[1], doors, stop.clone());
    pair.cut().await?;
    let cut = Instant::now();
    let elsewhere = elsewhere(&addresses(&cluster), &rooms, cut).await?;
    stop.store(true, Ordering::Relaxed);
    let door = door.await??;
    let mut row = Row::new(format!("agent with {count} rooms cut off: elsewhere"));
    let last = elsewhere.values().map(|(when, _)| *when).max().ok_or("no rooms")?;
    let first = elsewhere.values().map(|(when, _)| *when).min().ok_or("no rooms")?;
    row.note(format!("first after {:.2} s", (first - cut).as_secs_f64()));
    row.within("last after", LEASE + Duration::from_secs(1), last - cut);
    let fenced = door.admitted.iter().map(|knocked| *knocked - cut).max().ok_or("nobody was let in")?;
    // Whoever knocks later than this is refused, also on a machine on which all else takes its time.
    row.hold(format!("its door let in until {:.2} s", fenced.as_secs_f64()), fenced < ADMITS && cut + fenced < first);
    row.hold(format!("then refused {} with {:?}", door.refused, door.code), door.refused > 0);
    let fallen = elsewhere.iter().filter(|(room, (_, epoch))| *epoch <= rooms[*room].epoch).count() as u64;
    row.none("epochs fell", fallen);
    row.end()?;
    pair.mend().await?;
    cluster.stop().await
}

/// Knocks at the agent's door from inside its namespace, again and again, on a thread of its own.
fn stand_at_the_door(
    namespace: &Path,
    doors: Vec<String>,
    stop: Arc<AtomicBool>,
) -> impl Future<Output = Result<Result<Door, Trouble>, oneshot::error::RecvError>> {
    let (tell, told) = oneshot::channel();
    let namespace = namespace.to_owned();
    std::thread::spawn(move || {
        let stand = || -> Result<Door, Trouble> {
            enter(&namespace)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(knock_on(&doors, &stop))
        };
        drop(tell.send(stand()));
    });
    told
}

async fn knock_on(doors: &[String], stop: &AtomicBool) -> Result<Door, Trouble> {
    let mut door = Door::default();
    for url in doors.iter().cycle() {
        if stop.load(Ordering::Relaxed) && door.refused > 0 {
            break;
        }
        let knocked = Instant::now();
        let welcome = async { Participant::connect(url).await?.welcome().await };
        match timeout(WAITS, welcome).await {
            Ok(Ok(Welcome::Admitted { .. })) => door.admitted.push(knocked),
            Ok(Ok(Welcome::Refused { code })) => {
                door.refused += 1;
                door.code = Some(code);
            }
            Ok(Ok(Welcome::Redirected { .. })) | Err(_) => door.refused += 1,
            Ok(Err(trouble)) => return Err(trouble),
        }
    }
    Ok(door)
}

/// Two nodes, of which one is in the other namespace, with a cluster key: development is for loopback only.
fn guarded(folder: &TempDir, namespace: &Path) -> Result<Plan, Trouble> {
    let key = folder.path().join("cluster-key");
    std::fs::write(&key, "a-key-for-this-test-alone-0123456789abcdef\n")?;
    let mut plan = Plan::small().with_redis(2);
    (plan.dev, plan.cluster_key, plan.host) = (false, Some(key), ADDRESSES[0].to_owned());
    let [near, far] = ["near", "far"].map(|id| NodePlan::new(id, "eu/central").with(&["--max-participants", "100000"]));
    plan.nodes = vec![near, NodePlan { elsewhere: Some((namespace.to_owned(), ADDRESSES[1].to_owned())), ..far }];
    Ok(plan)
}
