//! The shared state of a simulated cluster: the specification of ownership itself, in memory.

use roost_proto::hash::BUCKETS;
use roost_proto::id::RoomKey;
use roost_proto::room::Run;
use roost_proto::time::Millis;
use roost_store::claim::Bucket;

/// What the store's clock shows when a run begins, so that nobody takes it for simulated time.
const STORE_BEGINS_MS: u64 = 1_700_000_000_000;

/// All buckets.
#[derive(Debug)]
pub(crate) struct SimStore {
    buckets: Vec<Bucket>,
}

impl SimStore {
    pub(crate) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Bucket::new(first_run())).collect() }
    }

    /// The bucket of this number.
    pub(crate) fn bucket(&mut self, number: u8) -> &mut Bucket {
        &mut self.buckets[usize::from(number)]
    }

    /// The bucket that holds the room's claim.
    pub(crate) fn of(&mut self, key: &RoomKey) -> &mut Bucket {
        self.bucket(key.bucket())
    }
}

/// The run that all buckets are in at first.
pub(crate) fn first_run() -> Run {
    Run("run-1".into())
}

/// The store's clock.
pub(crate) fn store_ms(now: Millis) -> u64 {
    STORE_BEGINS_MS + now.0
}
