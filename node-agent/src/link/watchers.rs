//! Which schedulers with a store of their own have this node: they watch it, or are its uplink. A cluster has one such
//! scheduler: while it lives, another one would give away rooms that the first has given already.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The stores of the schedulers that are connected, by connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchers {
    stores: Arc<Mutex<Stores>>,
}

#[derive(Debug, Default)]
struct Stores {
    of: BTreeMap<u64, String>,
    last: u64,
}

/// A scheduler watches, or is the uplink, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    connection: u64,
    watchers: Watchers,
}

impl Watchers {
    /// A scheduler whose own store is `store` watches, or is the uplink. None while one with another store is there.
    pub(crate) fn enter(&self, store: &str) -> Option<Watching> {
        let mut stores = self.lock();
        if stores.of.values().any(|other| other != store) {
            return None;
        }
        stores.last += 1;
        let connection = stores.last;
        stores.of.insert(connection, store.to_owned());
        Some(Watching { connection, watchers: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Stores> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watchers.lock().of.remove(&self.connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_one_scheduler_watches_none_with_another_store_is_let_in() {
        let watchers = Watchers::default();
        let first = watchers.enter("a").expect("nobody else");
        let again = watchers.enter("a").expect("the same");
        assert!(watchers.enter("b").is_none());
        drop(first);
        assert!(watchers.enter("b").is_none(), "one connection of the first is left");
        drop(again);
        assert!(watchers.enter("b").is_some());
    }
}
