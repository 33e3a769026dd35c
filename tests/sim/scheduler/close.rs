//! Closes rooms by an operator's word, as scheduler/src/app/close.rs has it.

use roost_proto::WIRE_VERSION;
use roost_proto::admin::NodeState;
use roost_proto::command::{Action, Command};
use roost_proto::id::RoomKey;
use roost_proto::room::ClaimState;
use roost_scheduler_core::close::{Fate, Generation};
use roost_scheduler_core::urging::Urging;

use super::Scheduler;
use crate::wire::Wire;

/// A room that is to be closed.
#[derive(Debug)]
pub(super) struct Closing {
    wanted: Generation,
    urging: Urging,
    is_followed: bool,
    was_grace: bool,
}

impl Scheduler {
    /// An operator wants the room to end.
    pub(crate) fn close(&mut self, room: &RoomKey, wire: &mut Wire) {
        let now = self.now(wire);
        let Some(wanted) = self.view.room(room, now).map(|room| Generation::of(&room)) else { return };
        if self.view.node(&wanted.node).is_some_and(|holder| self.view.state(holder, now) == NodeState::Lost) {
            return;
        }
        let closing = Closing { wanted, urging: Urging::new(now), is_followed: false, was_grace: false };
        self.closings.insert(room.clone(), closing);
        self.tend_closings(wire);
    }

    pub(super) fn tend_closings(&mut self, wire: &mut Wire) {
        for (room, closing) in std::mem::take(&mut self.closings) {
            if let Some(closing) = self.close_on(&room, closing, wire) {
                self.closings.insert(room, closing);
            }
        }
    }

    /// None when nothing is left to be done.
    fn close_on(&mut self, room: &RoomKey, mut closing: Closing, wire: &mut Wire) -> Option<Closing> {
        let now = self.now(wire);
        closing.was_grace |= self.view.grace_left_ms(room.bucket(), now) > 0;
        let current = self.view.room(room, now).map(|room| Generation::of(&room));
        match (closing.wanted.fate(current.as_ref()), current) {
            (_, None) if closing.was_grace => return None,
            (Fate::Over, _) | (_, None) => {
                wire.tell(|| format!("{} has closed {room}, {:?}", self.place, closing.wanted));
                self.closed.push((room.clone(), closing.wanted.epoch));
                return None;
            }
            (Fate::Goes, Some(current)) if current.state == ClaimState::Open && !closing.is_followed => {
                closing = Closing { wanted: current, is_followed: true, ..closing };
                closing.urging.turn();
            }
            (Fate::Goes, Some(_)) => return None,
            (Fate::Same, Some(_)) => {}
        }
        if closing.urging.is_late(now) {
            return None;
        }
        if closing.urging.is_due(now) {
            let Generation { node, incarnation, epoch, .. } = closing.wanted.clone();
            let action = Action::CloseRoom { key: room.clone(), epoch };
            self.command(node, Command { v: WIRE_VERSION, incarnation, action }, wire);
        }
        Some(closing)
    }
}
