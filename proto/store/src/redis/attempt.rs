//! Attempts to connect: one at a time, shared by all who wait for it, with a pause after a failure.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::sleep_until;

use crate::error::StoreError;

/// After a refusal, which costs little and is to be known soon (rule 14), it stays at the first.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(2);

/// Attempts at one thing.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Failed>);

/// What is known of attempts that failed since the last that did not.
#[derive(Debug, Default)]
struct Failed {
    count: u32,
    last: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    sent: Instant,
    next: Instant,
    error: StoreError,
}

impl Attempts {
    /// What `ready` has, if need be after an attempt, which makes it ready.
    pub(super) async fn until<T>(
        &self,
        ready: impl Fn() -> Option<T>,
        attempt: impl AsyncFnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let asked = Instant::now();
        let mut failed = self.0.lock().await;
        if let Some(ready) = ready() {
            return Ok(ready);
        }
        match &failed.last {
            // Others asked at the same time; it was sent after they did.
            Some(last) if last.sent >= asked => return Err(last.error.clone()),
            // That it was refused before says nothing of this call: it counts from when it is sent (rule 14).
            Some(Failure { next, error: StoreError::Refused { .. }, .. }) => sleep_until((*next).into()).await,
            Some(last) if Instant::now() < last.next => {
                return Err(StoreError::Unavailable { reason: last.error.to_string() });
            }
            _ => {}
        }
        let sent = Instant::now();
        let result = attempt().await;
        match &result {
            Ok(_) => *failed = Failed::default(),
            Err(error) => {
                let doubled = if matches!(error, StoreError::Refused { .. }) { 0 } else { failed.count.min(10) };
                let next = Instant::now() + PAUSE_LAST.min(PAUSE_FIRST * 2u32.saturating_pow(doubled));
                failed.count += 1;
                failed.last = Some(Failure { sent, next, error: error.clone() });
            }
        }
        result
    }
}
