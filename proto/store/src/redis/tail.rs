//! Follows streams on a connection of its own: what is added, in order, from a noted place on.

use std::collections::HashMap;

use redis::Value;
use redis::streams::{StreamId, StreamReadReply};

use super::session::{Session, unavailable};
use crate::error::StoreError;

/// How many entries of one stream are read at once.
const READ_COUNT: usize = 200;
/// Before the first entry of any stream.
const START: &str = "0-0";

/// Streams, and how far each was read.
#[derive(Debug)]
pub(super) struct Tail {
    session: Session,
    keys: Vec<String>,
    read: Vec<String>,
}

/// Why a tail cannot be followed further.
#[derive(Debug)]
pub(super) enum Lost {
    /// The connection broke, or the server answered with an error.
    Connection,
    /// Entries were cut off before they were read.
    Behind,
}

impl Tail {
    /// Follows `keys` from their ends on.
    pub(super) async fn from_now(session: Session, keys: Vec<String>) -> Result<Self, StoreError> {
        let mut pipeline = redis::pipe();
        for key in &keys {
            pipeline.cmd("XREVRANGE").arg(key).arg("+").arg("-").arg("COUNT").arg(1);
        }
        let mut connection = session.connection.clone();
        let last: Vec<redis::streams::StreamRangeReply> =
            pipeline.query_async(&mut connection).await.map_err(|error| unavailable(&error))?;
        let read =
            last.iter().map(|reply| reply.ids.first().map_or(START, |entry| entry.id.as_str()).to_owned()).collect();
        Ok(Self { session, keys, read })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// What was added since; waits up to `block_ms` for something. Each entry comes with the number of its stream.
    pub(super) async fn next(&mut self, block_ms: u64) -> Result<Vec<(usize, StreamId)>, Lost> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(READ_COUNT).arg("BLOCK").arg(block_ms).arg("STREAMS").arg(&self.keys).arg(&self.read);
        let mut connection = self.session.connection.clone();
        let reply: Option<StreamReadReply> = read.query_async(&mut connection).await.map_err(|_| Lost::Connection)?;
        let mut entries = Vec::new();
        for stream in reply.map(|reply| reply.keys).unwrap_or_default() {
            let Some(number) = self.keys.iter().position(|key| *key == stream.key) else { continue };
            let Some(last) = stream.ids.last() else { continue };
            let before = std::mem::replace(&mut self.read[number], last.id.clone());
            // Only who is far behind can have missed something: a stream is cut at more entries than are read at once.
            if stream.ids.len() >= READ_COUNT && self.cut_after(number, &before).await? {
                return Err(Lost::Behind);
            }
            entries.extend(stream.ids.into_iter().map(|entry| (number, entry)));
        }
        Ok(entries)
    }

    /// Whether an entry after `place` may have been cut off.
    async fn cut_after(&self, number: usize, place: &str) -> Result<bool, Lost> {
        let mut info = redis::cmd("XINFO");
        info.arg("STREAM").arg(&self.keys[number]);
        let mut connection = self.session.connection.clone();
        let info: HashMap<String, Value> = info.query_async(&mut connection).await.map_err(|_| Lost::Connection)?;
        let is_whole = info.contains_key("length") && info.get("length") == info.get("entries-added");
        let first = match info.get("recorded-first-entry-id") {
            Some(Value::BulkString(id)) => order(&String::from_utf8_lossy(id)),
            _ => return Ok(true),
        };
        Ok(!is_whole && first > order(place))
    }
}

fn order(id: &str) -> (u64, u64) {
    let (ms, sequence) = id.split_once('-').unwrap_or((id, "0"));
    (ms.parse().unwrap_or(0), sequence.parse().unwrap_or(0))
}
