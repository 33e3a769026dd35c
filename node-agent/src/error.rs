//! Why the agent ends, and with which exit code.

use roost_server::ConfigError;

/// What ends the agent before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("logs cannot be set up")]
    Telemetry(#[from] roost_server::telemetry::TelemetryError),
    #[error(transparent)]
    Listen(#[from] roost_server::listen::ListenError),
    #[error("TLS cannot be set up")]
    Tls(#[from] roost_server::tls::TlsError),
    #[error("the uplink cannot be used")]
    Store(#[from] roost_store::redis::InvalidSetting),
    #[error("media cannot be started")]
    Media(#[from] crate::media::MediaStartError),
    #[error("the HTTP client cannot be made")]
    Http(#[from] reqwest::Error),
    /// Another process holds the lease of this node id.
    #[error(
        "node_id_taken: another process holds the lease of node {node}, and renews it: expected a --node-id of its own"
    )]
    NodeIdTaken { node: roost_proto::id::NodeId },
    #[error("{what} failed")]
    Io { what: &'static str, source: std::io::Error },
}

impl AgentError {
    /// 2 for a wrong configuration, 1 for everything else.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Store(_) | Self::Telemetry(_) | Self::Tls(_) => 2,
            Self::Listen(roost_server::listen::ListenError::Address { .. }) => 2,
            _ => 1,
        }
    }
}
