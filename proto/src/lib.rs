//! What Roost's processes say to each other and to their clients: identifiers, messages, error codes. No I/O.
//!
//! Every message between our own processes carries [`WIRE_VERSION`]; fields that a reader does not know are ignored,
//! so an old process understands a newer one as far as it can. The golden files in `proto/golden/` pin the format.

pub mod admin;
pub mod command;
pub mod error;
pub mod event;
pub mod explain;
pub mod geography;
pub mod hash;
pub mod id;
pub mod link;
pub mod lookup;
pub mod media;
pub mod mode;
pub mod policy;
pub mod rebalance;
pub mod redirect;
pub mod report;
pub mod room;
pub mod signaling;
pub mod steer;
pub mod time;
pub mod uplink;

/// The version that messages between our own processes carry in `v`.
pub const WIRE_VERSION: u16 = 1;

/// The default of `v` for messages that come without it.
pub(crate) fn wire_version() -> u16 {
    WIRE_VERSION
}
