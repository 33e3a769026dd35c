//! The lookup: where does this room live, for this client?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{Carrier, Epoch, NamespaceId, NodeId, Region, RequestId, RoomName, UserId};

/// The most nodes that a lookup may avoid.
pub const MOST_AVOIDED: usize = 16;
/// The most alternatives that a lookup may ask for.
pub const MOST_ALTERNATIVES: usize = 8;
/// The most participants that a caller may expect in one room.
pub const MOST_EXPECTED: u32 = 10_000;

/// The body of a lookup; every field, and the body itself, may be absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct LookupRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Counts only with an API key, on the cluster listener, or with `--dev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// Counts only with an API key, on the cluster listener, or with `--dev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    /// Counts only with an API key, on the cluster listener, or with `--dev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub client_ip: Option<std::net::IpAddr>,
    /// 1 to 10000. Ranks, never refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_participants: Option<u32>,
    /// Nodes that the room must not go to if it is not open: 16 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<NodeId>,
    /// How many further nodes to name: 8 at most.
    #[serde(default)]
    pub alternatives: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
}

/// How the room got its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// This lookup placed it.
    Placed,
    /// It was there already.
    Existing,
    /// The node is a further one of a room whose home is elsewhere.
    Edge,
}

/// The answer to a lookup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LookupReply {
    pub namespace: NamespaceId,
    pub room: RoomName,
    pub outcome: Outcome,
    pub node: NodeAddress,
    pub epoch: Epoch,
    /// Proves the lookup at the node's door, for 10 minutes and any number of connections while the claim lives.
    pub ticket: String,
    /// How long the claim is kept for the first participant; each lookup prolongs it.
    pub ttl_ms: u64,
    pub client: Client,
    /// What `avoid` with this node would give next; only when asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
}

/// A node and where participants connect to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeAddress {
    pub id: NodeId,
    pub region: Region,
    pub signaling_url: String,
}

/// A node that would take the room if the first did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alternative {
    pub id: NodeId,
    pub signaling_url: String,
}

/// The client as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Client {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ip: Option<std::net::IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
}
