//! What a lookup asks of the core.

use roost_proto::id::{NodeId, Region, RoomKey};

/// A lookup, as far as it bears on the decision.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub key: &'a RoomKey,
    /// Where the client is; none: unknown, all regions are as good.
    pub region: Option<&'a Region>,
    /// Nodes that the room must not go to if it is not open.
    pub avoid: &'a [NodeId],
    /// How many further nodes to name.
    pub alternatives: usize,
    /// The most participants that the namespace allows in one room; 0: no limit.
    pub most_participants: u32,
    /// Spreads rooms over equal nodes; the same on all schedulers of a cluster.
    pub seed: u64,
}

/// The most nodes that a lookup may avoid.
pub const MOST_AVOIDED: usize = 16;
/// The most alternatives that a lookup may ask for.
pub const MOST_ALTERNATIVES: usize = 8;
