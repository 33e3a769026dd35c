//! Closes rooms by an operator's word, as scheduler/src/app/close.rs has it.

use roost_proto::WIRE_VERSION;
use roost_proto::admin::NodeState;
use roost_proto::command::{Action, Command};
use roost_proto::id::RoomKey;
use roost_proto::room::ClaimState;
use roost_proto::time::Millis;
use roost_scheduler_core::close::{Fate, Generation};

use super::Scheduler;
use crate::wire::Wire;

const CLOSED_WITHIN_MS: u64 = 8_000;
const TOLD_AGAIN_MS: u64 = 1_000;

/// A room that is to be closed.
#[derive(Debug)]
pub(super) struct Closing {
    wanted: Generation,
    began: Millis,
    told: Option<Millis>,
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
        self.closings
            .insert(room.clone(), Closing { wanted, began: now, told: None, is_followed: false, was_grace: false });
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
                closing = Closing { wanted: current, told: None, is_followed: true, ..closing };
            }
            (Fate::Goes, Some(_)) => return None,
            (Fate::Same, Some(_)) => {}
        }
        if now.since(closing.began) >= CLOSED_WITHIN_MS {
            return None;
        }
        if closing.told.is_none_or(|told| now.since(told) >= TOLD_AGAIN_MS) {
            let Generation { node, incarnation, epoch, .. } = closing.wanted.clone();
            let action = Action::CloseRoom { key: room.clone(), epoch };
            self.command(node, Command { v: WIRE_VERSION, incarnation, action }, wire);
            closing.told = Some(now);
        }
        Some(closing)
    }
}
