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
        timeout: answer_within(lease_ms),
        ca_file: ca_file.map(Path::to_owned),
    };
    Ok(Arc::new(RedisStore::new(url, &settings)?))
}

/// A connection that went silent is given up early enough for a renewal on a new one, and with a long lease no later than at
/// schedulers: rooms are opened on it too.
fn answer_within(lease_ms: u64) -> Duration {
    Duration::from_millis(renew_timeout_ms(lease_ms)).min(RedisSettings::default().timeout)
}

#[cfg(test)]
mod tests {
    use roost_agent_core::lease::{LEASE_MS, MAX_LEASE_MS, MIN_LEASE_MS};

    use super::*;

    #[test]
    fn a_silent_connection_is_given_up_within_a_second_whatever_the_lease() {
        for lease_ms in [MIN_LEASE_MS, LEASE_MS, MAX_LEASE_MS] {
            let within = answer_within(lease_ms);
            assert!(within <= Duration::from_secs(1) && within <= Duration::from_millis(renew_timeout_ms(lease_ms)));
        }
    }
}
