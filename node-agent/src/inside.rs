//! What goes on inside the node's rooms, as far as the agent must know of it.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use roost_proto::error::Code;
use roost_proto::id::{Epoch, RoomKey};
use roost_proto::report::{RoomReport, Worker};

use crate::door::lookup::Found;
use crate::signaling::{Farewell, NewHome, Rooms};

/// The rooms with their participants, and the media workers.
#[async_trait]
pub(crate) trait Inside: Debug + Send + Sync + 'static {
    /// Every room that has something inside, in the generation in which it was opened here.
    fn rooms(&self) -> Vec<RoomReport>;

    /// Peers that have joined, in all rooms.
    fn participants(&self) -> usize;

    /// Every media worker, with what the rooms have on each.
    fn workers(&self) -> Vec<Worker>;

    /// Sends the participants of `room`, opened here as `opened_as`, away.
    fn close(&self, room: &RoomKey, opened_as: Epoch, why: Goodbye);

    /// Sends everybody away who is still there, and waits until they are gone, a few seconds at most.
    async fn close_all(&self, why: Goodbye);
}

/// What participants are told who must go.
#[derive(Debug, Clone)]
pub(crate) enum Goodbye {
    /// The room was ended: for good.
    Ended,
    /// The room lives there now.
    Moved(Found),
    /// Come again later.
    Trouble(Code),
}

/// The inside of a node that serves participants itself.
#[derive(Debug)]
pub(crate) struct Served(pub(crate) Arc<Rooms>);

#[async_trait]
impl Inside for Served {
    fn rooms(&self) -> Vec<RoomReport> {
        self.0.snapshot()
    }

    fn participants(&self) -> usize {
        self.0.participants()
    }

    fn workers(&self) -> Vec<Worker> {
        self.0.workers()
    }

    fn close(&self, room: &RoomKey, opened_as: Epoch, why: Goodbye) {
        self.0.close_room(room, opened_as, &why.into());
    }

    async fn close_all(&self, why: Goodbye) {
        self.0.close_all(&why.into()).await;
    }
}

impl From<Goodbye> for Farewell {
    fn from(goodbye: Goodbye) -> Self {
        match goodbye {
            Goodbye::Ended => Self::Closed,
            Goodbye::Moved(Found { node, signaling_url, epoch, ticket, .. }) => {
                Self::Redirect(NewHome { signaling_url, node, epoch, ticket })
            }
            Goodbye::Trouble(code) => Self::Problem(code),
        }
    }
}
