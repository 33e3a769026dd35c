//! Waiting for something to become true, with a deadline instead of a guess.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Trouble;

/// Tries `attempt` until it gives a value; after `limit` it is an error that says what was waited for.
pub async fn until<T, F, A>(what: &str, limit: Duration, mut attempt: A) -> Result<T, Trouble>
where
    A: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = attempt().await {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(format!("waited {limit:?} in vain: {what}").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
}
