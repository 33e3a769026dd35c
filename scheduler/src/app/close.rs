//! Closes a room: its holder is told to, and gives it up (rule 23). Done when this scheduler has heard of that.

use roost_proto::admin::NodeState;
use roost_proto::command::Action;
use roost_proto::error::{Code, Problem, Reason};
use roost_proto::id::RoomKey;
use roost_proto::room::{ClaimState, RoomView};
use roost_scheduler_core::close::{Fate, Generation};
use roost_scheduler_core::place::NoNode;
use roost_scheduler_core::urging::Urging;

use super::{Scheduler, URGING_PAUSE};
use crate::error::no_node;

impl Scheduler {
    /// Ends the room, be it open or only granted. Gives it as it was before.
    pub(crate) async fn close_room(&self, key: &RoomKey) -> Result<RoomView, Problem> {
        let before = self.room(key)?;
        // Gone in between: that is all that was wanted.
        let Some((mut closed, mut wanted)) = self.generation(key) else { return Ok(before) };
        self.can_hear(&wanted)?;
        // In a grace a room that is not known may be one that its holder has yet to tell of, and so after it.
        let mut was_grace = false;
        let (mut urging, mut is_followed) = (Urging::new(self.clock.now()), false);
        loop {
            let now = self.clock.now();
            was_grace |= self.view().grace_left_ms(key.bucket(), now) > 0;
            let current = self.generation(key);
            match (wanted.fate(current.as_ref().map(|(_, current)| current)), current) {
                (_, None) if was_grace => return Err(unfinished(&closed, "may have it, and has yet to say so")),
                (Fate::Over, _) | (_, None) => {
                    tracing::info!(room = %key, node = %closed.node, epoch = %closed.epoch, "a room was closed by the operator");
                    return Ok(closed);
                }
                (Fate::Goes, Some((room, current))) if current.state == ClaimState::Open && !is_followed => {
                    (closed, wanted, is_followed) = (room, current, true);
                    urging.turn();
                }
                (Fate::Goes, Some((room, _))) => return Err(unfinished(&room, "has it by now, in another generation")),
                (Fate::Same, _) => {}
            }
            if urging.is_late(now) {
                return Err(unfinished(&closed, "has not closed it yet"));
            }
            if urging.is_due(now) {
                let action = Action::CloseRoom { key: key.clone(), epoch: wanted.epoch };
                self.command(&wanted.node, wanted.incarnation, action).await;
            }
            tokio::time::sleep(URGING_PAUSE).await;
        }
    }

    fn generation(&self, key: &RoomKey) -> Option<(RoomView, Generation)> {
        self.view().room(key, self.clock.now()).map(|room| (room.view(key), Generation::of(&room)))
    }

    /// Refuses where nobody would hear it.
    fn can_hear(&self, room: &Generation) -> Result<(), Problem> {
        let view = self.view();
        match view.node(&room.node) {
            Some(holder) if view.state(holder, self.clock.now()) == NodeState::Lost => {
                Err(no_node(NoNode::of(holder, Reason::NotAlive)))
            }
            _ => Ok(()),
        }
    }
}

fn unfinished(room: &RoomView, what: &str) -> Problem {
    let RoomView { room, node, epoch, .. } = room;
    Problem::new(Code::Unfinished, format!("room {room:?}: node {node} {what} (epoch {epoch})"))
}
