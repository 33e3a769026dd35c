//! What a scheduler sees of the shared state: all that is there, then every change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Value;
use tokio::sync::mpsc;

use roost_proto::event::Event;
use roost_proto::id::{Epoch, Incarnation, NUMBER_LIMIT, NodeId, RoomKey};
use roost_proto::report::Report;
use roost_proto::room::{Expected, Run};

use super::keys::{Found, Keys};
use super::lately::Lately;
use super::record;
use super::script::SCRIPTS;
use super::session::Sessions;
use super::tail::{Entry, Lost, Tail};
use crate::claim::DURATION_LIMIT_MS;
use crate::embedded::WATCH_CAPACITY;
use crate::error::StoreError;

const BLOCK_MS: u64 = 1_000;
/// How often the runs are compared, for a wipe that leaves the connection whole.
const RUN_CHECK: Duration = Duration::from_secs(1);
/// Between two reads of a busy stream: waking for each entry would cost the server more than the entries do.
const GATHER: Duration = Duration::from_millis(4);
const SCAN_COUNT: usize = 1_000;

/// Why a watch ends.
enum End {
    /// Nobody reads it any more.
    Unread,
    /// The reader has to watch again, from the start.
    Lost(&'static str),
}

struct Watch {
    sessions: Arc<Sessions>,
    tail: Tail,
    runs: Vec<Run>,
    lately: Lately,
    sender: mpsc::Sender<Event>,
}

/// Watches: the snapshot is read after the ends of the streams were noted, so that no change falls between. A change
/// may therefore be told that the snapshot has already; epochs tell which is newer.
pub(super) async fn watch(sessions: &Arc<Sessions>) -> Result<mpsc::Receiver<Event>, StoreError> {
    let (session, life) = sessions.separate(Duration::from_millis(BLOCK_MS)).await?;
    let buckets = sessions.keys.buckets();
    let streams = buckets.iter().map(|bucket| bucket.claims.clone());
    let streams = streams.chain(buckets.iter().map(|bucket| bucket.reports.clone())).collect();
    let tail = Tail::from_now(session, streams).await?;
    let lately = Lately::read(tail.session(), buckets).await?;
    let (sender, receiver) = mpsc::channel(WATCH_CAPACITY);
    let mut watch = Watch { sessions: sessions.clone(), tail, runs: life.runs, lately, sender };
    tokio::spawn(async move {
        let ended = match watch.snapshot().await {
            Ok(()) => watch.follow().await,
            Err(end) => end,
        };
        if let End::Lost(reason) = ended {
            tracing::debug!(reason, "a watch ends");
        }
    });
    Ok(receiver)
}

impl Watch {
    /// All records of this run, and the last report of each node as far as it is kept.
    async fn snapshot(&mut self) -> Result<(), End> {
        let mut connection = self.tail.session().connection.clone();
        let mut cursor = 0u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&self.sessions.keys.pattern).arg("COUNT").arg(SCAN_COUNT);
            scan.arg("TYPE").arg("string");
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await.map_err(lost)?;
            if !keys.is_empty() {
                let mut pipeline = redis::pipe();
                for key in &keys {
                    pipeline.cmd("GET").arg(key).cmd("PTTL").arg(key);
                }
                let values: Vec<Value> = pipeline.query_async(&mut connection).await.map_err(lost)?;
                for (key, pair) in keys.iter().zip(values.chunks_exact(2)) {
                    if let [Value::BulkString(text), Value::Int(ttl)] = pair {
                        self.tell(key, &String::from_utf8_lossy(text), *ttl).await?;
                    }
                }
            }
            cursor = next;
            if cursor == 0 {
                self.lately = Lately::default();
                return Ok(());
            }
        }
    }

    async fn follow(&mut self) -> End {
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
                    Ok(life) if life.runs == self.runs => {}
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

    /// Tells what a key of the snapshot holds. What is void is forgotten, what is broken logged.
    async fn tell(&self, key: &str, text: &str, ttl: i64) -> Result<(), End> {
        let event = match Keys::found(key) {
            Ok(Found::Room(room)) => record::parse(key, text).map(|claim| {
                let ttl_ms = u64::try_from(ttl).unwrap_or(0);
                let expected = self.lately.expected(&room, claim.epoch);
                Some(Event::Claimed { key: room, claim, ttl_ms, expected })
            }),
            Ok(Found::Report) => Ok(self.report(text)),
            Ok(Found::Other) => Ok(None),
            Err(error) => Err(error),
        };
        match event {
            Ok(Some(Event::Claimed { key: room, claim, .. })) if claim.run != self.runs[usize::from(room.bucket())] => {
                let forget = SCRIPTS.forget.call(&[&self.sessions.keys.bucket(room.bucket()).meta, key]);
                forget.query_async(&mut self.tail.session().connection.clone()).await.map_err(lost)
            }
            Ok(Some(event)) => self.give(event).await,
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "left out of the snapshot");
                Ok(())
            }
        }
    }

    /// The event that an entry of a stream is; none if it is broken (which is logged).
    fn added(&self, stream: usize, entry: &Entry) -> Option<Event> {
        let broken = |error: &StoreError| tracing::warn!(%error, id = entry.id, "an event is dropped");
        if let Some(bucket) = self.sessions.keys.buckets().get(stream) {
            return changed(&bucket.claims, entry).inspect_err(broken).ok();
        }
        match (entry.get("report"), entry.get("left")) {
            (None, Some(node)) => left(node, entry).inspect_err(broken).ok(),
            (text, _) => self.report(text.unwrap_or_default()),
        }
    }

    /// The event that a report is; none if it cannot be used.
    fn report(&self, text: &str) -> Option<Event> {
        #[derive(serde::Deserialize)]
        struct Named {
            node: NodeId,
        }
        let dropped = &self.sessions.dropped;
        let unreadable = |error| {
            let named = serde_json::from_str::<Named>(text).ok();
            dropped.unreadable(named.map(|named| named.node), &error);
        };
        let report: Report = serde_json::from_str(text).map_err(unreadable).ok()?;
        dropped.check(&report).ok()?;
        Some(Event::Reported(Box::new(report)))
    }
}

fn left(node: &str, entry: &Entry) -> Result<Event, StoreError> {
    let broken = || StoreError::Corrupt { key: "reports".to_owned(), reason: "no node or incarnation".to_owned() };
    let incarnation = entry.get("incarnation").and_then(|text| text.parse().ok());
    let incarnation = incarnation.filter(|number| *number < NUMBER_LIMIT).ok_or_else(broken)?;
    Ok(Event::Left { node: NodeId::new(node).map_err(|_| broken())?, incarnation: Incarnation(incarnation) })
}

pub(super) fn changed(place: &str, entry: &Entry) -> Result<Event, StoreError> {
    let broken = |what: &str| StoreError::Corrupt { key: place.to_owned(), reason: format!("entry without {what}") };
    let (name, text) = entry.fields.first().ok_or_else(|| broken("a field"))?;
    let Found::Room(key) = Keys::found(name)? else { return Err(broken("a room")) };
    told(place, key, text)
}

/// A room's entry has its key for a name. Its value is an epoch that ended, or a record, the time it holds, and with a
/// grant what is expected: participants and hint.
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
    Ok(Event::Claimed { key, claim, ttl_ms, expected })
}

fn lost(_: redis::RedisError) -> End {
    End::Lost("the connection broke")
}
