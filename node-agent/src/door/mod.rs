//! The door: decides whether a participant may come in, must go to another node, or is refused.

pub(crate) mod alone;
pub(crate) mod gate;
pub(crate) mod lookup;
mod opening;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::net::IpAddr;

use async_trait::async_trait;

use roost_proto::error::Problem;
use roost_proto::id::{Epoch, PeerId, RequestId, RoomKey};
use roost_proto::redirect::Redirect;

/// Somebody who wants into a room.
#[derive(Debug, Clone)]
pub(crate) struct Knock {
    pub(crate) room: RoomKey,
    pub(crate) peer: PeerId,
    /// As it stands in the query; not checked yet.
    pub(crate) ticket: Option<String>,
    /// The participant's own address, behind trusted proxies too.
    pub(crate) client: IpAddr,
    /// How often it was redirected already.
    pub(crate) redirects: u8,
    pub(crate) request_id: RequestId,
}

/// What the door says to a [`Knock`].
#[derive(Debug)]
pub(crate) enum Answer {
    Admitted(Admission),
    /// The room lives elsewhere: tell the participant, close with 4000.
    Redirect(Redirect),
    Refused(Problem),
}

/// Decides who comes in. Asked once per connection, before anything is made for it.
#[async_trait]
pub(crate) trait Door: Debug + Send + Sync + 'static {
    /// Waits for the store or a scheduler where it must, a few seconds at most.
    async fn knock(&self, knock: Knock) -> Answer;
}

/// The right to be in a room, held by the participant's connection. Dropping it tells the door that the participant is gone.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The generation in which the room was opened on this node. It stays the same as long as the room lives here, also
    /// when its claim had to be taken again under a newer epoch: equal epochs are the same room in the media server.
    pub(crate) epoch: Epoch,
    /// The epoch that the claim had when the participant came in, as a lookup tells it.
    pub(crate) claim: Epoch,
    stay: Box<dyn Stay>,
}

/// What an [`Admission`] knows of its door. Dropped with it.
pub(crate) trait Stay: Debug + Send + Sync {
    /// Whether the room is still held here, at this moment.
    fn still_holds(&self) -> bool;
}

impl Admission {
    /// An admission to the room's generation `epoch`, while its claim has the epoch `claim`.
    pub(crate) fn new(epoch: Epoch, claim: Epoch, stay: Box<dyn Stay>) -> Self {
        Self { epoch, claim, stay }
    }

    /// Whether the node may still admit to the room: asked again after the first transport was made (rule 5). If not, close
    /// with `store_unavailable`.
    #[must_use]
    pub(crate) fn still_holds(&self) -> bool {
        self.stay.still_holds()
    }
}
