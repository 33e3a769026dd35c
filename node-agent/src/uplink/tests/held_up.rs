//! What does not answer holds up nothing else.

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
    let names: Vec<String> = (0..100).map(|number| format!("room-{number}")).collect();
    let other = names.iter().find(|name| room(name).bucket() != room("standup").bucket()).expect("one of sixteen");
    let before = agent.open(other).await;
    drop(tasks);
    agent.store.restart();
    let silent = SilentBucket { store: agent.store.clone(), bucket: room("standup").bucket() };
    let _tasks = agent.start_with(Arc::new(silent), Arc::new(There));
    agent.until_held(other, before.incarnation).await;
    assert!(matches!(agent.hold("standup"), Some((HoldState::Wanted { .. }, _))));
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

/// A store of which one bucket's rooms cannot be reached.
#[derive(Debug)]
struct SilentBucket {
    store: Arc<EmbeddedStore>,
    bucket: u8,
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
        self.store.release(holding).await
    }

    async fn hand_over(&self, hand_over: HandOver) -> Result<HandedOver, StoreError> {
        self.store.hand_over(hand_over).await
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
