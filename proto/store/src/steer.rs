//! The specification of steering: what operators want of a node, one numbered plan after the other.

use roost_proto::event::Event;
use roost_proto::id::{NUMBER_LIMIT, NodeId};
use roost_proto::report::Report;
use roost_proto::room::Run;
use roost_proto::steer::Steering;

use crate::claim::{Bucket, Step};
use crate::lease::NODE_KEPT_MS;
use crate::operation::{Purged, Steer, Steered};

/// What is wanted of one node; absent from `until_ms` on.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) steering: Steering,
    pub(crate) until_ms: u64,
}

impl Bucket {
    /// Says what is wanted of the node, if the caller knows the stored plan. Where none is stored (the data was lost) the
    /// caller's counts: it has it from the node.
    pub fn steer(&mut self, steer: &Steer, now: u64) -> Step<Steered> {
        if let Some(run) = self.other_run(&steer.run) {
            return (Steered::NewRun { run }, None);
        }
        let seen = if steer.seen_plan < NUMBER_LIMIT { steer.seen_plan } else { 0 };
        let stored = self.steering(&steer.node, now);
        if let Some(current) = stored.filter(|stored| stored.plan != seen) {
            return (Steered::No { current }, None);
        }
        let steering = Steering { plan: now.max(seen + 1), mode: steer.mode, drain: steer.drain };
        self.keep(&steer.node, steering, now);
        (Steered::Yes { steering }, Some(Event::Steered { node: steer.node.clone(), steering }))
    }

    /// Forgets the node, if all its leases are over; they stay recorded (rule 6).
    pub fn purge(&mut self, node: &NodeId, run: &Run, now: u64) -> Step<Purged> {
        if let Some(run) = self.other_run(run) {
            return (Purged::NewRun { run }, None);
        }
        if let Some(until_store_ms) = self.busy_until(node, now) {
            return (Purged::Held { until_store_ms }, None);
        }
        self.steered.remove(node);
        (Purged::Yes, Some(Event::Purged { node: node.clone() }))
    }

    /// What is wanted of the node.
    #[must_use]
    pub fn steering(&self, node: &NodeId, now: u64) -> Option<Steering> {
        self.steered.get(node).filter(|kept| kept.until_ms > now).map(|kept| kept.steering)
    }

    /// Of the stored plan and the report's the higher one is kept. Gives it if the node does not know it.
    pub(crate) fn merge(&mut self, report: &Report, now: u64) -> Option<Steering> {
        let reported = report.steering.filter(|steering| steering.is_possible() && steering.plan > 0);
        let stored = self.steering(&report.node, now);
        let (told, known) = (Steering::plan_of(stored), Steering::plan_of(reported));
        if let Some(steering) = if known > told { reported } else { stored } {
            self.keep(&report.node, steering, now);
        }
        stored.filter(|_| told > known)
    }

    fn keep(&mut self, node: &NodeId, steering: Steering, now: u64) {
        self.steered.insert(node.clone(), Kept { steering, until_ms: now + NODE_KEPT_MS });
    }
}
