//! What a node says about itself, once a second.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{Carrier, Epoch, Incarnation, NamespaceId, NodeId, Region, RoomKey};

/// What a node takes (DESIGN section 4 has the table).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Serving,
    BlockNewRooms,
    BlockNewParticipants,
    Draining,
    Maintenance,
}

/// What is behind the agent's media trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// Real mediasoup workers that the agent starts.
    Mediasoup,
    /// A media server of the operator's own.
    External,
    /// Made-up media, for tests and simulation.
    Synthetic,
}

/// What a node says about itself. Totals and description are complete in each report; rooms are only those that
/// changed since the report before, unless `full`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Wire version.
    #[serde(default = "crate::wire_version")]
    pub v: u16,
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// Grows by one with each report of an incarnation. After a gap the scheduler asks for a full one.
    pub seq: u64,
    /// Length of the lease that is renewed with the report.
    pub lease_ms: u64,
    pub description: Description,
    pub mode: Mode,
    pub host: Host,
    pub workers: Vec<Worker>,
    /// Totals over all rooms.
    pub rooms: u32,
    pub participants: u32,
    /// Producers and consumers of media.
    pub streams: u32,
    /// `changed` holds every open room; what it does not hold is not open here.
    #[serde(default)]
    pub full: bool,
    #[serde(default)]
    pub changed: Vec<RoomReport>,
    /// Rooms that ended here since the report before.
    #[serde(default)]
    pub ended: Vec<EndedRoom>,
}

/// What does not change while an agent runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Description {
    pub region: Region,
    /// None: all carriers.
    #[serde(default)]
    pub carriers: Vec<Carrier>,
    /// None: all namespaces.
    #[serde(default)]
    pub namespaces: Vec<NamespaceId>,
    /// Among equally suited nodes the one with the higher priority is taken first.
    #[serde(default)]
    pub priority: i32,
    /// Where participants connect: `wss://fra-1.example/signaling`.
    pub signaling_url: String,
    /// Where other agents and the schedulers' watch connections connect.
    pub link_url: String,
    pub media: MediaKind,
    pub capacity: Capacity,
    /// The node leaves the list at once when it stops or its lease lapses.
    #[serde(default)]
    pub temporary: bool,
    /// The agent's software version.
    pub version: String,
}

/// The most a node takes; 0 means no limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Capacity {
    pub participants: u32,
    pub rooms: u32,
    pub streams: u32,
    /// Bits per second, each way.
    pub bandwidth_bps: u64,
    /// Thousandths of all CPU that the machine or cgroup has.
    #[serde(default)]
    pub cpu_permille: u32,
    /// Thousandths of all memory that the machine or cgroup has.
    #[serde(default)]
    pub memory_permille: u32,
}

/// The machine or its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Share of all CPUs that the machine or cgroup may use, in thousandths.
    pub cpu_permille: u32,
    pub cpus: u32,
    pub memory_used_bytes: u64,
    pub memory_total_bytes: u64,
    pub network_rx_bps: u64,
    pub network_tx_bps: u64,
    pub disk_used_bytes: u64,
    pub disk_total_bytes: u64,
}

/// Whether a media worker can take rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    Starting,
    Up,
    /// Ended unasked; started again after a pause.
    Down,
}

/// One media worker: one process, one core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    pub index: u16,
    pub state: WorkerState,
    /// How often it was started again.
    pub restarts: u32,
    /// Share of one core, in thousandths.
    pub cpu_permille: u32,
    pub memory_bytes: u64,
    pub rooms: u32,
    pub participants: u32,
    pub producers: u32,
    pub consumers: u32,
}

/// One open room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomReport {
    #[serde(flatten)]
    pub key: RoomKey,
    pub epoch: Epoch,
    pub worker: u16,
    /// Peers that joined.
    pub participants: u32,
    pub producers: u32,
    pub consumers: u32,
}

/// A room that is no longer open on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRoom {
    #[serde(flatten)]
    pub key: RoomKey,
    pub epoch: Epoch,
}
