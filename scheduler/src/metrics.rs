//! Every metric of the scheduler.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use roost_proto::admin::NodeCounts;
use roost_proto::error::{Code, ReasonCount};
use roost_proto::lookup::Outcome;
use roost_scheduler_core::view::Totals;
use roost_server::Metrics as Registry;
use roost_store::StoreError;

use crate::geo::{Kind, Miss};

/// The scheduler's metrics. No label names a room, user or address.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub registry: Registry,
    placed: IntCounter,
    existing: IntCounter,
    lookups: IntCounterVec,
    lookup_duration: Histogram,
    rejections: IntCounterVec,
    redirects: IntCounterVec,
    nodes: IntGaugeVec,
    nodes_distrusted: IntGauge,
    nodes_unsteady: IntGauge,
    rooms: IntGauge,
    participants: IntGauge,
    agents: IntGauge,
    store_calls: IntCounterVec,
    reports_dropped: IntCounterVec,
    store_up: IntGauge,
    grace_left: IntGauge,
    brake_engaged: IntGauge,
    watch_connections: IntGauge,
    found_dead: IntCounter,
    orphans_ended: IntCounter,
    record_dropped: IntCounter,
    pub geo: GeoMetrics,
}

/// Of the GeoIP databases.
#[derive(Debug)]
pub(crate) struct GeoMetrics {
    /// By kind, so that a lookup need not search for its own: those found, and those missed.
    lookups: [(IntCounter, [IntCounter; Miss::ALL.len()]); 2],
    reloads: IntCounterVec,
    built: IntGaugeVec,
}

/// Of the ledger; declared where one is kept.
#[derive(Debug, Clone)]
pub(crate) struct LedgerMetrics {
    pub up: IntGauge,
    pub dropped: IntCounter,
}

/// What the gauges show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Levels {
    pub totals: Totals,
    pub rooms: usize,
    pub store_up: bool,
    pub grace_left_ms: u64,
    pub is_braked: bool,
}

/// A watch connection that is counted.
#[derive(Debug)]
pub(crate) struct Watching(IntGauge);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// In which words a client was redirected.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dialect {
    Protoo,
    Sora,
}

/// A lookup of a living room takes some ten microseconds, a first one a round trip to the store, one in grace seconds.
const DURATION_BUCKETS_S: [f64; 12] = [2e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 5e-2, 0.25, 1.0, 2.5];

impl Metrics {
    /// Declares them all.
    pub(crate) fn new() -> Self {
        let registry = Registry::new(env!("CARGO_PKG_VERSION"));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registry.register(IntCounterVec::new(Opts::new(name, help), labels).expect(VALID))
        };
        let gauge = |name: &str, help: &str| registry.register(IntGauge::new(name, help).expect(VALID));
        let lookups =
            counters("roost_lookups_total", "Lookups by what came of them: an outcome or an error code.", &["outcome"]);
        let duration = HistogramOpts::new("roost_lookup_duration_seconds", "From a lookup's arrival to its answer.");
        let dropped = Opts::new("roost_record_dropped_total", "Lines that --record could not keep up with.");
        let found_dead =
            Opts::new("roost_agents_found_dead_total", "Agents whose host refused connections after they broke.");
        let orphans = Opts::new("roost_orphans_ended_total", "Claims that were ended because their holder is gone.");
        let nodes = Opts::new("roost_nodes", "Nodes by state.");
        Self {
            placed: lookups.with_label_values(&["placed"]),
            existing: lookups.with_label_values(&["existing"]),
            lookups,
            lookup_duration: registry
                .register(Histogram::with_opts(duration.buckets(DURATION_BUCKETS_S.into())).expect(VALID)),
            rejections: counters(
                "roost_rejections_total",
                "Nodes refused when no node was found, by reason.",
                &["reason"],
            ),
            redirects: counters("roost_redirects_total", "Clients redirected by WebSocket, by dialect.", &["dialect"]),
            nodes: registry.register(IntGaugeVec::new(nodes, &["state"]).expect(VALID)),
            nodes_distrusted: gauge(
                "roost_nodes_distrusted",
                "Nodes that are not lost and report numbers that cannot be.",
            ),
            nodes_unsteady: gauge("roost_nodes_unsteady", "Nodes that came back several times within minutes."),
            rooms: gauge("roost_rooms", "Rooms that are granted or open."),
            participants: gauge("roost_participants", "Participants that joined, on all nodes that are not lost."),
            agents: gauge("roost_agent_connections", "Agents that use this scheduler as their store."),
            store_calls: counters(
                "roost_store_calls_total",
                "Calls of the store by what came of them.",
                &["call", "result"],
            ),
            reports_dropped: counters(
                "roost_reports_dropped_total",
                "Agents' reports that could not be read, have impossible numbers, or are older than what is known.",
                &["reason"],
            ),
            store_up: gauge("roost_store_up", "Whether events come from the store: 1 or 0."),
            grace_left: gauge(
                "roost_grace_left_seconds",
                "How long the grace after a new run of the store still lasts.",
            ),
            brake_engaged: gauge(
                "roost_brake_engaged",
                "Whether silent nodes keep their rooms, because too many fell silent.",
            ),
            watch_connections: gauge("roost_watch_connections", "Connections to agents that tell whether they live."),
            orphans_ended: registry.register(IntCounter::with_opts(orphans).expect(VALID)),
            found_dead: registry.register(IntCounter::with_opts(found_dead).expect(VALID)),
            record_dropped: registry.register(IntCounter::with_opts(dropped).expect(VALID)),
            geo: GeoMetrics::new(&registry),
            registry,
        }
    }

    /// A lookup was answered.
    pub(crate) fn looked_up(&self, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Placed => self.placed.inc(),
            Outcome::Existing => self.existing.inc(),
            Outcome::Edge => self.lookups.with_label_values(&["edge"]).inc(),
        }
        self.lookup_duration.observe(took.as_secs_f64());
    }

    /// A lookup was refused.
    pub(crate) fn refused(&self, code: Code, counts: &[ReasonCount], took: Duration) {
        self.lookups.with_label_values(&[code.as_str()]).inc();
        for counted in counts {
            self.rejections.with_label_values(&[counted.reason.as_str()]).inc_by(counted.count.into());
        }
        self.lookup_duration.observe(took.as_secs_f64());
    }

    /// A client was sent to its node.
    pub(crate) fn redirected(&self, dialect: Dialect) {
        let dialect = match dialect {
            Dialect::Protoo => "protoo",
            Dialect::Sora => "sora",
        };
        self.redirects.with_label_values(&[dialect]).inc();
    }

    /// The store answered, or did not.
    pub(crate) fn store_called<T>(&self, call: &'static str, result: &Result<T, StoreError>) {
        let result = match result {
            Ok(_) => "ok",
            Err(StoreError::Unavailable { .. }) => "unavailable",
            Err(StoreError::Refused { .. }) => "refused",
            Err(StoreError::Unknown { .. }) => "unknown",
            Err(StoreError::Corrupt { .. }) => "corrupt",
        };
        self.store_calls.with_label_values(&[call, result]).inc();
    }

    /// So many more lines are missing in the trace.
    pub(crate) fn dropped_from_trace(&self, lines: u64) {
        self.record_dropped.inc_by(lines);
    }

    /// An agent has come (1) or gone (-1).
    pub(crate) fn agents(&self, change: i64) {
        self.agents.add(change);
    }

    /// There is one more watch connection, until what is given is dropped.
    pub(crate) fn watching(&self) -> Watching {
        self.watch_connections.inc();
        Watching(self.watch_connections.clone())
    }

    /// Claims without a holder were ended.
    pub(crate) fn orphans_ended(&self, claims: u64) {
        self.orphans_ended.inc_by(claims);
    }

    /// An agent's process is dead.
    pub(crate) fn found_dead(&self) {
        self.found_dead.inc();
    }

    /// So many reports were dropped for this reason since the start.
    pub(crate) fn reports_dropped(&self, reason: &'static str, count: u64) {
        let counter = self.reports_dropped.with_label_values(&[reason]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// Shows how things are now.
    pub(crate) fn show(&self, levels: Levels) {
        let NodeCounts { alive, suspect, lost, maintenance } = levels.totals.nodes;
        let states = [("alive", alive), ("suspect", suspect), ("lost", lost), ("maintenance", maintenance)];
        for (state, count) in states {
            self.nodes.with_label_values(&[state]).set(count.into());
        }
        self.nodes_distrusted.set(levels.totals.distrusted.into());
        self.nodes_unsteady.set(levels.totals.unsteady.into());
        self.rooms.set(i64::try_from(levels.rooms).unwrap_or(i64::MAX));
        self.participants.set(levels.totals.participants.into());
        self.store_up.set(levels.store_up.into());
        self.grace_left.set(i64::try_from(levels.grace_left_ms.div_ceil(1_000)).unwrap_or(i64::MAX));
        self.brake_engaged.set(levels.is_braked.into());
    }
}

impl GeoMetrics {
    fn new(registry: &Registry) -> Self {
        let opts = Opts::new("roost_geo_lookups_total", "Clients' addresses that were looked up, by what came of it.");
        let lookups = registry.register(IntCounterVec::new(opts, &["database", "result"]).expect(VALID));
        let opts = Opts::new("roost_geo_reloads_total", "GeoIP files that were read again: ok, or failed.");
        let reloads = registry.register(IntCounterVec::new(opts, &["database", "result"]).expect(VALID));
        let opts = Opts::new("roost_geo_database_built_timestamp_seconds", "When the GeoIP database in use was made.");
        let built = registry.register(IntGaugeVec::new(opts, &["database"]).expect(VALID));
        let of = |kind: Kind| {
            let counter = |result: &str| lookups.with_label_values(&[kind.as_str(), result]);
            (counter("found"), Miss::ALL.map(|miss| counter(miss.as_str())))
        };
        Self { lookups: [of(Kind::City), of(Kind::Asn)], reloads, built }
    }

    /// An address was looked up.
    pub(crate) fn located(&self, kind: Kind, miss: Option<Miss>) {
        let (found, missed) = &self.lookups[kind as usize];
        miss.map_or(found, |miss| &missed[miss as usize]).inc();
    }

    /// A database made at that time is in use.
    pub(crate) fn in_use(&self, kind: Kind, built_s: u64) {
        self.built.with_label_values(&[kind.as_str()]).set(i64::try_from(built_s).unwrap_or(i64::MAX));
    }

    /// A file that has changed was read, with success or without.
    pub(crate) fn reloaded(&self, kind: Kind, is_ok: bool) {
        self.reloads.with_label_values(&[kind.as_str(), if is_ok { "ok" } else { "failed" }]).inc();
    }
}

impl LedgerMetrics {
    pub(crate) fn new() -> Self {
        let up = IntGauge::new("roost_ledger_up", "Whether the ledger's database takes what is heard: 1 or 0.");
        let opts = Opts::new("roost_ledger_dropped_total", "Facts and rows that the ledger could not keep.");
        Self { up: up.expect(VALID), dropped: IntCounter::with_opts(opts).expect(VALID) }
    }

    /// Shows them beside the others.
    pub(crate) fn declare(&self, registry: &Registry) {
        registry.register(self.up.clone());
        registry.register(self.dropped.clone());
    }
}

const VALID: &str = "names, helps and labels are valid and each is declared once";
