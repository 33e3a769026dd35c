//! Which store a URL means.

use std::sync::Arc;

use crate::contract::Store;
use crate::embedded::EmbeddedStore;
use crate::redis::{InvalidSetting, RedisSettings, RedisStore};

/// The store at `url`: `embedded` (new and empty) or a Redis URL. It connects with its first call.
pub fn open_store(url: &str, settings: &RedisSettings) -> Result<Arc<dyn Store>, InvalidSetting> {
    if url == "embedded" { Ok(Arc::new(EmbeddedStore::new())) } else { Ok(Arc::new(RedisStore::new(url, settings)?)) }
}
