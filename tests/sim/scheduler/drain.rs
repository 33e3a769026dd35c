//! Carries drains on, as scheduler/src/app/drain.rs has it: each room is told once in a round here.

use std::collections::BTreeMap;

use roost_proto::admin::RoomFilter;
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::room::ClaimState;
use roost_proto::time::Millis;
use roost_scheduler_core::drain::{self, Due, Running, Word};
use roost_scheduler_core::duty;
use roost_scheduler_core::relocation::Ways;

use super::{Answer, Purpose, Scheduler};
use crate::message::{Ask, Said};
use crate::wire::Wire;

const EVERY_MS: u64 = 1_000;
const PAGE: usize = 1_000;

/// What this scheduler does about drains.
#[derive(Debug, Default)]
pub(super) struct Drains {
    looked: Millis,
    /// How often each room of a node could not be moved under this plan.
    tried: BTreeMap<NodeId, (u64, BTreeMap<RoomKey, u32>)>,
}

impl Scheduler {
    pub(super) fn tend_drains(&mut self, wire: &mut Wire) {
        let now = self.now(wire);
        if now.since(self.drains.looked) < EVERY_MS {
            return;
        }
        self.drains.looked = now;
        let mut due = drain::running(&self.view, self.store_now_ms(wire), now);
        due.retain(|drain| drain.due != Due::Nothing);
        self.drains.tried.retain(|node, _| due.iter().any(|drain| drain.node == *node));
        if !due.is_empty() {
            self.ask(Ask::Schedulers, Purpose::Duty(due), wire);
        }
    }

    pub(super) fn duty_answered(&mut self, due: Vec<Running>, answer: Answer, wire: &mut Wire) {
        let Ok(Said::Schedulers(living)) = answer else { return };
        let own = self.place.to_string();
        for Running { node, plan, due } in due {
            if !duty::falls_to(&own, node.as_str().as_bytes(), living.iter().map(String::as_str)) {
                continue;
            }
            match due {
                Due::Nothing => {}
                Due::Finish => self.steer(node, Word::Finish { plan, lost: false }, wire),
                Due::FinishLost => self.ask(Ask::Leases(node.clone()), Purpose::LostDrain(node, plan), wire),
                Due::Move => self.move_away(&node, plan, wire),
            }
        }
    }

    /// By our own word alone the node may only be out of our reach.
    pub(super) fn lost_drain_answered(&mut self, node: NodeId, plan: u64, answer: Answer, wire: &mut Wire) {
        if let Ok(Said::Leases(leases)) = answer
            && leases.iter().all(|lease| lease.lapsed)
        {
            self.steer(node, Word::Finish { plan, lost: true }, wire);
        }
    }

    fn move_away(&mut self, node: &NodeId, plan: u64, wire: &mut Wire) {
        let now = self.now(wire);
        let tried = self.drains.tried.remove(node).filter(|(tried, _)| *tried == plan);
        let mut failures = tried.map(|(_, failures)| failures).unwrap_or_default();
        let filter = RoomFilter { namespace: None, node: Some(node.clone()) };
        let (mut rooms, _) = self.view.rooms.page(&filter, None, PAGE, now);
        rooms.retain(|room| room.state == ClaimState::Open);
        for room in drain::in_order(rooms, &failures) {
            let ways = Ways { from: Some(node), to: None };
            if drain::is_current(&self.view, node, plan) && !self.relocate(&room, ways, wire) {
                *failures.entry(room).or_default() += 1;
            }
        }
        self.drains.tried.insert(node.clone(), (plan, failures));
    }
}
