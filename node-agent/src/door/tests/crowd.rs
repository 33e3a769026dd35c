//! Many at the door at once, on several threads, over rooms that end and begin again: what limits and modes must hold.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use roost_proto::policy::{Policies, Policy};

use roost_proto::report::Mode;

use super::super::alone::Alone;
use super::modes::steered;
use super::*;
use crate::uplink::release;

/// How often those inside let others go before they leave.
const LONGEST_STAY: u8 = 30;
const ROOMS: u8 = 4;

/// One who comes, stays a while, and goes.
#[derive(Debug, Clone, Copy)]
struct Visit {
    room: u8,
    has_ticket: bool,
    stay: u8,
    /// Sees to it that the room ends, if nobody is left in it.
    ends: bool,
}

#[derive(Debug, Clone, Copy)]
struct Most {
    participants: u32,
    rooms: u32,
    in_small_room: u32,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_limit_is_ever_passed_and_a_closed_door_admits_nobody(
        participants in 1u32..24,
        rooms in 0u32..=ROOMS.into(),
        in_small_room in 0u32..4,
        visitors in proptest::collection::vec(proptest::collection::vec(visit(), 5..20), 8..32),
        is_closed_at_times in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
        let most = Most { participants, rooms, in_small_room };
        runtime.expect("threads").block_on(crowd(most, visitors, is_closed_at_times));
    }
}

async fn crowd(most: Most, visitors: Vec<Vec<Visit>>, is_closed_at_times: bool) {
    let place = Arc::new(Place::new(most).await);
    let releases = tokio::spawn(release::run(place.gate.node.clone(), place.gate.store.clone()));
    let changes = is_closed_at_times.then(|| tokio::spawn(place.clone().open_and_close()));
    let visitors: Vec<_> = visitors.into_iter().map(|visits| tokio::spawn(place.clone().visit_all(visits))).collect();
    for visitor in visitors {
        visitor.await.expect("no limit was passed");
    }
    let (guests, in_rooms) = place
        .gate
        .node
        .with(|state, _| (state.guests, state.holdings.iter().map(|(_, hold)| hold.guests).sum::<u32>()));
    assert_eq!((guests, in_rooms), (0, 0), "all are gone");
    if let Some(changes) = changes {
        changes.abort();
    } else {
        assert!(place.admitted.load(Ordering::Relaxed) > 0);
    }
    releases.abort();
}

fn visit() -> impl Strategy<Value = Visit> {
    let parts = (0u8..ROOMS, any::<bool>(), 0..LONGEST_STAY, any::<bool>());
    parts.prop_map(|(room, has_ticket, stay, ends)| Visit { room, has_ticket, stay, ends })
}

/// A node that stands alone, with a count of its own of who is inside.
struct Place {
    gate: Gate,
    alone: Arc<Alone>,
    most: Most,
    visits: AtomicU64,
    admitted: AtomicU64,
    inside: Mutex<BTreeMap<RoomKey, u32>>,
    /// Odd while the door is closed.
    closings: AtomicU64,
}

impl Place {
    async fn new(most: Most) -> Self {
        let store = Arc::new(EmbeddedStore::new());
        let (node, _) = registered(&store).await;
        let alone = Arc::new(Alone { node: node.clone(), store: store.clone(), namespaces: Vec::new() });
        let small = Policy { max_participants_per_room: most.in_small_room, ..Policy::default() };
        let namespaces = Policies(BTreeMap::from([(key(0).namespace, small)]));
        let gate = Gate {
            node,
            store,
            directory: alone.clone(),
            keys: Some(ClusterKeys::dev()),
            require_ticket: false,
            limits: Limits { participants: most.participants, rooms: most.rooms },
            shared: Arc::new(Shared { namespaces, ..Shared::default() }),
            metrics: Arc::new(AgentMetrics::new()),
        };
        let (inside, counts) = (Mutex::default(), [AtomicU64::default(), AtomicU64::default()]);
        let [admitted, closings] = counts;
        Self { gate, alone, most, visits: AtomicU64::default(), admitted, inside, closings }
    }

    async fn visit_all(self: Arc<Self>, visits: Vec<Visit>) {
        for visit in visits {
            self.visit(visit).await;
        }
    }

    async fn visit(&self, visit: Visit) {
        let room = key(visit.room);
        let ticket = if visit.has_ticket { self.ticket(&room).await } else { None };
        let before = self.closings.load(Ordering::SeqCst);
        // Everybody is somebody new.
        let peer = PeerId::new(format!("p-{}", self.visits.fetch_add(1, Ordering::Relaxed))).expect("valid");
        let answer = self.gate.knock(Knock { peer, ..knock(&room, ticket) }).await;
        let after = self.closings.load(Ordering::SeqCst);
        let admission = match answer {
            Answer::Admitted(admission) => admission,
            Answer::Refused(problem) => return assert!(problem.retryable, "{problem:?}"),
            Answer::Redirect(redirect) => panic!("there is no other node: {redirect:?}"),
        };
        assert!(before.is_multiple_of(2) || before != after, "admitted while the door was closed");
        self.admitted.fetch_add(1, Ordering::Relaxed);
        *self.inside().entry(room.clone()).or_default() += 1;
        for _ in 0..=visit.stay {
            self.check();
            tokio::task::yield_now().await;
        }
        *self.inside().entry(room.clone()).or_default() -= 1;
        let opened_as = admission.epoch;
        drop(admission);
        if visit.ends {
            self.gate.node.with(|state, _| state.holdings.end_if_empty(&room, opened_as));
        }
    }

    /// Counts on the test's side, which lag behind the node's on both sides, and on the node's.
    fn check(&self) {
        let inside = self.inside().clone();
        let Most { participants, rooms, in_small_room } = self.most;
        assert!(inside.values().sum::<u32>() <= participants, "{inside:?} of {participants}");
        let in_rooms = inside.into_iter().filter(|(_, guests)| *guests > 0).collect::<Vec<_>>();
        assert!(rooms == 0 || in_rooms.len() <= rooms as usize, "{in_rooms:?} of {rooms}");
        let small = |room: &RoomKey| room.namespace == key(0).namespace && in_small_room > 0;
        assert!(in_rooms.iter().all(|(room, guests)| !small(room) || *guests <= in_small_room), "{in_rooms:?}");
        self.gate.node.with(|state, _| {
            assert!(state.guests <= participants);
            assert!(rooms == 0 || state.holdings.len() <= rooms as usize);
            assert!(state.holdings.iter().all(|(room, hold)| !small(room) || hold.guests <= in_small_room));
        });
    }

    async fn open_and_close(self: Arc<Self>) {
        for mode in [Mode::Maintenance, Mode::BlockNewParticipants].into_iter().cycle() {
            for mode in [mode, Mode::Serving] {
                let closes = mode != Mode::Serving;
                // Counted while nobody can be between the question and the answer.
                self.gate.node.with(|state, _| {
                    if !closes {
                        self.closings.fetch_add(1, Ordering::SeqCst);
                    }
                    state.steering = steered(mode);
                    if closes {
                        self.closings.fetch_add(1, Ordering::SeqCst);
                    }
                });
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// A ticket for what the room's claim is at this moment; it may be over when it is shown.
    async fn ticket(&self, room: &RoomKey) -> Option<String> {
        let wanted = Wanted { room, client: None, region: None, expected: 0, avoid: &[], request_id: None };
        let offer = self.alone.find(wanted).await.ok()?.offer?;
        let ticket = Ticket {
            namespace: room.namespace.clone(),
            room: room.room.clone(),
            node: self.gate.node.id.clone(),
            incarnation: offer.incarnation,
            epoch: offer.epoch,
            store: STORE.to_owned(),
            expires_store_ms: self.gate.node.with(|state, now| state.lease.store_ms(now))? + 60_000,
            id: "t-1".to_owned(),
        };
        Some(ClusterKeys::dev().sign_ticket(&ticket))
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, BTreeMap<RoomKey, u32>> {
        self.inside.lock().expect("not poisoned")
    }
}

/// Every second room is in a namespace whose rooms are small.
fn key(room: u8) -> RoomKey {
    RoomKey::new(if room.is_multiple_of(2) { "small" } else { "default" }, format!("r{room}")).expect("valid")
}
