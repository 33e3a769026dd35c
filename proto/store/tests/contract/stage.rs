//! A store under test, what can be done to it from outside, and how a test waits.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use roost_proto::event::Event;
use roost_store::{EmbeddedStore, RedisSettings, RedisStore, Store};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::server::Server;

/// A store, and a second client of the same data.
pub(crate) struct Stage {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) second: Arc<dyn Store>,
    pub(crate) behind: Behind,
}

/// What is behind the store.
pub(crate) enum Behind {
    Memory { store: Arc<EmbeddedStore>, ahead_ms: Arc<AtomicU64> },
    Redis(Server),
    Cluster(Arc<Mutex<Cluster>>),
}

impl Stage {
    pub(crate) fn embedded() -> Self {
        let ahead_ms = Arc::new(AtomicU64::new(1_790_000_000_000));
        let clock = ahead_ms.clone();
        let store = Arc::new(EmbeddedStore::with_clock(Box::new(move || clock.load(Ordering::SeqCst))));
        Self { store: store.clone(), second: store.clone(), behind: Behind::Memory { store, ahead_ms } }
    }

    pub(crate) async fn redis() -> Self {
        let server = Server::start().await;
        Self { store: client(&server), second: client(&server), behind: Behind::Redis(server) }
    }

    /// On an empty cluster, which others had before.
    pub(crate) async fn cluster(cluster: &Arc<Mutex<Cluster>>) -> Self {
        let (store, second) = {
            let cluster = cluster.lock().await;
            for server in &cluster.servers {
                server.command(&["FLUSHALL"]).await;
            }
            (cluster.store(), cluster.store())
        };
        Self { store, second, behind: Behind::Cluster(cluster.clone()) }
    }

    /// Lets time pass for grants, leases and lists.
    pub(crate) async fn pass(&self, ms: u64) {
        match &self.behind {
            Behind::Memory { ahead_ms, .. } => {
                ahead_ms.fetch_add(ms, Ordering::SeqCst);
            }
            Behind::Redis(server) => server.age(ms).await,
            Behind::Cluster(cluster) => {
                for server in &cluster.lock().await.servers {
                    server.age(ms).await;
                }
            }
        }
    }

    /// A restart of the store that keeps its data.
    pub(crate) async fn restart(&mut self) {
        match &mut self.behind {
            Behind::Memory { store, .. } => store.restart(),
            Behind::Redis(server) => server.restart(true).await,
            Behind::Cluster(cluster) => cluster.lock().await.restart().await,
        }
        self.reconnect().await;
    }

    /// The loss of all data.
    pub(crate) async fn wipe(&mut self) {
        match &mut self.behind {
            Behind::Memory { store, .. } => store.wipe(),
            Behind::Redis(server) => server.command(&["FLUSHALL"]).await,
            Behind::Cluster(cluster) => {
                for server in &cluster.lock().await.servers {
                    server.command(&["FLUSHALL"]).await;
                }
            }
        }
    }

    /// Until both clients have a connection again.
    async fn reconnect(&self) {
        for store in [&self.store, &self.second] {
            until("the store answers again", || async { store.now_ms().await.is_ok() && store.runs().await.is_ok() })
                .await;
        }
    }
}

/// A client of the server's data.
pub(crate) fn client(server: &Server) -> Arc<dyn Store> {
    Arc::new(RedisStore::new(&server.url(), &RedisSettings::default()).unwrap())
}

/// Waits until `condition` holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The next event of a watch.
pub(crate) async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    tokio::time::timeout(Duration::from_secs(10), events.recv()).await.expect("an event in time").expect("an event")
}

/// Reads on until the channel ends.
pub(crate) async fn ended<T>(channel: &mut mpsc::Receiver<T>) {
    let end = async { while channel.recv().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("the channel ends in time");
}
