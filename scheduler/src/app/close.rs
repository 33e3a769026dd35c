//! Closes a room: its holder is told to, and gives it up (rule 23). Done when this scheduler has heard of that.

use roost_proto::admin::NodeState;
use roost_proto::command::Action;
use roost_proto::error::{Code, Problem, Reason};
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::room::{ClaimState, RoomView};
use roost_scheduler_core::place::NoNode;
use roost_scheduler_core::room::Room;

use super::Scheduler;
use super::urging::Urging;
use crate::error::no_node;

/// A room in one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Generation {
    node: NodeId,
    incarnation: Incarnation,
    epoch: Epoch,
    state: ClaimState,
}

/// What has become of a room that is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is over, though another of the same name may have begun.
    Over,
    Same,
    /// It goes on, or may go on, in another generation.
    Goes,
}

impl Scheduler {
    /// Ends the room, be it open or only granted. Gives it as it was before.
    pub(crate) async fn close_room(&self, key: &RoomKey) -> Result<RoomView, Problem> {
        let before = self.room(key)?;
        // Gone in between: that is all that was wanted.
        let Some((mut closed, mut wanted)) = self.generation(key) else { return Ok(before) };
        self.can_hear(&wanted)?;
        // In a grace a room that is not known may be one that its holder has yet to tell of.
        let is_grace = |now| self.view().grace_left_ms(key.bucket(), now) > 0;
        let (mut urging, mut is_followed) = (Urging::new(self.clock.now()), false);
        loop {
            let now = self.clock.now();
            let current = self.generation(key);
            match (wanted.fate(current.as_ref().map(|(_, current)| current)), current) {
                (_, None) if is_grace(now) => return Err(unfinished(&closed, "may have it, and has yet to say so")),
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
            Urging::pause().await;
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

impl Generation {
    fn of(room: &Room<'_>) -> Self {
        Self { node: room.node.clone(), incarnation: room.incarnation, epoch: room.epoch, state: room.state }
    }

    /// What has become of the room by what is there of its name.
    fn fate(&self, current: Option<&Self>) -> Fate {
        let Some(current) = current else { return Fate::Over };
        let is_there = (&current.node, current.incarnation) == (&self.node, self.incarnation);
        match current.state {
            _ if current.epoch <= self.epoch => Fate::Same,
            // Nobody grants a room to whoever has it (rule 3): it was given up.
            ClaimState::Granted if is_there => Fate::Over,
            // Handed over, taken over or begun anew; asserted anew (rules 9 and 18).
            ClaimState::Granted | ClaimState::Open => Fate::Goes,
        }
    }
}

fn unfinished(room: &RoomView, what: &str) -> Problem {
    let RoomView { room, node, epoch, .. } = room;
    Problem::new(Code::Unfinished, format!("room {room:?}: node {node} {what} (epoch {epoch})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ClaimState::{Granted, Open};

    #[test]
    fn a_room_is_over_only_when_nobody_can_be_in_it_any_more() {
        for (current, fate) in [
            (None, Fate::Over),
            (Some(("a", 1, 7, Open)), Fate::Same),
            (Some(("a", 1, 8, Granted)), Fate::Over),
            (Some(("a", 1, 8, Open)), Fate::Goes),
            (Some(("a", 2, 8, Open)), Fate::Goes),
            (Some(("a", 2, 8, Granted)), Fate::Goes),
            (Some(("b", 1, 8, Granted)), Fate::Goes),
            (Some(("b", 1, 8, Open)), Fate::Goes),
        ] {
            let now = current.map(generation);
            assert_eq!(generation(("a", 1, 7, Open)).fate(now.as_ref()), fate, "{current:?}");
        }
    }

    fn generation((node, incarnation, epoch, state): (&str, u64, u64, ClaimState)) -> Generation {
        let node = NodeId::new(node).unwrap();
        Generation { node, incarnation: Incarnation(incarnation), epoch: Epoch(epoch), state }
    }
}
