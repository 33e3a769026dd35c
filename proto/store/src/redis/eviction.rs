//! Whether the server may drop our keys when its memory is full (`maxmemory-policy`).
//!
//! A claim that it drops is a room that another node may be given while the first still serves it. So a server that may
//! drop any key (`allkeys-*`) is not used. One that may drop keys that expire (`volatile-*`) costs leases and grants
//! before their time, but never splits a room: it is used, with a warning. `noeviction` refuses writes instead.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::StoreError;

/// Judges the policy that `INFO memory` tells. `is_told`: the warning was given before.
pub(super) fn check(info: &str, is_told: &AtomicBool) -> Result<(), StoreError> {
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).unwrap_or("noeviction").trim();
    if policy.starts_with("allkeys-") {
        let reason = format!("its maxmemory-policy {policy:?} may drop claims of running rooms: expected noeviction");
        return Err(StoreError::Unavailable { reason });
    }
    if policy != "noeviction" && !is_told.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            policy,
            "Redis may drop leases and grants when its memory is full: set maxmemory-policy noeviction"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_may_drop_claims_is_refused_and_one_that_drops_leases_warned_of_once() {
        let check =
            |policy: &str, told: &AtomicBool| check(&format!("# Memory\r\nmaxmemory_policy:{policy}\r\n"), told);
        let told = AtomicBool::new(false);
        check("noeviction", &told).expect("as it should be");
        assert!(!told.load(Ordering::Relaxed));
        check("volatile-lru", &told).expect("a warning");
        assert!(told.load(Ordering::Relaxed));
        let refused = check("allkeys-lfu", &told).expect_err("it may drop claims").to_string();
        assert!(refused.contains("allkeys-lfu") && refused.contains("expected noeviction"), "{refused}");
        super::check("# Memory\r\n", &told).expect("a server that does not tell");
    }
}
