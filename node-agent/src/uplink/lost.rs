//! Sends the participants of a room that this node has no more to the room's home.

use roost_agent_core::hold::Hold;
use roost_proto::error::{Code, Problem};
use roost_proto::id::{NodeId, RoomKey};

use crate::door::lookup::{Directory, Wanted};
use crate::inside::{Goodbye, Inside};

/// Asks where the room lives, once. What was answered if there is no home to send them to; they are still inside then.
pub(super) async fn send_home(
    node: &NodeId,
    directory: &dyn Directory,
    inside: &dyn Inside,
    room: &RoomKey,
    hold: &Hold,
) -> Result<(), Option<Problem>> {
    let wanted = Wanted { room, client: None, region: None, expected: hold.guests, avoid: &[], request_id: None };
    let found = directory.find(wanted).await.map_err(Some)?;
    if found.node == *node {
        return Err(None);
    }
    tracing::warn!(%room, node = %found.node, "the room is another node's now: its participants go there");
    inside.close(room, hold.opened_as, Goodbye::Moved(found));
    Ok(())
}

/// There is no home to send them to: they have to look it up again themselves.
pub(super) fn send_away(inside: &dyn Inside, room: &RoomKey, hold: &Hold) {
    tracing::warn!(%room, "the room is lost: its participants have to look it up again");
    inside.close(room, hold.opened_as, Goodbye::Trouble(Code::NodeLeaving));
}
