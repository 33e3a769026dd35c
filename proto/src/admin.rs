//! The shapes of the admin API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Code, Reason};
use crate::explain::Standing;
use crate::id::{Incarnation, NamespaceId, NodeId};
use crate::report::{Description, Host, Mode, Worker};
use crate::steer::DrainState;

/// Whether a node can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Its reports come.
    Alive,
    /// A report is overdue; its lease still holds.
    Suspect,
    /// Its lease is over.
    Lost,
}

/// The load of each resource, in thousandths of the node's capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Load {
    pub cpu_permille: u32,
    pub memory_permille: u32,
    pub bandwidth_permille: u32,
    pub streams_permille: u32,
    pub participants_permille: u32,
    pub rooms_permille: u32,
    /// The largest of them: what placement counts.
    pub worst_permille: u32,
}

/// A node as the scheduler knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    pub id: NodeId,
    pub state: NodeState,
    pub mode: Mode,
    pub incarnation: Incarnation,
    #[serde(flatten)]
    pub description: Description,
    pub load: Load,
    /// What its rooms are expected to bring beyond what is reported of them, in thousandths of its capacity.
    #[serde(default)]
    pub reserved_permille: u32,
    /// How far placement counts on it.
    #[serde(default)]
    pub standing: Standing,
    /// Numbers in its last report that cannot be, each with its field and what was expected: it is ranked as full, after
    /// all others that are alive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distrusted: Vec<String>,
    pub rooms: u32,
    pub participants: u32,
    pub streams: u32,
    pub workers: Vec<Worker>,
    pub host: Host,
    /// How long ago its last report came.
    pub report_age_ms: u64,
    /// Its last drain, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainView>,
}

/// What an operator lets a node take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModeRequest {
    pub mode: Mode,
}

/// How a node is to be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DrainRequest {
    /// How many seconds rooms have to end by themselves: 0 to 2592000 (30 days).
    pub deadline_s: u64,
    /// Rooms are moved at once, not only at the deadline.
    #[serde(rename = "move")]
    pub move_rooms: bool,
}

/// The longest time that a drain may give, in seconds.
pub const MOST_DEADLINE_S: u64 = 30 * 24 * 3_600;

impl Default for DrainRequest {
    fn default() -> Self {
        Self { deadline_s: 600, move_rooms: false }
    }
}

/// How far a drain has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainView {
    pub state: DrainState,
    /// Rooms that are open on the node, by its last report or the store's word, whichever says more; of a lost node by the
    /// store's.
    pub rooms_left: u32,
    pub participants_left: u32,
    /// How many seconds are left until the rest is moved.
    pub deadline_s: u64,
    #[serde(rename = "move", default)]
    pub move_rooms: bool,
    /// It is finished because the node was lost: what rooms it had were taken over, or ended. The node hears of it if it comes
    /// back.
    #[serde(default)]
    pub lost: bool,
    /// Which of the rooms would stay if they were to be moved at this moment, and why; empty if all would go. Only while it
    /// runs, and only where one drain is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<Vec<StuckRooms>>,
}

/// Rooms that cannot be moved at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StuckRooms {
    /// With what an order to move one of them would be answered: `no_node`, `starting`, `store_unavailable`.
    pub code: Code,
    pub rooms: u32,
    /// With `no_node`, why: how many of these rooms some node refused for that reason, the one that is drained aside. If
    /// that one is lost, `not_alive`: nobody is there to give the rooms up. None if there is no other node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<Reason, u32>,
}

/// A scheduler of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchedulerView {
    pub id: String,
    /// Where agents reach its cluster listener.
    pub cluster_url: String,
    pub version: String,
}

/// The store as this scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreView {
    /// `embedded` or `redis`.
    pub kind: String,
    pub reachable: bool,
}

/// How many nodes are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct NodeCounts {
    pub alive: u32,
    pub suspect: u32,
    pub lost: u32,
    /// In maintenance: whether they can be reached does not matter, and they are none of the others.
    #[serde(default)]
    pub maintenance: u32,
}

/// The cluster at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterView {
    /// The scheduler that answers.
    pub scheduler: String,
    pub version: String,
    pub ready: bool,
    pub schedulers: Vec<SchedulerView>,
    pub store: StoreView,
    pub nodes: NodeCounts,
    pub rooms: u32,
    pub participants: u32,
    /// How long the grace still runs; absent when none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_left_ms: Option<u64>,
    /// How long the brake still holds at most, because too many nodes fell silent together; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brake_left_ms: Option<u64>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// What to pass as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Where a room is to move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoveRequest {
    /// Absent: placement chooses, beside the room's home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
}

/// How a list of rooms is cut.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomFilter {
    pub namespace: Option<NamespaceId>,
    pub node: Option<NodeId>,
}
