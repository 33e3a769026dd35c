//! Follows streams on a connection of its own: what is added, in order, from a noted place on.

use std::collections::HashMap;

use redis::{Cmd, Value};

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

/// An entry of a stream: its fields with their values, in order.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) fields: Vec<(String, String)>,
}

impl Entry {
    pub(super) fn get(&self, field: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| name == field).map(|(_, value)| value.as_str())
    }
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
    pub(super) async fn next(&mut self, block_ms: u64) -> Result<Vec<(usize, Entry)>, Lost> {
        let mut read = Cmd::with_capacity(6 + 2 * self.keys.len(), 64 * self.keys.len());
        read.arg("XREAD").arg("COUNT").arg(READ_COUNT).arg("BLOCK").arg(block_ms);
        read.arg("STREAMS").arg(&self.keys).arg(&self.read);
        let mut connection = self.session.connection.clone();
        let reply: Value = read.query_async(&mut connection).await.map_err(|_| Lost::Connection)?;
        let mut entries = Vec::new();
        let mut after = 0;
        for (key, added) in streams(reply).ok_or(Lost::Connection)? {
            // They come in the order in which they were asked for.
            let Some(number) = self.keys[after..].iter().position(|asked| *asked == key) else { continue };
            let number = after + number;
            after = number + 1;
            let Some(last) = added.last() else { continue };
            let before = std::mem::replace(&mut self.read[number], last.id.clone());
            // Only who is far behind can have missed something: a stream is cut at more entries than are read at once.
            if added.len() >= READ_COUNT && self.cut_after(number, &before).await? {
                return Err(Lost::Behind);
            }
            entries.extend(added.into_iter().map(|entry| (number, entry)));
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

/// The streams of a reply in RESP3, with their entries; none if it is of another shape. Taken apart without copies: every
/// scheduler reads each change of every room.
fn streams(reply: Value) -> Option<Vec<(String, Vec<Entry>)>> {
    match reply {
        Value::Nil => Some(Vec::new()),
        Value::Map(streams) => streams
            .into_iter()
            .map(|(key, entries)| Some((text(key)?, list(entries)?.into_iter().map(entry).collect::<Option<_>>()?)))
            .collect(),
        _ => None,
    }
}

pub(super) fn entry(value: Value) -> Option<Entry> {
    let [id, fields] = <[Value; 2]>::try_from(list(value)?).ok()?;
    let mut words = list(fields)?.into_iter().map(text);
    let mut fields = Vec::with_capacity(words.len() / 2);
    while let Some(name) = words.next() {
        fields.push((name?, words.next()??));
    }
    Some(Entry { id: text(id)?, fields })
}

fn list(value: Value) -> Option<Vec<Value>> {
    if let Value::Array(values) = value { Some(values) } else { None }
}

/// What is not UTF-8 is no word of ours, and is refused by who reads it.
fn text(value: Value) -> Option<String> {
    let Value::BulkString(bytes) = value else { return None };
    Some(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn order(id: &str) -> (u64, u64) {
    let (ms, sequence) = id.split_once('-').unwrap_or((id, "0"));
    (ms.parse().unwrap_or(0), sequence.parse().unwrap_or(0))
}
