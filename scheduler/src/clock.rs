//! The process's own monotonic clock, and the store's clock as seen from it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use roost_proto::time::Millis;

/// What the cores are given as `now`, and the time that tickets are made by.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// The store's time less ours. It goes on counting while the store is away.
    store_ahead_ms: AtomicI64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), store_ahead_ms: AtomicI64::new(0) }
    }

    /// Milliseconds since the process started.
    pub(crate) fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Takes the store's answer to a question that was sent at `asked`.
    pub(crate) fn learn_store(&self, store_ms: u64, asked: Millis) {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        self.store_ahead_ms.store(signed(store_ms).saturating_sub(signed(asked.0)), Ordering::Relaxed);
    }

    /// Whether the store has ever said what time it is.
    pub(crate) fn knows_store(&self) -> bool {
        self.store_ahead_ms.load(Ordering::Relaxed) != 0
    }

    /// The store's time, as far as we know it.
    pub(crate) fn store_now_ms(&self) -> u64 {
        self.now().0.saturating_add_signed(self.store_ahead_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_time_is_ours_and_what_it_is_ahead() {
        let clock = Clock::new();
        clock.learn_store(1_790_000_000_000, clock.now());
        let ahead = clock.store_now_ms() - 1_790_000_000_000;
        assert!(ahead < 60_000, "{ahead}");
        clock.learn_store(5, Millis(1_000_000));
        assert_eq!(clock.store_now_ms(), 0, "a store far behind is no reason to fail");
    }
}
