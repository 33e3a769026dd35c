//! Follows the store, as scheduler/src/app/follow.rs has it.

use roost_proto::WIRE_VERSION;
use roost_proto::command::{Action, Command};
use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::NodeId;
use roost_proto::room::Run;
use roost_scheduler_core::view::Wanted;
use roost_store::operation::{NodeAnswer, NodeOperation, Raise};

use super::{Answer, Purpose, Scheduler};
use crate::agent::node_id;
use crate::message::{Ask, Body, Said};
use crate::plan::MOST_NODES;
use crate::wire::{Place, Timer, Wire};

const BEAT_MS: u64 = 1_000;
const PAUSES_MS: [u64; 5] = [50, 200, 500, 1_000, 2_000];

impl Scheduler {
    /// The runs are read before the watch begins: what it tells is of these runs or of later ones.
    pub(super) fn begin_watch(&mut self, wire: &mut Wire) {
        self.ask(Ask::Node(NodeOperation::Runs), Purpose::WatchRuns, wire);
    }

    pub(super) fn watch_answered(&mut self, id: u64, answer: Answer, wire: &mut Wire) {
        match answer {
            Ok(Said::Node(NodeAnswer::Runs(runs))) => {
                self.see_runs(&runs, wire);
                self.ask(Ask::Watch, Purpose::Watch, wire);
            }
            Ok(Said::Watching(events)) => {
                self.watch = Some(id);
                self.failures = 0;
                self.view.listen(self.now(wire));
                for event in events {
                    self.fold(event, wire);
                }
            }
            _ => self.watch_later(wire),
        }
    }

    pub(super) fn hung_up(&mut self, wire: &mut Wire) {
        self.watch = None;
        self.view.stop_listening(self.now(wire));
        self.watch_later(wire);
    }

    fn watch_later(&mut self, wire: &mut Wire) {
        self.failures += 1;
        let pause = PAUSES_MS[self.failures.min(PAUSES_MS.len() - 1)];
        wire.timer(self.place, self.life, pause, Timer::Watch);
    }

    pub(super) fn fold(&mut self, event: Event, wire: &mut Wire) {
        match self.view.apply(event, self.now(wire)) {
            Wanted::Nothing => {}
            Wanted::FullReport(node, incarnation) => {
                let command = Command { v: WIRE_VERSION, incarnation, action: Action::ReportAll };
                self.command(node, command, wire);
            }
            Wanted::Runs => self.ask(Ask::Node(NodeOperation::Runs), Purpose::BeatRuns, wire),
        }
    }

    pub(super) fn command(&mut self, node: NodeId, command: Command, wire: &mut Wire) {
        if let Some(number) = (0..MOST_NODES).find(|number| node_id(*number) == node) {
            let id = wire.id();
            wire.send(self.place, Place::Agent(number), id, Body::Command { node, command });
        }
    }

    pub(super) fn beat(&mut self, wire: &mut Wire) {
        self.ask(Ask::Node(NodeOperation::Runs), Purpose::BeatRuns, wire);
        wire.timer(self.place, self.life, BEAT_MS, Timer::Beat(0));
    }

    /// In grace, each bucket's counter is lifted above all epochs that were seen there (rule 20).
    pub(super) fn beat_answered(&mut self, answer: Answer, wire: &mut Wire) {
        let Ok(Said::Node(NodeAnswer::Runs(runs))) = answer else { return };
        self.see_runs(&runs, wire);
        if self.view.longest_grace_left_ms(self.now(wire)) == 0 {
            return;
        }
        for (bucket, run, epoch) in self.view.to_raise() {
            if self.posted[usize::from(bucket)].as_ref() != Some(&(run.clone(), epoch)) {
                let raise = Raise { bucket, run: run.clone(), epoch };
                self.ask(Ask::Node(NodeOperation::Raise(raise)), Purpose::Raise(bucket, run, epoch), wire);
            }
        }
    }

    fn see_runs(&mut self, runs: &[Run], wire: &Wire) {
        let now = self.now(wire);
        for (bucket, run) in (0..BUCKETS).zip(runs) {
            self.view.see_run(bucket, run, now);
        }
    }
}
