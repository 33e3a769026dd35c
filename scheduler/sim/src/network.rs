//! How long messages take. Whatever goes from one place to another asks here when it arrives: faults have this one door.

use rand::RngExt as _;
use rand_pcg::Pcg64;
use roost_proto::hash::BUCKETS;
use roost_proto::time::Millis;

use crate::random::stream;
use crate::scenario::Delays;

/// The ways between clients, schedulers, nodes and the store.
#[derive(Debug)]
pub(crate) struct Network {
    delays: Delays,
    random: Pcg64,
    /// When the last event of each bucket's stream arrives at each scheduler.
    streams: Vec<[Millis; BUCKETS as usize]>,
}

impl Network {
    pub(crate) fn new(delays: Delays, schedulers: usize, seed: u64) -> Self {
        let streams = vec![[Millis(0); BUCKETS as usize]; schedulers];
        Self { delays, random: stream(seed, "network"), streams }
    }

    /// When an event of a bucket that the store writes now reaches the scheduler. A stream keeps its order.
    pub(crate) fn event(&mut self, scheduler: usize, bucket: u8, now: Millis) -> Millis {
        let arrives = self.draw(self.delays.events_ms, now);
        let last = &mut self.streams[scheduler][usize::from(bucket)];
        *last = arrives.max(*last);
        *last
    }

    /// When a call reaches the store, or its answer the caller.
    pub(crate) fn store(&mut self, now: Millis) -> Millis {
        self.draw(self.delays.store_ms, now)
    }

    /// When a client that was answered now stands at the node's door.
    pub(crate) fn client(&mut self, now: Millis) -> Millis {
        self.draw(self.delays.client_ms, now)
    }

    fn draw(&mut self, [least, most]: [u64; 2], now: Millis) -> Millis {
        now.plus(if least == most { least } else { self.random.random_range(least..=most) })
    }
}
