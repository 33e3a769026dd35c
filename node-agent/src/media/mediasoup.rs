//! Real mediasoup workers: processes that the agent starts, and that connect back to it over a Unix socket.

use std::sync::Arc;

use async_trait::async_trait;
use roost_proto::media::{MediaError, MediaReply, MediaRequest};
use roost_proto::report::{MediaKind, Worker};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::socket::MediaSocket;
pub(crate) use super::supervisor::Program;
use super::supervisor::supervise;
use super::{MediaServer, MediaStartError, Notice};

/// Workers that this agent has started. Dropping it kills them.
#[derive(Debug)]
pub(crate) struct Mediasoup {
    socket: Arc<MediaSocket>,
    _watched: JoinSet<()>,
}

impl Mediasoup {
    /// Listens on the program's socket and starts all workers; each takes rooms once it is up.
    pub(crate) fn start(program: Program) -> Result<Self, MediaStartError> {
        let socket = Arc::new(MediaSocket::listen(&program.socket, MediaKind::Mediasoup, program.workers)?);
        let watched = supervise(program, &socket)?;
        Ok(Self { socket, _watched: watched })
    }
}

#[async_trait]
impl MediaServer for Mediasoup {
    fn version(&self) -> String {
        self.socket.version()
    }

    fn workers(&self) -> Vec<Worker> {
        self.socket.workers()
    }

    async fn request(&self, worker: u16, request: MediaRequest) -> Result<MediaReply, MediaError> {
        self.socket.request(worker, request).await
    }

    fn events(&self) -> mpsc::Receiver<(u16, Notice)> {
        self.socket.events()
    }
}
