//! Clients: each looks a room up, again and again, and goes to the door that it is told of. Now and then one comes back
//! with an old ticket.

use roost_proto::id::RoomKey;

use crate::message::{Body, Ticket};
use crate::plan::Plan;
use crate::wire::{Place, Timer, Wire};

/// A client does something about this often.
const PAUSE_MS: u64 = 600;
/// One in so many comes without asking anew.
const OLD_TICKETS: u64 = 4;
/// One in so many would rather not go where the last ticket led.
const AVOIDING: u64 = 6;
/// How many tickets a client keeps.
const TICKETS_KEPT: usize = 4;

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    place: Place,
    tickets: Vec<Ticket>,
    /// How many times a door let it in.
    pub(crate) admissions: u64,
}

impl Client {
    pub(crate) fn start(number: usize, wire: &mut Wire) -> Self {
        let place = Place::Client(number);
        let first = wire.draw(0, PAUSE_MS);
        wire.timer(place, 0, first, Timer::Tick);
        Self { place, tickets: Vec::new(), admissions: 0 }
    }

    pub(crate) fn hear(&mut self, body: Body, wire: &mut Wire) {
        match body {
            Body::Found(Some(ticket)) => {
                self.knock(ticket.clone(), wire);
                self.tickets.push(ticket);
                if self.tickets.len() > TICKETS_KEPT {
                    self.tickets.remove(0);
                }
            }
            Body::Knocked(true) => self.admissions += 1,
            _ => {}
        }
    }

    pub(crate) fn wake(&mut self, plan: &Plan, wire: &mut Wire) {
        let pause = wire.draw(PAUSE_MS / 4, PAUSE_MS * 2);
        wire.timer(self.place, 0, pause, Timer::Tick);
        if !self.tickets.is_empty() && wire.draw(1, OLD_TICKETS) == 1 {
            let which = wire.draw(0, self.tickets.len() as u64 - 1) as usize;
            let ticket = self.tickets[which].clone();
            return self.knock(ticket, wire);
        }
        let scheduler = wire.draw(0, plan.schedulers as u64 - 1) as usize;
        let room = room(wire.draw(0, plan.rooms - 1));
        let avoids = wire.draw(1, AVOIDING) == 1;
        let avoid = self.tickets.last().filter(|_| avoids).map(|ticket| ticket.node.clone());
        let id = wire.id();
        wire.send(self.place, Place::Scheduler(scheduler), id, Body::Lookup(room, avoid));
    }

    fn knock(&mut self, ticket: Ticket, wire: &mut Wire) {
        let Some(number) = ticket.node.as_str().rsplit('-').next().and_then(|number| number.parse().ok()) else {
            return;
        };
        let id = wire.id();
        wire.send(self.place, Place::Agent(number), id, Body::Knock(ticket));
    }
}

/// The second namespace.
pub(crate) const OTHER: &str = "other";

/// The name of a room; one in four is in the second namespace.
pub(crate) fn room(number: u64) -> RoomKey {
    let namespace = if number % 4 == 3 { OTHER } else { "default" };
    RoomKey::new(namespace, format!("room-{number}")).expect("valid")
}
