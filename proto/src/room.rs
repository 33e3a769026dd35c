//! A room's claim: who owns it, in which generation.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{Epoch, Incarnation, NamespaceId, NodeId, RoomKey, RoomName};

/// How far a claim has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimState {
    /// Given by a lookup; expires unless the node opens the room.
    Granted,
    /// Opened by the node for its first participant; lives as long as the node's lease.
    Open,
}

/// One life of a bucket's data: every start, restore, wipe and fail-over of the store begins a new one.
///
/// Opaque; equal runs are the same life (`ownership.md` rule 1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Run(pub std::sync::Arc<str>);

/// The recorded ownership of a room: the whole record that a compare-and-set compares (`ownership.md` rule 3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    pub run: Run,
    pub epoch: Epoch,
    pub state: ClaimState,
    pub node: NodeId,
    pub incarnation: Incarnation,
}

/// How large a room is expected to get. It ranks nodes and never refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Expected {
    /// Participants that the room is counted as until they have come; 0: nothing is said.
    pub participants: u32,
    /// What the caller of the lookup expected; 0: it said nothing.
    #[serde(default)]
    pub hint: u32,
    /// How many ms ago that was said; 0: it is news.
    #[serde(default, skip_serializing_if = "is_news")]
    pub age_ms: u64,
}

/// How long ago something may have been said that is told once more to whoever begins to watch.
pub const EXPECTED_TOLD_MS: u64 = 180_000;

fn is_news(age_ms: &u64) -> bool {
    *age_ms == 0
}

/// A room as the APIs show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoomView {
    pub namespace: NamespaceId,
    pub room: RoomName,
    /// `granted` or `open`.
    pub state: ClaimState,
    /// The room's home.
    pub node: NodeId,
    /// The media worker on that node; absent until the room is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<u16>,
    pub epoch: Epoch,
    /// Peers that joined.
    pub participants: u32,
    /// Further nodes that serve participants of the room.
    pub edges: Vec<NodeId>,
}

impl RoomView {
    /// The room's key.
    #[must_use]
    pub fn key(&self) -> RoomKey {
        RoomKey { namespace: self.namespace.clone(), room: self.room.clone() }
    }
}
