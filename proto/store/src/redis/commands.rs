//! The commands for one incarnation of a node.

use std::time::Duration;

use tokio::sync::mpsc;

use roost_proto::command::Command;
use roost_proto::id::{Incarnation, NodeId};

use super::session::Sessions;
use super::tail::Tail;
use crate::embedded::COMMAND_CAPACITY;
use crate::error::StoreError;

const BLOCK_MS: u64 = 3_000;

/// From now on until the connection is lost or the reader is gone or behind.
pub(super) async fn subscribe(
    sessions: &Sessions,
    node: &NodeId,
    incarnation: Incarnation,
) -> Result<mpsc::Receiver<Command>, StoreError> {
    let shards = sessions.shards().await?;
    let shard = shards.of(node.bucket())?;
    let (session, _) = sessions.separate(shard, vec![node.bucket()], Duration::from_millis(BLOCK_MS)).await?;
    let mut tail = Tail::from_now(session, vec![sessions.keys.commands(node)]).await?;
    let (sender, receiver) = mpsc::channel(COMMAND_CAPACITY);
    let node = node.clone();
    tokio::spawn(async move {
        loop {
            let entries = tokio::select! {
                entries = tail.next(BLOCK_MS) => entries,
                () = sender.closed() => return,
            };
            let Ok(entries) = entries else {
                tracing::debug!(%node, "commands end: the store was lost");
                return;
            };
            for (_, entry) in entries {
                let command = entry.get("command").map(serde_json::from_str::<Command>);
                match command {
                    Some(Ok(command)) if command.incarnation != incarnation => {}
                    Some(Ok(command)) => {
                        if sender.try_send(command).is_err() {
                            return;
                        }
                    }
                    Some(Err(error)) => tracing::warn!(%node, %error, "a command that cannot be read is dropped"),
                    None => tracing::warn!(%node, id = entry.id, "an entry without a command is dropped"),
                }
            }
        }
    });
    Ok(receiver)
}
