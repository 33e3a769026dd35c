//! A plan that relieves loaded nodes, and its moves if the operator wants them made.

use futures_util::{StreamExt, stream};
use roost_proto::error::{Code, Problem};
use roost_proto::rebalance::{MOST_ROOMS, RebalanceMove, RebalanceReply, RebalanceRequest};
use roost_scheduler_core::balance::{Budget, Move, Survey};

use super::Scheduler;

/// How many rooms move at once.
const AT_ONCE: usize = 8;

impl Scheduler {
    /// Plans, and applies the plan if that is asked for.
    pub(crate) async fn rebalance(&self, asked: &RebalanceRequest) -> Result<RebalanceReply, Problem> {
        if !(1..=MOST_ROOMS).contains(&asked.max_rooms) {
            let detail = format!("body max_rooms: {}: expected 1 to {MOST_ROOMS}", asked.max_rooms);
            return Err(Problem::new(Code::BadRequest, detail));
        }
        let mut survey = Survey::default();
        while !survey.look_on(&self.view(), self.clock.now()) {
            tokio::task::yield_now().await;
        }
        let budget = Budget { rooms: asked.max_rooms, participants: asked.max_participants };
        let moves = survey.plan(&self.rules.shared.namespaces, budget);
        let made = stream::iter(moves).map(|planned| self.made(planned, asked.apply)).buffered(AT_ONCE);
        Ok(RebalanceReply { applied: asked.apply, moves: made.collect().await })
    }

    /// The move as it is shown, made if it is to be. A room that is elsewhere by now stays there.
    async fn made(&self, planned: Move, apply: bool) -> RebalanceMove {
        let Move { room, from, to, participants, from_permille, to_permille } = planned;
        let moved = if apply { self.relocate(&room, Some(&from), Some(&to)).await.map(drop) } else { Ok(()) };
        if let Err(problem) = &moved {
            tracing::warn!(%room, %from, %to, code = %problem.code, detail = problem.detail, "a planned move was not made");
        }
        let (namespace, room, failed) = (room.namespace, room.room, moved.err().map(|problem| problem.code));
        RebalanceMove { namespace, room, from, to, participants, from_permille, to_permille, failed }
    }
}
