//! Redis Cluster: which master has which bucket. A bucket is one slot, by its hash tag.
//!
//! The crate's own Cluster client is not used: it mends connections and follows a moved slot under a call, which then
//! reaches another run than it names (rule 1). Here a moved slot ends the call, certainly not done, and the next one
//! finds its master, on whose connection the runs are begun first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{FutureExt, select_ok};
use redis::{AsyncConnectionConfig, RedisResult, Value};
use tokio::time::timeout;

use roost_proto::hash::BUCKETS;

use super::attempt::Attempts;
use super::reach::Reach;
use super::session::unavailable;
use super::shard::{Shard, Shards};
use crate::error::StoreError;

/// The masters are asked for again no sooner.
const KNOWN_FOR: Duration = Duration::from_millis(100);

/// A cluster, and what is known of it.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) seeds: Vec<(String, u16)>,
    pub(super) reach: Reach,
    known: Mutex<Option<(Arc<Shards>, Instant)>>,
    is_stale: AtomicBool,
    attempts: Attempts,
}

/// From the first slot to the last, and the address of their master.
type Range = (u16, u16, (String, u16));

impl Cluster {
    pub(super) fn new(seeds: Vec<(String, u16)>, reach: Reach) -> Self {
        let (known, is_stale, attempts) = Default::default();
        Self { seeds, reach, known, is_stale, attempts }
    }

    /// A slot moved, or a master cannot be reached.
    pub(super) fn is_no_longer(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    /// The masters. Shards that are as they were keep their connections.
    pub(super) async fn shards(
        &self,
        tag: impl Fn(u8) -> String,
        connections: usize,
        patience: Duration,
    ) -> Result<Arc<Shards>, StoreError> {
        let fresh = || {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let is_stale = self.is_stale.load(Ordering::Acquire);
            known.as_ref().filter(|(_, found)| !is_stale || found.elapsed() < KNOWN_FOR).map(|(all, _)| all.clone())
        };
        if let Some(known) = fresh() {
            return Ok(known);
        }
        self.attempts
            .until(fresh, async || {
                self.is_stale.store(false, Ordering::Release);
                let found = self.find(&tag, connections, patience).await.inspect_err(|_| self.is_no_longer())?;
                let found = Arc::new(found);
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((found.clone(), Instant::now()));
                Ok(found)
            })
            .await
    }

    /// Asks all addresses that are known; the first that answers is believed. One that is behind names a master that
    /// says itself that the slot moved.
    async fn find(
        &self,
        tag: &impl Fn(u8) -> String,
        connections: usize,
        patience: Duration,
    ) -> Result<Shards, StoreError> {
        let before = self.known.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(all, _)| all.clone());
        let mut addresses = self.seeds.clone();
        for shard in before.iter().flat_map(|before| &before.all) {
            let address =
                shard.name.rsplit_once(' ').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
            addresses.extend(address.filter(|address| !self.seeds.contains(address)));
        }
        let tags: Vec<String> = (0..BUCKETS).map(tag).collect();
        let asked = addresses.iter().map(|(host, port)| self.ask(host, *port, &tags).boxed());
        let late = |_| StoreError::Unavailable { reason: "no server of the cluster answers in time".to_owned() };
        let answer = timeout(patience, select_ok(asked)).await.map_err(late)?;
        let ((slots, ranges), _) = answer.map_err(|error| unavailable(&error))?;
        let mut masters: Vec<((String, u16), Vec<u8>)> = Vec::new();
        for (bucket, slot) in (0..BUCKETS).zip(slots) {
            let Some((_, _, address)) = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)) else {
                continue;
            };
            match masters.iter_mut().find(|(known, _)| known == address) {
                Some((_, buckets)) => buckets.push(bucket),
                None => masters.push((address.clone(), vec![bucket])),
            }
        }
        let mut shards = Shards { all: Vec::new(), of_bucket: vec![None; usize::from(BUCKETS)] };
        for ((host, port), buckets) in masters {
            for bucket in &buckets {
                shards.of_bucket[usize::from(*bucket)] = Some(shards.all.len());
            }
            let name = format!("{host} {port}");
            let same = before.iter().flat_map(|before| &before.all);
            let same = same.into_iter().find(|shard| shard.name == name && shard.buckets == buckets).cloned();
            let client = self.reach.client(&host, port).map_err(|error| unavailable(&error))?;
            shards.all.push(same.unwrap_or_else(|| Arc::new(Shard::new(name, Some(client), buckets, connections))));
        }
        Ok(shards)
    }

    /// The slot of each bucket, and which master has which slots.
    async fn ask(&self, host: &str, port: u16, tags: &[String]) -> RedisResult<(Vec<u16>, Vec<Range>)> {
        let config = AsyncConnectionConfig::new();
        let client = self.reach.client(host, port)?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("CLUSTER").arg("SLOTS");
        for tag in tags {
            pipeline.cmd("CLUSTER").arg("KEYSLOT").arg(tag);
        }
        let mut answers: Vec<Value> = pipeline.query_async(&mut connection).await?;
        let slots = answers.split_off(1).into_iter().map(redis::from_redis_value).collect::<Result<Vec<u16>, _>>()?;
        let ranges = match answers.pop() {
            Some(Value::Array(ranges)) => ranges.into_iter().filter_map(|range| self::range(range, host)).collect(),
            _ => Vec::new(),
        };
        Ok((slots, ranges))
    }
}

/// `[first, last, [host, port, …], …]`. A server that does not know its own address is where it was asked.
fn range(value: Value, asked: &str) -> Option<Range> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else { return None };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let host = match host {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        _ => "",
    };
    let host = if host.is_empty() { asked } else { host };
    Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, (host.to_owned(), u16::try_from(*port).ok()?)))
}
