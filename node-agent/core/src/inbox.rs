//! Commands from schedulers: which of them this agent obeys. They may come late, twice, or from a later version.

use roost_proto::command::{Action, Command};
use roost_proto::id::{Epoch, Incarnation, RoomKey};

use crate::hold::Target;

/// What a command asks for, if it is obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Todo {
    /// Say everything in the next report.
    ReportAll,
    /// End the room, if it is here in this generation.
    Close { room: RoomKey, epoch: Epoch },
    /// Hand the room over, if it is open here in this generation.
    Move { room: RoomKey, epoch: Epoch, to: Target },
}

/// Why a command is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    #[error("it is for incarnation {meant}, this is another one")]
    OtherIncarnation { meant: Incarnation },
    #[error("its action is not known in this version")]
    UnknownAction,
}

/// What to do upon `command`, under the incarnation that the node has.
pub fn read(command: &Command, current: Option<Incarnation>) -> Result<Todo, Dropped> {
    if current != Some(command.incarnation) {
        return Err(Dropped::OtherIncarnation { meant: command.incarnation });
    }
    match &command.action {
        Action::ReportAll => Ok(Todo::ReportAll),
        Action::CloseRoom { key, epoch } => Ok(Todo::Close { room: key.clone(), epoch: *epoch }),
        Action::MoveRoom { key, epoch, to, to_incarnation, signaling_url, ttl_ms } => {
            let (node, incarnation) = (to.clone(), *to_incarnation);
            let to = Target { node, incarnation, signaling_url: signaling_url.clone(), ttl_ms: *ttl_ms };
            Ok(Todo::Move { room: key.clone(), epoch: *epoch, to })
        }
        Action::Unknown => Err(Dropped::UnknownAction),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_counts_for_the_incarnation_that_it_names_only() {
        let command = Command { v: 1, incarnation: Incarnation(7), action: Action::ReportAll };
        assert_eq!(read(&command, Some(Incarnation(7))), Ok(Todo::ReportAll));
        for current in [None, Some(Incarnation(6)), Some(Incarnation(8))] {
            assert_eq!(read(&command, current), Err(Dropped::OtherIncarnation { meant: Incarnation(7) }));
        }
    }

    #[test]
    fn an_action_of_a_later_version_is_dropped() {
        let command = Command { v: 9, incarnation: Incarnation(7), action: Action::Unknown };
        assert_eq!(read(&command, Some(Incarnation(7))), Err(Dropped::UnknownAction));
    }

    #[test]
    fn a_room_is_closed_in_the_generation_that_was_meant() {
        let room = RoomKey::new("default", "standup").expect("valid");
        let action = Action::CloseRoom { key: room.clone(), epoch: Epoch(3) };
        let command = Command { v: 1, incarnation: Incarnation(7), action };
        assert_eq!(read(&command, Some(Incarnation(7))), Ok(Todo::Close { room, epoch: Epoch(3) }));
    }
}
