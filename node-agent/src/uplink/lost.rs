//! Sends the participants of rooms that this node has no more to the rooms' homes, beside all else that is said to the
//! store: schedulers may take long to say where a home is.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::sleep;

use roost_agent_core::hold::Hold;
use roost_proto::error::{Code, Problem};
use roost_proto::id::{NodeId, RoomKey};

use super::pace::Pace;
use crate::door::lookup::{Directory, Wanted};
use crate::inside::{Goodbye, Inside};

/// How many rooms may wait; the participants of more have to look them up again themselves.
const WAITING: usize = 4_096;
/// How many are looked up at once.
const AT_ONCE: usize = 16;

/// Takes rooms that are lost.
#[derive(Debug, Clone)]
pub(crate) struct LostRooms {
    inside: Arc<dyn Inside>,
    queue: mpsc::Sender<Lost>,
}

/// Looks up where they live.
#[derive(Debug)]
pub(crate) struct HomeSearch {
    node: NodeId,
    directory: Arc<dyn Directory>,
    inside: Arc<dyn Inside>,
    queue: mpsc::Receiver<Lost>,
}

#[derive(Debug)]
struct Lost {
    room: RoomKey,
    hold: Hold,
    /// How often it is still looked up.
    lookups: u32,
}

impl LostRooms {
    /// The two ends of the queue.
    pub(crate) fn new(node: NodeId, directory: Arc<dyn Directory>, inside: Arc<dyn Inside>) -> (Self, HomeSearch) {
        let (sender, queue) = mpsc::channel(WAITING);
        (Self { inside: inside.clone(), queue: sender }, HomeSearch { node, directory, inside, queue })
    }

    /// The participants of `room` are to be sent to its home, which is looked up `lookups` times at most.
    pub(super) fn send_home(&self, room: RoomKey, hold: Hold, lookups: u32) {
        if let Err(refused) = self.queue.try_send(Lost { room, hold, lookups }) {
            send_away(&*self.inside, &refused.into_inner());
        }
    }
}

impl HomeSearch {
    /// Sends participants home, for ever.
    pub(crate) async fn run(mut self) {
        let mut pace = Pace::default();
        let mut pending = Vec::new();
        loop {
            if pending.is_empty() {
                pace.reset();
                if self.queue.recv_many(&mut pending, WAITING).await == 0 {
                    return;
                }
            } else {
                sleep(pace.next()).await;
                while pending.len() < WAITING
                    && let Ok(lost) = self.queue.try_recv()
                {
                    pending.push(lost);
                }
            }
            let asked = stream::iter(pending).map(|lost| self.look_up(lost)).buffer_unordered(AT_ONCE);
            pending = asked.filter_map(std::future::ready).collect().await;
        }
    }

    /// Asks once where the room lives. Gives it back if that is to be asked again.
    async fn look_up(&self, lost: Lost) -> Option<Lost> {
        let Lost { room, hold, lookups } = &lost;
        let wanted = Wanted { room, client: None, region: None, expected: hold.guests, avoid: &[], request_id: None };
        match self.directory.find(wanted).await {
            Ok(found) if found.node != self.node => {
                tracing::warn!(%room, node = %found.node, "the room is another node's now: its participants go there");
                self.inside.close(room, hold.opened_as, Goodbye::Moved(found));
                None
            }
            Err(Problem { code, .. }) if code.retryable() && *lookups > 1 => {
                Some(Lost { lookups: lookups - 1, ..lost })
            }
            _ => {
                send_away(&*self.inside, &lost);
                None
            }
        }
    }
}

/// There is no home to send them to: they have to look it up again themselves.
fn send_away(inside: &dyn Inside, lost: &Lost) {
    tracing::warn!(room = %lost.room, "the room is lost: its participants have to look it up again");
    inside.close(&lost.room, lost.hold.opened_as, Goodbye::Trouble(Code::NodeLeaving));
}
