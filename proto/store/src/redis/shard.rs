//! The servers of the store, and which buckets each has. One server has all; in a Cluster each master has some.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::Client;

use roost_proto::hash::BUCKETS;

use super::attempt::Attempts;
use super::cluster::Cluster;
use super::reach::Sentinels;
use super::refusal::Dialled;
use super::session::Session;
use crate::error::StoreError;

/// Where the store is.
#[derive(Debug)]
pub(super) enum Place {
    Server(Client),
    Sentinels(Sentinels),
    Cluster(Cluster),
}

/// All servers, as far as they are known.
#[derive(Debug)]
pub(super) struct Shards {
    pub(super) all: Vec<Arc<Shard>>,
    /// The number of the shard that has a bucket.
    pub(super) of_bucket: Vec<Option<usize>>,
}

/// One server, the buckets that it has, and a few connections to it. Each thread of the process uses one of them: that
/// costs least where threads are few.
#[derive(Debug)]
pub(super) struct Shard {
    /// Which server it is.
    pub(super) name: String,
    /// None: who is asked each time is the place's to find out.
    pub(super) client: Option<Client>,
    pub(super) dialled: Dialled,
    pub(super) buckets: Vec<u8>,
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    live: Mutex<Option<Arc<Session>>>,
    pub(super) attempts: Attempts,
}

impl Shards {
    /// The only shard, with all buckets.
    pub(super) fn one(client: Option<Client>, connections: usize) -> Arc<Self> {
        let dialled = client.as_ref().map(|client| Dialled::of(client.get_connection_info().addr()));
        let shard = Shard::new(String::new(), client, (0..BUCKETS).collect(), connections);
        let shard = Shard { dialled: dialled.unwrap_or_default(), ..shard };
        Arc::new(Self { all: vec![Arc::new(shard)], of_bucket: vec![Some(0); usize::from(BUCKETS)] })
    }

    pub(super) fn of(&self, bucket: u8) -> Result<&Arc<Shard>, StoreError> {
        let number = self.of_bucket.get(usize::from(bucket % BUCKETS)).copied().flatten();
        let shard = number.and_then(|number| self.all.get(number));
        shard.ok_or_else(|| StoreError::Unavailable { reason: format!("no server has bucket {bucket}") })
    }
}

impl Shard {
    /// A shard whose refusals prove nothing, because another server may take over.
    pub(super) fn new(name: String, client: Option<Client>, buckets: Vec<u8>, connections: usize) -> Self {
        let slots = (0..connections.max(1)).map(|_| Slot::default()).collect();
        Self { name, client, dialled: Dialled::default(), buckets, slots }
    }

    /// This thread's.
    pub(super) fn slot(&self) -> &Slot {
        &self.slots[thread_number() % self.slots.len()]
    }
}

impl Slot {
    pub(super) fn live(&self) -> Option<Arc<Session>> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.as_ref().filter(|session| !session.is_gone()).cloned()
    }

    pub(super) fn set(&self, session: Arc<Session>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

/// Numbers the threads in the order in which they first call.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
