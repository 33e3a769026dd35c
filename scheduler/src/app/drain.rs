//! Carries drains on: moves rooms that are to be moved, and finishes what is done.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use roost_proto::admin::RoomFilter;
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::room::{ClaimState, RoomView};
use roost_scheduler_core::drain::{self, Due};
use tokio::time::{MissedTickBehavior, interval};

use super::Scheduler;

const EVERY: Duration = Duration::from_secs(1);
/// How many rooms of one node move at once, and in one go: so that many come after what was learned from those before.
const AT_ONCE: usize = 8;
const IN_ONE_GO: usize = 64;
/// How many rooms are read of the view under one lock.
const PAGE: usize = 1_000;

/// Looks after them until the process ends.
pub(crate) async fn carry_on(scheduler: Arc<Scheduler>) {
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        scheduler.carry_drains_on().await;
    }
}

impl Scheduler {
    /// One scheduler does it for each node.
    async fn carry_drains_on(&self) {
        let mut drains = drain::running(&self.view(), self.clock.store_now_ms(), self.clock.now());
        drains.retain(|(_, due)| *due != Due::Nothing);
        if drains.is_empty() {
            return;
        }
        let Some(schedulers) = self.schedulers().await else { return };
        drains.retain(|(node, _)| self.is_ours(node.as_str().as_bytes(), &schedulers));
        // A node whose rooms find no place does not hold the others up.
        stream::iter(drains).for_each_concurrent(None, |(node, due)| self.carry_on(node, due)).await;
    }

    async fn carry_on(&self, node: NodeId, due: Due) {
        match due {
            Due::Nothing => {}
            Due::Finish => match self.finish_drain(&node).await {
                Ok(true) => tracing::info!(%node, "the drain is finished: no room is left"),
                Ok(false) => {}
                Err(problem) => tracing::debug!(%node, detail = problem.detail, "the drain cannot be finished yet"),
            },
            Due::Move => self.move_away(&node).await,
        }
    }

    /// Moves a part of the node's open rooms to wherever placement says. What finds no place is tried again.
    async fn move_away(&self, node: &NodeId) {
        let mut rooms = self.open_rooms(node);
        drain::in_order(&mut rooms);
        let moves = stream::iter(rooms.into_iter().take(IN_ONE_GO)).map(|room| async move {
            let key = RoomKey { namespace: room.namespace, room: room.room };
            let moved = self.relocate(&key, Some(node), None).await;
            if let Err(problem) = &moved {
                tracing::debug!(%node, room = %key, code = %problem.code, detail = problem.detail, "a room is not moved yet");
            }
            moved.is_ok()
        });
        let (tried, moved) = moves
            .buffer_unordered(AT_ONCE)
            .fold((0, 0), async |(tried, moved), is_ok| (tried + 1, moved + u32::from(is_ok)))
            .await;
        tracing::info!(%node, tried, moved, "rooms of a node that is drained");
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
