//! Load on an HTTP server: keep-alive connections that each ask, wait for the answer, and ask again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use roost_tests::Trouble;
use roost_tests::connection::Connection;

const CONNECTIONS: usize = 64;

/// Makes the bytes of the n-th request.
pub(crate) type MakeRequest = Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// What a server did under load.
#[derive(Debug, Default, Clone)]
pub(crate) struct Measured {
    pub(crate) took: Duration,
    /// Of each request, in microseconds.
    pub(crate) latencies_us: Vec<u32>,
}

impl Measured {
    pub(crate) fn rate(&self) -> f64 {
        self.latencies_us.len() as f64 / self.took.as_secs_f64()
    }

    /// The latency that this share of the requests did not exceed.
    pub(crate) fn quantile_us(&mut self, share: f64) -> u32 {
        self.latencies_us.sort_unstable();
        let at = (self.latencies_us.len() as f64 * share) as usize;
        self.latencies_us.get(at).copied().unwrap_or_default()
    }
}

/// Loads `address` for `length`. `counter` numbers the requests, so that a later call goes on where this one ends.
pub(crate) async fn drive(
    address: &str,
    request: &MakeRequest,
    counter: &Arc<AtomicU64>,
    length: Duration,
) -> Result<Measured, Trouble> {
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let connection = Connection::open(address).await?;
        tasks.spawn(ask_again_and_again(connection, request.clone(), counter.clone(), started + length));
    }
    let mut measured = Measured::default();
    while let Some(done) = tasks.join_next().await {
        measured.latencies_us.extend(done??);
    }
    measured.took = started.elapsed();
    Ok(measured)
}

async fn ask_again_and_again(
    mut connection: Connection,
    request: MakeRequest,
    counter: Arc<AtomicU64>,
    until: Instant,
) -> Result<Vec<u32>, Trouble> {
    let mut latencies_us = Vec::with_capacity(65_536);
    while Instant::now() < until {
        let bytes = request(counter.fetch_add(1, Ordering::Relaxed));
        let asked = Instant::now();
        let answer = connection.ask(&bytes).await?;
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.body).into());
        }
        latencies_us.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(latencies_us)
}
