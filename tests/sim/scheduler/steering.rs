//! What an operator wants of a node, as scheduler/src/app/steering.rs has it.

use roost_proto::WIRE_VERSION;
use roost_proto::admin::NodeState;
use roost_proto::command::{Action, Command};
use roost_proto::event::Event;
use roost_proto::id::NodeId;
use roost_proto::steer::Steering;
use roost_scheduler_core::drain::Word;
use roost_store::operation::{Purged, Steer, Steered};

use super::{Answer, Purpose, Scheduler};
use crate::agent::node_id;
use crate::message::{Ask, Said};
use crate::order::What;
use crate::wire::Wire;

/// How often a plan is made anew because another one came in between.
const ATTEMPTS: usize = 5;

/// A word that is to become a plan.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    node: NodeId,
    word: Word,
    /// What the store was found to have.
    found: Option<(u64, Option<Steering>)>,
    tries_left: usize,
}

impl Scheduler {
    /// An operator says so of a node.
    pub(crate) fn obey(&mut self, what: &What, wire: &mut Wire) {
        let store_ms = self.store_now_ms(wire);
        let (node, word) = match *what {
            What::Mode { node, mode } => (node, Word::Mode { mode, deadline_store_ms: store_ms + 5_000 }),
            What::Drain { node, move_rooms, deadline_ms } => {
                (node, Word::Drain { move_rooms, deadline_store_ms: store_ms + deadline_ms })
            }
            What::Cancel { node } => (node, Word::Cancel),
            What::Purge { node } => return self.purge(node_id(node), ATTEMPTS, wire),
            What::Move { .. } | What::Close { .. } => return,
        };
        self.steer(node_id(node), word, wire);
    }

    pub(super) fn steer(&mut self, node: NodeId, word: Word, wire: &mut Wire) {
        self.steer_again(Attempt { node, word, found: None, tries_left: ATTEMPTS }, wire);
    }

    fn steer_again(&mut self, mut attempt: Attempt, wire: &mut Wire) {
        let Some(node) = self.view.node(&attempt.node).filter(|_| attempt.tries_left > 0) else { return };
        let Some(run) = self.view.grace.run(attempt.node.bucket()).cloned() else { return };
        let known = node.report.steering;
        let (seen_plan, seen) = attempt.found.unwrap_or((Steering::plan_of(known), known));
        let Some((mode, drain)) = attempt.word.wanted(seen.as_ref()) else { return };
        attempt.tries_left -= 1;
        let steer = Steer { node: attempt.node.clone(), run, seen_plan, mode, drain };
        self.ask(Ask::Steer(steer), Purpose::Steer(attempt), wire);
    }

    pub(super) fn steered(&mut self, mut attempt: Attempt, answer: Answer, wire: &mut Wire) {
        let (node, now) = (attempt.node.clone(), self.now(wire));
        match answer {
            Ok(Said::Steered(Steered::Yes { steering })) => {
                self.view.apply(Event::Steered { node: node.clone(), steering }, now);
                if let Some(incarnation) = self.view.node(&node).map(|node| node.report.incarnation) {
                    self.command(node, Command { v: WIRE_VERSION, incarnation, action: Action::ReportAll }, wire);
                }
                return;
            }
            Ok(Said::Steered(Steered::No { current })) => {
                self.view.apply(Event::Steered { node, steering: current }, now);
                attempt.found = Some((current.plan, Some(current)));
            }
            Ok(Said::Steered(Steered::NewRun { run })) => drop(self.view.see_run(node.bucket(), &run, now)),
            _ => return,
        }
        self.steer_again(attempt, wire);
    }

    fn purge(&mut self, node: NodeId, tries_left: usize, wire: &mut Wire) {
        let now = self.now(wire);
        let is_lost = self.view.node(&node).is_some_and(|node| self.view.state(node, now) == NodeState::Lost);
        let run = self.view.grace.run(node.bucket()).cloned();
        if let Some(run) = run.filter(|_| is_lost && self.view.has_heard_all(node.bucket(), now) && tries_left > 0) {
            self.ask(Ask::Purge(node.clone(), run), Purpose::Purge(node, tries_left - 1), wire);
        }
    }

    pub(super) fn purged(&mut self, node: NodeId, tries_left: usize, answer: Answer, wire: &mut Wire) {
        let now = self.now(wire);
        match answer {
            Ok(Said::Purged(Purged::Yes)) => drop(self.view.apply(Event::Purged { node }, now)),
            Ok(Said::Purged(Purged::NewRun { run })) => {
                self.view.see_run(node.bucket(), &run, now);
                self.purge(node, tries_left, wire);
            }
            _ => {}
        }
    }
}
