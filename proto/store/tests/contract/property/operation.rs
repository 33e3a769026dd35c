//! One step of a random course, in words that mean the same to every party.

use proptest::prelude::*;

use roost_proto::report::Mode;
use roost_store::operation::Right;

use crate::made::LONG_MS;

/// One of three rooms of one bucket.
pub(super) type Room = usize;
/// One of two nodes.
pub(super) type Node = usize;

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Register {
        node: Node,
        other_process: bool,
        lease_ms: u64,
    },
    Renew {
        node: Node,
        which: usize,
        lease_ms: u64,
        old_run: bool,
        /// How many plans ago the node heard of one last; none: never.
        plan: Option<usize>,
    },
    Steer {
        node: Node,
        mode: Mode,
        /// How many plans ago the caller heard of one last.
        seen: usize,
        old_run: bool,
    },
    Purge {
        node: Node,
        old_run: bool,
    },
    Leave {
        node: Node,
        which: usize,
        old_run: bool,
    },
    Leases {
        node: Node,
    },
    Grant {
        room: Room,
        seen: Option<Picked>,
        node: Node,
        incarnation: u64,
        ttl_ms: u64,
    },
    Prolong {
        room: Room,
        claim: Picked,
        ttl_ms: u64,
    },
    Open {
        room: Room,
        held: Picked,
    },
    Assert {
        room: Room,
        held: Picked,
        wanted: u64,
        right: Right,
    },
    Release {
        room: Room,
        held: Picked,
    },
    HandOver {
        room: Room,
        held: Picked,
        to: Node,
        incarnation: u64,
        ttl_ms: u64,
    },
    Raise {
        which: usize,
        ahead_ms: u64,
        old_run: bool,
    },
    Read {
        room: Room,
    },
    /// 20 s pass.
    Pass,
    /// A restart that keeps the data.
    Restart,
    /// The loss of all data; the highest epoch is posted again.
    Wipe,
}

/// A claim that the caller names: one that is or was there, or almost.
#[derive(Debug, Clone)]
pub(super) struct Picked {
    /// None: the room's own, now.
    pub(super) past: Option<usize>,
    pub(super) change: Change,
    pub(super) old_run: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Nothing,
    Node(Node),
    Incarnation(u64),
    Epoch(usize),
    State,
}

/// Any step; with restarts and losses only where told.
pub(super) fn any(with_runs: bool) -> BoxedStrategy<Operation> {
    let runs = u32::from(with_runs);
    let steps = prop_oneof![
        4 => leases(),
        12 => rooms(),
        1 => Just(Operation::Pass),
    ];
    if runs == 0 {
        return steps.boxed();
    }
    prop_oneof![20 => steps, runs => Just(Operation::Restart), runs => Just(Operation::Wipe)].boxed()
}

fn leases() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (0..2usize, prop::bool::weighted(0.2), lease())
            .prop_map(|(node, other_process, lease_ms)| Operation::Register { node, other_process, lease_ms }),
        4 => (0..2usize, 0..4usize, lease(), old_run(), prop::option::weighted(0.7, 0..3usize)).prop_map(
            |(node, which, lease_ms, old_run, plan)| Operation::Renew { node, which, lease_ms, old_run, plan }
        ),
        3 => (0..2usize, 0..Mode::ALL.len(), prop_oneof![4 => Just(0usize), 1 => 1..3usize], old_run()).prop_map(
            |(node, mode, seen, old_run)| Operation::Steer { node, mode: Mode::ALL[mode], seen, old_run }
        ),
        1 => (0..2usize, old_run()).prop_map(|(node, old_run)| Operation::Purge { node, old_run }),
        1 => (0..2usize, 0..4usize, old_run())
            .prop_map(|(node, which, old_run)| Operation::Leave { node, which, old_run }),
        1 => (0..2usize).prop_map(|node| Operation::Leases { node }),
    ]
}

fn rooms() -> impl Strategy<Value = Operation> {
    let room = 0..3usize;
    prop_oneof![
        4 => (room.clone(), prop::option::weighted(0.5, picked()), 0..2usize, 1..4u64, ttl()).prop_map(
            |(room, seen, node, incarnation, ttl_ms)| Operation::Grant { room, seen, node, incarnation, ttl_ms }
        ),
        2 => (room.clone(), picked(), ttl())
            .prop_map(|(room, claim, ttl_ms)| Operation::Prolong { room, claim, ttl_ms }),
        4 => (room.clone(), picked()).prop_map(|(room, held)| Operation::Open { room, held }),
        7 => (room.clone(), picked(), 1..4u64, right())
            .prop_map(|(room, held, wanted, right)| Operation::Assert { room, held, wanted, right }),
        2 => (room.clone(), picked()).prop_map(|(room, held)| Operation::Release { room, held }),
        3 => (room.clone(), picked(), 0..2usize, 1..4u64, ttl()).prop_map(|(room, held, to, incarnation, ttl_ms)| {
            Operation::HandOver { room, held, to, incarnation, ttl_ms }
        }),
        1 => (0..8usize, prop_oneof![Just(0), Just(1_000_000u64)], old_run())
            .prop_map(|(which, ahead_ms, old_run)| Operation::Raise { which, ahead_ms, old_run }),
        1 => room.prop_map(|room| Operation::Read { room }),
    ]
}

fn picked() -> impl Strategy<Value = Picked> {
    let change = prop_oneof![
        8 => Just(Change::Nothing),
        1 => (0..2usize).prop_map(Change::Node),
        1 => (1..4u64).prop_map(Change::Incarnation),
        1 => (0..8usize).prop_map(Change::Epoch),
        1 => Just(Change::State),
    ];
    (prop::option::weighted(0.3, 0..16usize), change, old_run()).prop_map(|(past, change, old_run)| Picked {
        past,
        change,
        old_run,
    })
}

fn right() -> impl Strategy<Value = Right> {
    prop_oneof![3 => Just(Right::Sure), 3 => Just(Right::Provisional), 1 => Just(Right::Confirming)]
}

fn old_run() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.05)
}

fn lease() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 3 => Just(10_000), 3 => Just(LONG_MS)]
}

fn ttl() -> impl Strategy<Value = u64> {
    prop_oneof![Just(10_000), Just(LONG_MS), Just(u64::MAX)]
}
