//! Moves a room to another node: one that is open by its holder's hand, which is told to; one that is granted by granting
//! it anew. Done when this scheduler has heard of it.

use roost_proto::command::Action;
use roost_proto::error::{Code, Problem};
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::policy::Rung;
use roost_proto::room::RoomView;
use roost_scheduler_core::relocation::{Order, Step, Ways, decide};
use roost_scheduler_core::request::Request;
use roost_scheduler_core::time::GRANT_TTL_MS;
use roost_scheduler_core::urging::Urging;

use super::lookup::{Course, Next, Placed, Placement, SEED};
use super::{Scheduler, URGING_PAUSE};
use crate::error::{no_node, node_not_found, room_not_found, starting, store_unavailable};

impl Scheduler {
    /// Moves the room to the node `to`, or to wherever placement says, beside its home. Gives the room as it is then.
    ///
    /// Only away from the node `from`, if one is named: a room that is elsewhere by now stays there, and was not moved if
    /// that is not `to` either.
    pub(crate) async fn relocate(
        &self,
        key: &RoomKey,
        from: Option<&NodeId>,
        to: Option<&NodeId>,
    ) -> Result<RoomView, Problem> {
        // A room that lives is moved also when its namespace is configured no more: what holds for unknown ones holds for it.
        let request = Request { seed: SEED, ..Request::new(key, self.rules.shared.namespaces.of(&key.namespace)) };
        let mut course = Course::new(self.clock.now());
        let mut is_read = false;
        loop {
            let now = self.clock.now();
            let step = decide(&self.view(), &request, Ways { from, to }, is_read, now);
            match step {
                Step::There => return arrived(self.room(key)?, to),
                Step::Order(order) => match self.order(key, &order).await? {
                    Some(room) if to.is_none_or(|to| *to == room.node) => return Ok(room),
                    // Somebody else has moved it too, or it is the holder's in another generation.
                    Some(_) | None => course.go_on()?,
                },
                Step::Grant { home, run, seen, expected } => {
                    course.go_on()?;
                    let placed = Placed { rung: Rung::Anywhere, expected };
                    if let Next::Answer(_) = self.grant(key, Placement { home, run, seen, placed }).await? {
                        return self.room(key);
                    }
                }
                Step::Read => {
                    course.go_on()?;
                    self.read(key).await;
                    is_read = true;
                }
                Step::Wait => self.wait(course.deadline(), starting).await?,
                Step::Unreached => self.wait(course.deadline(), store_unavailable).await?,
                Step::NoRoom => return Err(room_not_found(key)),
                Step::UnknownNode(node) => return Err(node_not_found(&node)),
                Step::NoNode(refused) => return Err(no_node(refused)),
            }
        }
    }

    /// Tells the holder, again and again, until the room is elsewhere. None if it is the holder's in another generation:
    /// decide anew.
    async fn order(&self, key: &RoomKey, order: &Order) -> Result<Option<RoomView>, Problem> {
        let mut urging = Urging::new(self.clock.now());
        loop {
            let now = self.clock.now();
            if urging.is_late(now) {
                let detail = format!("room {:?}: node {} has not moved it yet", key.room, order.holder);
                return Err(Problem::new(Code::Unfinished, detail));
            }
            if urging.is_due(now) {
                self.tell(key, order).await;
            }
            match self.view().room(key, now) {
                None => return Err(room_not_found(key)),
                Some(room) if *room.node != order.holder => return Ok(Some(room.view(key))),
                Some(room) if room.epoch > order.epoch => return Ok(None),
                Some(_) => {}
            }
            tokio::time::sleep(URGING_PAUSE).await;
        }
    }

    async fn tell(&self, key: &RoomKey, order: &Order) {
        let Order { holder, incarnation, epoch, to, to_incarnation } = order.clone();
        let (key, signaling_url) = (key.clone(), to.signaling_url);
        let action = Action::MoveRoom { key, epoch, to: to.id, to_incarnation, signaling_url, ttl_ms: GRANT_TTL_MS };
        self.command(&holder, incarnation, action).await;
    }
}

/// The room, if it is where it was to go.
fn arrived(room: RoomView, to: Option<&NodeId>) -> Result<RoomView, Problem> {
    if to.is_none_or(|to| *to == room.node) {
        return Ok(room);
    }
    let detail = format!("room {:?}: somebody else has moved it to node {}", room.room, room.node);
    Err(Problem::new(Code::Unfinished, detail))
}
