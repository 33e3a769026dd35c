//! The dry run of a lookup: what it would give, and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Code, ReasonCount, Rejection};
use crate::id::{NamespaceId, NodeId, RoomName};
use crate::lookup::{Client, LookupRequest, Outcome};
use crate::policy::Rung;

/// The body of `POST /v1/explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainRequest {
    pub namespace: NamespaceId,
    pub room: RoomName,
    #[serde(flatten)]
    pub lookup: LookupRequest,
}

/// How a node ranks for a room; the fields decide in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    pub node: NodeId,
    pub standing: Standing,
    pub rung: Rung,
    /// How many labels of the client's region the node's region lacks.
    pub region_missing: u8,
    /// Whether the node is on another carrier than the client.
    pub other_carrier: bool,
    pub priority: i32,
    /// The load with reservations, in steps of eight thousandths of the capacity.
    pub load_band: u8,
    /// How far the node is, on the ring of all nodes, from the nearest of the points where the room falls: decides among
    /// equals.
    pub spread: u64,
    /// What the band is made of: the worst resource, and what is reserved on top, in thousandths of the capacity. On a node
    /// that has just come a reservation counts up to ten times.
    pub load_permille: u32,
    pub reserved_permille: u32,
}

/// How far a node is to be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    #[default]
    Sound,
    /// It came back several times within minutes.
    Unsteady,
    /// It reports numbers that cannot be.
    Distrusted,
    /// A report is overdue.
    Suspect,
}

impl Standing {
    /// The standing as it is written on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Unsteady => "unsteady",
            Self::Distrusted => "distrusted",
            Self::Suspect => "suspect",
        }
    }
}

/// The answer: what a lookup would give now. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainReply {
    pub namespace: NamespaceId,
    pub room: RoomName,
    /// Absent when the lookup would be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why the lookup would be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// How near the node is to the client; absent for a room that lives already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rung: Option<Rung>,
    /// How many participants the room would be counted as.
    pub expected_participants: u32,
    pub client: Client,
    /// Nodes that could take the room, best first; this page of them.
    pub candidates: Vec<Candidate>,
    /// Nodes that could not, by name; this page of them.
    pub rejections: Vec<Rejection>,
    /// Over all pages.
    pub candidate_count: u32,
    pub rejection_counts: Vec<ReasonCount>,
    /// What to pass as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
