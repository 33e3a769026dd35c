//! Opens the store that configuration names.

use std::sync::Arc;

use roost_store::{InvalidSetting, RedisSettings, Store, open_store};

use crate::config::Settings;

/// The store; connections are made when it is first used.
pub(crate) fn open(settings: &Settings) -> Result<Arc<dyn Store>, InvalidSetting> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let redis = RedisSettings {
        prefix: settings.store_prefix.clone(),
        // One for each thread that answers lookups.
        connections: threads,
        ca_file: settings.store_ca.clone(),
        ..RedisSettings::default()
    };
    open_store(&settings.store, &redis)
}
