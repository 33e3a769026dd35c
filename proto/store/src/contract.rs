//! What a store does. The agent's half is apart, because an agent may have it from a scheduler instead of from Redis.

use async_trait::async_trait;
use tokio::sync::mpsc;

use roost_proto::command::Command;
use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Incarnation, NodeId, RoomKey};
use roost_proto::room::{Claim, Run};

use crate::dropped::DroppedReports;
use crate::error::StoreError;
use crate::operation::{
    Assert, Asserted, Grant, Granted, HandOver, HandedOver, Holding, Lease, Leave, Opened, Prolonged, Purged, Raise,
    Raised, Register, Registered, Released, Renew, Renewed, SchedulerEntry, Steer, Steered,
};

/// What an agent does with the shared state.
///
/// No call retries by itself, and none survives a reconnect: a call whose answer was lost is [`StoreError::Unknown`].
#[async_trait]
pub trait NodeStore: std::fmt::Debug + Send + Sync + 'static {
    /// The run of each bucket, in order, as last read from the store (rule 1). Reconnects if the connection is gone.
    async fn runs(&self) -> Result<Vec<Run>, StoreError>;

    /// An id of the store's data as a whole, which tickets carry. A wipe makes another, a restart with the data does not.
    async fn identity(&self) -> Result<String, StoreError>;

    /// Takes the node's lease.
    async fn register(&self, register: Register) -> Result<Registered, StoreError>;

    /// Renews the lease and publishes the report to all schedulers.
    async fn renew(&self, renew: Renew) -> Result<Renewed, StoreError>;

    /// Opens a granted room for its first participant.
    async fn open(&self, holding: Holding) -> Result<Opened, StoreError>;

    /// Re-asserts an open room after a lapse or a new run, or confirms that.
    async fn assert(&self, assert: Assert) -> Result<Asserted, StoreError>;

    /// Gives up a room.
    async fn release(&self, holding: Holding) -> Result<Released, StoreError>;

    /// Hands an open room over to another node, which it is granted to.
    async fn hand_over(&self, hand_over: HandOver) -> Result<HandedOver, StoreError>;

    /// Raises a bucket's epoch counter to what the caller knows of.
    async fn raise(&self, raise: Raise) -> Result<Raised, StoreError>;

    /// Ends the incarnation's lease now.
    async fn leave(&self, leave: Leave) -> Result<(), StoreError>;

    /// The commands for an incarnation, from now on. Ends when the store is lost; the caller subscribes again.
    async fn commands(&self, node: &NodeId, incarnation: Incarnation) -> Result<mpsc::Receiver<Command>, StoreError>;

    /// How long a server that was replaced by another may go on answering its clients, in ms; 0 where none is ever
    /// replaced. A grace waits for it (rules 15 and 18). Known once the store was reached.
    fn replaced_ms(&self) -> u64 {
        0
    }

    /// The living schedulers.
    async fn schedulers(&self) -> Result<Vec<SchedulerEntry>, StoreError>;
}

/// What a scheduler does besides.
#[async_trait]
pub trait Store: NodeStore {
    /// `embedded` or `redis`.
    fn kind(&self) -> &'static str;

    /// Grants a room by compare-and-set of the whole record.
    async fn grant(&self, grant: Grant) -> Result<Granted, StoreError>;

    /// Starts a granted claim's time anew.
    async fn prolong(&self, room: &RoomKey, claim: &Claim, ttl_ms: u64) -> Result<Prolonged, StoreError>;

    /// The room's record; none where it is absent, expired or of an earlier run.
    async fn read(&self, room: &RoomKey) -> Result<Option<Claim>, StoreError>;

    /// Every lease of the node that the store still knows, in this run, newest last.
    async fn leases(&self, node: &NodeId) -> Result<Vec<Lease>, StoreError>;

    /// Says what is wanted of a node. It hears of it with its next renewal; all who watch do at once.
    async fn steer(&self, steer: Steer) -> Result<Steered, StoreError>;

    /// Forgets a node whose leases are all over: its last report, and what was wanted of it. Leases stay recorded (rule 6).
    async fn purge(&self, node: &NodeId, run: &Run) -> Result<Purged, StoreError>;

    /// The store's clock.
    async fn now_ms(&self) -> Result<u64, StoreError>;

    /// All records first (as `Claimed`, and the last report of each node as far as it is kept, as if the node knew already
    /// what is wanted of it), then every change.
    ///
    /// With the record of a room that was granted lately (in Redis, in the last [`roost_proto::room::EXPECTED_TOLD_MS`]) what is expected of it is told.
    ///
    /// What happens to one room, or to one node, is told in its order. At the start a change may be told twice, or after
    /// a newer record: epochs tell which is newer.
    ///
    /// Ends when the store is lost or in a new run, or the reader fell behind; the caller watches again, from the start.
    async fn watch(&self) -> Result<mpsc::Receiver<Event>, StoreError>;

    /// As [`Self::watch`], of what can be watched at this moment: the buckets, and what happens in them. In a cluster a part
    /// of the servers may be away. Ends also when a further part can be watched.
    async fn watch_some(&self) -> Result<(Vec<u8>, mpsc::Receiver<Event>), StoreError> {
        Ok(((0..BUCKETS).collect(), self.watch().await?))
    }

    /// The reports that no watcher of this client was told of, because they cannot be used.
    fn dropped_reports(&self) -> &DroppedReports;

    /// Sends a command to a node. It may be lost with the store.
    async fn send(&self, node: &NodeId, command: Command) -> Result<(), StoreError>;

    /// Enlists this scheduler for `ttl_ms`; repeated while it lives.
    async fn enlist(&self, entry: SchedulerEntry, ttl_ms: u64) -> Result<(), StoreError>;
}
