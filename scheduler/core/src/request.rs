//! What a lookup asks of the core.

use roost_proto::id::{Carrier, NodeId, Region, RoomKey};
use roost_proto::policy::Policy;

/// A lookup, as far as it bears on the decision.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub key: &'a RoomKey,
    /// What holds for the room's namespace.
    pub policy: &'a Policy,
    /// Where the client is; none: unknown, all regions are as good.
    pub region: Option<&'a Region>,
    /// Who carries the client; none: unknown, all carriers are as good.
    pub carrier: Option<&'a Carrier>,
    /// How many participants the caller expects; none: it doesn't say.
    pub hint: Option<u32>,
    /// Nodes that the room must not go to if it is not open.
    pub avoid: &'a [NodeId],
    /// How many further nodes to name.
    pub alternatives: usize,
    /// Spreads rooms over equal nodes; the same on all schedulers of a cluster.
    pub seed: u64,
}

impl<'a> Request<'a> {
    /// A lookup by somebody of whom nothing is known, who asks for nothing more than the room.
    #[must_use]
    pub fn new(key: &'a RoomKey, policy: &'a Policy) -> Self {
        Self { key, policy, region: None, carrier: None, hint: None, avoid: &[], alternatives: 0, seed: 0 }
    }
}
