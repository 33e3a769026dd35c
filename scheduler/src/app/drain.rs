//! Carries drains on: moves rooms that are to be moved, and finishes what is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use roost_proto::admin::RoomFilter;
use roost_proto::error::Code;
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::room::{ClaimState, RoomView};
use roost_scheduler_core::drain::{self, Due, Running};
use tokio::time::{MissedTickBehavior, interval};

use super::Scheduler;

const EVERY: Duration = Duration::from_secs(1);
/// How many rooms of one node move at once, and in one round: so that many come after what was learned from those before.
const AT_ONCE: usize = 8;
const IN_ONE_ROUND: usize = 64;
/// How many rooms are read of the view under one lock.
const PAGE: usize = 1_000;

/// What was tried for one plan: how often each room that is still there could not be moved, and why not in the last round.
#[derive(Debug, Default)]
struct Tried {
    plan: u64,
    failures: BTreeMap<RoomKey, u32>,
    why: BTreeMap<Code, u32>,
}

/// Looks after them until the process ends. Each node has rounds of its own: one that does not obey, or whose rooms find no
/// place, holds no other up.
pub(crate) async fn carry_on(scheduler: Arc<Scheduler>) {
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds = FuturesUnordered::new();
    // None for a node of which a round goes on.
    let mut nodes: BTreeMap<NodeId, Option<Tried>> = BTreeMap::new();
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            Some((node, tried)) = rounds.next() => {
                nodes.insert(node, Some(tried));
                continue;
            }
        }
        let Some(due) = scheduler.drains_due().await else { continue };
        nodes.retain(|node, tried| tried.is_none() || due.iter().any(|drain| drain.node == *node));
        for drain in due {
            let tried = match nodes.insert(drain.node.clone(), None) {
                None => Tried::default(),
                Some(Some(tried)) => tried,
                Some(None) => continue,
            };
            rounds.push(scheduler.carry_on(drain, tried));
        }
    }
}

impl Scheduler {
    /// The drains of which something is due, and by this scheduler: one does it for each node. None if
    /// the store does not say who that is.
    async fn drains_due(&self) -> Option<Vec<Running>> {
        let mut drains = drain::running(&self.view(), self.clock.store_now_ms(), self.clock.now());
        drains.retain(|drain| drain.due != Due::Nothing);
        if drains.is_empty() {
            return Some(drains);
        }
        let schedulers = self.schedulers().await?;
        drains.retain(|drain| self.is_ours(drain.node.as_str().as_bytes(), &schedulers));
        Some(drains)
    }

    async fn carry_on(&self, drain: Running, tried: Tried) -> (NodeId, Tried) {
        let Running { node, plan, due } = drain;
        let tried = if tried.plan == plan { tried } else { Tried { plan, ..Tried::default() } };
        let tried = match due {
            Due::Nothing => tried,
            // By our own word alone the node may only be out of our reach.
            Due::FinishLost if !self.has_no_lease(&node).await => tried,
            Due::Finish | Due::FinishLost => {
                let lost = due == Due::FinishLost;
                match self.finish_drain(&node, plan, lost).await {
                    Ok(true) => tracing::info!(%node, lost, "the drain is finished: no room is left"),
                    Ok(false) => {}
                    Err(problem) => tracing::debug!(%node, detail = problem.detail, "the drain cannot be finished yet"),
                }
                tried
            }
            Due::Move => self.move_away(&node, tried).await,
        };
        (node, tried)
    }

    /// Whether the store says that all leases of the node are over.
    async fn has_no_lease(&self, node: &NodeId) -> bool {
        let leases = self.store.leases(node).await;
        self.metrics.store_called("leases", &leases);
        leases.is_ok_and(|leases| leases.iter().all(|lease| lease.lapsed))
    }

    /// Moves a part of the node's open rooms to wherever placement says, for as long as the plan is the one of this round.
    /// What finds no place is tried again, after the others.
    async fn move_away(&self, node: &NodeId, mut tried: Tried) -> Tried {
        let plan = tried.plan;
        let rooms = drain::in_order(self.open_rooms(node), &tried.failures);
        tried
            .failures
            .retain(|key, _| self.view().rooms.get(key, self.clock.now()).is_some_and(|room| room.node == node));
        let left = rooms.len();
        let moves = stream::iter(rooms.into_iter().take(IN_ONE_ROUND)).map(|key| async move {
            if !drain::is_current(&self.view(), node, plan) {
                return None;
            }
            let moved = self.relocate(&key, Some(node), None).await;
            if let Err(problem) = &moved {
                tracing::debug!(%node, room = %key, code = %problem.code, detail = problem.detail, "a room is not moved yet");
            }
            Some((key, moved.map(drop)))
        });
        let mut moves = moves.buffer_unordered(AT_ONCE);
        let (mut moved, mut why) = (0, BTreeMap::new());
        while let Some(ended) = moves.next().await {
            match ended {
                Some((_, Ok(()))) => moved += 1,
                Some((key, Err(problem))) => {
                    *tried.failures.entry(key).or_default() += 1;
                    *why.entry(problem.code).or_default() += 1;
                }
                None => {}
            }
        }
        drop(moves);
        // A drain that is stuck says so when that begins, and when the reasons change.
        if moved > 0 || tried.why != why {
            tracing::info!(%node, left, moved, failed = ?why, "rooms of a node that is drained");
        }
        tried.why = why;
        tried
    }

    fn open_rooms(&self, node: &NodeId) -> Vec<RoomView> {
        let filter = RoomFilter { namespace: None, node: Some(node.clone()) };
        let (mut rooms, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = self.view().rooms.page(&filter, after.as_ref(), PAGE, self.clock.now());
            rooms.extend(page.into_iter().filter(|room| room.state == ClaimState::Open));
            match next {
                Some(next) => after = Some(next),
                None => return rooms,
            }
        }
    }
}
