//! The agent's side of the store over a WebSocket to the scheduler's cluster listener (`/v1/agent`), for clusters
//! without Redis. Requests carry an id and are answered in any order; commands come unasked.

use serde::{Deserialize, Serialize};

use crate::command::Command;

/// Agent to scheduler. `op` is one operation of the store's agent half, as roost-store writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UplinkRequest<Op> {
    /// Wire version.
    #[serde(default = "crate::wire_version")]
    pub v: u16,
    pub id: u64,
    pub op: Op,
}

/// Scheduler to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum UplinkMessage<Answer> {
    /// The answer to the request of this id.
    Reply { id: u64, answer: Answer },
    /// A command for the node that is registered on this connection.
    Command(Command),
}
