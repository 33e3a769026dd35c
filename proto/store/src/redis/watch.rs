//! What a scheduler sees of the shared state: all that is there, then every change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation, NUMBER_LIMIT, NodeId, RoomKey};
use roost_proto::report::Report;
use roost_proto::room::{Expected, Run};
use roost_proto::steer::Steering;

use super::keys::{Found, Keys};
use super::lately::Lately;
use super::record;
use super::session::Sessions;
use super::shard::Shard;
use super::snapshot::Snapshot;
use super::steering;
use super::tail::{Entry, Lost, Tail};
use crate::claim::DURATION_LIMIT_MS;
use crate::dropped::DroppedReports;
use crate::embedded::WATCH_CAPACITY;
use crate::error::StoreError;

const BLOCK_MS: u64 = 1_000;
/// How often the runs are compared, for a wipe that leaves the connection whole.
const RUN_CHECK: Duration = Duration::from_secs(1);
/// Between two reads of a busy stream: waking for each entry would cost the server more than the entries do.
const GATHER: Duration = Duration::from_millis(4);

/// Why a watch ends.
pub(super) enum End {
    /// Nobody reads it any more.
    Unread,
    /// The reader has to watch again, from the start.
    Lost(&'static str),
}

/// Follows the streams of some buckets.
struct Watch {
    sessions: Arc<Sessions>,
    tail: Tail,
    runs: Vec<Run>,
    sender: mpsc::Sender<Event>,
}

/// Watches what can be watched, and gives the buckets of that: the snapshot is read after the ends of the streams were
/// noted, so that no change falls between. A change may therefore be told that the snapshot has already; epochs tell which
/// is newer.
///
/// In a cluster each server is watched for itself: what happens to one room, or to one node, is on one of them. One that is
/// away is left out; when it can be reached the watch ends.
pub(super) async fn watch_some(sessions: &Arc<Sessions>) -> Result<(Vec<u8>, mpsc::Receiver<Event>), StoreError> {
    let (sender, receiver) = mpsc::channel(WATCH_CAPACITY);
    let mut servers = JoinSet::new();
    let (mut watched, mut trouble) = (Vec::new(), None);
    for shard in &sessions.shards().await?.all {
        match begin_server(sessions, shard, &sender).await {
            Ok(server) => {
                watched.extend(shard.buckets.iter().copied());
                servers.spawn(server.follow());
            }
            Err(error) => trouble = Some(error),
        }
    }
    if watched.is_empty() {
        return Err(trouble.unwrap_or(StoreError::Unavailable { reason: "no server has a bucket".to_owned() }));
    }
    let away: Vec<u8> = (0..BUCKETS).filter(|bucket| !watched.contains(bucket)).collect();
    if !away.is_empty() {
        servers.spawn(until_back(sessions.clone(), away, sender));
    }
    tokio::spawn(async move {
        // The first that ends ends all, and with them the channel.
        if let Some(Ok(End::Lost(reason))) = servers.join_next().await {
            tracing::debug!(reason, "a watch ends");
        }
    });
    Ok((watched, receiver))
}

/// Until a server can be reached that has one of the buckets.
async fn until_back(sessions: Arc<Sessions>, away: Vec<u8>, sender: mpsc::Sender<Event>) -> End {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RUN_CHECK) => {}
            () = sender.closed() => return End::Unread,
        }
        let Ok(shards) = sessions.shards().await else { continue };
        for shard in shards.all.iter().filter(|shard| shard.buckets.iter().any(|bucket| away.contains(bucket))) {
            if sessions.session(shard).await.is_ok() {
                return End::Lost("a part of the store is back");
            }
        }
    }
}

/// All that one server has is about to be told, and then what changes.
struct ServerWatch {
    snapshot: Snapshot,
    watches: Vec<Watch>,
}

impl ServerWatch {
    async fn follow(self) -> End {
        if let Err(end) = self.snapshot.tell_all().await {
            return end;
        }
        let mut follows: JoinSet<End> = self.watches.into_iter().map(Watch::follow).collect();
        follows.join_next().await.and_then(Result::ok).unwrap_or(End::Unread)
    }
}

async fn begin_server(
    sessions: &Arc<Sessions>,
    shard: &Shard,
    sender: &mpsc::Sender<Event>,
) -> Result<ServerWatch, StoreError> {
    let mut watches = Vec::new();
    for buckets in sessions.together(shard) {
        watches.push(begin(sessions, shard, buckets, sender.clone()).await?);
    }
    let buckets = shard.buckets.clone();
    let (session, now) = sessions.separate(shard, buckets.clone(), Duration::from_millis(BLOCK_MS)).await?;
    let lately = Lately::read(&session, buckets.iter().map(|bucket| sessions.keys.bucket(*bucket))).await?;
    if !watches.iter().flat_map(|watch| &watch.runs).eq(&now) {
        return Err(StoreError::Unavailable { reason: "a new run of the store began meanwhile".to_owned() });
    }
    let runs = buckets.into_iter().zip(now).collect();
    let snapshot = Snapshot { runs, sessions: sessions.clone(), session, lately, sender: sender.clone() };
    Ok(ServerWatch { snapshot, watches })
}

async fn begin(
    sessions: &Arc<Sessions>,
    shard: &Shard,
    buckets: Vec<u8>,
    sender: mpsc::Sender<Event>,
) -> Result<Watch, StoreError> {
    let keys = buckets.iter().map(|bucket| sessions.keys.bucket(*bucket));
    let streams = keys.clone().map(|bucket| bucket.claims.clone());
    let streams = streams.chain(keys.map(|bucket| bucket.reports.clone())).collect();
    let (session, runs) = sessions.separate(shard, buckets, Duration::from_millis(BLOCK_MS)).await?;
    Ok(Watch { sessions: sessions.clone(), tail: Tail::from_now(session, streams).await?, runs, sender })
}

impl Watch {
    fn buckets(&self) -> &[u8] {
        &self.tail.session().buckets
    }

    async fn follow(mut self) -> End {
        let mut checked = Instant::now();
        loop {
            let entries = tokio::select! {
                entries = self.tail.next(BLOCK_MS) => entries,
                () = self.sender.closed() => return End::Unread,
            };
            let entries = match entries {
                Ok(entries) => entries,
                Err(Lost::Connection) => return End::Lost("the connection broke"),
                Err(Lost::Behind) => return End::Lost("the reader fell behind"),
            };
            let is_idle = entries.is_empty();
            if is_idle || checked.elapsed() > RUN_CHECK {
                checked = Instant::now();
                match self.sessions.begin(self.tail.session()).await {
                    Ok(runs) if runs == self.runs => {}
                    Ok(_) => return End::Lost("the store is in a new run"),
                    Err(_) => return End::Lost("the connection broke"),
                }
            }
            for (stream, entry) in entries {
                if entry.get("run").is_some() {
                    return End::Lost("the store is in a new run");
                }
                let Some(event) = self.added(stream, &entry) else { continue };
                if let Err(end) = self.give(event).await {
                    return end;
                }
            }
            if !is_idle {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    async fn give(&self, event: Event) -> Result<(), End> {
        self.sender.send(event).await.map_err(|_| End::Unread)
    }

    /// The event that an entry of a stream is; none if it is broken (which is logged).
    fn added(&self, stream: usize, entry: &Entry) -> Option<Event> {
        let broken = |error: &StoreError| tracing::warn!(%error, id = entry.id, "an event is dropped");
        if let Some(bucket) = self.buckets().get(stream) {
            return changed(&self.sessions.keys.bucket(*bucket).claims, entry).inspect_err(broken).ok();
        }
        let is_of_node = ["left", "steered", "purged"].iter().any(|field| entry.get(field).is_some());
        match entry.get("report") {
            None if is_of_node => told_of_node(entry).inspect_err(broken).ok(),
            text => reported(&self.sessions.dropped, text.unwrap_or_default(), steering::told(entry)),
        }
    }
}

/// The event that a report is, as if its node knew what the store has of it; none if it cannot be used.
pub(super) fn reported(dropped: &DroppedReports, text: &str, news: Option<Steering>) -> Option<Event> {
    #[derive(serde::Deserialize)]
    struct Named {
        node: NodeId,
    }
    let unreadable = |error| {
        let named = serde_json::from_str::<Named>(text).ok();
        dropped.unreadable(named.map(|named| named.node), &error);
    };
    let mut report: Report = serde_json::from_str(text).map_err(unreadable).ok()?;
    dropped.check(&report).ok()?;
    report.steer_by_later(news);
    Some(Event::Reported(Box::new(report)))
}

/// A node left, was purged, or something is wanted of it.
fn told_of_node(entry: &Entry) -> Result<Event, StoreError> {
    let broken = || StoreError::Corrupt { key: "reports".to_owned(), reason: "nothing that we know".to_owned() };
    let named = |field| entry.get(field).and_then(|name| NodeId::new(name).ok());
    if let Some(node) = named("steered") {
        return Ok(Event::Steered { node, steering: steering::told(entry).ok_or_else(broken)? });
    }
    if let Some(node) = named("purged") {
        return Ok(Event::Purged { node });
    }
    let node = named("left").ok_or_else(broken)?;
    let incarnation = entry.get("incarnation").and_then(|text| text.parse().ok());
    let incarnation = incarnation.filter(|number| *number < NUMBER_LIMIT).ok_or_else(broken)?;
    Ok(Event::Left { node, incarnation: Incarnation(incarnation) })
}

pub(super) fn changed(place: &str, entry: &Entry) -> Result<Event, StoreError> {
    let broken = |what: &str| StoreError::Corrupt { key: place.to_owned(), reason: format!("entry without {what}") };
    let (name, text) = entry.fields.first().ok_or_else(|| broken("a field"))?;
    let Found::Room(key) = Keys::found(name)? else { return Err(broken("a room")) };
    told(place, key, text)
}

/// A room's entry has its key for a name. Its value is an epoch that ended, or a record, the time it holds, and with a
/// grant what is expected: participants and hint, and 1 if the room was handed over. What follows is of later versions.
fn told(place: &str, key: RoomKey, text: &str) -> Result<Event, StoreError> {
    let broken = |what: &str| StoreError::Corrupt { key: place.to_owned(), reason: format!("entry without {what}") };
    let number = |word: &str| word.parse::<u64>().map_err(|_| broken("a number"));
    let Some((end_of_record, _)) = text.match_indices(' ').nth(record::WORDS - 1) else {
        let epoch = Some(number(text)?).filter(|epoch| *epoch < NUMBER_LIMIT).ok_or_else(|| broken("an epoch"))?;
        return Ok(Event::Released { key, epoch: Epoch(epoch) });
    };
    let claim = record::parse(place, &text[..end_of_record])?;
    let mut numbers = text[end_of_record + 1..].split(' ').map(number);
    let ttl_ms = numbers.next().unwrap_or(Ok(0))?.min(DURATION_LIMIT_MS);
    let mut small = || numbers.next().unwrap_or(Ok(0)).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    let expected = Expected { participants: small()?, hint: small()?, age_ms: 0 };
    let handed_over = numbers.next().is_some_and(|number| number.is_ok_and(|number| number > 0));
    Ok(Event::Claimed { key, claim, ttl_ms, expected, handed_over })
}
