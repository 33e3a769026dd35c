//! The specification of leases: a node's time-limited right to keep its claims, one for each incarnation (rule 6).

use std::collections::BTreeMap;

use roost_proto::event::Event;
use roost_proto::id::{Incarnation, NUMBER_LIMIT, NodeId};
use roost_proto::room::Run;

use crate::claim::{Bucket, DURATION_LIMIT_MS, Step};
use crate::operation::{Lease, Leave, Register, Registered, Renew, Renewed};

/// How many leases of a node are remembered. An incarnation that is not among them is over.
pub const LEASES_KEPT: usize = 8;

/// How long a node whose leases are all over is remembered.
pub const NODE_KEPT_MS: u64 = 7 * 24 * 3_600_000;

/// The leases of one node.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    /// The leases are void in any other run (rule 2).
    run: Run,
    /// Who registered last. Every unlapsed lease is this process's.
    process: String,
    /// The highest incarnation that was given; it outlives the run.
    last: u64,
    held: BTreeMap<u64, Term>,
}

/// How long a lease lasts. Once it is seen to be over it stays so, even if the store's clock is set back (rule 12).
#[derive(Debug, Clone, Copy)]
struct Term {
    until_ms: u64,
    over: bool,
}

impl Leases {
    pub(crate) fn is_forgotten(&self, now: u64) -> bool {
        self.held.values().all(|term| term.until_ms.saturating_add(NODE_KEPT_MS) < now)
    }

    fn end_lapsed(&mut self, now: u64) {
        for term in self.held.values_mut() {
            term.over |= term.until_ms <= now;
        }
    }

    /// When the last lease that is not over will be.
    fn busy_until(&self) -> Option<u64> {
        self.held.values().filter(|term| !term.over).map(|term| term.until_ms).max()
    }

    /// Makes room for one more, by forgetting the oldest that are over.
    fn make_room(&mut self) -> bool {
        while self.held.len() >= LEASES_KEPT {
            let Some(oldest) = self.held.iter().find(|(_, term)| term.over).map(|(incarnation, _)| *incarnation) else {
                return false;
            };
            self.held.remove(&oldest);
        }
        true
    }
}

impl Bucket {
    /// Takes the node's lease under a never-used incarnation (rule 8). It ends no older lease (rule 6).
    pub fn register(&mut self, register: &Register, now: u64) -> Registered {
        if let Some(run) = self.other_run(&register.run) {
            return Registered::NewRun { run };
        }
        let run = self.run.clone();
        let leases = self.nodes.entry(register.node.clone()).or_insert_with(|| Leases {
            run: run.clone(),
            process: String::new(),
            last: 0,
            held: BTreeMap::new(),
        });
        if leases.run != run {
            leases.run = run;
            leases.held.clear();
        }
        leases.end_lapsed(now);
        if let Some(until_store_ms) = leases.busy_until()
            && (leases.process != register.process || !leases.make_room())
        {
            return Registered::Taken { until_store_ms };
        }
        assert!(leases.make_room(), "all leases are over or one was forgotten");
        let after = if register.after.0 < NUMBER_LIMIT { register.after.0 } else { 0 };
        let incarnation = now.max(after + 1).max(leases.last + 1);
        assert!(leases.held.keys().all(|older| *older < incarnation), "an incarnation was used before");
        leases.last = incarnation;
        leases.process.clone_from(&register.process);
        let until_ms = now + register.lease_ms.min(DURATION_LIMIT_MS);
        leases.held.insert(incarnation, Term { until_ms, over: false });
        let steering = self.steering(&register.node, now);
        Registered::Yes { incarnation: Incarnation(incarnation), store_ms: now, steering }
    }

    /// Renews the incarnation's lease, if it is not over (rules 6 and 8), and merges what is wanted of the node. The report
    /// is published with `Yes` only, as if its node knew what the answer tells it.
    pub fn renew(&mut self, renew: &Renew, now: u64) -> Renewed {
        if let Some(run) = self.other_run(&renew.run) {
            return Renewed::NewRun { run };
        }
        let Some(term) = self.term(&renew.report.node, renew.report.incarnation, now) else {
            return Renewed::Lapsed;
        };
        if term.over {
            return Renewed::Lapsed;
        }
        // Never earlier than promised before.
        term.until_ms = term.until_ms.max(now + renew.report.lease_ms.min(DURATION_LIMIT_MS));
        Renewed::Yes { store_ms: now, steering: self.merge(&renew.report, now), runs: None }
    }

    /// Ends the incarnation's lease now; nothing if the store does not know it in this run.
    pub fn leave(&mut self, leave: &Leave, now: u64) -> Step<()> {
        if self.other_run(&leave.run).is_some() {
            return ((), None);
        }
        let Some(term) = self.term(&leave.node, leave.incarnation, now) else {
            return ((), None);
        };
        term.over = true;
        term.until_ms = term.until_ms.min(now);
        ((), Some(Event::Left { node: leave.node.clone(), incarnation: leave.incarnation }))
    }

    /// Every lease of the node that is remembered from this run, newest last.
    pub fn leases(&mut self, node: &NodeId, now: u64) -> Vec<Lease> {
        let Some(leases) = self.nodes.get_mut(node).filter(|leases| leases.run == self.run) else {
            return Vec::new();
        };
        leases.end_lapsed(now);
        let lease = |(incarnation, term): (&u64, &Term)| Lease {
            incarnation: Incarnation(*incarnation),
            until_store_ms: term.until_ms,
            lapsed: term.over,
        };
        leases.held.iter().map(lease).collect()
    }

    /// When the last of the node's leases will be over that is not; none if all are.
    pub(crate) fn busy_until(&mut self, node: &NodeId, now: u64) -> Option<u64> {
        let leases = self.nodes.get_mut(node).filter(|leases| leases.run == self.run)?;
        leases.end_lapsed(now);
        leases.busy_until()
    }

    fn term(&mut self, node: &NodeId, incarnation: Incarnation, now: u64) -> Option<&mut Term> {
        let leases = self.nodes.get_mut(node).filter(|leases| leases.run == self.run)?;
        leases.end_lapsed(now);
        leases.held.get_mut(&incarnation.0)
    }
}
