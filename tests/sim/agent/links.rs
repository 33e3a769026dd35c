//! Watch connections of schedulers, as node-agent/src/link/watch.rs has them: each hears under which incarnation we act.

use roost_proto::id::Incarnation;
use roost_proto::time::Millis;

use super::Agent;
use crate::message::Body;
use crate::wire::{Place, Wire};

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    scheduler: Place,
    id: u64,
    told: Option<Incarnation>,
    /// When what was said last arrives: the connection keeps the order.
    last: Millis,
}

impl Agent {
    /// The scheduler connects; what it had before is over for it.
    pub(super) fn dialled(&mut self, scheduler: Place, id: u64, wire: &mut Wire) {
        self.links.retain(|link| link.scheduler != scheduler);
        let mut link = Link { scheduler, id, told: None, last: wire.now };
        if wire.stream((self.place, scheduler), id, Body::Pong, &mut link.last) {
            self.links.push(link);
        }
    }

    pub(super) fn pinged(&mut self, scheduler: Place, id: u64, wire: &mut Wire) {
        let is_known = self.links.iter().any(|link| link.id == id);
        wire.send(self.place, scheduler, id, if is_known { Body::Pong } else { Body::Hangup });
    }

    /// Tells everybody who does not know it the incarnation of this moment.
    pub(super) fn tell_links(&mut self, wire: &mut Wire) {
        let Some(incarnation) = self.lease.incarnation() else { return };
        let place = self.place;
        self.links.retain_mut(|link| {
            let news = link.told.replace(incarnation) != Some(incarnation);
            !news || wire.stream((place, link.scheduler), link.id, Body::Acting(incarnation), &mut link.last)
        });
    }

    /// The process ends: its system closes its connections.
    pub(crate) fn hang_up(&self, wire: &mut Wire) {
        for link in &self.links {
            wire.send(self.place, link.scheduler, link.id, Body::Hangup);
        }
    }
}
