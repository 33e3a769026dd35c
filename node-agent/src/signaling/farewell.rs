//! Why a room's participants are sent away.

use roost_proto::error::{CloseReason, Code, Problem};
use roost_proto::id::{Epoch, NodeId, PeerId, RoomKey};
use roost_proto::redirect::{Redirect, location};
use roost_proto::signaling::Frame;

use super::outbox::Ending;

/// What a room's participants are told when it ends here.
#[derive(Debug, Clone)]
pub(crate) enum Farewell {
    /// The room was closed: 4000 `room_closed`.
    Closed,
    /// The room lives elsewhere: each is told its own location, then 4000 `redirect`.
    Redirect(NewHome),
    /// An error: final ones close with 4000, others with 4000 + status after a pause.
    Problem(Code),
}

/// Where a room lives from now on.
#[derive(Debug, Clone)]
pub(crate) struct NewHome {
    pub(crate) signaling_url: String,
    pub(crate) node: NodeId,
    pub(crate) epoch: Epoch,
    pub(crate) ticket: String,
}

impl Farewell {
    /// How it is told to one participant.
    pub(super) fn ending(&self, room: &RoomKey, peer: &PeerId) -> Ending {
        match self {
            Self::Closed => Ending::closed(CloseReason::RoomClosed),
            Self::Redirect(home) => redirect(&Redirect {
                location: location(&home.signaling_url, room, Some(peer), &home.ticket, 0),
                node: home.node.clone(),
                epoch: home.epoch,
                ticket: home.ticket.clone(),
            }),
            Self::Problem(code) => Ending::problem(&Problem::new(*code, code.meaning())),
        }
    }
}

/// Sends one participant to another node.
pub(super) fn redirect(redirect: &Redirect) -> Ending {
    let data = serde_json::to_value(redirect).expect("texts and a number always serialise");
    let last = Frame::notification("redirect", data).to_text().into();
    Ending { last: Some(last), ..Ending::closed(CloseReason::Redirect) }
}
