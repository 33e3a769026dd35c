//! Lease, reports, assertions, releases and commands against a real store in memory.

mod held_up;
mod moving;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use roost_agent_core::hold::{Offer, State as HoldState, Verdict};
use roost_agent_core::sample::Sampler;
use roost_proto::command::{Action, Command};
use roost_proto::error::{Code, Problem};
use roost_proto::event::Event;
use roost_proto::id::{Epoch, Incarnation, NodeId, Region, RoomKey};
use roost_proto::report::{Capacity, Description, MediaKind, Report, RoomReport, Worker};
use roost_proto::room::{ClaimState, Expected, Run};
use roost_proto::time::Millis;
use roost_server::{ClusterKeys, Readiness};
use roost_store::operation::{Grant, Granted, Register, Registered, Renew};
use roost_store::{EmbeddedStore, NodeStore, Store};

use super::assertion::Assertion;
use super::commands::Commands;
use super::lost::LostRooms;
use super::moving::Moving;
use super::release;
use super::renewal::Renewal;
use crate::door::lookup::{Directory, Found, Wanted};
use crate::error::AgentError;
use crate::inside::{Goodbye, Inside};
use crate::metrics::AgentMetrics;
use crate::node::Node;
use crate::probe::host::HostProbe;
use crate::report::Reporter;

#[tokio::test]
async fn the_first_report_is_full_and_the_next_ones_say_what_changed() {
    let agent = Agent::new();
    let mut events = agent.store.watch().await.expect("in memory");
    let _tasks = agent.start();
    let first = report(&mut events).await;
    assert_eq!((first.seq, first.full, first.rooms), (1, true, 0));
    agent.open("standup").await;
    agent.node.report_wanted.notify_one();
    let second = report(&mut events).await;
    assert_eq!((second.seq, second.full, second.rooms), (2, false, 1));
    assert_eq!(second.changed[0].key, room("standup"));
}

#[tokio::test]
async fn in_a_new_run_of_the_store_the_lease_is_taken_anew_and_rooms_keep_their_epochs() {
    let agent = Agent::new();
    let _tasks = agent.start();
    let before = agent.open("standup").await;
    agent.store.restart();
    agent.node.report_wanted.notify_one();
    let after = agent.until_held("standup", before.incarnation).await;
    assert_eq!(after.epoch, before.epoch);
    let claim = agent.store.read(&room("standup")).await.expect("in memory").expect("asserted");
    assert_eq!((claim.epoch, claim.state, claim.incarnation), (before.epoch, ClaimState::Open, after.incarnation));
}

#[tokio::test]
async fn a_node_that_lapsed_before_a_new_run_admits_under_a_new_epoch_after_its_grace() {
    let agent = Agent::new();
    let before = agent.open_before_a_lapse("standup").await;
    agent.store.restart();
    let _tasks = agent.start();
    let hold = |state: HoldState| agent.hold("standup").filter(|(now, _)| *now == state);
    let (_, incarnation) = until("it is asserted provisionally", || hold(HoldState::Provisional)).await;
    let claim = agent.store.read(&room("standup")).await.expect("in memory").expect("asserted");
    assert_eq!((claim.epoch, claim.state, claim.incarnation), (before.epoch, ClaimState::Open, incarnation));
    let knock = |offer| agent.node.with(|state, now| state.holdings.knock(&room("standup"), offer, &state.lease, now));
    assert_eq!(knock(None), Verdict::Suspended);
    assert!(agent.node.with(|state, now| state.to_confirm(0, now)).is_empty(), "its grace has begun just now");
    let after = agent.until_held("standup", before.incarnation).await;
    assert!(after.epoch > before.epoch);
    assert_eq!(knock(None), Verdict::Admit { opened_as: before.epoch });
}

#[tokio::test]
async fn a_node_knows_the_stores_in_which_it_has_registered() {
    let agent = Agent::new();
    let _tasks = agent.start();
    agent.open("standup").await;
    let before = agent.store.identity().await.expect("in memory");
    assert!(agent.node.with(|state, _| state.knows_store(&before) && !state.knows_store("another")));
    agent.store.wipe();
    let after = agent.store.identity().await.expect("in memory");
    agent.node.report_wanted.notify_one();
    until("it knows the new one", || agent.node.with(|state, _| state.knows_store(&after).then_some(()))).await;
    assert!(agent.node.with(|state, _| state.knows_store(&before)), "its rooms' tickets are of that one");
}

#[tokio::test]
async fn rooms_of_a_bucket_with_a_new_run_are_asserted_also_while_the_lease_goes_on() {
    let agent = Agent::new();
    let _tasks = agent.start();
    let before = agent.open("standup").await;
    let bucket = room("standup").bucket();
    assert_ne!(bucket, agent.node.id.bucket());
    agent.node.note_run(bucket, Run("another".into()), Millis(u64::MAX));
    assert!(matches!(agent.hold("standup"), Some((HoldState::Wanted { .. }, _))));
    until("it is open again", || agent.hold("standup").filter(|(state, _)| *state == HoldState::Open)).await;
    assert_eq!(agent.hold("standup"), Some((HoldState::Open, before.incarnation)));
}

#[tokio::test]
async fn after_a_lapse_what_nobody_took_is_this_nodes_again_in_a_new_generation() {
    let agent = Agent::new();
    let _tasks = agent.start();
    let before = agent.open("standup").await;
    agent.clock.fetch_add(10_000, Ordering::Relaxed);
    agent.node.report_wanted.notify_one();
    let after = agent.until_held("standup", before.incarnation).await;
    assert!(after.epoch > before.epoch);
}

#[tokio::test]
async fn after_a_lapse_the_participants_of_a_room_that_another_took_are_sent_there() {
    let agent = Agent::new();
    let mut tasks = agent.start();
    let before = agent.open("standup").await;
    tasks.shutdown().await;
    let seen = agent.store.read(&room("standup")).await.expect("in memory");
    agent.clock.fetch_add(10_000, Ordering::Relaxed);
    agent.grant("standup", seen, "iad-1", Incarnation(1)).await;
    let _tasks = agent.start();
    let (closed, opened_as, goodbye) = agent.until_closed().await;
    assert_eq!((closed, opened_as), (room("standup"), before.epoch));
    assert!(matches!(goodbye, Goodbye::Moved(found) if found.node.as_str() == "iad-1"));
    assert!(agent.node.with(|state, _| state.holdings.is_empty()));
}

#[tokio::test]
async fn an_ended_room_is_released() {
    let agent = Agent::new();
    let _tasks = agent.start();
    let offer = agent.open("standup").await;
    agent.node.with(|state, _| state.holdings.end_if_empty(&room("standup"), offer.epoch));
    until("it is released", || agent.node.with(|state, _| (state.holdings.releases_len() == 0).then_some(()))).await;
    assert_eq!(agent.store.read(&room("standup")).await.expect("in memory"), None);
}

#[tokio::test]
async fn a_room_is_closed_by_command_in_the_generation_that_was_meant_only() {
    let agent = Agent::new();
    let mut events = agent.store.watch().await.expect("in memory");
    let _tasks = agent.start();
    let offer = agent.open("standup").await;
    report(&mut events).await;
    for (incarnation, epoch) in
        [(Incarnation(1), offer.epoch), (offer.incarnation, Epoch(1)), (offer.incarnation, offer.epoch)]
    {
        assert!(agent.inside.closed.lock().expect("not poisoned").is_empty());
        let action = Action::CloseRoom { key: room("standup"), epoch };
        let command = Command { v: 1, incarnation, action };
        agent.store.send(&agent.node.id, command).await.expect("in memory");
    }
    let (_, opened_as, goodbye) = agent.until_closed().await;
    assert!(opened_as == offer.epoch && matches!(goodbye, Goodbye::Ended));
}

#[tokio::test]
async fn a_node_id_whose_lease_another_process_renews_is_refused() {
    let agent = Agent::new();
    let mut other = agent.another_process().await;
    let store = agent.store.clone();
    let mut renewing = JoinSet::new();
    renewing.spawn(async move {
        loop {
            other.report.seq += 1;
            store.renew(other.clone()).await.expect("in memory");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let end = timeout(WITHIN, agent.renewal().run()).await.expect("it is refused");
    assert!(matches!(&end, AgentError::NodeIdTaken { node } if *node == agent.node.id), "{end}");
    assert_eq!(end.exit_code(), 1);
}

#[tokio::test]
async fn the_lease_of_a_process_that_was_killed_a_moment_ago_is_waited_for() {
    let agent = Agent::new();
    agent.another_process().await;
    let _tasks = agent.start();
    until("it was refused once", || agent.readiness_says("none").then_some(())).await;
    agent.clock.fetch_add(10_000, Ordering::Relaxed);
    until("it has the lease", || agent.node.with(|state, _| state.lease.incarnation())).await;
}

const WITHIN: Duration = Duration::from_secs(10);

/// An agent without doors, and the store that it has, whose clock can be moved.
struct Agent {
    node: Arc<Node>,
    store: Arc<EmbeddedStore>,
    clock: Arc<AtomicU64>,
    inside: Arc<Listed>,
    metrics: Arc<AgentMetrics>,
    readiness: Readiness,
}

impl Agent {
    fn new() -> Self {
        let ahead = Arc::new(AtomicU64::new(1_700_000_000_000));
        let (started, moved) = (std::time::Instant::now(), ahead.clone());
        let clock = move || moved.load(Ordering::Relaxed) + u64::try_from(started.elapsed().as_millis()).unwrap_or(0);
        Self {
            node: Arc::new(Node::new(NodeId::new("fra-1").expect("valid"), 4_000)),
            store: Arc::new(EmbeddedStore::with_clock(Box::new(clock))),
            clock: ahead,
            inside: Arc::new(Listed::default()),
            metrics: Arc::new(AgentMetrics::new()),
            readiness: Readiness::new(),
        }
    }

    fn renewal(&self) -> Renewal {
        Renewal {
            trust_refused: true,
            node: self.node.clone(),
            store: self.store.clone(),
            reporter: Reporter {
                node: self.node.id.clone(),
                description: description(),
                inside: self.inside.clone(),
                probe: HostProbe::new(Path::new("/")),
                sampler: Sampler::default(),
                empty_room_ms: 20_000,
            },
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            process: "this".to_owned(),
        }
    }

    fn start(&self) -> JoinSet<()> {
        self.start_with(self.store.clone(), Arc::new(There))
    }

    fn start_with(&self, store: Arc<dyn NodeStore>, directory: Arc<dyn Directory>) -> JoinSet<()> {
        let (node, inside) = (self.node.clone(), self.inside.clone());
        let metrics = self.metrics.clone();
        let renewal = Renewal { store: store.clone(), ..self.renewal() };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            renewal.run().await;
        });
        tasks.spawn(release::run(node.clone(), store.clone()));
        let (lost, search) = LostRooms::new(node.id.clone(), directory, inside.clone());
        tasks.spawn(search.run());
        let moving = Moving {
            node: node.clone(),
            store: store.clone(),
            inside: inside.clone(),
            lost: lost.clone(),
            keys: Some(ClusterKeys::dev()),
            metrics: metrics.clone(),
        };
        tasks.spawn(moving.run());
        tasks.spawn(Assertion { node: node.clone(), store: store.clone(), lost, metrics: metrics.clone() }.run());
        tasks.spawn(Commands { node, store, inside, metrics }.run());
        tasks
    }

    /// Opens a room, and loses the lease; nothing runs afterwards.
    async fn open_before_a_lapse(&self, name: &str) -> Offer {
        let tasks = self.start();
        let offer = self.open(name).await;
        drop(tasks);
        self.node.with(|state, _| state.lapsed(offer.incarnation));
        offer
    }

    /// Opens a room as the door does.
    async fn open(&self, name: &str) -> Offer {
        let incarnation = until("it has the lease", || self.node.with(|state, _| state.lease.incarnation())).await;
        let epoch = self.grant(name, None, "fra-1", incarnation).await;
        let offer = Offer { incarnation, epoch };
        self.node.with(|state, now| state.holdings.begin_open(&room(name), offer, now));
        let holding = roost_store::operation::Holding {
            run: self.node.with(|state, _| state.run(room(name).bucket())).expect("known"),
            room: room(name),
            node: self.node.id.clone(),
            incarnation,
            epoch,
        };
        self.store.open(holding).await.expect("in memory");
        assert!(self.node.with(|state, now| state.holdings.opened(&room(name), offer, now)));
        offer
    }

    async fn grant(
        &self,
        name: &str,
        seen: Option<roost_proto::room::Claim>,
        node: &str,
        incarnation: Incarnation,
    ) -> Epoch {
        let runs = self.store.runs().await.expect("in memory");
        let grant = Grant {
            run: runs[usize::from(room(name).bucket())].clone(),
            room: room(name),
            seen,
            node: NodeId::new(node).expect("valid"),
            incarnation,
            ttl_ms: 30_000,
            expected: Expected::default(),
        };
        match self.store.grant(grant).await.expect("in memory") {
            Granted::Yes { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
    }

    /// Registers the same node for another process; gives what renews it.
    async fn another_process(&self) -> Renew {
        let runs = self.store.runs().await.expect("in memory");
        let run = runs[usize::from(self.node.id.bucket())].clone();
        let register = Register {
            node: self.node.id.clone(),
            run: run.clone(),
            process: "another".to_owned(),
            after: Incarnation(0),
            lease_ms: 4_000,
        };
        let registered = self.store.register(register).await.expect("in memory");
        let Registered::Yes { incarnation, .. } = registered else { panic!("{registered:?}") };
        let mut reporter = self.renewal().reporter;
        let sample = reporter.sample(crate::clock::now());
        let report = self.node.with(|state, now| reporter.compose(state, incarnation, sample, now));
        Renew { run, report, buckets: Vec::new() }
    }

    /// Waits until the room is open under a later incarnation.
    async fn until_held(&self, name: &str, before: Incarnation) -> Offer {
        until("the room is open again", || {
            self.node.with(|state, _| {
                let hold = state.holdings.get(&room(name))?;
                let is_back = hold.state == HoldState::Open && hold.incarnation > before;
                is_back.then_some(Offer { incarnation: hold.incarnation, epoch: hold.epoch })
            })
        })
        .await
    }

    fn hold(&self, name: &str) -> Option<(HoldState, Incarnation)> {
        self.node.with(|state, _| state.holdings.get(&room(name)).map(|hold| (hold.state, hold.incarnation)))
    }

    async fn until_closed(&self) -> (RoomKey, Epoch, Goodbye) {
        until("a room is closed", || self.inside.closed.lock().expect("not poisoned").pop()).await
    }

    fn readiness_says(&self, lease: &str) -> bool {
        format!("{:?}", self.readiness).contains(lease)
    }
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WITHIN, looking).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

async fn report(events: &mut mpsc::Receiver<Event>) -> Report {
    loop {
        let event = timeout(WITHIN, events.recv()).await.expect("in time").expect("the store lives");
        if let Event::Reported(report) = event {
            return *report;
        }
    }
}

fn room(name: &str) -> RoomKey {
    RoomKey::new("default", name).expect("valid")
}

fn description() -> Description {
    Description {
        region: Region::new("eu/central").expect("valid"),
        carriers: Vec::new(),
        namespaces: Vec::new(),
        priority: 0,
        signaling_url: "ws://127.0.0.1/signaling".to_owned(),
        link_url: "ws://127.0.0.1".to_owned(),
        media: MediaKind::Synthetic,
        capacity: Capacity::default(),
        temporary: false,
        version: "test".to_owned(),
    }
}

/// Rooms without anything inside, and a list of those that were closed.
#[derive(Debug, Default)]
struct Listed {
    closed: Mutex<Vec<(RoomKey, Epoch, Goodbye)>>,
}

#[async_trait]
impl Inside for Listed {
    fn rooms(&self) -> Vec<RoomReport> {
        Vec::new()
    }

    fn participants(&self) -> usize {
        0
    }

    fn workers(&self) -> Vec<Worker> {
        Vec::new()
    }

    fn close(&self, room: &RoomKey, opened_as: Epoch, why: Goodbye) {
        self.closed.lock().expect("not poisoned").push((room.clone(), opened_as, why));
    }

    async fn close_all(&self, _: Goodbye) {}
}

/// Every room lives at the other node.
#[derive(Debug)]
struct There;

#[async_trait]
impl Directory for There {
    async fn find(&self, wanted: Wanted<'_>) -> Result<Found, Problem> {
        let node = NodeId::new("iad-1").map_err(|_| Problem::new(Code::Internal, wanted.room.to_string()))?;
        Ok(Found { node, signaling_url: "ws://iad-1".to_owned(), epoch: Epoch(1), ticket: String::new(), offer: None })
    }
}
