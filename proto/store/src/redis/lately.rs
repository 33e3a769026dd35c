//! What was expected of the rooms that were granted lately, for who begins to watch: the records do not say it.

use std::collections::HashMap;

use redis::Value;

use roost_proto::event::Event;
use roost_proto::id::{Epoch, RoomKey};
use roost_proto::room::{EXPECTED_TOLD_MS, Expected};

use super::keys::BucketKeys;
use super::session::{Session, unavailable};
use super::tail::{self, Entry};
use super::watch::changed;
use crate::error::StoreError;

/// How many entries of one bucket's stream are read. Beyond that rooms count as what has come to them.
const MOST_READ: usize = 2_000;

/// By room, the epoch of its last grant and what was expected then.
#[derive(Debug, Default)]
pub(super) struct Lately(HashMap<RoomKey, (Epoch, Expected)>);

impl Lately {
    /// Reads the streams of claims backwards.
    pub(super) async fn read(
        session: &Session,
        buckets: impl Iterator<Item = &BucketKeys>,
    ) -> Result<Self, StoreError> {
        let mut connection = session.connection.clone();
        let time: (u64, u64) =
            redis::cmd("TIME").query_async(&mut connection).await.map_err(|error| unavailable(&error))?;
        let now_ms = time.0.saturating_mul(1_000).saturating_add(time.1 / 1_000);
        let from = now_ms.saturating_sub(EXPECTED_TOLD_MS);
        let mut lately = Self::default();
        for bucket in buckets {
            let mut range = redis::cmd("XREVRANGE");
            range.arg(&bucket.claims).arg("+").arg(from).arg("COUNT").arg(MOST_READ);
            let entries: Vec<Value> = range.query_async(&mut connection).await.map_err(|error| unavailable(&error))?;
            for entry in entries.into_iter().filter_map(tail::entry) {
                lately.note(&bucket.claims, &entry, now_ms);
            }
        }
        Ok(lately)
    }

    /// What was expected of the room when it was granted in this epoch.
    pub(super) fn expected(&self, room: &RoomKey, epoch: Epoch) -> Expected {
        self.0.get(room).filter(|(granted, _)| *granted == epoch).map(|(_, expected)| *expected).unwrap_or_default()
    }

    /// The last grant of a room is the one that counts, and comes first. Who watches is told of what cannot be read.
    fn note(&mut self, place: &str, entry: &Entry, now_ms: u64) {
        let said_ms = entry.id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(now_ms);
        if let Ok(Event::Claimed { key, claim, expected, .. }) = changed(place, entry)
            && expected.participants > 0
        {
            let expected = Expected { age_ms: now_ms.saturating_sub(said_ms).max(1), ..expected };
            self.0.entry(key).or_insert((claim.epoch, expected));
        }
    }
}
