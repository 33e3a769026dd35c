//! The store in Redis, which the schedulers use too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use roost_agent_core::lease::renew_timeout_ms;
use roost_store::NodeStore;
use roost_store::redis::{InvalidSetting, RedisSettings, RedisStore};

/// An agent asks little: its reports, and a few openings besides.
const CONNECTIONS: usize = 2;

/// The store at `url`; it connects with its first call.
pub(crate) fn open(
    url: &str,
    prefix: &str,
    ca_file: Option<&Path>,
    lease_ms: u64,
) -> Result<Arc<dyn NodeStore>, InvalidSetting> {
    let settings = RedisSettings {
        prefix: prefix.to_owned(),
        connections: CONNECTIONS,
        // A connection that went silent must be given up early enough for a renewal on a new one.
        timeout: Duration::from_millis(renew_timeout_ms(lease_ms)),
        ca_file: ca_file.map(Path::to_owned),
    };
    Ok(Arc::new(RedisStore::new(url, &settings)?))
}
