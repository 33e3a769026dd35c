//! Participants who come and stay, in a room each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::iter;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::task::JoinSet;

use roost_proto::id::RoomKey;
use roost_proto::room::{Claim, ClaimState};
use roost_store::{RedisSettings, Store, open_store};
use roost_tests::cluster::Cluster;
use roost_tests::participant::{Participant, Welcome};
use roost_tests::{Trouble, wait};

use crate::caller::{Caller, Told, addresses};

const AT_ONCE: usize = 16;
const SOON: Duration = Duration::from_secs(30);
const MOST_PATIENCE: Duration = Duration::from_secs(120);

/// Rooms with a participant each.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    /// What the lookup said when the room was opened.
    pub(crate) rooms: BTreeMap<String, Told>,
    ended: Arc<Mutex<Vec<String>>>,
    stay: JoinSet<()>,
}

/// How long it took until all was well again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovery {
    /// Every scheduler had the right answer for each room, and placed a new one.
    pub(crate) lookups: Duration,
    /// Besides, the doors let in, and the store had all claims.
    pub(crate) all: Duration,
}

/// How a guest fared.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) sent: Instant,
    /// The lookup named the room's node, under an epoch that had not fallen.
    pub(crate) is_right: bool,
    pub(crate) welcome: Welcome,
}

impl Crowd {
    /// Opens these rooms for clients in `region`, and waits until every scheduler knows them as open.
    pub(crate) async fn come(cluster: &Cluster, rooms: Vec<String>, region: &str) -> Result<Self, Trouble> {
        let body = json!({ "region": region }).to_string();
        let addresses = addresses(cluster);
        let arrived: Vec<_> = iter(rooms.into_iter().enumerate())
            .map(|(index, room)| {
                let (body, addresses) = (&body, &addresses);
                async move {
                    let found = Caller::new(addresses).look_up(index, &room, body).await?;
                    let mut participant = knock(cluster, &found, &room, "anna").await?.1;
                    participant.join("anna").await?;
                    Ok::<_, Trouble>((room, found, participant))
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut crowd = Self::default();
        for (room, found, mut participant) in arrived {
            let (name, ended) = (room.clone(), crowd.ended.clone());
            crowd.rooms.insert(room, found);
            crowd.stay.spawn(async move {
                let end = participant.closed().await;
                ended.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {end:?}"));
            });
        }
        crowd.known(cluster).await?;
        Ok(crowd)
    }

    /// The sessions that have ended, and how.
    pub(crate) fn ended(&self) -> Vec<String> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many rooms the store does not have as open at their node, with at least their epoch.
    pub(crate) async fn misplaced(&self, store: &Arc<dyn Store>) -> Result<Vec<String>, Trouble> {
        let mut misplaced = Vec::new();
        for (room, told) in &self.rooms {
            let claim = read(store, room).await?;
            let is_there = claim.as_ref().is_some_and(|claim| {
                claim.state == ClaimState::Open && claim.node.as_str() == told.node && claim.epoch.0 >= told.epoch
            });
            if !is_there {
                misplaced.push(format!("{room}: {told:?} {claim:?}"));
            }
        }
        Ok(misplaced)
    }

    /// Waits until every scheduler has the right answer for each room and places one that it doesn't know, doors let in,
    /// and the store has all rooms; gives how long that took. Wrong answers on the way are added to `wrong`.
    pub(crate) async fn recovered(&self, cluster: &Cluster, wrong: &mut u64) -> Result<Recovery, Trouble> {
        let back = Instant::now();
        let mut caller = Caller::new(&addresses(cluster));
        for at in 0..cluster.schedulers.len() {
            for (room, before) in &self.rooms {
                while let Err(trouble) = caller.look_up_once(at, room, "{}").await.map(|told| {
                    *wrong += u64::from(told.node != before.node || told.epoch < before.epoch);
                }) {
                    patience(back, &trouble).await?;
                }
            }
            let unknown = format!("after-{}-{at}", back.elapsed().as_nanos());
            while let Err(trouble) = settle(cluster, &mut caller, at, &unknown).await {
                patience(back, &trouble).await?;
            }
        }
        let lookups = back.elapsed();
        while let Some(visit) = self.visit(cluster, 0).await.iter().find(|visit| !is_in(visit)) {
            patience(back, &format!("{visit:?}").into()).await?;
        }
        let store = store(cluster)?;
        while let Some(room) = self.misplaced(&store).await?.first() {
            patience(back, &room.as_str().into()).await?;
        }
        Ok(Recovery { lookups, all: back.elapsed() })
    }

    /// Comes to each room once as somebody else, who leaves at once. Gives what the doors said.
    pub(crate) async fn visit(&self, cluster: &Cluster, at: usize) -> Vec<Result<Visit, Trouble>> {
        let addresses = addresses(cluster);
        iter(&self.rooms)
            .map(|(room, before)| {
                let addresses = &addresses;
                async move {
                    let told = Caller::new(addresses).look_up_once(at, room, "{}").await?;
                    let sent = Instant::now();
                    let is_right = told.node == before.node && told.epoch >= before.epoch;
                    let (welcome, _gone) = knock(cluster, &told, room, "guest").await?;
                    Ok(Visit { sent, is_right, welcome })
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await
    }

    /// Comes to each room at a node that is not its home, by a ticket for its home. Gives how many were let in.
    pub(crate) async fn let_in_elsewhere(&self, cluster: &Cluster) -> Result<u64, Trouble> {
        let come = |(room, told): (&String, &Told)| {
            let (room, told) = (room.clone(), told.clone());
            async move {
                let elsewhere =
                    cluster.nodes.iter().find(|node| node.id != told.node).ok_or("there is one node only")?;
                let there = Told { node: elsewhere.id.clone(), ..told };
                let (welcome, _gone) = knock(cluster, &there, &room, "stray").await?;
                Ok::<_, Trouble>(u64::from(matches!(welcome, Welcome::Admitted { .. })))
            }
        };
        let let_in: Vec<u64> = iter(&self.rooms).map(come).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(let_in.into_iter().sum())
    }

    async fn known(&self, cluster: &Cluster) -> Result<(), Trouble> {
        for scheduler in &cluster.schedulers {
            wait::until("all rooms are known to be open", SOON, || async {
                let mut open = 0;
                let mut cursor = String::new();
                loop {
                    let page = cluster.admin(scheduler, &format!("/v1/rooms?limit=1000{cursor}")).await.ok()?;
                    open += page["items"].as_array()?.iter().filter(|room| room["state"] == "open").count();
                    match page["next_cursor"].as_str() {
                        Some(next) => cursor = format!("&cursor={next}"),
                        None => return (open >= self.rooms.len()).then_some(()),
                    }
                }
            })
            .await?;
        }
        Ok(())
    }
}

/// Looks a room up that nobody knows, and is let in.
async fn settle(cluster: &Cluster, caller: &mut Caller, at: usize, room: &str) -> Result<(), Trouble> {
    let told = caller.look_up_once(at, room, "{}").await?;
    let (welcome, _gone) = knock(cluster, &told, room, "anna").await?;
    if matches!(welcome, Welcome::Admitted { .. }) { Ok(()) } else { Err(format!("{room}: {welcome:?}").into()) }
}

fn is_in(visit: &Result<Visit, Trouble>) -> bool {
    matches!(visit, Ok(Visit { is_right: true, welcome: Welcome::Admitted { .. }, .. }))
}

/// Lets a moment pass before the next try; too late, what went wrong is the error.
pub(crate) async fn patience(since: Instant, trouble: &Trouble) -> Result<(), Trouble> {
    if since.elapsed() > MOST_PATIENCE {
        return Err(format!("after {MOST_PATIENCE:?}: {trouble}").into());
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}

/// Comes to the node that a lookup named, whatever the door says.
pub(crate) async fn knock(
    cluster: &Cluster,
    found: &Told,
    room: &str,
    peer: &str,
) -> Result<(Welcome, Participant), Trouble> {
    let url = cluster.door(&found.node, room, peer, &found.ticket)?;
    let mut participant = Participant::connect(&url).await?;
    Ok((participant.welcome().await?, participant))
}

/// The cluster's store, by a client of the test's own.
pub(crate) fn store(cluster: &Cluster) -> Result<Arc<dyn Store>, Trouble> {
    let url = cluster.redis.as_ref().ok_or("no Redis")?.url();
    Ok(open_store(&url, &RedisSettings::default())?)
}

/// A room's record, also when the connection was cut.
pub(crate) async fn read(store: &Arc<dyn Store>, room: &str) -> Result<Option<Claim>, Trouble> {
    let key = RoomKey::new("default", room)?;
    wait::until("the store is read", SOON, || async { store.read(&key).await.ok() }).await
}
