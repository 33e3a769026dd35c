//! Opens the store that configuration names.

use std::sync::Arc;

use roost_store::{InvalidSetting, RedisSettings, Store, open_store};

use crate::config::Settings;
use crate::run::{ADMIN_WORKERS, CLUSTER_WORKERS};

/// Threads that call the store besides those of the public listener: the main one, the admin's, the agents'.
const FURTHER_THREADS: usize = 1 + ADMIN_WORKERS + CLUSTER_WORKERS;

/// The store; connections are made when it is first used.
pub(crate) fn open(settings: &Settings) -> Result<Arc<dyn Store>, InvalidSetting> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let redis = RedisSettings {
        prefix: settings.store_prefix.clone(),
        // One for each thread, made when it first calls: a shared one would wake another thread for each call.
        connections: threads + FURTHER_THREADS,
        ca_file: settings.store_ca_file.clone(),
        ..RedisSettings::default()
    };
    open_store(&settings.store, &redis)
}
