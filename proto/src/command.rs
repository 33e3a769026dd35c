//! What a scheduler tells a node. Commands may come late, twice or not at all; each carries what makes it harmless then.

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, Incarnation, NodeId, RoomKey};

/// A command for one incarnation of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Wire version.
    #[serde(default = "crate::wire_version")]
    pub v: u16,
    /// Another incarnation drops it.
    pub incarnation: Incarnation,
    #[serde(flatten)]
    pub action: Action,
}

/// What to do. An agent drops, with a line in its log, an action that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Say everything in the next report: the scheduler missed one, or has just come.
    ReportAll,
    /// End the room if it is here in this generation.
    CloseRoom {
        #[serde(flatten)]
        key: RoomKey,
        epoch: Epoch,
    },
    /// Hand the room over to another node, if it is open here in this generation (rule 23).
    MoveRoom {
        #[serde(flatten)]
        key: RoomKey,
        epoch: Epoch,
        to: NodeId,
        /// The incarnation of that node, which may open the room.
        to_incarnation: Incarnation,
        /// Where participants connect there.
        signaling_url: String,
        /// How long the grant there waits for the first of them.
        ttl_ms: u64,
    },
    /// An action of a later version.
    #[serde(other)]
    Unknown,
}
