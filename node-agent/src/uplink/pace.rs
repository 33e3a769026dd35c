//! Pauses between attempts: longer each time, and spread, so that a cluster's agents don't all come back at once.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST_MS: u64 = 50;
const LONGEST_MS: u64 = 2_000;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    failures: u32,
}

impl Pace {
    /// It worked: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait before the next attempt. The first failure after a success costs almost nothing.
    pub(crate) fn next(&mut self) -> Duration {
        let most = FIRST_MS.saturating_mul(1 << self.failures.min(16)).min(LONGEST_MS);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(most / 2 + random() % (most / 2 + 1))
    }
}

/// Any number, from the random keys that the standard library takes from the system.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_again_after_a_success() {
        let mut pace = Pace::default();
        assert!(pace.next() <= Duration::from_millis(FIRST_MS));
        let pauses: Vec<Duration> = (0..40).map(|_| pace.next()).collect();
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(LONGEST_MS)));
        assert!(pauses[20] >= Duration::from_millis(LONGEST_MS / 2));
        pace.reset();
        assert!(pace.next() <= Duration::from_millis(FIRST_MS));
    }
}
