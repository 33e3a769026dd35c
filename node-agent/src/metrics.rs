//! Every metric of the agent.

use std::time::Duration;

use prometheus::{Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use roost_agent_core::hold::{OpenFailure, State as HoldState};
use roost_agent_core::lease::Standing;
use roost_agent_core::sample::Resource;
use roost_proto::report::{Host, Worker, WorkerState};
use roost_server::Metrics;

use crate::node::Node;

/// From a store on the same machine to one that is about to be given up, in seconds.
const STORE_SECONDS: [f64; 11] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5];

/// The agent's metrics; those of the state are filled in when they are read.
#[derive(Debug)]
pub(crate) struct AgentMetrics {
    pub(crate) exposition: Metrics,
    pub(crate) incarnations: IntCounter,
    pub(crate) rooms_lost: IntCounter,
    pub(crate) rooms_moved: IntCounter,
    pub(crate) rooms_asserted: IntCounter,
    lease_held: IntGauge,
    lease_left: Gauge,
    reports: IntCounterVec,
    report_seconds: Histogram,
    knocks: IntCounterVec,
    knock_seconds: Histogram,
    openings: IntCounterVec,
    commands: IntCounterVec,
    rooms: IntGaugeVec,
    releases: IntGauge,
    participants: IntGauge,
    streams: IntGauge,
    machine: MachineMetrics,
}

/// What the machine and the media workers do.
#[derive(Debug)]
struct MachineMetrics {
    cpu_ratio: Gauge,
    memory_used: IntGauge,
    memory_limit: IntGauge,
    network: GaugeVec,
    skipped: IntCounterVec,
    worker_up: IntGaugeVec,
    worker_restarts: IntCounterVec,
    worker_cpu_ratio: GaugeVec,
}

/// Declares metrics.
struct Declare<'a>(&'a Metrics);

impl Declare<'_> {
    fn whole(&self, name: &str, help: &str) -> IntGauge {
        self.0.register(IntGauge::new(name, help).expect("the name is valid"))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.0.register(Gauge::new(name, help).expect("the name is valid"))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.0.register(IntCounter::new(name, help).expect("the name is valid"))
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        self.0.register(IntCounterVec::new(Opts::new(name, help), &[label]).expect("the names are valid"))
    }

    fn wholes(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        self.0.register(IntGaugeVec::new(Opts::new(name, help), &[label]).expect("the names are valid"))
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> GaugeVec {
        self.0.register(GaugeVec::new(Opts::new(name, help), &[label]).expect("the names are valid"))
    }

    fn seconds(&self, name: &str, help: &str) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(STORE_SECONDS.to_vec());
        self.0.register(Histogram::with_opts(options).expect("the name is valid"))
    }
}

impl AgentMetrics {
    pub(crate) fn new() -> Self {
        let exposition = Metrics::new(env!("CARGO_PKG_VERSION"));
        let new = Declare(&exposition);
        Self {
            lease_held: new.whole("roost_agent_lease_held", "1 while the node's lease lets it admit participants."),
            lease_left: new
                .gauge("roost_agent_lease_left_seconds", "Time until admission stops, unless the lease is renewed."),
            incarnations: new.counter(
                "roost_agent_incarnations_total",
                "Leases that were taken; each after the first follows a lapse or a new run of the store.",
            ),
            reports: new.counters("roost_agent_reports_total", "Reports by result.", "result"),
            report_seconds: new.seconds("roost_agent_report_seconds", "Time from a report to the store's answer."),
            knocks: new.counters(
                "roost_agent_knocks_total",
                "Participants at the door by answer: admitted, redirect, or the code of the refusal.",
                "answer",
            ),
            knock_seconds: new.seconds("roost_agent_knock_seconds", "Time that the door took to answer."),
            openings: new.counters(
                "roost_agent_openings_total",
                "Rooms that the store was asked to open, by result.",
                "result",
            ),
            rooms_lost: new.counter(
                "roost_agent_rooms_lost_total",
                "Rooms that another node had taken when they were asserted again or handed over.",
            ),
            rooms_moved: new
                .counter("roost_agent_rooms_moved_total", "Rooms that were handed over to another node by command."),
            rooms_asserted: new.counter("roost_agent_rooms_asserted_total", "Rooms that were asserted again."),
            commands: new.counters("roost_agent_commands_total", "Commands from schedulers by result.", "result"),
            rooms: new.wholes("roost_agent_rooms", "Rooms by state; wanted ones are to be asserted again.", "state"),
            releases: new
                .whole("roost_agent_releases_pending", "Ended rooms whose release the store has not answered."),
            participants: new.whole("roost_agent_participants", "Participants who were admitted and are not gone."),
            streams: new.whole("roost_agent_streams", "Producers and consumers of media."),
            machine: MachineMetrics::new(&new),
            exposition,
        }
    }

    /// The store's answer to a report, or that there was none.
    pub(crate) fn reported(&self, result: &str, took: Duration) {
        self.reports.with_label_values(&[result]).inc();
        self.report_seconds.observe(took.as_secs_f64());
    }

    /// The door's answer.
    pub(crate) fn knocked(&self, answer: &str, took: Duration) {
        self.knocks.with_label_values(&[answer]).inc();
        self.knock_seconds.observe(took.as_secs_f64());
    }

    /// The end of an opening.
    pub(crate) fn opened(&self, end: Result<(), OpenFailure>) {
        let result = match end {
            Ok(()) => "open",
            Err(OpenFailure::Refused) => "refused",
            Err(OpenFailure::NotDone) => "not_done",
            Err(OpenFailure::Unknown) => "unknown",
        };
        self.openings.with_label_values(&[result]).inc();
    }

    /// A command that was obeyed, or dropped.
    pub(crate) fn commanded(&self, result: &str) {
        self.commands.with_label_values(&[result]).inc();
    }

    /// Of these resources the probe read nothing that can be.
    pub(crate) fn skipped(&self, resources: &[Resource]) {
        for resource in resources {
            self.machine.skipped.with_label_values(&[resource_name(*resource)]).inc();
        }
    }

    /// What the last report said.
    pub(crate) fn observe_report(&self, host: &Host, workers: &[Worker], streams: u32) {
        self.streams.set(i64::from(streams));
        self.machine.observe(host, workers);
    }

    /// The node's state at this moment.
    pub(crate) fn observe_node(&self, node: &Node) {
        node.with(|state, now| {
            self.lease_held.set(i64::from(state.lease.standing(now) == Standing::Held));
            let left_ms = state.lease.deadline().map_or(0, |deadline| deadline.since(now));
            self.lease_left.set(whole(left_ms) as f64 / 1_000.0);
            self.participants.set(i64::from(state.guests));
            self.releases.set(whole(state.holdings.releases_len() as u64));
            let mut counts = [("opening", 0), ("open", 0), ("wanted", 0), ("moving", 0), ("provisional", 0)];
            for (_, hold) in state.holdings.iter() {
                let at = match hold.state {
                    HoldState::Opening => 0,
                    HoldState::Open => 1,
                    HoldState::Wanted { .. } => 2,
                    HoldState::Moving => 3,
                    HoldState::Provisional => 4,
                };
                counts[at].1 += 1;
            }
            for (name, count) in counts {
                self.rooms.with_label_values(&[name]).set(count);
            }
        });
    }
}

impl MachineMetrics {
    fn new(new: &Declare<'_>) -> Self {
        let skipped = new.counters(
            "roost_agent_samples_skipped_total",
            "Samples of a resource that could not be read, or not be true: what was known before goes on to hold.",
            "resource",
        );
        for resource in [Resource::Cpu, Resource::Memory, Resource::Network, Resource::Disk] {
            skipped.with_label_values(&[resource_name(resource)]);
        }
        Self {
            cpu_ratio: new.gauge("roost_agent_cpu_ratio", "CPU in use of what the machine or its cgroup may use."),
            memory_used: new.whole("roost_agent_memory_used_bytes", "Memory in use on the machine or in its cgroup."),
            memory_limit: new
                .whole("roost_agent_memory_limit_bytes", "Memory that the machine has, or its cgroup may use."),
            network: new.gauges("roost_agent_network_bytes_per_second", "Traffic of the machine.", "direction"),
            skipped,
            worker_up: new.wholes("roost_agent_worker_up", "1 while the media worker takes rooms.", "worker"),
            worker_restarts: new.counters(
                "roost_agent_worker_restarts_total",
                "How often the media worker was started again.",
                "worker",
            ),
            worker_cpu_ratio: new.gauges(
                "roost_agent_worker_cpu_ratio",
                "Share of one core that the media worker uses.",
                "worker",
            ),
        }
    }

    fn observe(&self, host: &Host, workers: &[Worker]) {
        self.cpu_ratio.set(f64::from(host.cpu_permille) / 1_000.0);
        self.memory_used.set(whole(host.memory_used_bytes));
        self.memory_limit.set(whole(host.memory_total_bytes));
        for (direction, bits) in [("receive", host.network_rx_bps), ("transmit", host.network_tx_bps)] {
            self.network.with_label_values(&[direction]).set(whole(bits) as f64 / 8.0);
        }
        for worker in workers {
            let index = worker.index.to_string();
            self.worker_up.with_label_values(&[&index]).set(i64::from(worker.state == WorkerState::Up));
            let restarts = self.worker_restarts.with_label_values(&[&index]);
            restarts.inc_by(u64::from(worker.restarts).saturating_sub(restarts.get()));
            self.worker_cpu_ratio.with_label_values(&[&index]).set(f64::from(worker.cpu_permille) / 1_000.0);
        }
    }
}

fn resource_name(resource: Resource) -> &'static str {
    match resource {
        Resource::Cpu => "cpu",
        Resource::Memory => "memory",
        Resource::Network => "network",
        Resource::Disk => "disk",
    }
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
