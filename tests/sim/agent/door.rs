//! The agent's door, as node-agent/src/door has it: who may come in, and rooms that are opened for that.

use roost_agent_core::hold::{Held, Offer, OpenFailure, Verdict};
use roost_proto::id::{Epoch, RoomKey};
use roost_proto::room::Run;
use roost_proto::time::Millis;
use roost_store::operation::{NodeAnswer, NodeOperation, Opened};

use super::{ANSWER_WITHIN_MS, Agent, Purpose, Silence};
use crate::message::{Body, Ticket};
use crate::wire::{Place, Timer, Wire};

/// A transport is made within this time.
const TRANSPORT_MS: u64 = 200;
/// Participants stay at most this long.
const STAY_MS: u64 = 6_000;

impl Agent {
    /// Somebody is at the door.
    pub(super) fn knocked(&mut self, client: Place, id: u64, ticket: Ticket, wire: &mut Wire) {
        if ticket.node != self.id {
            return wire.send(self.place, client, id, Body::Knocked(false));
        }
        let (room, offer) = (&ticket.room, ticket.offer);
        let now = self.now(wire.now);
        match self.holdings.knock(room, Some(offer), &self.lease, now) {
            Verdict::Admit { .. } | Verdict::Open if !self.mode().takes_participants() => {
                wire.send(self.place, client, id, Body::Knocked(false));
            }
            Verdict::Admit { opened_as } => self.admit(client, id, (room.clone(), opened_as), offer, wire),
            Verdict::Open if !self.mode().takes_rooms() => wire.send(self.place, client, id, Body::Knocked(false)),
            Verdict::Open => {
                self.holdings.begin_open(room, offer, now);
                let held = Held { room: room.clone(), incarnation: offer.incarnation, epoch: offer.epoch };
                let Some(holding) = self.holding(&held) else {
                    self.holdings.open_failed(room, offer, OpenFailure::NotDone);
                    return wire.send(self.place, client, id, Body::Knocked(false));
                };
                let purpose = Purpose::Open(room.clone(), offer, holding.run.clone(), now);
                self.waiting.entry(room.clone()).or_default().push((client, id, ticket));
                self.ask(NodeOperation::Open(holding), purpose, ANSWER_WITHIN_MS, wire);
            }
            Verdict::Wait => self.waiting.entry(room.clone()).or_default().push((client, id, ticket)),
            Verdict::Stale => {
                self.holdings.disown(room, offer, &self.lease);
                wire.send(self.place, client, id, Body::Knocked(false));
            }
            Verdict::Suspended | Verdict::Moving | Verdict::Unheld => {
                wire.send(self.place, client, id, Body::Knocked(false))
            }
        }
    }

    pub(super) fn open_answered(
        &mut self,
        room: &RoomKey,
        (offer, run, sent): (Offer, &Run, Millis),
        answer: Result<NodeAnswer, Silence>,
        wire: &mut Wire,
    ) {
        let failure = match answer {
            Ok(NodeAnswer::Opened(Opened::Yes)) => None,
            Ok(NodeAnswer::Opened(Opened::No { .. })) => Some(OpenFailure::Refused),
            Ok(NodeAnswer::Opened(Opened::NewRun { run })) => {
                self.note_run_in_passing(room.bucket(), run, sent, wire);
                Some(OpenFailure::NotDone)
            }
            Err(Silence::Refused) => Some(OpenFailure::NotDone),
            _ => Some(OpenFailure::Unknown),
        };
        let now = self.now(wire.now);
        match failure {
            // As opening.rs has it: what was said of a run that is over says nothing of this one.
            _ if self.run(room.bucket()).as_ref() != Some(run) => {}
            None => drop(self.holdings.opened(room, offer, now)),
            Some(failure) => self.holdings.open_failed(room, offer, failure),
        }
        let waiting = self.waiting.remove(room).unwrap_or_default();
        for (client, id, ticket) in waiting {
            self.knocked_again(client, id, ticket, wire);
        }
    }

    /// Whoever waited asks once more; what would be opened anew is left to a new lookup.
    fn knocked_again(&mut self, client: Place, id: u64, ticket: Ticket, wire: &mut Wire) {
        let now = self.now(wire.now);
        match self.holdings.knock(&ticket.room, Some(ticket.offer), &self.lease, now) {
            Verdict::Admit { opened_as } if self.mode().takes_participants() => {
                self.admit(client, id, (ticket.room, opened_as), ticket.offer, wire);
            }
            _ => wire.send(self.place, client, id, Body::Knocked(false)),
        }
    }

    fn admit(&mut self, client: Place, id: u64, guest: (RoomKey, Epoch), offer: Offer, wire: &mut Wire) {
        let (room, opened_as) = guest.clone();
        self.holdings.entered(&room);
        let epoch = self.holdings.get(&room).map_or(offer.epoch, |hold| hold.epoch);
        self.admitted.push((room, epoch));
        let number = wire.id();
        self.guests.insert(number, guest);
        wire.tell(|| format!("{:?} ADMITS epoch {epoch} (opened as {opened_as}) offer {offer:?}", self.place));
        let transport_ms = wire.draw(0, TRANSPORT_MS);
        wire.timer(self.place, self.life, transport_ms, Timer::Arrive(number));
        wire.send(self.place, client, id, Body::Knocked(true));
    }

    /// The transport is made: rule 5 is checked again.
    pub(super) fn arrived(&mut self, guest: u64, wire: &mut Wire) {
        let Some((room, opened_as)) = self.guests.get(&guest) else { return };
        if self.holdings.admits(room, *opened_as, &self.lease, self.now(wire.now)) {
            let stay = wire.draw(100, STAY_MS);
            wire.timer(self.place, self.life, stay, Timer::Leave(guest));
        } else {
            self.left(guest, wire);
        }
    }

    pub(super) fn left(&mut self, guest: u64, wire: &mut Wire) {
        if let Some((room, opened_as)) = self.guests.remove(&guest) {
            let now = self.now(wire.now);
            self.holdings.left(&room, opened_as, now);
        }
    }
}
