//! The agent's beat, as node-agent/src/uplink/renewal.rs has it: takes the lease, renews it with each report.

use roost_agent_core::cadence::Cadence;
use roost_agent_core::hold::{Hold, State};
use roost_agent_core::lease::renew_timeout_ms;
use roost_proto::WIRE_VERSION;
use roost_proto::id::{Incarnation, Region, RoomKey};
use roost_proto::report::{Capacity, Description, Host, MediaKind, Report, RoomReport};
use roost_proto::room::Run;
use roost_proto::steer::Steering;
use roost_proto::time::Millis;
use roost_store::operation::{NodeAnswer, NodeOperation, Register, Registered, Renew, Renewed};

use super::{Agent, Purpose, Silence};
use crate::invariants::hard_constraints;
use crate::wire::{Timer, Wire};

const SLACK_MS: u64 = 250;
const TAKEN_AGAIN_MS: u64 = 500;
const REFUSED_AGAIN_MS: u64 = 500;
const PAUSE_MS: u64 = 50;
const LONGEST_PAUSE_MS: u64 = 2_000;

/// Where the beat stands: it sleeps, or waits for one answer.
#[derive(Debug, Default)]
pub(super) struct Beat {
    /// Grows whenever the beat goes to sleep: only the last timer wakes it.
    number: u64,
    sleeps: Option<Then>,
    failures: u32,
}

/// What it does when it wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Turn,
    Report(Incarnation),
    Reconnect,
}

/// What it has asked.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Runs { to_register: bool, sent: Millis },
    Register { run: Run, sent: Millis },
    Renew { incarnation: Incarnation, sent: Millis },
}

impl Agent {
    pub(super) fn beat_in(&mut self, after_ms: u64, then: Then, wire: &mut Wire) {
        self.beat.number += 1;
        self.beat.sleeps = Some(then);
        wire.timer(self.place, self.life, after_ms, Timer::Beat(self.beat.number));
    }

    /// A report should go out at once, if the beat waits for the next one.
    pub(super) fn report_wanted(&mut self, wire: &mut Wire) {
        if let Some(then @ Then::Report(_)) = self.beat.sleeps {
            self.beat_in(0, then, wire);
        }
    }

    pub(super) fn beat(&mut self, number: u64, wire: &mut Wire) {
        if number != self.beat.number {
            return;
        }
        let Some(then) = self.beat.sleeps.take() else { return };
        self.check_lease(wire);
        match (then, self.lease.incarnation()) {
            (Then::Reconnect, _) => self.ask_runs(false, wire),
            (Then::Turn, None) => self.ask_runs(true, wire),
            (Then::Turn, Some(incarnation)) => {
                let due = self.cadence.poll_timeout();
                let due = self.lease.poll_timeout().map_or(due, |over| due.min(over));
                self.beat_in(due.since(self.now(wire.now)), Then::Report(incarnation), wire);
            }
            (Then::Report(incarnation), current) if current == Some(incarnation) => self.report(incarnation, wire),
            (Then::Report(_), _) => self.pause(Then::Turn, wire),
        }
    }

    pub(super) fn beat_answered(&mut self, call: Call, answer: Result<NodeAnswer, Silence>, wire: &mut Wire) {
        match (call, answer) {
            (Call::Runs { to_register: true, sent }, Ok(NodeAnswer::Runs(runs))) => {
                self.note_runs(runs, sent, wire);
                self.register(wire);
            }
            (Call::Runs { to_register: false, sent }, answer) => {
                if let Ok(NodeAnswer::Runs(runs)) = answer {
                    self.note_runs(runs, sent, wire);
                }
                self.assert_wanted(wire);
                self.beat_in(0, Then::Turn, wire);
            }
            (Call::Register { run, sent }, Ok(NodeAnswer::Registered(answer))) => {
                self.register_answered(&run, answer, sent, wire);
            }
            (Call::Renew { incarnation, sent }, Ok(NodeAnswer::Renewed(answer))) => {
                self.check_lease(wire);
                self.renew_answered(incarnation, answer, sent, wire);
            }
            (call, answer) => {
                self.runs.unheard(self.lease.lease_ms(), 0);
                if let Call::Renew { incarnation, sent } = call {
                    let now = self.now(wire.now);
                    self.check_lease(wire);
                    self.cadence.failed(now);
                    if matches!(answer, Err(Silence::Refused)) {
                        self.runs.refused(incarnation, sent, &mut self.lease, &mut self.holdings, now);
                    }
                }
                match answer {
                    Err(Silence::Refused) => self.beat_in(REFUSED_AGAIN_MS, Then::Reconnect, wire),
                    _ => self.pause(Then::Reconnect, wire),
                }
            }
        }
    }

    fn pause(&mut self, then: Then, wire: &mut Wire) {
        let most = PAUSE_MS.saturating_mul(1 << self.beat.failures.min(16)).min(LONGEST_PAUSE_MS);
        self.beat.failures += 1;
        let pause = wire.draw(most / 2, most);
        self.beat_in(pause, then, wire);
    }

    fn go_on(&mut self, wire: &mut Wire) {
        self.beat.failures = 0;
        self.beat_in(0, Then::Turn, wire);
    }

    fn ask_beat(&mut self, operation: NodeOperation, call: Call, wire: &mut Wire) {
        let within = renew_timeout_ms(self.lease.lease_ms()) + SLACK_MS;
        self.ask(operation, Purpose::Beat(call), within, wire);
    }

    fn ask_runs(&mut self, to_register: bool, wire: &mut Wire) {
        let sent = self.now(wire.now);
        self.ask_beat(NodeOperation::Runs, Call::Runs { to_register, sent }, wire);
    }

    fn register(&mut self, wire: &mut Wire) {
        let Some(run) = self.run(self.id.bucket()) else { return self.pause(Then::Turn, wire) };
        let register = Register {
            node: self.id.clone(),
            run: run.clone(),
            process: format!("{}-{}", self.id, self.life),
            after: self.lease.last_incarnation(),
            lease_ms: self.lease.lease_ms(),
        };
        let sent = self.now(wire.now);
        self.ask_beat(NodeOperation::Register(register), Call::Register { run, sent }, wire);
    }

    fn register_answered(&mut self, run: &Run, answer: Registered, sent: Millis, wire: &mut Wire) {
        match answer {
            // A newer run was heard of meanwhile: what was given in the old one is void (rule 2).
            Registered::Yes { .. } if self.run(self.id.bucket()).as_ref() != Some(run) => self.pause(Then::Turn, wire),
            Registered::Yes { incarnation, store_ms, steering } => {
                self.steer(steering);
                let now = self.now(wire.now);
                if self.lease.registered(incarnation, store_ms, sent, now) {
                    self.cadence = Cadence::new(now);
                    self.assert_wanted(wire);
                }
                self.go_on(wire);
            }
            Registered::Taken { .. } => self.beat_in(TAKEN_AGAIN_MS, Then::Turn, wire),
            Registered::NewRun { run } => {
                self.note_run(self.id.bucket(), run, sent, wire);
                self.pause(Then::Turn, wire);
            }
        }
    }

    fn report(&mut self, incarnation: Incarnation, wire: &mut Wire) {
        let now = self.now(wire.now);
        let room = |(key, hold): (&RoomKey, &Hold)| RoomReport {
            key: key.clone(),
            epoch: hold.epoch,
            worker: 0,
            participants: hold.guests,
            producers: 0,
            consumers: 0,
        };
        // As report.rs has it: one that is being opened counts as open.
        let is_told = |(_, hold): &(&RoomKey, &Hold)| !matches!(hold.state, State::Wanted { .. });
        let rooms: Vec<RoomReport> = self.holdings.iter().filter(is_told).map(room).collect();
        let (count, participants) = (self.holdings.len() as u32, self.guests.len() as u32);
        let holdings = &self.holdings;
        let changes = self.cadence.compose(rooms, |room| holdings.get(room).is_some(), now);
        let Some(run) = self.run(self.id.bucket()) else { return self.pause(Then::Turn, wire) };
        let report = Report {
            v: WIRE_VERSION,
            node: self.id.clone(),
            incarnation,
            seq: changes.seq,
            lease_ms: self.lease.lease_ms(),
            description: self.description(),
            mode: self.mode(),
            steering: self.steering,
            host: Host::default(),
            workers: Vec::new(),
            rooms: count,
            participants,
            streams: 0,
            full: changes.full,
            changed: changes.changed,
            ended: changes.ended,
        };
        let renew = NodeOperation::Renew(Box::new(Renew { run, report, buckets: self.holdings.buckets() }));
        self.ask_beat(renew, Call::Renew { incarnation, sent: now }, wire);
    }

    fn renew_answered(&mut self, incarnation: Incarnation, answer: Renewed, sent: Millis, wire: &mut Wire) {
        let now = self.now(wire.now);
        match answer {
            Renewed::Yes { store_ms, steering, runs } => {
                self.steer(steering);
                self.cadence.answered();
                self.lease.renewed(incarnation, store_ms, sent, now);
                if self.runs.renewed(runs, sent, &mut self.lease, &mut self.holdings, now) {
                    self.assert_wanted(wire);
                }
            }
            Renewed::Lapsed => {
                self.cadence.failed(now);
                if self.lease.ended(incarnation) {
                    self.holdings.suspend_all(Millis(0));
                }
            }
            Renewed::NewRun { run } => {
                self.cadence.failed(now);
                self.note_run(self.id.bucket(), run, sent, wire);
            }
        }
        self.go_on(wire);
    }

    /// As node.rs has it.
    fn steer(&mut self, told: Option<Steering>) {
        if Steering::plan_of(told) > Steering::plan_of(self.steering) {
            self.steering = told;
        }
    }

    fn description(&self) -> Description {
        Description {
            region: Region::new("eu").expect("valid"),
            carriers: Vec::new(),
            namespaces: hard_constraints::namespaces(self.place),
            priority: 0,
            signaling_url: format!("wss://{}.example/signaling", self.id),
            link_url: format!("wss://{}.example/link", self.id),
            media: MediaKind::Synthetic,
            capacity: Capacity { participants: 1_000, ..Capacity::default() },
            temporary: false,
            version: "0.1.0".to_owned(),
        }
    }
}
