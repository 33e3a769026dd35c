//! Nodes come, with the rooms that they have from the beginning, and go.

use roost_agent_core::hold::Offer;
use roost_proto::id::Incarnation;
use roost_proto::room::Expected;
use roost_scheduler_core::time::GRANT_TTL_MS;
use roost_store::operation::{Grant, Granted, Leave, Register, Registered};

use super::{Happening, Place, World};
use crate::plan::Resident;
use crate::store::{first_run, store_ms};

impl World<'_> {
    /// The node takes its lease, the first time with its rooms, and begins to report.
    pub(super) fn begin(&mut self, node: usize) {
        let plan = &self.plan.nodes[node];
        let register = Register {
            node: plan.id.clone(),
            run: first_run(),
            process: plan.id.to_string(),
            after: self.nodes[node].lease.last_incarnation(),
            lease_ms: self.nodes[node].lease.lease_ms(),
        };
        let registered = self.store.bucket(plan.id.bucket()).register(&register, store_ms(self.now));
        let Registered::Yes { incarnation, store_ms, .. } = registered else { return };
        self.nodes[node].lease.registered(incarnation, store_ms, self.now, self.now);
        for resident in self.plan.residents.iter().filter(|resident| resident.node as usize == node) {
            self.settle(resident, incarnation);
        }
        self.report(node);
    }

    /// The node is gone, and all who were there with it.
    pub(super) fn vanish(&mut self, node: usize) {
        let id = &self.plan.nodes[node].id;
        let Some(incarnation) = self.nodes[node].lease.incarnation() else { return };
        let leave = Leave { node: id.clone(), run: first_run(), incarnation };
        let ((), event) = self.store.bucket(id.bucket()).leave(&leave, store_ms(self.now));
        self.publish(id.bucket(), event);
        for visit in self.nodes[node].vanish(incarnation, self.now) {
            self.come_again(visit);
        }
        for visit in 0..self.guests.len() {
            match self.guests[visit].place {
                Place::Inside { node: there, .. } if there == node => self.went(visit as u32),
                Place::TurnedAway { node: there } if there == node => {}
                _ => continue,
            }
            self.guests[visit].place = Place::Gone;
        }
    }

    /// A room that is open on its node from the beginning.
    fn settle(&mut self, resident: &Resident, incarnation: Incarnation) {
        let Some(visits) = self.inside.remove(&resident.room) else { return };
        let (node, now) = (resident.node as usize, self.now);
        let key = &self.plan.rooms[resident.room as usize].key;
        let (room, run, seen) = (key.clone(), first_run(), None);
        let expected = Expected { participants: visits.len() as u32, hint: 0, age_ms: 0 };
        let id = self.plan.nodes[node].id.clone();
        let grant = Grant { room, run, seen, node: id, incarnation, ttl_ms: GRANT_TTL_MS, expected };
        let (granted, event) = self.store.of(key).grant(&grant, store_ms(now));
        self.publish(key.bucket(), event);
        let Granted::Yes { epoch, .. } = granted else { return };
        let offer = Offer { incarnation, epoch };
        self.nodes[node].holdings.begin_open(key, offer, now);
        let holding = self.holding(node, key, offer);
        let (_, event) = self.store.of(key).open(&holding, store_ms(now));
        self.publish(key.bucket(), event);
        self.nodes[node].holdings.opened(key, offer, now);
        self.tally.promise(self.plan, node, visits.len() as u32);
        for visit in visits {
            self.nodes[node].enter(key);
            self.guests[visit as usize].place = Place::Inside { node, opened_as: epoch };
            self.settling.opened(resident.room);
            self.check_admission(visit, node);
            if let Some(leaves_at) = self.plan.visits[visit as usize].leaves_at {
                self.queue.push(leaves_at, Happening::Leave { visit });
            }
        }
    }
}
