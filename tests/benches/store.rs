//! The bench's own way into Redis: the same client code as the scheduler's.

use std::sync::Arc;

use roost_store::{RedisSettings, Store, open_store};
use roost_tests::Trouble;

/// Opens the store at `url` under `prefix`.
pub(crate) fn open(url: &str, prefix: &str) -> Result<Arc<dyn Store>, Trouble> {
    let settings = RedisSettings { prefix: prefix.to_owned(), ..RedisSettings::default() };
    Ok(open_store(url, &settings)?)
}
