//! An agent stands still for a while with its rooms wanted elsewhere, and goes on; also with clocks that are wrong.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use roost_proto::room::ClaimState;
use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::participant::{Participant, Welcome};

use crate::caller::{Caller, Told, addresses};
use crate::crowd::{knock, read, store};
use crate::table::Row;
use crate::{full_or, run};

const ROOMS: usize = 4;
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// A participant who hears nothing for so long, not even a ping, gives up.
const GIVES_UP_AFTER: Duration = Duration::from_secs(10);

/// Somebody who stays until sent away.
type Staying = JoinHandle<Participant>;

/// One room of an agent that stands still.
struct Room {
    name: String,
    before: Told,
    anna: Staying,
    /// Who let somebody in as the next home, when that was known, and the participant.
    taken: Option<(Told, Instant, Staying)>,
}

/// Somebody at a door: since when, and what came of it.
type Caught = JoinHandle<(Instant, Result<Welcome, Trouble>)>;

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    taken: u64,
    kept: u64,
    splits: u64,
    foreign_deletes: u64,
    fallen_epochs: u64,
    /// Participants of a next home who did not stay there.
    sent_away: u64,
}

#[test]
fn an_agent_that_stood_still_splits_no_room_and_deletes_nobodys_claim() {
    run(async {
        // By how many seconds the agents' clocks are ahead, and that of one of two schedulers.
        let clocks = full_or(vec![(0, 0), (60, 0), (-60, 0), (0, 60), (0, -60)], vec![(0, 0), (-60, 60)]);
        let mut missed = Vec::new();
        for row in try_join_all(clocks.into_iter().map(|(agents, scheduler)| freeze(agents, scheduler))).await? {
            missed.extend(row.end().err());
        }
        if missed.is_empty() { Ok(()) } else { Err(format!("{missed:?}").into()) }
    });
}

/// Agents that stand still for different times, all at once.
async fn freeze(agents_s: i64, scheduler_s: i64) -> Result<Row, Trouble> {
    let lengths: Vec<u64> = full_or(vec![1, 5, 20, 60], vec![1, 6]);
    let mut plan = Plan::small().with_redis(2);
    plan.scheduler_clock_s = scheduler_s;
    let node = |id: &str, region: &str| NodePlan { clock_s: agents_s, ..NodePlan::new(id, region) };
    plan.nodes = lengths.iter().map(|length| node(&format!("still-{length}"), &format!("eu/{length}"))).collect();
    plan.nodes.extend([node("moving-1", "us/east"), node("moving-2", "us/west")]);
    let cluster = Cluster::start(plan).await?;
    let all = try_join_all(lengths.iter().map(|length| stand_still(&cluster, Duration::from_secs(*length)))).await?;
    cluster.settled().await?;
    let mut row =
        Row::new(format!("SIGSTOP for {lengths:?} s, clocks {agents_s:+} s, one scheduler's {scheduler_s:+} s"));
    let sum = |count: fn(&Seen) -> u64| all.iter().map(count).sum::<u64>();
    row.hold(format!("{} rooms taken over", sum(|seen| seen.taken)), sum(|seen| seen.taken) > 0);
    row.hold(format!("{} kept", sum(|seen| seen.kept)), sum(|seen| seen.kept) > 0);
    row.none("splits", sum(|seen| seen.splits));
    row.none("foreign deletes", sum(|seen| seen.foreign_deletes));
    row.none("epochs fell", sum(|seen| seen.fallen_epochs));
    row.none("sent away by the next home", sum(|seen| seen.sent_away));
    cluster.stop().await?;
    Ok(row)
}

async fn stand_still(cluster: &Cluster, length: Duration) -> Result<Seen, Trouble> {
    let still = format!("still-{}", length.as_secs());
    let mut caller = Caller::new(&addresses(cluster));
    let mut rooms = open(cluster, &still, &mut caller).await?;
    let mut seen = Seen::default();
    cluster.node(&still)?.process.signal(Signal::STOP)?;
    let stopped = Instant::now();
    let mut at = 0;
    while stopped.elapsed() < length {
        at += 1;
        want(cluster, &still, &mut rooms, &mut caller, at, &mut seen).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Who comes now stands at the door until the agent goes on.
    let early = come_early(cluster, &rooms)?;
    cluster.node(&still)?.process.signal(Signal::CONT)?;
    for (room, early) in rooms.iter().zip(early) {
        let (sent, welcome) = early.await?;
        // One that found no answer at all proves nothing.
        let is_in = welcome.is_ok_and(|welcome| matches!(welcome, Welcome::Admitted { .. }));
        seen.splits += u64::from(is_in && was_taken(room, sent));
    }
    let goes_on = Instant::now();
    while !settled(cluster, &rooms, &mut seen).await? {
        at += 1;
        want(cluster, &still, &mut rooms, &mut caller, at, &mut seen).await?;
        if goes_on.elapsed() > SETTLED_WITHIN {
            return Err(format!(
                "{still} does not settle after {length:?}: {}",
                cluster.node(&still)?.process.log_tail()
            )
            .into());
        }
    }
    judge(cluster, length < GIVES_UP_AFTER, rooms, &mut seen).await?;
    Ok(seen)
}

async fn open(cluster: &Cluster, still: &str, caller: &mut Caller) -> Result<Vec<Room>, Trouble> {
    let region = &cluster.plan().nodes.iter().find(|node| node.id == still).ok_or("no such node")?.region;
    let mut rooms = Vec::new();
    for index in 0..ROOMS {
        let name = format!("{still}-{index}");
        let before = caller.look_up(index, &name, &json!({ "region": region }).to_string()).await?;
        if before.node != still {
            return Err(format!("{name} is at {}", before.node).into());
        }
        let (welcome, mut anna) = knock(cluster, &before, &name, "anna").await?;
        if !matches!(welcome, Welcome::Admitted { .. }) {
            return Err(format!("{name}: {welcome:?}").into());
        }
        anna.join("anna").await?;
        rooms.push(Room { name, before, anna: stay(anna), taken: None });
    }
    Ok(rooms)
}

fn stay(mut participant: Participant) -> Staying {
    tokio::spawn(async move {
        let _how = participant.closed().await;
        participant
    })
}

/// Each room is looked up, and where it has a next home, somebody goes there.
async fn want(
    cluster: &Cluster,
    still: &str,
    rooms: &mut [Room],
    caller: &mut Caller,
    at: usize,
    seen: &mut Seen,
) -> Result<(), Trouble> {
    for room in rooms {
        let Ok(told) = caller.look_up_once(at, &room.name, "{}").await else { continue };
        seen.fallen_epochs += u64::from(told.epoch < room.before.epoch);
        match &room.taken {
            None if told.node != still => {
                seen.fallen_epochs += u64::from(told.epoch == room.before.epoch);
                let (welcome, mut berta) = knock(cluster, &told, &room.name, "berta").await?;
                if matches!(welcome, Welcome::Admitted { .. }) {
                    let since = Instant::now();
                    berta.join("berta").await?;
                    room.taken = Some((told, since, stay(berta)));
                }
            }
            Some((next, ..)) => {
                seen.splits += u64::from(told.node != next.node);
                seen.fallen_epochs += u64::from(told.epoch < next.epoch);
            }
            None => {}
        }
    }
    Ok(())
}

/// Somebody comes to each room's first home, with its first ticket.
fn come_early(cluster: &Cluster, rooms: &[Room]) -> Result<Vec<Caught>, Trouble> {
    let come = |room: &Room| {
        let url = cluster.door(&room.before.node, &room.name, "clara", &room.before.ticket)?;
        Ok(tokio::spawn(async move {
            let sent = Instant::now();
            let welcome = async { Participant::connect(&url).await?.welcome().await };
            (sent, welcome.await)
        }))
    };
    rooms.iter().map(come).collect()
}

/// Whether the room had a next home already.
fn was_taken(room: &Room, when: Instant) -> bool {
    room.taken.as_ref().is_some_and(|(_, since, _)| *since < when)
}

/// Whether the agent, asked at its door, sends away who wants into a room that was taken, and lets in to the others.
async fn settled(cluster: &Cluster, rooms: &[Room], seen: &mut Seen) -> Result<bool, Trouble> {
    let mut is_settled = true;
    for room in rooms {
        let sent = Instant::now();
        let Ok((welcome, _gone)) = knock(cluster, &room.before, &room.name, "dora").await else {
            is_settled = false;
            continue;
        };
        match (welcome, &room.taken) {
            (Welcome::Admitted { .. }, Some(_)) => {
                seen.splits += u64::from(was_taken(room, sent));
                is_settled = false;
            }
            (Welcome::Redirected { node }, Some((next, ..))) => is_settled &= node == next.node,
            (Welcome::Admitted { .. }, None) => {}
            _ => is_settled = false,
        }
    }
    Ok(is_settled)
}

/// Looks at what is left when the agent has settled; `is_sent` if the participants of lost rooms must have been sent on.
async fn judge(cluster: &Cluster, is_sent: bool, rooms: Vec<Room>, seen: &mut Seen) -> Result<(), Trouble> {
    let store = store(cluster)?;
    for room in rooms {
        let (home, who) = match &room.taken {
            Some((next, ..)) => (next, "next"),
            None => (&room.before, "first"),
        };
        let claim = read(&store, &room.name).await?;
        let is_there = claim.as_ref().is_some_and(|claim| {
            claim.state == ClaimState::Open && claim.node.as_str() == home.node && claim.epoch.0 >= home.epoch
        });
        if !is_there {
            println!("{}: {who} home {home:?}, the store has {claim:?}", room.name);
            seen.foreign_deletes += 1;
        }
        match room.taken {
            Some((next, _, berta)) => {
                seen.taken += 1;
                seen.sent_away += u64::from(berta.is_finished());
                if is_sent {
                    let redirect = timeout(SETTLED_WITHIN, room.anna).await??.take("redirect");
                    if redirect.as_ref().is_none_or(|redirect| redirect["node"] != next.node.as_str()) {
                        return Err(format!("{}: anna was told {redirect:?}", room.name).into());
                    }
                }
            }
            None => seen.kept += 1,
        }
    }
    Ok(())
}
