//! A simulated scheduler: the real view with what has reached it so far, or another system's rule.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{NodeId, RoomKey};
use roost_proto::report::Mode;
use roost_proto::room::{Claim, Expected};
use roost_proto::time::Millis;
use roost_scheduler_core::time::{STALL_MS, TICK_MS};
use roost_scheduler_core::view::{View, Wanted};

use crate::policies::{PolicyName, Selector};
use crate::queue::Queue;
use crate::store;

/// A simulated scheduler looks at its timers less often than a real one: each look costs as much as many lookups.
const SIM_TICK_MS: u64 = 4 * TICK_MS;

const _: () = assert!(SIM_TICK_MS < STALL_MS, "a scheduler that ticks takes itself for stalled");

/// One scheduler.
#[derive(Debug)]
pub(crate) struct SimScheduler {
    pub(crate) mind: Mind,
    /// What the last report of each node that has arrived here says: not by the core's own account.
    modes: BTreeMap<usize, Mode>,
    inbox: Queue<Rc<Event>>,
    ticked: Millis,
}

/// What decides.
#[derive(Debug)]
pub(crate) enum Mind {
    Core(Box<Core>),
    Other(Box<dyn Selector>),
}

/// The real core.
#[derive(Debug, Clone)]
pub(crate) struct Core {
    pub(crate) view: View,
    told: Told,
}

/// What it is told of by the store.
#[derive(Debug, Clone)]
enum Told {
    All,
    Nothing,
    /// Of claims only its own: rooms that it gave a node to itself.
    Own(BTreeSet<RoomKey>),
}

impl SimScheduler {
    /// A scheduler that begins to listen at 0.
    pub(crate) fn new(other: Option<Box<dyn Selector>>) -> Self {
        let mind = other.map_or_else(
            || {
                let mut view = View::new(Millis(0));
                view.listen(Millis(0));
                for bucket in 0..BUCKETS {
                    view.see_run(bucket, &store::first_run(), Millis(0));
                }
                Mind::Core(Box::new(Core { view, told: Told::All }))
            },
            Mind::Other,
        );
        Self { mind, modes: BTreeMap::new(), inbox: Queue::new(), ticked: Millis(0) }
    }

    /// Another scheduler that has heard the same; none of another system's rule.
    pub(crate) fn twin(&self) -> Option<Self> {
        let Mind::Core(core) = &self.mind else { return None };
        let (mind, modes) = (Mind::Core(core.clone()), self.modes.clone());
        Some(Self { mind, modes, inbox: self.inbox.clone(), ticked: self.ticked })
    }

    /// The policy's rules hold from here on.
    pub(crate) fn begin(&mut self, policy: PolicyName, now: Millis) {
        let Mind::Core(core) = &mut self.mind else { return };
        match policy {
            PolicyName::RoostTwoChoice => {
                core.view.stop_listening(now);
                core.told = Told::Nothing;
            }
            PolicyName::PrivateCorrection => core.told = Told::Own(BTreeSet::new()),
            _ => {}
        }
    }

    /// An event arrives at a time to come.
    pub(crate) fn expect(&mut self, event: Rc<Event>, at: Millis) {
        self.inbox.push(at, event);
    }

    /// Takes in what has arrived, in order, as of when it arrived. Gives the nodes that are asked for a full report.
    pub(crate) fn catch_up(&mut self, nodes: &BTreeMap<NodeId, usize>, now: Millis) -> Vec<usize> {
        let mut asked = Vec::new();
        loop {
            let tick_at = self.ticked.plus(SIM_TICK_MS);
            let next = self.inbox.next_at().filter(|at| *at <= now && *at <= tick_at);
            if next.is_some() {
                let Some((at, event)) = self.inbox.pop() else { break };
                asked.extend(self.hear(&event, nodes, at));
            } else if tick_at <= now {
                self.ticked = tick_at;
                if let Mind::Core(core) = &mut self.mind {
                    core.view.tick(tick_at);
                }
            } else {
                break;
            }
        }
        asked
    }

    /// The mode that the node was in by the last report that has arrived.
    pub(crate) fn mode_of(&self, node: usize) -> Option<Mode> {
        self.modes.get(&node).copied()
    }

    fn hear(&mut self, event: &Event, nodes: &BTreeMap<NodeId, usize>, now: Millis) -> Option<usize> {
        if let (Mind::Core(core), Event::Reported(report)) = (&self.mind, event)
            && core.is_told_of(event)
            && let Some(node) = nodes.get(&report.node)
        {
            self.modes.insert(*node, report.mode);
        }
        match &mut self.mind {
            Mind::Core(core) if core.is_told_of(event) => match core.view.apply(event.clone(), now) {
                Wanted::FullReport(node, _) => nodes.get(&node).copied(),
                Wanted::Nothing | Wanted::Runs => None,
            },
            Mind::Other(other) => {
                if let Event::Reported(report) = event
                    && let Some(node) = nodes.get(&report.node)
                {
                    other.hear(*node, report);
                }
                None
            }
            Mind::Core(_) => None,
        }
    }
}

impl Core {
    /// Takes its own grant, or prolongation, at once.
    pub(crate) fn fold_own(&mut self, key: &RoomKey, claim: Claim, ttl_ms: u64, expected: Expected, now: Millis) {
        if let Told::Own(own) = &mut self.told {
            own.insert(key.clone());
        }
        self.view.fold_claim(key.clone(), claim, (ttl_ms, expected), now);
    }

    fn is_told_of(&self, event: &Event) -> bool {
        match (&self.told, event) {
            (Told::Nothing, _) => false,
            (Told::Own(own), Event::Claimed { key, .. }) => own.contains(key),
            (Told::All | Told::Own(_), _) => true,
        }
    }
}
