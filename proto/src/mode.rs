//! The modes of a node: what it takes in each. The one table that placement and the door go by.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an operator lets a node take. Sessions go on in every mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Serving,
    BlockNewRooms,
    BlockNewParticipants,
    /// Its rooms are to end or to move; then it is in maintenance.
    Draining,
    Maintenance,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    new_rooms: bool,
    new_participants: bool,
    counts: bool,
}

impl Mode {
    /// All modes, in the table's order.
    pub const ALL: [Self; 5] =
        [Self::Serving, Self::BlockNewRooms, Self::BlockNewParticipants, Self::Draining, Self::Maintenance];

    const fn row(self) -> Row {
        let (new_rooms, new_participants, counts) = match self {
            Self::Serving => (true, true, true),
            Self::BlockNewRooms | Self::Draining => (false, true, true),
            Self::BlockNewParticipants => (false, false, true),
            Self::Maintenance => (false, false, false),
        };
        Row { new_rooms, new_participants, counts }
    }

    /// Whether rooms may be placed on the node, and granted ones opened there.
    #[must_use]
    pub const fn takes_rooms(self) -> bool {
        self.row().new_rooms
    }

    /// Whether somebody who is not inside yet may join a room that is open on the node.
    #[must_use]
    pub const fn takes_participants(self) -> bool {
        self.row().new_participants
    }

    /// Whether the node counts as capacity, and its silence as trouble.
    #[must_use]
    pub const fn counts(self) -> bool {
        self.row().counts
    }

    /// The mode as it is written on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::BlockNewRooms => "block_new_rooms",
            Self::BlockNewParticipants => "block_new_participants",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_written_in_json_as_it_calls_itself() {
        for mode in Mode::ALL {
            assert_eq!(serde_json::to_string(&mode).expect("a string"), format!("\"{}\"", mode.as_str()));
        }
    }
}
