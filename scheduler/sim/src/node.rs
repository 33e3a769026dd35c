//! A simulated node: the real lease, holdings and cadence of an agent, and a door that keeps hard limits.

use std::collections::BTreeMap;

use roost_agent_core::cadence::Cadence;
use roost_agent_core::hold::{Holdings, Offer, Verdict};
use roost_agent_core::lease::{LEASE_MS, Lease, REPORT_INTERVAL_MS};
use roost_agent_core::runs::Runs;
use roost_agent_core::sample::{Cpu, HostSample, Sampler, Traffic, Usage};
use roost_proto::WIRE_VERSION;
use roost_proto::error::Reason;
use roost_proto::id::{Epoch, Incarnation, RoomKey};
use roost_proto::policy::Policy;
use roost_proto::report::{Host, Mode, Report, RoomReport};
use roost_proto::time::Millis;

use crate::plan::NodePlan;

/// How long a room stays open without participants.
pub(crate) const EMPTY_ROOM_MS: u64 = 20_000;

/// A recorded node may have reported anything. More than this, which nobody believes either, would not fit its counters.
const MOST_CPUS: u32 = 65_536;
const MOST_CPU_PERMILLE: u32 = 10_000;
const MOST_BPS: u64 = 20_000_000_000_000;

/// One node.
#[derive(Debug)]
pub(crate) struct SimNode {
    pub(crate) lease: Lease,
    pub(crate) holdings: Holdings,
    pub(crate) runs: Runs,
    pub(crate) cadence: Cadence,
    pub(crate) mode: Mode,
    /// Participants inside.
    pub(crate) guests: u32,
    /// Participants who were turned away because the node was full, and would still be here.
    pub(crate) turned_away: u32,
    /// Visits that wait for a room to be opened.
    pub(crate) waiting: BTreeMap<RoomKey, Vec<u32>>,
    measured: Measured,
    counters: Counters,
    sampler: Sampler,
    next_measure: Millis,
    measure_every_ms: u64,
}

/// What the machine counts: ever growing.
#[derive(Debug, Default)]
struct Counters {
    cpu_us: u64,
    network: Traffic,
    /// When they grew last, and how fast they grew then.
    grew: Option<(Millis, Host)>,
}

/// What the node knows of its own load.
#[derive(Debug, Default)]
struct Measured {
    host: Host,
    participants: u32,
    streams: u32,
    rooms: Vec<RoomReport>,
}

/// What the door says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knocked {
    In {
        opened_as: Epoch,
    },
    /// The room is to be opened first.
    Open,
    /// It is being opened.
    Wait,
    /// Nobody can be admitted at this moment.
    Suspended,
    Refused(Reason),
    /// The room has as many participants as its namespace allows.
    RoomFull,
    /// The offered claim is over.
    Stale,
}

impl SimNode {
    /// A node that measures itself each `measure_every_ms`, first at `begin`.
    pub(crate) fn new(plan: &NodePlan, measure_every_ms: u64, begin: Millis) -> Self {
        Self {
            lease: Lease::new(LEASE_MS),
            holdings: Holdings::default(),
            runs: Runs::new(plan.id.bucket()),
            cadence: Cadence::new(begin),
            mode: plan.mode,
            guests: 0,
            turned_away: 0,
            waiting: BTreeMap::new(),
            measured: Measured::default(),
            counters: Counters::default(),
            sampler: Sampler::default(),
            next_measure: begin,
            measure_every_ms,
        }
    }

    /// What the door says to somebody with this offer.
    pub(crate) fn knock(&self, plan: &NodePlan, room: &RoomKey, policy: &Policy, offer: Offer, now: Millis) -> Knocked {
        let verdict = self.holdings.knock(room, Some(offer), &self.lease, now);
        let is_opening = match verdict {
            Verdict::Admit { .. } => false,
            Verdict::Open => true,
            Verdict::Wait => return Knocked::Wait,
            Verdict::Suspended | Verdict::Moving => return Knocked::Suspended,
            Verdict::Stale | Verdict::Unheld => return Knocked::Stale,
        };
        let capacity = &plan.description.capacity;
        let most = policy.max_participants_per_room;
        let inside = self.holdings.get(room).map_or(0, |hold| hold.guests);
        if !self.mode.takes_participants() || (is_opening && !self.mode.takes_rooms()) {
            Knocked::Refused(Reason::Mode)
        } else if capacity.participants > 0 && self.guests >= capacity.participants {
            Knocked::Refused(Reason::FullParticipants)
        } else if most > 0 && inside >= most {
            Knocked::RoomFull
        } else if is_opening && capacity.rooms > 0 && self.holdings.len() as u64 >= u64::from(capacity.rooms) {
            Knocked::Refused(Reason::FullRooms)
        } else if let Verdict::Admit { opened_as } = verdict {
            Knocked::In { opened_as }
        } else {
            Knocked::Open
        }
    }

    /// Somebody came in.
    pub(crate) fn enter(&mut self, room: &RoomKey) {
        self.holdings.entered(room);
        self.guests += 1;
    }

    /// Somebody who came in when the room was `opened_as` left.
    pub(crate) fn leave(&mut self, room: &RoomKey, opened_as: Epoch, now: Millis) {
        self.holdings.left(room, opened_as, now);
        self.guests = self.guests.saturating_sub(1);
    }

    /// It stops, and nobody is there any more. Gives those who waited for a room.
    pub(crate) fn vanish(&mut self, incarnation: Incarnation, now: Millis) -> Vec<u32> {
        self.lease.ended(incarnation);
        self.cadence = Cadence::new(now);
        self.holdings = Holdings::default();
        (self.guests, self.turned_away) = (0, 0);
        (self.measured, self.next_measure) = (Measured::default(), now);
        (self.counters, self.sampler) = (Counters::default(), Sampler::default());
        std::mem::take(&mut self.waiting).into_values().flatten().collect()
    }

    /// Who is here, or would be if the node were not full.
    pub(crate) fn demand(&self) -> u32 {
        self.guests + self.turned_away
    }

    /// When it reports next: with each measurement, and often enough to keep its lease.
    pub(crate) fn next_report(&self, now: Millis) -> Millis {
        self.next_measure.min(now.plus(REPORT_INTERVAL_MS)).max(now.plus(1))
    }

    /// Ends rooms that were empty for long enough.
    pub(crate) fn end_idle(&mut self, now: Millis) {
        for (room, opened_as) in self.holdings.idle(EMPTY_ROOM_MS, now) {
            self.holdings.end_if_empty(&room, opened_as);
        }
    }

    /// What it says of itself; none without a lease.
    pub(crate) fn report(&mut self, plan: &NodePlan, now: Millis) -> Option<Report> {
        let incarnation = self.lease.incarnation()?;
        if now >= self.next_measure {
            self.next_measure = if plan.frozen_load { Millis(u64::MAX) } else { now.plus(self.measure_every_ms) };
            self.measured = self.measure(plan, now);
        }
        let changes = self.cadence.compose(self.measured.rooms.clone(), |_| false, now);
        Some(Report {
            v: WIRE_VERSION,
            node: plan.id.clone(),
            incarnation,
            seq: changes.seq,
            lease_ms: self.lease.lease_ms(),
            description: plan.description.clone(),
            mode: self.mode,
            steering: None,
            host: self.measured.host,
            workers: Vec::new(),
            rooms: self.measured.rooms.len() as u32,
            participants: self.measured.participants,
            streams: self.measured.streams,
            full: changes.full,
            changed: changes.changed,
            ended: changes.ended,
        })
    }

    fn measure(&mut self, plan: &NodePlan, now: Millis) -> Measured {
        let cost = &plan.per_participant;
        let guests = f64::from(self.guests);
        let of = |each: f64| (each * guests).round() as u64;
        let begun = plan.background.partition_point(|(from, _)| *from <= now).max(1) - 1;
        let bare = Host { cpus: 1, memory_total_bytes: 1_000_000, ..Host::default() };
        let host = plan.background.get(begun).map_or(bare, |(_, host)| *host);
        let memory = (host.memory_total_bytes as f64 / 1_000.0 * cost.memory_permille * guests).round() as u64;
        let room = |(key, hold): (&RoomKey, &roost_agent_core::hold::Hold)| RoomReport {
            key: key.clone(),
            epoch: hold.epoch,
            worker: 0,
            participants: hold.guests,
            producers: 0,
            consumers: 0,
        };
        let used = Host {
            cpus: host.cpus.min(MOST_CPUS),
            cpu_permille: host.cpu_permille.saturating_add(of(cost.cpu_permille) as u32).min(MOST_CPU_PERMILLE),
            memory_used_bytes: host.memory_used_bytes.saturating_add(memory),
            network_rx_bps: host.network_rx_bps.saturating_add(of(cost.bps)).min(MOST_BPS),
            network_tx_bps: host.network_tx_bps.saturating_add(of(cost.bps)).min(MOST_BPS),
            ..host
        };
        self.sampler.fold(self.counters.count(used, now), now);
        Measured {
            host: self.sampler.host(),
            participants: self.guests,
            streams: of(cost.streams) as u32,
            rooms: self.holdings.iter().map(room).collect(),
        }
    }
}

impl Counters {
    /// What is counted at `now`, when so much is used. Between two moments use is taken to have grown evenly.
    fn count(&mut self, used: Host, now: Millis) -> HostSample {
        let (since, before) = self.grew.replace((now, used)).unwrap_or((now, used));
        let passed_ms = now.since(since);
        let grown = |before: u64, after: u64| (before + after) * passed_ms / 2;
        let cpu_permille = grown(before.cpu_permille.into(), used.cpu_permille.into());
        self.cpu_us += cpu_permille * u64::from(used.cpus.max(1));
        self.network.rx_bytes += grown(before.network_rx_bps, used.network_rx_bps) / 8_000;
        self.network.tx_bytes += grown(before.network_tx_bps, used.network_tx_bps) / 8_000;
        HostSample {
            cpu: Some(Cpu { used_us: self.cpu_us, limit_permille: 1_000 * u64::from(used.cpus.max(1)) }),
            memory: Some(Usage { used_bytes: used.memory_used_bytes, total_bytes: used.memory_total_bytes }),
            disk: Some(Usage { used_bytes: used.disk_used_bytes, total_bytes: used.disk_total_bytes }),
            network: Some(BTreeMap::from([("all".to_owned(), self.network)])),
        }
    }
}
