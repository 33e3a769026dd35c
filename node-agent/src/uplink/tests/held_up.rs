//! What does not answer, or refuses: it holds up nothing else.

use std::sync::atomic::AtomicBool;

use roost_agent_core::hold::Target;
use roost_store::StoreError;
use roost_store::operation::{
    Assert, Asserted, HandOver, HandedOver, Holding, Leave, Opened, Raise, Raised, Released, Renewed, SchedulerEntry,
};

use super::*;

#[tokio::test]
async fn a_part_of_the_store_that_does_not_answer_holds_up_no_room_of_another_part() {
    let agent = Agent::new();
    let tasks = agent.start();
    agent.open("standup").await;
    let other = elsewhere();
    let before = agent.open(&other).await;
    drop(tasks);
    agent.store.restart();
    let _tasks = agent.start_with(SilentBucket::of(&agent), Arc::new(There));
    agent.until_held(&other, before.incarnation).await;
    assert!(matches!(agent.hold("standup"), Some((HoldState::Wanted { .. }, _))));
}

#[tokio::test]
async fn a_release_that_is_not_answered_holds_up_none_of_another_part() {
    let agent = Agent::new();
    let silent = SilentBucket::of(&agent);
    let _tasks = agent.start_with(silent.clone(), Arc::new(There));
    let (first, other) = (agent.open("standup").await, elsewhere());
    let second = agent.open(&other).await;
    let end = |name: &str, epoch| agent.node.with(|state, _| state.holdings.end_if_empty(&room(name), epoch));
    end("standup", first.epoch);
    until("the first is on its way", || (silent.asked() == 1).then_some(())).await;
    end(&other, second.epoch);
    until("the second is released", || (agent.node.with(|state, _| state.holdings.releases_len()) == 1).then_some(()))
        .await;
    assert_eq!(silent.asked(), 1, "the first still waits for its answer");
}

#[tokio::test]
async fn a_move_that_is_not_answered_holds_up_none_of_another_part() {
    let agent = Agent::new();
    let silent = SilentBucket::of(&agent);
    let _tasks = agent.start_with(silent.clone(), Arc::new(There));
    let (first, other) = (agent.open("standup").await, elsewhere());
    let second = agent.open(&other).await;
    let to_move = |name: &str, epoch| {
        let to = Target {
            node: NodeId::new("iad-1").expect("valid"),
            incarnation: Incarnation(7),
            signaling_url: "ws://iad-1/signaling".to_owned(),
            ttl_ms: 30_000,
        };
        assert!(agent.node.with(|state, _| state.holdings.begin_move(&room(name), epoch, to, &state.lease)));
        agent.node.move_wanted.notify_one();
    };
    to_move("standup", first.epoch);
    until("the first is on its way", || (silent.asked() == 1).then_some(())).await;
    to_move(&other, second.epoch);
    let (closed, _, _) = agent.until_closed().await;
    assert_eq!((closed, silent.asked()), (room(&other), 1), "the first still waits for its answer");
}

#[tokio::test]
async fn lookups_that_are_not_answered_hold_up_no_assertion() {
    let agent = Agent::new();
    let mut tasks = agent.start();
    let lost: Vec<String> = (0..40).map(|number| format!("room-{number}")).collect();
    for name in &lost {
        agent.open(name).await;
    }
    let before = agent.open("standup").await;
    tasks.shutdown().await;
    agent.clock.fetch_add(10_000, Ordering::Relaxed);
    for name in &lost {
        let seen = agent.store.read(&room(name)).await.expect("in memory");
        agent.grant(name, seen, "iad-1", Incarnation(1)).await;
    }
    let _tasks = agent.start_with(agent.store.clone(), Arc::new(Nowhere));
    agent.until_held("standup", before.incarnation).await;
    until("the others are lost", || (agent.node.with(|state, _| state.holdings.len()) == 1).then_some(())).await;
}

#[tokio::test]
async fn a_refusal_prolongs_the_lease_only_where_it_is_trusted() {
    for trust_refused in [true, false] {
        let agent = Agent::new();
        let store = SilentBucket::of(&agent);
        store.refuses.store(true, Ordering::Relaxed);
        let renewal = Renewal { trust_refused, store: store.clone(), ..agent.renewal() };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            renewal.run().await;
        });
        let deadline = || agent.node.with(|state, _| state.lease.deadline());
        until("it was refused", || (store.asked() == 1).then_some(())).await;
        let before = deadline().expect("it has registered");
        until("it was refused again", || (store.asked() == 3).then_some(())).await;
        assert_eq!(deadline().is_some_and(|deadline| deadline > before), trust_refused);
    }
}

/// A store of which one bucket's rooms cannot be reached.
#[derive(Debug)]
struct SilentBucket {
    store: Arc<EmbeddedStore>,
    bucket: u8,
    /// How many calls it did not answer, or refused.
    asked: AtomicU64,
    /// Whether it refuses renewals.
    refuses: AtomicBool,
}

impl SilentBucket {
    /// That of the room `standup`.
    fn of(agent: &Agent) -> Arc<Self> {
        let (asked, refuses) = Default::default();
        Arc::new(Self { store: agent.store.clone(), bucket: room("standup").bucket(), asked, refuses })
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    async fn silence<T>(&self) -> T {
        self.asked.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }
}

/// The name of a room in another bucket than `standup`.
fn elsewhere() -> String {
    let mut names = (0..100).map(|number| format!("room-{number}"));
    names.find(|name| room(name).bucket() != room("standup").bucket()).expect("one of sixteen")
}

#[async_trait]
impl NodeStore for SilentBucket {
    async fn runs(&self) -> Result<Vec<Run>, StoreError> {
        self.store.runs().await
    }

    async fn identity(&self) -> Result<String, StoreError> {
        self.store.identity().await
    }

    async fn register(&self, register: Register) -> Result<Registered, StoreError> {
        self.store.register(register).await
    }

    async fn renew(&self, renew: Renew) -> Result<Renewed, StoreError> {
        if self.refuses.load(Ordering::Relaxed) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::Refused { reason: "nobody listens".to_owned() });
        }
        self.store.renew(renew).await
    }

    async fn open(&self, holding: Holding) -> Result<Opened, StoreError> {
        self.store.open(holding).await
    }

    async fn assert(&self, assert: Assert) -> Result<Asserted, StoreError> {
        if assert.held.room.bucket() == self.bucket {
            std::future::pending().await
        } else {
            self.store.assert(assert).await
        }
    }

    async fn release(&self, holding: Holding) -> Result<Released, StoreError> {
        if holding.room.bucket() == self.bucket { self.silence().await } else { self.store.release(holding).await }
    }

    async fn hand_over(&self, hand_over: HandOver) -> Result<HandedOver, StoreError> {
        let is_silent = hand_over.held.room.bucket() == self.bucket;
        if is_silent { self.silence().await } else { self.store.hand_over(hand_over).await }
    }

    async fn raise(&self, raise: Raise) -> Result<Raised, StoreError> {
        if raise.bucket == self.bucket { std::future::pending().await } else { self.store.raise(raise).await }
    }

    async fn leave(&self, leave: Leave) -> Result<(), StoreError> {
        self.store.leave(leave).await
    }

    async fn commands(&self, node: &NodeId, incarnation: Incarnation) -> Result<mpsc::Receiver<Command>, StoreError> {
        self.store.commands(node, incarnation).await
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerEntry>, StoreError> {
        self.store.schedulers().await
    }
}

/// Nobody says where a room lives.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Directory for Nowhere {
    async fn find(&self, _: Wanted<'_>) -> Result<Found, Problem> {
        std::future::pending().await
    }
}
