//! What happens at the nodes' doors: participants come, rooms open, participants leave, rooms end.

use roost_agent_core::hold::{Held, Offer, OpenFailure};
use roost_proto::error::Reason;
use roost_proto::id::RoomKey;
use roost_store::operation::{Opened, Released};

use super::{Happening, Place, World};
use crate::node::Knocked;
use crate::store::store_ms;

/// How often a participant looks a room up before it gives up.
const MOST_TRIES: u8 = 4;
/// A room that changes hands is looked for again after this time.
const COME_AGAIN_MS: u64 = 150;

impl World<'_> {
    /// A participant stands at the door.
    pub(super) fn knock(&mut self, visit: u32, node: usize, offer: Offer) {
        if self.guests[visit as usize].place != Place::Outside {
            return;
        }
        let plan = self.plan;
        let room = &plan.rooms[plan.visits[visit as usize].room as usize].key;
        let policy = plan.namespaces.of(&room.namespace);
        let knocked = self.nodes[node].knock(self.plan_of(node), room, policy, offer, self.now);
        match knocked {
            Knocked::In { opened_as } => {
                self.nodes[node].enter(room);
                self.guests[visit as usize].place = Place::Inside { node, opened_as };
                self.tally.admitted();
                self.settling.opened(self.plan.visits[visit as usize].room);
                self.check_admission(visit, node);
            }
            Knocked::Open => {
                self.nodes[node].holdings.begin_open(room, offer, self.now);
                self.nodes[node].waiting.entry(room.clone()).or_default().push(visit);
                self.check_opening(node);
                let arrives = self.network.store(self.now);
                self.queue.push(arrives, Happening::Opening { node, room: room.clone(), offer });
            }
            Knocked::Wait => self.nodes[node].waiting.entry(room.clone()).or_default().push(visit),
            Knocked::Suspended => self.come_again(visit),
            Knocked::Stale => {
                let there = &mut self.nodes[node];
                there.holdings.disown(room, offer, &there.lease);
                self.send_releases(node);
                self.come_again(visit);
            }
            Knocked::RoomFull => self.refuse(visit, "room_full"),
            Knocked::Refused(reason) => self.refused_at_door(visit, node, reason),
        }
    }

    /// The node's wish to open a room has reached the store.
    pub(super) fn opening(&mut self, node: usize, room: RoomKey, offer: Offer) {
        let holding = self.holding(node, &room, offer);
        let (opened, event) = self.store.of(&room).open(&holding, store_ms(self.now));
        self.publish(room.bucket(), event);
        let answered = self.network.store(self.now);
        self.queue.push(answered, Happening::Opened { node, room, offer, opened });
    }

    /// The store's answer: who waited comes in, or looks the room up again.
    pub(super) fn opened(&mut self, node: usize, room: &RoomKey, offer: Offer, opened: Opened) {
        let holdings = &mut self.nodes[node].holdings;
        match opened {
            Opened::Yes => drop(holdings.opened(room, offer, self.now)),
            Opened::No { .. } => holdings.open_failed(room, offer, OpenFailure::Refused),
            Opened::NewRun { .. } => holdings.open_failed(room, offer, OpenFailure::NotDone),
        }
        self.send_releases(node);
        for visit in self.nodes[node].waiting.remove(room).unwrap_or_default() {
            self.knock(visit, node, offer);
        }
    }

    /// Gives up the claims of rooms that have ended.
    pub(super) fn send_releases(&mut self, node: usize) {
        for held in self.nodes[node].holdings.releases() {
            let arrives = self.network.store(self.now);
            self.queue.push(arrives, Happening::Release { node, held });
        }
    }

    pub(super) fn release(&mut self, node: usize, held: &Held) {
        let offer = Offer { incarnation: held.incarnation, epoch: held.epoch };
        let holding = self.holding(node, &held.room, offer);
        let (released, event) = self.store.of(&held.room).release(&holding, store_ms(self.now));
        self.publish(held.room.bucket(), event);
        if released == Released::Yes {
            self.nodes[node].holdings.released(held);
        }
    }

    /// The participant goes, or would have gone.
    pub(super) fn leave(&mut self, visit: u32) {
        let room = &self.plan.rooms[self.plan.visits[visit as usize].room as usize].key;
        match std::mem::replace(&mut self.guests[visit as usize].place, Place::Gone) {
            Place::Inside { node, opened_as } => {
                self.nodes[node].leave(room, opened_as, self.now);
                self.went(visit);
            }
            Place::TurnedAway { node } => self.nodes[node].turned_away -= 1,
            Place::Outside | Place::Gone => {}
        }
    }

    /// A full node has nothing for whoever belongs to a room that is open there: they count as its demand.
    pub(super) fn turn_away(&mut self, visit: u32, node: usize) {
        self.nodes[node].turned_away += 1;
        self.guests[visit as usize].place = Place::TurnedAway { node };
    }

    fn refused_at_door(&mut self, visit: u32, node: usize, reason: Reason) {
        let room = &self.plan.rooms[self.plan.visits[visit as usize].room as usize].key;
        let is_open_here = self.nodes[node].holdings.get(room).is_some();
        self.tally.refused_at_door(reason, is_open_here);
        if is_open_here && reason == Reason::FullParticipants {
            self.tally.over();
            self.turn_away(visit, node);
        } else if is_open_here {
            self.guests[visit as usize].place = Place::Gone;
        } else {
            // The room was only granted: it may go elsewhere.
            self.guests[visit as usize].avoid.push(self.plan.nodes[node].id.clone());
            self.come_again(visit);
        }
    }

    /// The participant looks the room up once more.
    pub(super) fn come_again(&mut self, visit: u32) {
        if self.guests[visit as usize].tries >= MOST_TRIES {
            return self.refuse(visit, "gave_up");
        }
        self.queue.push(self.now.plus(COME_AGAIN_MS), Happening::Visit { visit });
    }
}
