//! Obeys what schedulers command.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::sleep;

use roost_agent_core::hold::Offer;
use roost_agent_core::hold::Target;
use roost_agent_core::inbox::{self, Dropped, Todo};
use roost_proto::command::Command;
use roost_proto::id::{Epoch, Incarnation, RoomKey};
use roost_store::NodeStore;

use super::pace::Pace;
use crate::inside::{Goodbye, Inside};
use crate::metrics::AgentMetrics;
use crate::node::Node;

/// Reads and obeys commands.
#[derive(Debug)]
pub(crate) struct Commands {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<dyn NodeStore>,
    pub(crate) inside: Arc<dyn Inside>,
    pub(crate) metrics: Arc<AgentMetrics>,
}

impl Commands {
    /// Obeys the commands of each incarnation in turn, for ever.
    pub(crate) async fn run(self) {
        let mut incarnations = self.node.incarnation.subscribe();
        let mut pace = Pace::default();
        loop {
            let current = *incarnations.borrow_and_update();
            let Some(incarnation) = current else {
                if incarnations.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if let Ok(commands) = self.store.commands(&self.node.id, incarnation).await {
                pace.reset();
                tokio::select! {
                    () = self.obey_all(commands, incarnation) => {}
                    _ = incarnations.changed() => continue,
                }
            }
            // The store was lost, which the report notices too; here it is only asked for commands again.
            sleep(pace.next()).await;
        }
    }

    async fn obey_all(&self, mut commands: mpsc::Receiver<Command>, incarnation: Incarnation) {
        while let Some(command) = commands.recv().await {
            match inbox::read(&command, Some(incarnation)) {
                Ok(todo) => {
                    self.metrics.commanded("obeyed");
                    self.obey(todo).await;
                }
                Err(dropped) => {
                    self.metrics.commanded(match dropped {
                        Dropped::OtherIncarnation { .. } => "other_incarnation",
                        Dropped::UnknownAction => "unknown_action",
                    });
                    tracing::info!(reason = %dropped, "a command was dropped");
                }
            }
        }
    }

    async fn obey(&self, todo: Todo) {
        match todo {
            Todo::ReportAll => {
                self.node.with(|state, now| state.cadence.want_all(now));
                self.node.report_wanted.notify_one();
            }
            Todo::Close { room, epoch } => self.close(&room, epoch),
            Todo::Move { room, epoch, to } => self.begin_move(&room, epoch, to),
        }
    }

    /// Stops admitting; the rest follows by itself (rule 23).
    fn begin_move(&self, room: &RoomKey, epoch: Epoch, to: Target) {
        let node = to.node.clone();
        let is_elsewhere = node != self.node.id;
        if is_elsewhere && self.node.with(|state, _| state.holdings.begin_move(room, epoch, to, &state.lease)) {
            tracing::info!(%room, %epoch, %node, "the room is to move by command");
            self.node.move_wanted.notify_one();
        } else {
            tracing::info!(%room, %epoch, %node, "a room was to be moved that is not open here in this generation");
        }
    }

    /// Stops admitting first; the release follows by itself (rules 10 and 23). One that is only granted here is given up, and
    /// can never be opened then.
    fn close(&self, room: &RoomKey, epoch: Epoch) {
        let ended = self.node.with(|state, _| {
            if let Some(incarnation) = state.lease.incarnation() {
                state.holdings.disown(room, Offer { incarnation, epoch }, &state.lease);
            }
            let hold = state.holdings.get(room).filter(|hold| hold.epoch == epoch)?;
            let opened_as = hold.opened_as;
            state.holdings.end(room, opened_as)
        });
        match ended {
            Some(hold) => {
                tracing::info!(%room, %epoch, "the room is closed by command");
                self.inside.close(room, hold.opened_as, Goodbye::Ended);
            }
            None => tracing::info!(%room, %epoch, "a room was to be closed that is not open here in this generation"),
        }
    }
}
