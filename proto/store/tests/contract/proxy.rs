//! A proxy on loopback between a store and its server, which can be told to be slow or silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to what passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    Open,
    /// Each piece comes so much later.
    Slow(Duration),
    /// It is kept until the passage is another: packets are lost and sent again, connections stay.
    Silent,
}

/// A proxy that ends with the test.
pub(crate) struct Proxy {
    address: SocketAddr,
    passage: watch::Sender<Passage>,
    breaks_next: Arc<AtomicBool>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (passage, passing) = watch::channel(Passage::Open);
        let breaks_next = Arc::new(AtomicBool::new(false));
        let breaks = breaks_next.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if breaks.swap(false, Ordering::Relaxed) {
                    continue;
                }
                let passing = passing.clone();
                tokio::spawn(async move {
                    // While it is silent a connection is taken by the system's backlog, and no more.
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::select! {
                        () = carry(from_client, to_server, passing.clone()) => {}
                        () = carry(from_server, to_client, passing) => {}
                    }
                });
            }
        });
        Self { address, passage, breaks_next, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Takes the next connection, and ends it at once.
    pub(crate) fn break_next(&self) {
        self.breaks_next.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passing: watch::Receiver<Passage>) {
    let mut piece = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let Ok(passage) = passing.wait_for(|passage| *passage != Passage::Silent).await.map(|passage| *passage) else {
            return;
        };
        if let Passage::Slow(delay) = passage {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
    // The end of a connection is a packet too.
    let _gone = passing.wait_for(|passage| *passage != Passage::Silent).await;
}
