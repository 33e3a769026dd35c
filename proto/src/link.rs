//! What is said on an agent's link listener.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, NodeId};

/// With this header a scheduler that keeps the shared state in its own memory names that store, where it connects to an
/// agent's link listener and where it answers an agent that connects to it. A cluster has one such scheduler.
pub const OWN_STORE_HEADER: &str = "x-roost-own-store";

/// What an agent says on a watch connection (`GET /v1/watch`, a WebSocket, one text frame of JSON each): as soon as it has
/// an incarnation, and whenever that is another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acting {
    /// Wire version.
    #[serde(default = "crate::wire_version")]
    pub v: u16,
    pub node: NodeId,
    /// Under which it acts from here on.
    pub incarnation: Incarnation,
    /// The agent's end of this connection, as its own process sees it. Only where that is what was dialled does a refusal
    /// of the next connection prove that the process is dead: anything between may refuse for reasons of its own.
    pub address: SocketAddr,
}
