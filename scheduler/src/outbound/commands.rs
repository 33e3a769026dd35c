//! Commands to nodes, on their way through the store. None is waited for: each is harmless when late, and asked again
//! when lost.

use std::sync::Arc;

use roost_proto::WIRE_VERSION;
use roost_proto::command::{Action, Command};
use roost_proto::id::{Incarnation, NodeId};
use tokio::sync::mpsc;

use crate::app::Scheduler;

/// How many commands may wait to be sent. What does not fit is dropped.
const CAPACITY: usize = 1_024;

/// Takes commands from whoever must not wait.
#[derive(Debug, Clone)]
pub(crate) struct Commands(mpsc::Sender<(NodeId, Command)>);

/// The commands that wait.
pub(crate) type Waiting = mpsc::Receiver<(NodeId, Command)>;

impl Commands {
    pub(crate) fn new() -> (Self, Waiting) {
        let (sender, waiting) = mpsc::channel(CAPACITY);
        (Self(sender), waiting)
    }

    /// Asks a node for everything. Its next report asks again if this was lost.
    pub(crate) fn report_all(&self, node: NodeId, incarnation: Incarnation) {
        let command = Command { v: WIRE_VERSION, incarnation, action: Action::ReportAll };
        if self.0.try_send((node, command)).is_err() {
            tracing::debug!("a command is dropped: too many wait");
        }
    }
}

/// Sends what waits, one after the other, until the process ends.
pub(crate) async fn send_all(scheduler: Arc<Scheduler>, mut waiting: Waiting) {
    while let Some((node, command)) = waiting.recv().await {
        scheduler.send(&node, command).await;
    }
}

impl Scheduler {
    /// Tells an incarnation of a node to do something. It may be lost.
    pub(crate) async fn command(&self, node: &NodeId, incarnation: Incarnation, action: Action) {
        self.send(node, Command { v: WIRE_VERSION, incarnation, action }).await;
    }

    async fn send(&self, node: &NodeId, command: Command) {
        let sent = self.store.send(node, command).await;
        self.metrics.store_called("send", &sent);
        if let Err(error) = sent {
            tracing::debug!(%node, %error, "a command is lost");
        }
    }
}
