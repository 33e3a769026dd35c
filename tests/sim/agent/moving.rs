//! Rooms that the agent hands over by command, as node-agent/src/uplink/moving.rs has it.

use roost_agent_core::hold::{Held, Move, Target};
use roost_proto::id::{Epoch, RoomKey};
use roost_proto::room::Expected;
use roost_proto::time::Millis;
use roost_store::operation::{HandOver, HandedOver, NodeAnswer, NodeOperation};

use super::{ANSWER_WITHIN_MS, Agent, Purpose, Silence};
use crate::wire::{Timer, Wire};

impl Agent {
    /// A command to move a room has come.
    pub(super) fn begin_move(&mut self, room: &RoomKey, epoch: Epoch, to: Target, wire: &mut Wire) {
        if to.node != self.id && self.holdings.begin_move(room, epoch, to, &self.lease) && self.moving.want() {
            self.move_again(wire);
        }
    }

    /// Asks once for each room.
    pub(super) fn move_again(&mut self, wire: &mut Wire) {
        let moves = self.holdings.moves();
        self.moving.on_the_way = 0;
        let sent = self.now(wire.now);
        for Move { held, to, guests } in moves {
            let Some(holding) = self.holding(&held).filter(|_| self.holdings.ask_move(&held)) else { continue };
            let expected = Expected { participants: guests, hint: guests, age_ms: 0 };
            let (to, to_incarnation, ttl_ms) = (to.node, to.incarnation, to.ttl_ms);
            let hand_over = HandOver { held: holding, to, to_incarnation, ttl_ms, expected };
            self.moving.on_the_way += 1;
            self.ask(NodeOperation::HandOver(hand_over), Purpose::Move(held, sent), ANSWER_WITHIN_MS, wire);
        }
        if self.moving.on_the_way == 0 {
            self.moves_ended(wire);
        }
    }

    pub(super) fn move_answered(
        &mut self,
        held: &Held,
        sent: Millis,
        answer: Result<NodeAnswer, Silence>,
        wire: &mut Wire,
    ) {
        match answer {
            Ok(NodeAnswer::HandedOver(HandedOver::Yes { epoch })) => drop(self.holdings.moved(held, epoch)),
            Ok(NodeAnswer::HandedOver(HandedOver::No { .. })) => drop(self.holdings.move_refused(held)),
            Ok(NodeAnswer::HandedOver(HandedOver::NewRun { run })) => {
                self.holdings.move_not_done(held);
                self.note_run_in_passing(held.room.bucket(), run, sent, wire);
            }
            Err(Silence::Refused) => self.holdings.move_not_done(held),
            _ => {}
        }
        self.moving.on_the_way -= 1;
        if self.moving.on_the_way == 0 {
            self.moves_ended(wire);
        }
    }

    fn moves_ended(&mut self, wire: &mut Wire) {
        if !self.holdings.moves().is_empty() {
            let pause = self.moving.pause(wire);
            wire.timer(self.place, self.life, pause, Timer::Move);
        } else if self.moving.end() {
            wire.timer(self.place, self.life, 0, Timer::Move);
        }
    }
}
