//! What schedulers learn from the shared store, within milliseconds, and fold into their view.

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, Incarnation, NodeId, RoomKey};
use crate::report::Report;
use crate::room::{Claim, Expected};
use crate::steer::Steering;

/// One change of the shared state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A room was granted, prolonged, opened or asserted. `ttl_ms` is how long a grant holds from when it was written.
    Claimed {
        #[serde(flatten)]
        key: RoomKey,
        claim: Claim,
        #[serde(default)]
        ttl_ms: u64,
        /// Told with the grant only; else nothing, which changes nothing.
        #[serde(default)]
        expected: Expected,
        /// Its holder has handed it over (`ownership.md` rule 23). Told with that grant only.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        handed_over: bool,
    },
    /// The room's claim is gone.
    Released {
        #[serde(flatten)]
        key: RoomKey,
        epoch: Epoch,
    },
    /// A node renewed its lease and said what it does. Boxed: it is by far the largest.
    Reported(Box<Report>),
    /// A node ended its incarnation itself (an agent that stops).
    Left { node: NodeId, incarnation: Incarnation },
    /// An operator wants something else of a node, or a drain has got on.
    Steered { node: NodeId, steering: Steering },
    /// An operator purged a lost node.
    Purged { node: NodeId },
}
