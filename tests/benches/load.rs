//! Load on an HTTP server: keep-alive connections that each ask, wait for the answer, and ask again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use roost_tests::Trouble;

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

/// A POST of a JSON body.
pub(crate) fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
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
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        tasks.spawn(ask_again_and_again(socket, request.clone(), counter.clone(), started + length));
    }
    let mut measured = Measured::default();
    while let Some(done) = tasks.join_next().await {
        measured.latencies_us.extend(done??);
    }
    measured.took = started.elapsed();
    Ok(measured)
}

async fn ask_again_and_again(
    mut socket: TcpStream,
    request: MakeRequest,
    counter: Arc<AtomicU64>,
    until: Instant,
) -> Result<Vec<u32>, Trouble> {
    let mut latencies_us = Vec::with_capacity(65_536);
    let mut buffer = vec![0; 16 * 1024];
    while Instant::now() < until {
        let bytes = request(counter.fetch_add(1, Ordering::Relaxed));
        let asked = Instant::now();
        socket.write_all(&bytes).await?;
        answer(&mut socket, &mut buffer).await?;
        latencies_us.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(latencies_us)
}

/// Reads one answer; anything but 200 is an error that shows it.
async fn answer(socket: &mut TcpStream, buffer: &mut [u8]) -> Result<(), Trouble> {
    let mut filled = 0;
    loop {
        let read = socket.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err("the server closed the connection, or its answer is too long".into());
        }
        filled += read;
        let text = std::str::from_utf8(&buffer[..filled])?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .ok_or("an answer without Content-Length")?;
        if body.len() < length.1.trim().parse::<usize>()? {
            continue;
        }
        return if head.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(text.to_owned().into()) };
    }
}
