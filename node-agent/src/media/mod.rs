//! The one trait between the agent and whatever carries media, and its three kinds: real mediasoup workers that the
//! agent starts, a media server of the operator's own, and made-up media.

mod line;
pub(crate) mod mediasoup;
pub(crate) mod socket;
mod supervisor;
pub(crate) mod synthetic;

use std::path::PathBuf;

use async_trait::async_trait;
use roost_proto::media::{MediaError, MediaEvent, MediaReply, MediaRequest};
use roost_proto::report::Worker;
use tokio::sync::mpsc;

/// How many notices wait to be read before their media server has to wait.
pub(crate) const NOTICES_WAITING: usize = 4096;

/// What carries the media of this node's rooms: one or more workers, each room on one of them.
#[async_trait]
pub(crate) trait MediaServer: std::fmt::Debug + Send + Sync + 'static {
    /// What carries the media, for example `mediasoup 0.33.1`.
    fn version(&self) -> String;

    /// Every worker, by index. `participants` is 0: workers know streams, not people.
    fn workers(&self) -> Vec<Worker>;

    /// Asks one worker. Answers within 5 s; a worker that is down or does not answer is `failed`.
    async fn request(&self, worker: u16, request: MediaRequest) -> Result<MediaReply, MediaError>;

    /// What all workers tell, each with the worker's index. Can be taken once; whoever takes it again reads nothing.
    fn events(&self) -> mpsc::Receiver<(u16, Notice)>;
}

/// What a worker tells without being asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Notice {
    Event(MediaEvent),
    /// Takes rooms from here on.
    Up,
    /// Its rooms are gone.
    Down,
}

/// Why media could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MediaStartError {
    #[error("media_socket {path:?}: expected a path where a Unix socket can be made")]
    Socket { path: PathBuf, source: std::io::Error },
    #[error("mediasoup_bin {path:?}: expected the program roost-mediasoup (--mediasoup-bin)")]
    Program { path: PathBuf, source: std::io::Error },
}

/// The receiver that is given to the first who asks.
#[derive(Debug)]
struct Taken(std::sync::Mutex<Option<mpsc::Receiver<(u16, Notice)>>>);

impl Taken {
    fn new(receiver: mpsc::Receiver<(u16, Notice)>) -> Self {
        Self(std::sync::Mutex::new(Some(receiver)))
    }

    fn take(&self) -> mpsc::Receiver<(u16, Notice)> {
        let taken = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }
}
