//! Moves of rooms that an operator or a drain orders, as scheduler/src/app/relocate.rs has them: each is told once here.

use roost_proto::WIRE_VERSION;
use roost_proto::command::{Action, Command};
use roost_proto::id::RoomKey;
use roost_proto::policy;
use roost_proto::room::{Claim, ClaimState};
use roost_scheduler_core::relocation::{Order, Step, Ways, decide};
use roost_scheduler_core::request::Request;
use roost_scheduler_core::time::GRANT_TTL_MS;
use roost_store::operation::{Grant, Granted};

use super::{Answer, Purpose, Scheduler};
use crate::message::{Ask, Said};
use crate::wire::Wire;

impl Scheduler {
    /// Moves the room as wanted. False if nobody was told.
    pub(crate) fn relocate(&mut self, room: &RoomKey, ways: Ways<'_>, wire: &mut Wire) -> bool {
        let now = self.now(wire);
        let step = decide(&self.view, &Request::new(room, &policy::DEFAULT), ways, true, now);
        wire.tell(|| format!("{} is to move {room} {ways:?}: {step:?}", self.place));
        match step {
            Step::Order(Order { holder, incarnation, epoch, to, to_incarnation }) => {
                self.given.push((room.clone(), to.id.clone()));
                let (key, signaling_url) = (room.clone(), to.signaling_url);
                let action =
                    Action::MoveRoom { key, epoch, to: to.id, to_incarnation, signaling_url, ttl_ms: GRANT_TTL_MS };
                self.command(holder, Command { v: WIRE_VERSION, incarnation, action }, wire);
            }
            Step::Grant { home, run, seen, expected } => {
                let (node, incarnation) = (home.node.id, home.incarnation);
                let claim =
                    Claim { run: run.clone(), epoch: home.epoch, state: ClaimState::Granted, node, incarnation };
                let (room, node) = (room.clone(), claim.node.clone());
                self.given.push((room.clone(), node.clone()));
                let grant = Grant { room: room.clone(), run, seen, node, incarnation, ttl_ms: GRANT_TTL_MS, expected };
                self.ask(Ask::Grant(grant), Purpose::Regrant(room, claim), wire);
            }
            _ => return false,
        }
        true
    }

    pub(super) fn regranted(&mut self, room: RoomKey, claim: Claim, answer: Answer, wire: &mut Wire) {
        if let Ok(Said::Granted(Granted::Yes { epoch, .. }, expected)) = answer {
            let now = self.now(wire);
            self.view.fold_claim(room, Claim { epoch, ..claim }, (GRANT_TTL_MS, expected), now);
        }
    }
}
