//! Moves of living rooms off nodes whose load stands above the others': proposed, and made when the operator says so.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Code;
use crate::id::{NamespaceId, NodeId, RoomName};

/// What a plan may come to unless it is said.
pub const ROOMS: u32 = 20;
/// The same of participants, who are all redirected.
pub const PARTICIPANTS: u32 = 200;
/// The most rooms that may be said.
pub const MOST_ROOMS: u32 = 200;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RebalanceRequest {
    /// Makes the moves. Else they are only proposed.
    pub apply: bool,
    /// At most so many rooms, 1 to [`MOST_ROOMS`].
    pub max_rooms: u32,
    /// At most so many participants in all of them.
    pub max_participants: u32,
}

impl Default for RebalanceRequest {
    fn default() -> Self {
        Self { apply: false, max_rooms: ROOMS, max_participants: PARTICIPANTS }
    }
}

/// The plan, in the order of its moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebalanceReply {
    /// Whether the moves were made, as far as each could be.
    pub applied: bool,
    pub moves: Vec<RebalanceMove>,
}

/// One move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebalanceMove {
    pub namespace: NamespaceId,
    pub room: RoomName,
    pub from: NodeId,
    pub to: NodeId,
    pub participants: u32,
    /// Load of the node that gives the room, with what is reserved on it, in thousandths: before this move and after it.
    pub from_permille: [u32; 2],
    /// The same of the node that takes it.
    pub to_permille: [u32; 2],
    /// Why it was not made; absent if it was, or if nothing was to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Code>,
}
