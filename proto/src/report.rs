//! What a node says about itself, once a second.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{Carrier, Epoch, Incarnation, NUMBER_LIMIT, NamespaceId, NodeId, Region, RoomKey};
use crate::steer::Steering;

pub use crate::mode::Mode;

/// A whole, in thousandths.
pub const ALL_PERMILLE: u32 = 1_000;
/// The most participants, producers or consumers that one room can have.
pub const MOST_IN_ROOM: u32 = 1_000_000;
/// The most traffic that one machine can have, in bits per second each way.
pub const MOST_NETWORK_BPS: u64 = 10_000_000_000_000;

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
    /// What the node takes in effect: `draining` too while it leaves.
    pub mode: Mode,
    /// The plan by which it acts; none where no operator ever wanted anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steering: Option<Steering>,
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
///
/// The load of a resource is what is used of it, in thousandths of what stands here:
///
/// | resource | what is used | of what |
/// |---|---|---|
/// | participants | peers that joined and are not gone, by the last report | `participants` |
/// | rooms | rooms that are open or being opened, by the last report | `rooms` |
/// | streams | producers and consumers of media, by the last report | `streams` |
/// | bandwidth | the larger of [`Host::network_rx_bps`] and [`Host::network_tx_bps`] | `bandwidth_bps` |
/// | CPU | [`Host::cpu_permille`] | all that [`Host`] may use |
/// | memory | [`Host::memory_used_bytes`] | [`Host::memory_total_bytes`] |
///
/// Counts are exact. What is measured of the host is smoothed, once and by the node, so that all schedulers see the same.
/// `cpu_permille` and `memory_permille` are no whole but marks: a node that has reached one takes nothing new.
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

/// The machine, or the cgroup around the agent whose limit is the tightest.
///
/// CPU, memory and network are smoothed over time: a rise goes 63 % (1 - 1/e) of its way in 1 s, a fall in 10 s, however
/// often samples are taken. Until two samples were taken, rates are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// CPU time used since the sample before (1 s, as a rule), as a share of all CPUs that the machine or cgroup may use,
    /// in thousandths. Of a machine, time that its hypervisor gave to others counts as used; waiting for disks does not.
    pub cpu_permille: u32,
    /// How many CPUs that is, rounded up.
    pub cpus: u32,
    /// The working set. Of a cgroup: what is charged to it less the inactive file cache; of a machine: its total less what
    /// is available. The kernel drops page cache when it needs to, so cache is no load.
    pub memory_used_bytes: u64,
    /// The cgroup's limit, or all of the machine's memory.
    pub memory_total_bytes: u64,
    /// Bits received per second since the sample before, on the network interfaces of the agent's network namespace.
    /// Loopback does not count, nor what is counted on another interface as well.
    pub network_rx_bps: u64,
    /// Bits sent per second, likewise.
    pub network_tx_bps: u64,
    /// Of the file system at `/`; not smoothed, and no load.
    pub disk_used_bytes: u64,
    pub disk_total_bytes: u64,
}

/// A number with which a report cannot be used at all: nothing could follow it, or be counted beside it.
///
/// Numbers that are only unlikely are another matter: a node that tells them is known, but not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value}: expected at most {most}")]
pub struct Impossible {
    pub field: &'static str,
    pub value: u64,
    pub most: u64,
}

impl Report {
    /// Whether the report can be used. Names the first number that is in the way.
    pub fn check(&self) -> Result<(), Impossible> {
        let epochs = self.changed.iter().map(|room| room.epoch).chain(self.ended.iter().map(|room| room.epoch));
        let deadline = self.steering.and_then(|steering| steering.drain).map_or(0, |drain| drain.deadline_store_ms);
        let own =
            [("incarnation", self.incarnation.0), ("seq", self.seq), ("plan", self.plan()), ("deadline", deadline)];
        let ordered = own.into_iter();
        let ordered = ordered.chain(epochs.map(|epoch| ("epoch", epoch.0)));
        let counted = self.changed.iter().flat_map(|room| {
            [("participants", room.participants), ("producers", room.producers), ("consumers", room.consumers)]
        });
        let numbers = ordered.map(|(field, value)| (field, value, NUMBER_LIMIT - 1));
        let mut numbers = numbers.chain(counted.map(|(field, value)| (field, value.into(), MOST_IN_ROOM.into())));
        let impossible = numbers.find(|(_, value, most)| value > most);
        impossible.map_or(Ok(()), |(field, value, most)| Err(Impossible { field, value, most }))
    }
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

impl RoomReport {
    /// Producers and consumers of media.
    #[must_use]
    pub fn streams(&self) -> u32 {
        self.producers.saturating_add(self.consumers)
    }
}

/// A room that is no longer open on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRoom {
    #[serde(flatten)]
    pub key: RoomKey,
    pub epoch: Epoch,
}
