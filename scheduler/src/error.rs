//! What the store's failures and the core's refusals are to a client.

use roost_proto::error::{Code, Problem};
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::time::Millis;
use roost_scheduler_core::place::NoNode;
use roost_scheduler_core::view::View;
use roost_server::listen::ListenError;

/// No node holds the room.
pub(crate) fn room_not_found(key: &RoomKey) -> Problem {
    Problem::new(Code::RoomNotFound, format!("room {:?}: no node holds it", key.room))
}

/// No node of this name has reported.
pub(crate) fn node_not_found(id: &NodeId) -> Problem {
    Problem::new(Code::NodeNotFound, format!("node {id}: none of this name has reported"))
}

/// The view does not have the node: there is none, unless the store has yet to tell of those that it knows.
pub(crate) fn unknown_node(id: &NodeId, view: &View, now: Millis) -> Problem {
    let bucket = id.bucket();
    match view.grace.run(bucket) {
        None => Problem::new(Code::StoreUnavailable, format!("node {id}: the shared store does not answer")),
        Some(_) if view.grace_left_ms(bucket, now) > 0 => {
            Problem::new(Code::Starting, format!("node {id}: none of this name has reported yet, and nodes still do"))
        }
        Some(_) => node_not_found(id),
    }
}

/// The store could not be asked; whoever asked us may come again.
pub(crate) fn store_unavailable() -> Problem {
    Problem::new(Code::StoreUnavailable, "the room is not known here, and the shared store does not answer")
}

/// The room may be one that a node has yet to tell of.
pub(crate) fn starting() -> Problem {
    Problem::new(Code::Starting, "nodes are still saying which rooms they hold")
}

/// Nobody else comes in until somebody leaves.
pub(crate) fn room_full() -> Problem {
    Problem::new(Code::RoomFull, "the namespace allows no more participants in a room")
}

/// No node can take the room.
pub(crate) fn no_node(refused: NoNode) -> Problem {
    let detail = match refused.rejections.as_slice() {
        [] => "no node is known".to_owned(),
        _ => {
            let counts = refused.counts.iter().map(|counted| format!("{} {}", counted.count, counted.reason.as_str()));
            format!("nodes that refused: {}", counts.collect::<Vec<_>>().join(", "))
        }
    };
    let mut problem = Problem::new(Code::NoNode, detail);
    problem.rejections = refused.rejections;
    problem.rejection_counts = refused.counts;
    problem
}

/// Why the process cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Wrong configuration: exit code 2.
    #[error(transparent)]
    Config(#[from] roost_server::ConfigError),
    #[error(transparent)]
    Key(#[from] roost_server::keys::KeyError),
    #[error(transparent)]
    Tls(#[from] roost_server::tls::TlsError),
    #[error(transparent)]
    Telemetry(#[from] roost_server::telemetry::TelemetryError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Store(#[from] roost_store::InvalidSetting),
    #[error(transparent)]
    Record(#[from] crate::record::RecordError),
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    #[error(transparent)]
    Geo(#[from] crate::geo::GeoError),
    /// Of an argument of `locate`.
    #[error("address {0:?}: expected an IPv4 or IPv6 address")]
    Address(String),
    #[error("a listener failed")]
    Io(#[from] std::io::Error),
    #[error("standard output: expected one that can be written to")]
    Output(#[source] std::io::Error),
    #[error("--plot {}: expected a folder that can be written to", path.display())]
    Folder { path: std::path::PathBuf, source: std::io::Error },
    #[error(transparent)]
    Trace(#[from] roost_sim::trace::TraceError),
    #[error(transparent)]
    Plot(#[from] roost_sim::picture::PlotError),
    #[error("goals missed: {goals}")]
    Missed { goals: usize },
    /// A task that never ends has ended, by a panic that it has logged.
    #[error("a part of the scheduler has ended; the rest cannot go on without it")]
    Ended,
}

impl Failure {
    /// Whether whoever read the output has had enough of it, as `head` has after ten lines.
    pub(crate) fn is_closed_output(&self) -> bool {
        match self {
            Self::Output(source) | Self::Config(roost_server::ConfigError::Write { source }) => {
                source.kind() == std::io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Key(_) | Self::Tls(_) | Self::Telemetry(_) | Self::Store(_) | Self::Record(_) => 2,
            Self::Listen(ListenError::Address { .. }) | Self::Geo(_) | Self::Ledger(_) => 2,
            Self::Listen(ListenError::Unavailable { .. }) | Self::Io(_) | Self::Ended => 1,
            Self::Trace(_) | Self::Plot(_) | Self::Missed { .. } | Self::Address(_) => 1,
            Self::Output(_) | Self::Folder { .. } => 1,
        }
    }
}
