//! The door with a real store in memory, and a directory that says what the test wants.

mod crowd;
mod modes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};

use roost_agent_core::hold::Offer;
use roost_proto::command::Command;
use roost_proto::error::{Code, Problem, Reason};
use roost_proto::id::{Epoch, Incarnation, NodeId, PeerId, RequestId, RoomKey};
use roost_proto::room::{ClaimState, Expected, Run};
use roost_proto::time::Millis;
use roost_server::{ClusterKeys, Shared, Ticket};
use roost_store::operation::{
    Assert, Asserted, Grant, Granted, HandOver, HandedOver, Holding, Leave, Opened, Raise, Raised, Register,
    Registered, Released, Renew, Renewed, SchedulerEntry,
};
use roost_store::{EmbeddedStore, NodeStore, Store, StoreError};

use super::gate::{Gate, Limits};
use super::lookup::{Directory, Found, Wanted};
use super::{Answer, Door, Knock};
use crate::metrics::AgentMetrics;
use crate::node::Node;

#[tokio::test]
async fn many_who_come_at_once_open_the_room_once() {
    let hall = Hall::new().await;
    let ticket = hall.grant("standup").await;
    let knocks = (0..50).map(|_| hall.gate.knock(hall.knock("standup", Some(ticket.clone()))));
    let answers = futures_util::future::join_all(knocks).await;
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Admitted(_))));
    let metrics = hall.metrics();
    assert!(metrics.contains(r#"roost_agent_openings_total{result="open"} 1"#), "{metrics}");
    let claim = hall.store.inner.read(&room("standup")).await.expect("in memory").expect("claimed");
    assert_eq!(claim.state, ClaimState::Open);
}

#[tokio::test]
async fn an_admission_holds_until_the_lease_is_over_and_counts_until_it_is_dropped() {
    let hall = Hall::new().await;
    let ticket = hall.grant("standup").await;
    let admission = admitted(hall.gate.knock(hall.knock("standup", Some(ticket))).await);
    assert!(admission.still_holds());
    assert_eq!(hall.node.with(|state, _| state.guests), 1);
    hall.node.with(|state, _| state.lapsed(state.lease.incarnation().expect("registered")));
    assert!(!admission.still_holds());
    drop(admission);
    assert_eq!(hall.node.with(|state, _| state.guests), 0);
}

#[tokio::test]
async fn an_opening_that_outlived_its_lease_does_not_disturb_the_next_one() {
    let mut hall = Hall::new().await;
    hall.store.answers.forget_permits(usize::MAX);
    let old = hall.grant("standup").await;
    let (gate, knock) = (hall.gate.clone(), hall.knock("standup", Some(old)));
    let first = tokio::spawn(async move { gate.knock(knock).await });
    until("it is being opened", || hall.is_opening()).await;
    hall.begin_anew();
    let new = hall.grant("standup").await;
    let (gate, knock) = (hall.gate.clone(), hall.knock("standup", Some(new.clone())));
    let second = tokio::spawn(async move { gate.knock(knock).await });
    until("it is being opened again", || hall.is_opening()).await;
    hall.store.answers.add_permits(1);
    until("the first opening is over", || hall.metrics().contains(r#"result="refused""#)).await;
    let third = hall.gate.knock(hall.knock("standup", Some(new)));
    let (third, ()) = tokio::join!(third, async { hall.store.answers.add_permits(1) });
    for answer in [Ok(third), first.await, second.await] {
        admitted(answer.expect("no panic"));
    }
}

#[tokio::test]
async fn where_tickets_are_required_each_wrong_one_has_its_code() {
    let hall = Hall::new().await.guarded();
    let offer = hall.offer("standup").await;
    let good = hall.sign(|ticket| ticket.epoch = offer.epoch);
    let other_store = hall.sign(|ticket| (ticket.epoch, ticket.store) = (offer.epoch, "another".to_owned()));
    let mut parts = good.rsplitn(2, '.');
    let (signature, rest) = (parts.next().expect("three parts"), parts.next().expect("three parts"));
    let forged = format!("{rest}.{}", signature.chars().rev().collect::<String>());
    let other_room = hall.grant("other").await;
    let foreign = hall.sign(|ticket| ticket.node = id("iad-1"));
    let expired = hall.sign(|ticket| ticket.expires_store_ms = 1_000);
    let stale = hall.sign(|ticket| ticket.incarnation = Incarnation(1));
    for (ticket, code) in [
        (None, Code::TicketRequired),
        (Some("nonsense".to_owned()), Code::TicketInvalid),
        (Some(forged), Code::TicketInvalid),
        (Some(other_room), Code::TicketWrongRoom),
        (Some(foreign), Code::TicketWrongNode),
        (Some(expired), Code::TicketExpired),
        (Some(stale), Code::TicketStale),
        (Some(other_store), Code::TicketStale),
    ] {
        assert_eq!(refused(hall.gate.knock(hall.knock("standup", ticket.clone())).await).code, code, "{ticket:?}");
    }
    admitted(hall.gate.knock(hall.knock("standup", Some(good))).await);
}

#[tokio::test]
async fn a_ticket_of_the_store_before_still_leads_into_its_open_room() {
    let hall = Hall::new().await.guarded();
    let ticket = hall.grant("standup").await;
    let _first = admitted(hall.gate.knock(hall.knock("standup", Some(ticket.clone()))).await);
    hall.node.with(|state, _| state.note_store("after the wipe".to_owned()));
    admitted(hall.gate.knock(hall.knock("standup", Some(ticket))).await);
}

#[tokio::test]
async fn where_no_ticket_is_required_an_old_one_leads_to_a_lookup() {
    let hall = Hall::new().await;
    hall.directory.say(Ok(elsewhere()));
    let offer = hall.offer("standup").await;
    let other_store = hall.sign(|ticket| (ticket.epoch, ticket.store) = (offer.epoch, "another".to_owned()));
    for ticket in [
        None,
        Some(hall.sign(|ticket| ticket.node = id("iad-1"))),
        Some(hall.sign(|ticket| ticket.expires_store_ms = 1_000)),
        Some(hall.sign(|ticket| ticket.incarnation = Incarnation(1))),
        Some(other_store),
    ] {
        let Answer::Redirect(redirect) = hall.gate.knock(hall.knock("standup", ticket.clone())).await else {
            panic!("{ticket:?} leads nowhere");
        };
        assert_eq!(redirect.node, id("iad-1"));
        assert!(redirect.location.starts_with("wss://iad-1.example/signaling?roomId=standup&peerId=anna"));
        assert!(redirect.location.ends_with("redirects=1"), "{}", redirect.location);
    }
    let forged = hall.gate.knock(hall.knock("standup", Some("nonsense".to_owned()))).await;
    assert_eq!(refused(forged).code, Code::TicketInvalid);
}

#[tokio::test]
async fn a_room_that_the_lookup_places_here_is_opened_here() {
    let hall = Hall::new().await;
    let offer = hall.offer("standup").await;
    hall.directory.say(Ok(here(offer)));
    assert_eq!(admitted(hall.gate.knock(hall.knock("standup", None)).await).epoch, offer.epoch);
}

#[tokio::test]
async fn the_fourth_redirect_is_refused() {
    let hall = Hall::new().await;
    hall.directory.say(Ok(elsewhere()));
    let knock = Knock { redirects: 3, ..hall.knock("standup", None) };
    assert_eq!(refused(hall.gate.knock(knock).await).code, Code::TooManyRedirects);
}

#[tokio::test]
async fn without_the_store_open_rooms_are_joined_and_others_are_not() {
    let hall = Hall::new().await;
    let (open, closed) = (hall.grant("standup").await, hall.grant("other").await);
    let first = admitted(hall.gate.knock(hall.knock("standup", Some(open))).await);
    hall.store.is_away.store(true, Ordering::Relaxed);
    hall.directory.say(Err(Problem::new(Code::StoreUnavailable, "no scheduler answers")));
    let second = admitted(hall.gate.knock(hall.knock("standup", None)).await);
    assert_eq!(first.epoch, second.epoch);
    assert_eq!(refused(hall.gate.knock(hall.knock("other", Some(closed.clone()))).await).code, Code::StoreUnavailable);
    assert_eq!(refused(hall.gate.knock(hall.knock("new", None)).await).code, Code::StoreUnavailable);
    hall.store.is_away.store(false, Ordering::Relaxed);
    // It was certainly not opened, so the same ticket is good again.
    admitted(hall.gate.knock(hall.knock("other", Some(closed))).await);
}

#[tokio::test]
async fn a_fenced_node_admits_nobody() {
    let hall = Hall::new().await;
    let ticket = hall.grant("standup").await;
    let _first = admitted(hall.gate.knock(hall.knock("standup", Some(ticket.clone()))).await);
    hall.node.with(|state, _| {
        let incarnation = state.lease.incarnation().expect("registered");
        state.lease.ended(incarnation);
        state.lease.registered(Incarnation(incarnation.0 + 1), 0, Millis(0), Millis(0));
    });
    let problem = refused(hall.gate.knock(hall.knock("standup", Some(ticket))).await);
    assert_eq!((problem.code, problem.retryable), (Code::StoreUnavailable, true));
}

#[tokio::test]
async fn a_full_node_says_which_limit_it_has_reached() {
    let mut hall = Hall::new().await;
    hall.gate().limits = Limits { participants: 2, rooms: 1 };
    let ticket = hall.grant("standup").await;
    let first = admitted(hall.gate.knock(hall.knock("standup", Some(ticket.clone()))).await);
    let other = hall.grant("other").await;
    let rooms = refused(hall.gate.knock(hall.knock("other", Some(other))).await);
    let second = admitted(hall.gate.knock(hall.knock("standup", Some(ticket.clone()))).await);
    let people = refused(hall.gate.knock(hall.knock("standup", Some(ticket.clone()))).await);
    for (problem, reason) in [(rooms, Reason::FullRooms), (people, Reason::FullParticipants)] {
        assert_eq!(problem.code, Code::NoNode);
        assert_eq!(problem.rejections.iter().map(|r| r.reason).collect::<Vec<_>>(), [reason]);
    }
    drop((first, second));
    admitted(hall.gate.knock(hall.knock("standup", Some(ticket))).await);
}

#[tokio::test]
async fn a_claim_that_is_listed_here_but_ended_is_given_up_and_looked_up_anew() {
    let hall = Hall::new().await;
    let offer = hall.offer("standup").await;
    hall.directory.say(Ok(here(offer)));
    let admission = admitted(hall.gate.knock(hall.knock("standup", None)).await);
    drop(admission);
    hall.node.with(|state, _| state.holdings.end_if_empty(&room("standup"), offer.epoch));
    // The directory has not heard of it, and says the same again.
    let problem = refused(hall.gate.knock(hall.knock("standup", None)).await);
    assert_eq!(problem.code, Code::StoreUnavailable);
    assert_eq!(hall.node.with(|state, _| state.holdings.releases_len()), 1);
}

/// The identity of the store.
const STORE: &str = "test";

/// A gate with what is around it.
struct Hall {
    gate: Arc<Gate>,
    node: Arc<Node>,
    store: Arc<Away>,
    directory: Arc<Saying>,
    keys: ClusterKeys,
    incarnation: Incarnation,
}

impl Hall {
    async fn new() -> Self {
        let store = Arc::new(Away {
            inner: EmbeddedStore::new(),
            is_away: AtomicBool::new(false),
            answers: Semaphore::new(1_000),
        });
        let (node, incarnation) = registered(&store.inner).await;
        let directory = Arc::new(Saying(Mutex::new(Err(Problem::new(Code::NoNode, "")))));
        let keys = ClusterKeys::dev();
        let gate = Arc::new(Gate {
            node: node.clone(),
            store: store.clone(),
            directory: directory.clone(),
            keys: Some(keys.clone()),
            require_ticket: false,
            limits: Limits { participants: 100, rooms: 0 },
            shared: Arc::new(Shared::default()),
            metrics: Arc::new(AgentMetrics::new()),
        });
        Self { gate, node, store, directory, keys, incarnation }
    }

    /// As after a lapse: another incarnation, for which nothing is open.
    fn begin_anew(&mut self) {
        let before = self.incarnation;
        self.incarnation = Incarnation(before.0 + 1);
        self.node.with(|state, now| {
            assert!(state.lapsed(before));
            assert!(state.lease.registered(self.incarnation, 0, now, now));
        });
    }

    fn is_opening(&self) -> bool {
        self.node.with(|state, _| state.holdings.get(&room("standup")).is_some())
    }

    fn guarded(mut self) -> Self {
        self.gate().require_ticket = true;
        self
    }

    fn gate(&mut self) -> &mut Gate {
        Arc::get_mut(&mut self.gate).expect("nobody knocks yet")
    }

    fn knock(&self, name: &str, ticket: Option<String>) -> Knock {
        knock(&room(name), ticket)
    }

    /// Grants the room to this node, as a scheduler does.
    async fn offer(&self, name: &str) -> Offer {
        let (room, incarnation) = (room(name), self.incarnation);
        let run = self.node.with(|state, _| state.run(room.bucket())).expect("known");
        let seen = self.store.inner.read(&room).await.expect("in memory");
        let grant =
            Grant { room, run, seen, node: id("fra-1"), incarnation, ttl_ms: 30_000, expected: Expected::default() };
        match self.store.inner.grant(grant).await.expect("in memory") {
            Granted::Yes { epoch, .. } => Offer { incarnation, epoch },
            other => panic!("{other:?}"),
        }
    }

    async fn grant(&self, name: &str) -> String {
        let offer = self.offer(name).await;
        self.sign(|ticket| {
            ticket.room = room(name).room;
            ticket.epoch = offer.epoch;
        })
    }

    /// A ticket for `standup` that is good but for what `change` does.
    fn sign(&self, change: impl FnOnce(&mut Ticket)) -> String {
        let mut ticket = Ticket {
            namespace: room("standup").namespace,
            room: room("standup").room,
            node: id("fra-1"),
            incarnation: self.incarnation,
            epoch: Epoch(7),
            store: STORE.to_owned(),
            expires_store_ms: self.node.with(|state, now| state.lease.store_ms(now)).expect("registered") + 60_000,
            id: "t-1".to_owned(),
        };
        change(&mut ticket);
        self.keys.sign_ticket(&ticket)
    }

    fn metrics(&self) -> String {
        String::from_utf8(self.gate.metrics.exposition.text().expect("metrics")).expect("text")
    }
}

/// A node with a lease in `store`.
async fn registered(store: &EmbeddedStore) -> (Arc<Node>, Incarnation) {
    let node = Arc::new(Node::new(id("fra-1"), 60_000));
    let runs = store.runs().await.expect("in memory");
    let register = Register {
        node: id("fra-1"),
        run: runs[usize::from(id("fra-1").bucket())].clone(),
        process: "test".to_owned(),
        after: Incarnation(0),
        lease_ms: 60_000,
    };
    let registered = store.register(register).await.expect("in memory");
    let Registered::Yes { incarnation, store_ms, .. } = registered else { panic!("{registered:?}") };
    node.with(|state, now| {
        state.note_runs(runs, now, now);
        state.note_store(STORE.to_owned());
        state.lease.registered(incarnation, store_ms, now, now)
    });
    (node, incarnation)
}

fn knock(room: &RoomKey, ticket: Option<String>) -> Knock {
    Knock {
        room: room.clone(),
        peer: PeerId::new("anna").expect("valid"),
        ticket,
        client: [192, 0, 2, 1].into(),
        redirects: 0,
        request_id: RequestId::new("r-1").expect("valid"),
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn id(text: &str) -> NodeId {
    NodeId::new(text).expect("valid")
}

fn room(name: &str) -> RoomKey {
    RoomKey::new("default", name).expect("valid")
}

fn elsewhere() -> Found {
    Found {
        node: id("iad-1"),
        signaling_url: "wss://iad-1.example/signaling".to_owned(),
        epoch: Epoch(9),
        ticket: String::new(),
        offer: None,
    }
}

fn here(offer: Offer) -> Found {
    Found { node: id("fra-1"), epoch: offer.epoch, offer: Some(offer), ..elsewhere() }
}

fn admitted(answer: Answer) -> super::Admission {
    match answer {
        Answer::Admitted(admission) => admission,
        other => panic!("not admitted: {other:?}"),
    }
}

fn refused(answer: Answer) -> Problem {
    match answer {
        Answer::Refused(problem) => problem,
        other => panic!("not refused: {other:?}"),
    }
}

/// Says the same to everybody.
#[derive(Debug)]
struct Saying(Mutex<Result<Found, Problem>>);

impl Saying {
    fn say(&self, answer: Result<Found, Problem>) {
        *self.0.lock().expect("not poisoned") = answer;
    }
}

#[async_trait]
impl Directory for Saying {
    async fn find(&self, _: Wanted<'_>) -> Result<Found, Problem> {
        self.0.lock().expect("not poisoned").clone()
    }
}

/// A store that can go away, and answer late whether a room is opened.
#[derive(Debug)]
struct Away {
    inner: EmbeddedStore,
    is_away: AtomicBool,
    answers: Semaphore,
}

impl Away {
    fn check(&self) -> Result<(), StoreError> {
        let is_away = self.is_away.load(Ordering::Relaxed);
        if is_away { Err(StoreError::Unavailable { reason: "away".to_owned() }) } else { Ok(()) }
    }
}

macro_rules! unless_away {
    ($($name:ident($argument:ty) -> $answer:ty;)*) => {
        #[async_trait]
        impl NodeStore for Away {
            $(async fn $name(&self, argument: $argument) -> Result<$answer, StoreError> {
                self.check()?;
                self.inner.$name(argument).await
            })*

            async fn open(&self, holding: Holding) -> Result<Opened, StoreError> {
                self.check()?;
                self.answers.acquire().await.expect("never closed").forget();
                self.inner.open(holding).await
            }

            async fn identity(&self) -> Result<String, StoreError> {
                self.inner.identity().await
            }

            async fn runs(&self) -> Result<Vec<Run>, StoreError> {
                self.inner.runs().await
            }

            async fn commands(&self, node: &NodeId, of: Incarnation) -> Result<mpsc::Receiver<Command>, StoreError> {
                self.inner.commands(node, of).await
            }

            async fn schedulers(&self) -> Result<Vec<SchedulerEntry>, StoreError> {
                self.inner.schedulers().await
            }
        }
    };
}

unless_away! {
    register(Register) -> Registered;
    renew(Renew) -> Renewed;
    assert(Assert) -> Asserted;
    release(Holding) -> Released;
    hand_over(HandOver) -> HandedOver;
    raise(Raise) -> Raised;
    leave(Leave) -> ();
}
