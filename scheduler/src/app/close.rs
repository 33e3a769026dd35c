//! Closes a room: its holder is told to, and gives it up (rule 23). Done when this scheduler has heard of that.

use std::time::Duration;

use roost_proto::command::Action;
use roost_proto::error::{Code, Problem};
use roost_proto::id::RoomKey;
use roost_proto::room::RoomView;

use super::Scheduler;

/// How long it may take. A node that asks the store again needs some seconds.
const CLOSED_WITHIN_MS: u64 = 8_000;
/// A command may be lost; twice it does no harm.
const TOLD_AGAIN_MS: u64 = 1_000;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Scheduler {
    /// Ends the room, be it open or only granted. Gives it as it was before.
    pub(crate) async fn close_room(&self, key: &RoomKey) -> Result<RoomView, Problem> {
        let closed = self.read_room(key)?;
        let began = self.clock.now();
        let mut told = None;
        loop {
            let now = self.clock.now();
            let holder = {
                let view = self.view();
                let room = view.room(key, now).filter(|room| room.epoch <= closed.epoch);
                room.map(|room| (room.node.clone(), room.incarnation, room.epoch))
            };
            let Some((node, incarnation, epoch)) = holder else {
                tracing::info!(room = %key, node = %closed.node, epoch = %closed.epoch, "a room was closed by the operator");
                return Ok(closed);
            };
            if now.since(began) >= CLOSED_WITHIN_MS {
                let detail = format!("room {:?}: node {node} has not closed it yet", key.room);
                return Err(Problem::new(Code::Unfinished, detail));
            }
            if told.is_none_or(|told| now.since(told) >= TOLD_AGAIN_MS) {
                self.command(&node, incarnation, Action::CloseRoom { key: key.clone(), epoch }).await;
                told = Some(now);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
