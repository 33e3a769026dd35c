//! All that one server has when a watch begins.

use std::sync::Arc;

use redis::Value;
use tokio::sync::mpsc;

use roost_proto::event::Event;
use roost_proto::room::Run;
use roost_proto::steer::Steering;

use super::keys::{Found, Keys};
use super::lately::Lately;
use super::record;
use super::script::SCRIPTS;
use super::session::{Session, Sessions};
use super::steering;
use super::watch::{End, reported};

const SCAN_COUNT: usize = 1_000;

/// Tells what is there.
pub(super) struct Snapshot {
    pub(super) sessions: Arc<Sessions>,
    pub(super) session: Session,
    /// The server's buckets and the runs that they are in.
    pub(super) runs: Vec<(u8, Run)>,
    pub(super) lately: Lately,
    pub(super) sender: mpsc::Sender<Event>,
}

impl Snapshot {
    /// All records of these runs, and the last report of each node as far as it is kept, as if the node knew what is wanted
    /// of it.
    pub(super) async fn tell_all(self) -> Result<(), End> {
        let mut connection = self.session.connection.clone();
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
                    if let Some(beside) = Keys::steering_beside(key) {
                        pipeline.cmd("HMGET").arg(beside).arg("plan").arg("steering");
                    }
                }
                let values: Vec<Value> = pipeline.query_async(&mut connection).await.map_err(lost)?;
                let mut values = values.into_iter();
                for key in &keys {
                    let (text, ttl) = (values.next(), values.next());
                    let steered = Keys::steering_beside(key).and_then(|_| values.next());
                    let steering = steered.as_ref().and_then(steering::kept);
                    if let (Some(Value::BulkString(text)), Some(Value::Int(ttl))) = (text, ttl) {
                        self.tell(key, &String::from_utf8_lossy(&text), ttl, steering).await?;
                    }
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Tells what a key holds; of a node, with what is wanted of it. What is void is forgotten, what is broken logged.
    async fn tell(&self, key: &str, text: &str, ttl: i64, wanted: Option<Steering>) -> Result<(), End> {
        let event = match Keys::found(key) {
            Ok(Found::Room(room)) => record::parse(key, text).map(|claim| {
                let ttl_ms = u64::try_from(ttl).unwrap_or(0);
                let expected = self.lately.expected(&room, claim.epoch);
                Some(Event::Claimed { key: room, claim, ttl_ms, expected, handed_over: false })
            }),
            Ok(Found::Report) => Ok(reported(&self.sessions.dropped, text, wanted)),
            Ok(Found::Other) => Ok(None),
            Err(error) => Err(error),
        };
        match event {
            // What a slot that moves in brings along is told by the server that still has it.
            Ok(Some(Event::Claimed { key: room, .. })) if self.run(room.bucket()).is_none() => Ok(()),
            Ok(Some(Event::Claimed { key: room, claim, .. })) if self.run(room.bucket()) != Some(&claim.run) => {
                let forget = SCRIPTS.forget.call(&[&self.sessions.keys.bucket(room.bucket()).meta, key]);
                forget.query_async(&mut self.session.connection.clone()).await.map_err(lost)
            }
            Ok(Some(event)) => self.sender.send(event).await.map_err(|_| End::Unread),
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "left out of the snapshot");
                Ok(())
            }
        }
    }

    fn run(&self, bucket: u8) -> Option<&Run> {
        self.runs.iter().find(|(number, _)| *number == bucket).map(|(_, run)| run)
    }
}

fn lost(_: redis::RedisError) -> End {
    End::Lost("the connection broke")
}
