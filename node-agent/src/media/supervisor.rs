//! Starts one `roost-mediasoup` for each worker, and starts it again when it ends.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::MediaStartError;
use super::line::read_line;
use super::socket::MediaSocket;

/// The pause before the second start; the first comes at once, each later pause is twice as long.
const FIRST_PAUSE_MS: u64 = 100;
const LONGEST_PAUSE_MS: u64 = 5_000;
/// A worker that ran so long has recovered: its next start comes at once again.
const RECOVERED_MS: u64 = 10_000;
const _: () = assert!(FIRST_PAUSE_MS < LONGEST_PAUSE_MS && LONGEST_PAUSE_MS < RECOVERED_MS);

/// The longest line of a worker's log that is kept whole.
const LOG_LINE_BYTES: usize = 16 * 1024;

/// How workers are started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// `roost-mediasoup`, a path or a name on the search path.
    pub(crate) binary: PathBuf,
    /// Where the agent listens for its workers.
    pub(crate) socket: PathBuf,
    pub(crate) workers: u16,
    pub(crate) listen: IpAddr,
    /// Addresses or names that clients are told; none: the listening address.
    pub(crate) announced: Vec<String>,
    /// Worker i takes this port and i more; 0: any.
    pub(crate) port: u16,
}

impl Program {
    fn start(&self, worker: u16) -> Result<Child, MediaStartError> {
        let mut command = Command::new(&self.binary);
        command.arg("--socket").arg(&self.socket);
        command.args(["--worker", &worker.to_string(), "--listen", &self.listen.to_string()]);
        for address in &self.announced {
            command.args(["--announced", address]);
        }
        let port = if self.port == 0 { 0 } else { self.port.saturating_add(worker) };
        command.args(["--port", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(|source| MediaStartError::Program { path: self.binary.clone(), source })
    }
}

/// Starts all workers; they are watched until the answer is dropped, and then killed.
pub(super) fn supervise(program: Program, socket: &Arc<MediaSocket>) -> Result<JoinSet<()>, MediaStartError> {
    let mut watched = JoinSet::new();
    for worker in 0..program.workers {
        let child = program.start(worker)?;
        watched.spawn(watch(program.clone(), worker, child, Arc::downgrade(socket)));
    }
    Ok(watched)
}

async fn watch(program: Program, worker: u16, first: Child, socket: std::sync::Weak<MediaSocket>) {
    let mut child = Some(first);
    let mut pause_ms = 0;
    loop {
        let started = Instant::now();
        if let Some(child) = child.take() {
            run(worker, child).await;
        }
        if started.elapsed() >= Duration::from_millis(RECOVERED_MS) {
            pause_ms = 0;
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = next_pause(pause_ms);
        let Some(socket) = socket.upgrade() else { return };
        socket.count_restart(worker);
        drop(socket);
        match program.start(worker) {
            Ok(again) => child = Some(again),
            Err(error) => tracing::error!(worker, %error, "media worker cannot be started again"),
        }
    }
}

fn next_pause(pause_ms: u64) -> u64 {
    (pause_ms * 2).clamp(FIRST_PAUSE_MS, LONGEST_PAUSE_MS)
}

/// One life of a worker; what it writes to its standard error goes into our log.
async fn run(worker: u16, mut child: Child) {
    let pid = child.id();
    tracing::debug!(worker, pid, "media worker started");
    if let Some(stderr) = child.stderr.take() {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        loop {
            match read_line(&mut reader, &mut line, LOG_LINE_BYTES).await {
                Ok(true) => tracing::warn!(worker, pid, "{}", String::from_utf8_lossy(&line)),
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    tracing::warn!(worker, pid, "{}…", String::from_utf8_lossy(&line));
                }
                Ok(false) | Err(_) => break,
            }
        }
    }
    match child.wait().await {
        Ok(status) => tracing::warn!(worker, pid, %status, "media worker ended"),
        Err(error) => tracing::warn!(worker, pid, %error, "media worker cannot be waited for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::MediaServer;
    use crate::media::mediasoup::Mediasoup;

    #[tokio::test]
    async fn a_worker_that_ends_is_started_again_and_again() {
        let program = Program {
            binary: "/bin/false".into(),
            socket: std::env::temp_dir().join(format!("roost-supervisor-{}.sock", std::process::id())),
            workers: 2,
            listen: std::net::Ipv4Addr::LOCALHOST.into(),
            announced: vec!["media.example".to_owned()],
            port: 44_400,
        };
        let media = Mediasoup::start(program).expect("a program");
        let started = async {
            while media.workers().iter().any(|worker| worker.restarts < 2) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), started).await.expect("started again");
    }

    #[test]
    fn the_first_restart_comes_at_once_and_later_ones_ever_more_slowly() {
        let mut pause_ms = 0;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pauses.push(pause_ms);
            pause_ms = next_pause(pause_ms);
        }
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
