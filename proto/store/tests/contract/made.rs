//! Made-up arguments, and short forms of what tests do most.

use roost_proto::id::{Epoch, Incarnation, NodeId, Region, RoomKey};
use roost_proto::report::{Capacity, Description, Host, MediaKind, Mode, Report};
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::steer::{Drain, DrainState};
use roost_store::Store;
use roost_store::operation::{Assert, Grant, Granted, Holding, Opened, Register, Registered, Renew, Right};

/// What the grants of this suite expect.
pub(crate) const EXPECTED: Expected = Expected { participants: 12, hint: 15, age_ms: 0 };

/// The drain that this suite knows.
pub(crate) const DRAIN: Drain = Drain {
    deadline_store_ms: 1_790_000_600_000,
    move_rooms: true,
    before: Mode::Serving,
    state: DrainState::Running,
    lost: false,
};

pub(crate) const LONG_MS: u64 = 1_000_000_000;

pub(crate) fn room(name: &str) -> RoomKey {
    RoomKey::new("default", name).unwrap()
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// The run that the room's bucket is in.
pub(crate) async fn run_of(store: &dyn Store, room: &RoomKey) -> Run {
    store.runs().await.unwrap()[usize::from(room.bucket())].clone()
}

/// The run that the node's bucket is in.
pub(crate) async fn run_of_node(store: &dyn Store, node: &NodeId) -> Run {
    store.runs().await.unwrap()[usize::from(node.bucket())].clone()
}

pub(crate) async fn try_grant(
    store: &dyn Store,
    room: &RoomKey,
    seen: Option<Claim>,
    to: &str,
    incarnation: u64,
) -> Granted {
    let run = run_of(store, room).await;
    let (room, node) = (room.clone(), node(to));
    let grant =
        Grant { room, run, seen, node, incarnation: Incarnation(incarnation), ttl_ms: 30_000, expected: EXPECTED };
    store.grant(grant).await.unwrap()
}

/// Grants an absent room, and gives its record.
pub(crate) async fn grant(store: &dyn Store, room: &RoomKey, to: &str, incarnation: u64) -> Claim {
    match try_grant(store, room, None, to, incarnation).await {
        Granted::Yes { epoch, .. } => Claim {
            run: run_of(store, room).await,
            epoch,
            state: ClaimState::Granted,
            node: node(to),
            incarnation: Incarnation(incarnation),
        },
        other => panic!("not granted: {other:?}"),
    }
}

/// Grants an absent room and opens it, and gives its record.
pub(crate) async fn grant_and_open(store: &dyn Store, room: &RoomKey, to: &str, incarnation: u64) -> Claim {
    let claim = grant(store, room, to, incarnation).await;
    assert_eq!(store.open(holding(room, &claim)).await.unwrap(), Opened::Yes);
    Claim { state: ClaimState::Open, ..claim }
}

pub(crate) fn holding(room: &RoomKey, claim: &Claim) -> Holding {
    Holding {
        room: room.clone(),
        run: claim.run.clone(),
        node: claim.node.clone(),
        incarnation: claim.incarnation,
        epoch: claim.epoch,
    }
}

/// What a node asserts that held `claim`, in the run that the bucket is in.
pub(crate) async fn assertion(store: &dyn Store, room: &RoomKey, claim: &Claim, incarnation: u64) -> Assert {
    let run = run_of(store, room).await;
    let held = Holding { run, ..holding(room, claim) };
    Assert { held, incarnation: Incarnation(incarnation), right: Right::Sure }
}

pub(crate) fn at(claim: &Claim, epoch: Epoch, incarnation: u64) -> Claim {
    Claim { epoch, incarnation: Incarnation(incarnation), state: ClaimState::Open, ..claim.clone() }
}

pub(crate) async fn try_register(
    store: &dyn Store,
    name: &str,
    process: &str,
    after: u64,
    lease_ms: u64,
) -> Registered {
    let node = node(name);
    let run = run_of_node(store, &node).await;
    let register = Register { node, run, process: process.to_owned(), after: Incarnation(after), lease_ms };
    store.register(register).await.unwrap()
}

pub(crate) async fn register(store: &dyn Store, name: &str, after: u64, lease_ms: u64) -> Incarnation {
    match try_register(store, name, "process", after, lease_ms).await {
        Registered::Yes { incarnation, .. } => incarnation,
        other => panic!("not registered: {other:?}"),
    }
}

pub(crate) async fn renewal(store: &dyn Store, name: &str, incarnation: Incarnation, lease_ms: u64) -> Renew {
    let run = run_of_node(store, &node(name)).await;
    Renew { run, report: report(name, incarnation, lease_ms), buckets: Vec::new() }
}

pub(crate) fn report(name: &str, incarnation: Incarnation, lease_ms: u64) -> Report {
    Report {
        v: 1,
        node: node(name),
        incarnation,
        seq: 1,
        lease_ms,
        description: Description {
            region: Region::new("eu/central").unwrap(),
            carriers: Vec::new(),
            namespaces: Vec::new(),
            priority: 0,
            signaling_url: format!("wss://{name}.example/signaling"),
            link_url: format!("http://{name}.example:7412"),
            media: MediaKind::Synthetic,
            capacity: Capacity::default(),
            temporary: false,
            version: "0".to_owned(),
        },
        mode: Mode::Serving,
        steering: None,
        host: Host::default(),
        workers: Vec::new(),
        rooms: 0,
        participants: 0,
        streams: 0,
        full: true,
        changed: Vec::new(),
        ended: Vec::new(),
    }
}
