//! The process's own clock: it only goes forward, and counts the time in which the machine was suspended.

use rustix::time::{ClockId, clock_gettime};

use roost_proto::time::Millis;

/// Milliseconds since the machine was started, suspend included. Deadlines of the lease are on this clock (rule 7):
/// one that stands still in suspend would let a node admit after its lease was given away.
pub(crate) fn now() -> Millis {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
    Millis(seconds.saturating_mul(1_000).saturating_add(millis))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_goes_forward() {
        let before = super::now();
        assert!(before.0 > 0 && super::now() >= before);
    }
}
