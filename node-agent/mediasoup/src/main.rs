//! One real mediasoup worker behind the media protocol: the agent starts this process once per worker.

mod consumer;
mod data;
mod event;
mod load;
mod logging;
mod parameter;
mod producer;
mod protocol;
mod room;
mod rooms;
mod stats;
mod transport;
mod worker;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use roost_proto::media::{FromMedia, Hello};
use roost_proto::report::MediaKind;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::event::Outbox;
use crate::rooms::Rooms;
use crate::worker::{MediaWorker, WorkerError};

/// How long rooms and worker may take to close at the end; then the process just ends.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// The version of the crate that the workspace pins.
const MEDIA_STACK: &str = "mediasoup 0.33.1";

/// One mediasoup worker, led by a roost-agent through a Unix socket.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The agent's Unix socket; the process ends when it closes.
    #[arg(long)]
    socket: PathBuf,
    /// Which of the node's workers this is.
    #[arg(long)]
    worker: u16,
    /// The address that media is received on.
    #[arg(long)]
    listen: IpAddr,
    /// An address or host name that clients are told instead; may be repeated.
    #[arg(long)]
    announced: Vec<String>,
    /// The one port of all WebRTC transports, UDP and TCP; 0 takes a free one.
    #[arg(long)]
    port: u16,
    /// What is logged to standard error: error, warn, info, debug, trace, or a filter like `info,mediasoup=debug`.
    #[arg(long, default_value = "info")]
    log_level: String,
}

/// Why the process could not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("--socket {path}: {source}")]
    Socket { path: String, source: std::io::Error },
    #[error("signals: {0}")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error("the mediasoup worker is gone: {0}")]
    WorkerGone(&'static str),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = logging::init(&arguments.log_level) {
        return wrong_configuration("--log-level", &arguments.log_level, &error.to_string());
    }
    if arguments.listen.is_unspecified() && arguments.announced.is_empty() {
        let expected = "one address of this machine, or --announced as well";
        return wrong_configuration("--listen", &arguments.listen.to_string(), expected);
    }
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            // At once, without the runtime's and the C++ library's own endings: the agent is waiting to start the next.
            std::process::exit(1)
        }
    }
}

fn wrong_configuration(key: &str, value: &str, expected: &str) -> ExitCode {
    tracing::error!("{key} {value:?}: expected {expected}");
    ExitCode::from(2)
}

/// Runs until the agent's socket closes or SIGTERM comes.
async fn run(arguments: Arguments) -> Result<(), Failure> {
    let socket = connect(&arguments.socket).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Signals)?;
    // Ctrl-C reaches all processes of a terminal; the agent decides when its media ends.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;

    let address = SocketAddr::new(arguments.listen, arguments.port);
    let worker = Arc::new(MediaWorker::start(address, arguments.announced).await?);

    let (outbox, letters) = Outbox::new();
    let hello = FromMedia::Hello(Hello {
        v: roost_proto::WIRE_VERSION,
        media: MediaKind::Mediasoup,
        worker: arguments.worker,
        pid: std::process::id(),
        media_port: worker.port(),
        version: MEDIA_STACK.to_owned(),
    });
    let (reader, writer) = socket.into_split();
    let mut writing = tokio::spawn(protocol::write(writer, hello, letters));
    let mut rooms = Rooms::new(Arc::clone(&worker), outbox);

    tokio::select! {
        ended = protocol::read(reader, &mut rooms) => log_end(ended),
        ended = &mut writing => log_end(ended.unwrap_or_else(|error| Err(std::io::Error::other(error)))),
        reason = worker.gone() => return Err(Failure::WorkerGone(reason)),
        _ = terminate.recv() => tracing::info!("SIGTERM: closing"),
        () = async { while interrupt.recv().await.is_some() {} } => {}
    }
    close(rooms, worker).await;
    Ok(())
}

async fn connect(path: &Path) -> Result<UnixStream, Failure> {
    UnixStream::connect(path).await.map_err(|source| Failure::Socket { path: path.display().to_string(), source })
}

fn log_end(ended: std::io::Result<()>) {
    match ended {
        Ok(()) => tracing::info!("the agent closed the socket"),
        Err(error) => tracing::info!(%error, "the agent's socket ended"),
    }
}

async fn close(rooms: Rooms, worker: Arc<MediaWorker>) {
    let closing = async {
        rooms.close_all().await;
        // The last handle of the worker waits for the worker's thread.
        tokio::task::spawn_blocking(move || drop(worker)).await
    };
    if tokio::time::timeout(CLOSE_LIMIT, closing).await.is_err() {
        tracing::warn!("rooms or worker did not close in time");
        std::process::exit(0)
    }
}
