//! The one mediasoup worker of this process and its port.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use mediasoup::prelude::*;
use mediasoup::worker::{CreateWebRtcServerError, WorkerUpdateSettings};
use tokio::sync::oneshot;

use crate::load::ThreadClock;
use crate::logging;

/// How often a free port is looked for before giving up: another process may take it in between.
const FREE_PORT_TRIES: u32 = 20;
/// A worker is asked for a sign of life this often …
const WATCH_EVERY: Duration = Duration::from_secs(10);
/// … and is taken for hung after this many in a row went unanswered. More than one, because a process that was stopped
/// and goes on finds its timers run out before the worker could answer.
const WATCH_MISSES: u32 = 3;

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("the mediasoup worker does not start: {0}")]
    Start(#[source] io::Error),
    #[error("--listen {address}: {source}")]
    Address { address: SocketAddr, source: io::Error },
    #[error("--listen {address}: the port can't be had: {source}")]
    Port { address: SocketAddr, source: CreateWebRtcServerError },
}

/// The worker, and the server that all its WebRTC transports share.
#[derive(Debug)]
pub(crate) struct MediaWorker {
    worker: Worker,
    server: WebRtcServer,
    port: u16,
    /// Announced addresses after the first: mediasoup can only bind a port once, so these are told as candidates more.
    also_announced: Vec<String>,
    clock: ThreadClock,
}

impl MediaWorker {
    /// Starts the worker and binds its port, UDP and TCP. `address` with port 0 takes a free one.
    pub(crate) async fn start(address: SocketAddr, announced: Vec<String>) -> Result<Self, WorkerError> {
        let clock = ThreadClock::default();
        let mut settings = WorkerSettings::default();
        settings.log_level = logging::worker_level();
        settings.thread_initializer = Some(std::sync::Arc::new({
            let clock = clock.clone();
            move || clock.is_this_thread()
        }));
        let worker = WorkerManager::new().create_worker(settings).await.map_err(WorkerError::Start)?;

        let mut announced = announced.into_iter();
        let (server, port) = bind(&worker, address, announced.next()).await?;
        Ok(Self { worker, server, port, also_announced: announced.collect(), clock })
    }

    /// The port of all transports.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// For making routers.
    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// For making transports.
    pub(crate) fn server(&self) -> &WebRtcServer {
        &self.server
    }

    /// Announced addresses after the first.
    pub(crate) fn also_announced(&self) -> &[String] {
        &self.also_announced
    }

    /// CPU time of the worker's thread.
    pub(crate) fn cpu_ms(&self) -> u64 {
        self.clock.cpu_ms()
    }

    /// Ends, with the reason, when the worker died or does not answer any more.
    pub(crate) async fn gone(&self) -> &'static str {
        let (died, mut death) = oneshot::channel();
        // The other end is dropped only when this is not waited for any more.
        self.worker.on_dead(move |_| _ = died.send(())).detach();
        let mut misses = 0;
        while misses < WATCH_MISSES {
            if tokio::time::timeout(WATCH_EVERY, &mut death).await.is_ok() {
                return "it died";
            }
            // Changes nothing, and is answered by the worker's thread.
            let sign = self.worker.update_settings(WorkerUpdateSettings::default());
            misses = if tokio::time::timeout(WATCH_EVERY, sign).await.is_ok() { 0 } else { misses + 1 };
        }
        "it does not answer"
    }
}

async fn bind(
    worker: &Worker,
    address: SocketAddr,
    announced: Option<String>,
) -> Result<(WebRtcServer, u16), WorkerError> {
    let mut tries = if address.port() == 0 { FREE_PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let port = if address.port() == 0 { free_port(address)? } else { address.port() };
        let listen = |protocol| ListenInfo {
            protocol,
            ip: address.ip(),
            announced_address: announced.clone(),
            expose_internal_ip: false,
            port: Some(port),
            port_range: None,
            flags: None,
            send_buffer_size: None,
            recv_buffer_size: None,
        };
        let infos = WebRtcServerListenInfos::new(listen(Protocol::Udp)).insert(listen(Protocol::Tcp));
        match worker.create_webrtc_server(WebRtcServerOptions::new(infos)).await {
            Ok(server) => return Ok((server, port)),
            Err(source) if tries == 0 => {
                let address = SocketAddr::new(address.ip(), port);
                return Err(WorkerError::Port { address, source });
            }
            Err(_) => {}
        }
    }
}

/// A port that is free for TCP and UDP at this moment.
fn free_port(address: SocketAddr) -> Result<u16, WorkerError> {
    let probe = || -> io::Result<u16> {
        let mut last = None;
        for _ in 0..FREE_PORT_TRIES {
            let tcp = TcpListener::bind(address)?;
            let found = tcp.local_addr()?;
            match UdpSocket::bind(found) {
                Ok(_) => return Ok(found.port()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    };
    probe().map_err(|source| WorkerError::Address { address, source })
}
