//! How long a server that was replaced may go on answering (rule 15), and whether it is bounded.

use redis::aio::MultiplexedConnection;

/// Without a bound there is none to count with; then this is, and the log says what to set.
const ASSUMED_MS: u64 = 11_000;
/// Redis judges replicas and slots ten times to once a second.
const JUDGED_MS: u64 = 1_000;

/// What bounds it, by its name in Redis's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// Sentinel: a master whose replicas are silent for `min-replicas-max-lag` seconds refuses writes, if
    /// `min-replicas-to-write` is not 0.
    Lag,
    /// Cluster: a master that sees no majority for `cluster-node-timeout` ms refuses everything.
    NodeTimeout,
}

impl Bound {
    /// The bound in ms, as the server is configured; none if it is not bounded or does not tell.
    pub(super) async fn read(self, connection: &MultiplexedConnection) -> Option<u64> {
        match self {
            Self::Lag if number(connection, "min-replicas-to-write").await? == 0 => None,
            Self::Lag => Some(number(connection, "min-replicas-max-lag").await? * 1_000 + JUDGED_MS),
            Self::NodeTimeout => Some(number(connection, "cluster-node-timeout").await? + JUDGED_MS),
        }
    }

    /// What counts where nothing was read; `None` is warned of.
    pub(super) fn or_assumed(self, read: Option<u64>, is_warned: bool) -> u64 {
        if read.is_none() && !is_warned {
            let set = match self {
                Self::Lag => "min-replicas-to-write 1 and min-replicas-max-lag, and allow +config|get",
                Self::NodeTimeout => "cluster-node-timeout, and allow +config|get",
            };
            tracing::warn!(
                assumed_ms = ASSUMED_MS,
                "it is not known how long a replaced Redis goes on answering: set {set}; else two nodes may get one room"
            );
        }
        read.unwrap_or(ASSUMED_MS)
    }
}

async fn number(connection: &MultiplexedConnection, name: &str) -> Option<u64> {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg(name);
    let found: std::collections::HashMap<String, String> = get.query_async(&mut connection.clone()).await.ok()?;
    found.get(name)?.parse().ok()
}
