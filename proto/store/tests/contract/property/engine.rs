//! The specification and the stores behind one set of calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::room::{Claim, Run};
use roost_store::claim::{Bucket, Step};
use roost_store::operation::{
    Assert, Asserted, Grant, Granted, HandOver, HandedOver, Holding, Lease, Leave, Opened, Prolonged, Purged, Raise,
    Raised, Register, Registered, Released, Renew, Renewed, Steer, Steered,
};
use roost_store::{EmbeddedStore, Store};
use tokio::sync::mpsc;

use crate::server::Server;
use crate::stage::{client, next, until};

const START_MS: u64 = 1_790_000_000_000;

/// What a party does its steps on.
pub(super) enum Engine<'a> {
    Specification(Specified),
    Store { store: Arc<dyn Store>, behind: Behind<'a>, events: Option<mpsc::Receiver<Event>> },
}

pub(super) struct Specified {
    buckets: Vec<Bucket>,
    now: u64,
    lives: u32,
    told: Vec<Event>,
}

pub(super) enum Behind<'a> {
    Memory { store: Arc<EmbeddedStore>, clock: Arc<AtomicU64> },
    Redis(&'a Server),
}

impl Specified {
    fn life(&mut self) -> impl Iterator<Item = Run> + use<> {
        self.lives += 1;
        let life = self.lives;
        (0..BUCKETS).map(move |bucket| Run(format!("{life}/{bucket}").into()))
    }

    fn step<T>(&mut self, bucket: u8, step: impl FnOnce(&mut Bucket, u64) -> Step<T>) -> T {
        let (answer, event) = step(&mut self.buckets[usize::from(bucket)], self.now);
        self.told.extend(event);
        answer
    }
}

impl<'a> Engine<'a> {
    pub(super) fn specification() -> Self {
        let mut specified = Specified { buckets: Vec::new(), now: START_MS, lives: 0, told: Vec::new() };
        specified.buckets = specified.life().map(Bucket::new).collect();
        Self::Specification(specified)
    }

    pub(super) fn embedded() -> Self {
        let clock = Arc::new(AtomicU64::new(START_MS));
        let time = clock.clone();
        let store = Arc::new(EmbeddedStore::with_clock(Box::new(move || time.load(Ordering::SeqCst))));
        Self::Store { store: store.clone(), behind: Behind::Memory { store, clock }, events: None }
    }

    pub(super) async fn redis(server: &'a Server) -> Self {
        server.command(&["FLUSHALL"]).await;
        Self::Store { store: client(server), behind: Behind::Redis(server), events: None }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Specification(_) => "specification",
            Self::Store { store, .. } => store.kind(),
        }
    }

    pub(super) async fn runs(&self) -> Vec<Run> {
        match self {
            Self::Specification(it) => it.buckets.iter().map(|bucket| bucket.run().clone()).collect(),
            Self::Store { store, .. } => store.runs().await.unwrap(),
        }
    }

    /// Watches, and waits until the snapshot is over: what is in it might be told again.
    pub(super) async fn watch(&mut self) {
        let Self::Store { store, behind, events } = self else { return };
        if let Behind::Redis(server) = behind {
            follows(server, false).await;
        }
        *events = Some(store.watch().await.unwrap());
        if let Behind::Redis(server) = behind {
            follows(server, true).await;
        }
    }

    /// The events since the watch began; `count` of them are expected.
    pub(super) async fn told(&mut self, count: usize) -> Vec<Event> {
        match self {
            Self::Specification(it) => it.told.clone(),
            Self::Store { events: None, .. } => Vec::new(),
            Self::Store { events: Some(events), .. } => {
                let mut told = Vec::new();
                while told.len() < count {
                    told.push(next(events).await);
                }
                told.extend(events.try_recv());
                told
            }
        }
    }

    /// Time passes. Redis has a clock of its own: there only what is far is brought nearer.
    pub(super) async fn pass(&mut self, ms: u64) {
        match self {
            Self::Specification(it) => it.now += ms,
            Self::Store { behind: Behind::Memory { clock, .. }, .. } => {
                clock.fetch_add(ms, Ordering::SeqCst);
            }
            Self::Store { behind: Behind::Redis(server), .. } if ms > 1 => server.age(ms).await,
            Self::Store { .. } => {}
        }
    }

    /// The store's clock goes on until it shows more than `ms`.
    pub(super) async fn pass_beyond(&mut self, ms: u64) {
        match self {
            Self::Specification(it) => it.now = it.now.max(ms + 1),
            Self::Store { behind: Behind::Memory { clock, .. }, .. } => {
                clock.fetch_max(ms + 1, Ordering::SeqCst);
            }
            Self::Store { store, .. } => {
                until("the clock went on", || async { store.now_ms().await.is_ok_and(|now| now > ms) }).await;
            }
        }
    }

    pub(super) async fn restart(&mut self) {
        match self {
            Self::Specification(it) => {
                let life = it.life();
                it.buckets.iter_mut().zip(life).for_each(|(bucket, run)| bucket.begin(run));
            }
            Self::Store { behind: Behind::Memory { store, .. }, .. } => store.restart(),
            Self::Store { store, behind: Behind::Redis(server), .. } => {
                // To the data it is all the same whether the process is another or only the one who wrote them.
                for bucket in 0..BUCKETS {
                    server.command(&["HSET", &format!("roost:{{b{bucket}}}:meta"), "server", "before"]).await;
                }
                *store = client(server);
            }
        }
    }

    pub(super) async fn wipe(&mut self) {
        match self {
            Self::Specification(it) => it.buckets = it.life().map(Bucket::new).collect(),
            Self::Store { behind: Behind::Memory { store, .. }, .. } => store.wipe(),
            Self::Store { behind: Behind::Redis(server), .. } => server.command(&["FLUSHALL"]).await,
        }
    }

    pub(super) async fn register(&mut self, register: Register) -> Registered {
        match self {
            Self::Specification(it) => it.step(register.node.bucket(), |b, now| (b.register(&register, now), None)),
            Self::Store { store, .. } => store.register(register).await.unwrap(),
        }
    }

    pub(super) async fn renew(&mut self, renew: Renew) -> Renewed {
        match self {
            Self::Specification(it) => it.step(renew.report.node.bucket(), |bucket, now| {
                let answer = bucket.renew(&renew, now);
                let Renewed::Yes { steering, .. } = answer else { return (answer, None) };
                let mut report = renew.report.clone();
                if let Some(steering) = steering {
                    report.steer(steering);
                }
                (answer, Some(Event::Reported(Box::new(report))))
            }),
            Self::Store { store, .. } => store.renew(renew).await.unwrap(),
        }
    }

    pub(super) async fn steer(&mut self, steer: Steer) -> Steered {
        match self {
            Self::Specification(it) => it.step(steer.node.bucket(), |bucket, now| bucket.steer(&steer, now)),
            Self::Store { store, .. } => store.steer(steer).await.unwrap(),
        }
    }

    pub(super) async fn purge(&mut self, node: &NodeId, run: &Run) -> Purged {
        match self {
            Self::Specification(it) => it.step(node.bucket(), |bucket, now| bucket.purge(node, run, now)),
            Self::Store { store, .. } => store.purge(node, run).await.unwrap(),
        }
    }

    pub(super) async fn leave(&mut self, leave: Leave) {
        match self {
            Self::Specification(it) => it.step(leave.node.bucket(), |bucket, now| bucket.leave(&leave, now)),
            Self::Store { store, .. } => store.leave(leave).await.unwrap(),
        }
    }

    pub(super) async fn leases(&mut self, node: &NodeId) -> Vec<Lease> {
        match self {
            Self::Specification(it) => it.step(node.bucket(), |bucket, now| (bucket.leases(node, now), None)),
            Self::Store { store, .. } => store.leases(node).await.unwrap(),
        }
    }

    pub(super) async fn grant(&mut self, grant: Grant) -> Granted {
        match self {
            Self::Specification(it) => it.step(grant.room.bucket(), |bucket, now| bucket.grant(&grant, now)),
            Self::Store { store, .. } => store.grant(grant).await.unwrap(),
        }
    }

    pub(super) async fn prolong(&mut self, room: &RoomKey, claim: &Claim, ttl_ms: u64) -> Prolonged {
        match self {
            Self::Specification(it) => it.step(room.bucket(), |bucket, now| bucket.prolong(room, claim, ttl_ms, now)),
            Self::Store { store, .. } => store.prolong(room, claim, ttl_ms).await.unwrap(),
        }
    }

    pub(super) async fn open(&mut self, holding: Holding) -> Opened {
        match self {
            Self::Specification(it) => it.step(holding.room.bucket(), |bucket, now| bucket.open(&holding, now)),
            Self::Store { store, .. } => store.open(holding).await.unwrap(),
        }
    }

    pub(super) async fn assert(&mut self, assert: Assert) -> Asserted {
        match self {
            Self::Specification(it) => it.step(assert.held.room.bucket(), |bucket, now| bucket.assert(&assert, now)),
            Self::Store { store, .. } => store.assert(assert).await.unwrap(),
        }
    }

    pub(super) async fn release(&mut self, holding: Holding) -> Released {
        match self {
            Self::Specification(it) => it.step(holding.room.bucket(), |bucket, now| bucket.release(&holding, now)),
            Self::Store { store, .. } => store.release(holding).await.unwrap(),
        }
    }

    pub(super) async fn hand_over(&mut self, hand_over: HandOver) -> HandedOver {
        match self {
            Self::Specification(it) => {
                it.step(hand_over.held.room.bucket(), |bucket, now| bucket.hand_over(&hand_over, now))
            }
            Self::Store { store, .. } => store.hand_over(hand_over).await.unwrap(),
        }
    }

    pub(super) async fn raise(&mut self, raise: Raise) -> Raised {
        match self {
            Self::Specification(it) => it.step(raise.bucket, |bucket, _| (bucket.raise(&raise), None)),
            Self::Store { store, .. } => store.raise(raise).await.unwrap(),
        }
    }

    pub(super) async fn read(&mut self, room: &RoomKey) -> Option<Claim> {
        match self {
            Self::Specification(it) => it.step(room.bucket(), |bucket, now| (bucket.read(room, now).cloned(), None)),
            Self::Store { store, .. } => store.read(room).await.unwrap(),
        }
    }
}

/// Waits until a watch follows the server's streams, or none.
async fn follows(server: &Server, expected: bool) {
    until("the watch follows the streams, or has ended", || async {
        let clients: String = server.ask(&["CLIENT", "LIST"]).await;
        clients.contains("cmd=xread") == expected
    })
    .await;
}
