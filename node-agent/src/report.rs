//! What the node says about itself, put together from its probes, its rooms and its media workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use roost_agent_core::hold::State as HoldState;
use roost_agent_core::sample::{Resource, Sampler};
use roost_proto::WIRE_VERSION;
use roost_proto::id::{Incarnation, NodeId, RoomKey};
use roost_proto::report::{Description, Host, Mode, Report, RoomReport, Worker};
use roost_proto::time::Millis;

use crate::inside::Inside;
use crate::node::State;
use crate::probe::host::HostProbe;

/// Longer than an empty room stays open, a claim without anything inside is left over: its participant never arrived.
const LEFT_OVER_MS: u64 = 10_000;

/// Makes reports.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) node: NodeId,
    pub(crate) description: Description,
    pub(crate) inside: Arc<dyn Inside>,
    pub(crate) probe: HostProbe,
    pub(crate) sampler: Sampler,
    /// How long a room stays open without participants.
    pub(crate) empty_room_ms: u64,
}

/// What was measured for one report.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) host: Host,
    /// Of these nothing could be read that can be.
    pub(crate) skipped: Vec<Resource>,
    workers: Vec<Worker>,
    rooms: Vec<RoomReport>,
}

impl Reporter {
    /// Reads everything that takes time, before the node's lock is taken.
    pub(crate) fn sample(&mut self, now: Millis) -> Sample {
        let skipped = self.sampler.fold(self.probe.sample(), now);
        Sample { host: self.sampler.host(), skipped, workers: self.inside.workers(), rooms: self.inside.rooms() }
    }

    /// The report of this moment. Its number is used up by it.
    pub(crate) fn compose(&self, state: &mut State, incarnation: Incarnation, sample: Sample, now: Millis) -> Report {
        self.end_left_over(state, &sample.rooms, now);
        let rooms = open_rooms(state, &sample.rooms);
        let sum = |count: fn(&RoomReport) -> u32| sample.rooms.iter().map(count).fold(0, u32::saturating_add);
        let (participants, streams) = (sum(|room| room.participants), sum(RoomReport::streams));
        // Those that are wanted back count: a node that has just lapsed is not empty.
        let count = u32::try_from(state.holdings.len()).unwrap_or(u32::MAX);
        let holdings = &state.holdings;
        let changes = state.cadence.compose(rooms, |room| holdings.get(room).is_some(), now);
        Report {
            v: WIRE_VERSION,
            node: self.node.clone(),
            incarnation,
            seq: changes.seq,
            lease_ms: state.lease.lease_ms(),
            description: self.description.clone(),
            mode: if state.leaving { Mode::Draining } else { state.mode() },
            steering: state.steering,
            host: sample.host,
            workers: sample.workers,
            rooms: count,
            participants,
            streams,
            full: changes.full,
            changed: changes.changed,
            ended: changes.ended,
        }
    }

    /// Ends rooms that were opened for somebody who then did not come in, or from which all went before they were open again.
    fn end_left_over(&self, state: &mut State, inside: &[RoomReport], now: Millis) {
        for (room, opened_as) in state.holdings.idle(self.empty_room_ms + LEFT_OVER_MS, now) {
            let is_inside = inside.iter().any(|report| report.key == room && report.epoch == opened_as);
            if !is_inside && state.holdings.end_if_empty(&room, opened_as).is_some() {
                tracing::info!(%room, "the room is open, but nobody is in it: it ends");
            }
        }
    }
}

/// The rooms that are open here, under the epochs that their claims have now. One that is being opened counts as open:
/// whoever hears that it isn't would place it elsewhere.
pub(crate) fn open_rooms(state: &State, inside: &[RoomReport]) -> Vec<RoomReport> {
    let inside: BTreeMap<&RoomKey, &RoomReport> = inside.iter().map(|report| (&report.key, report)).collect();
    let open = state.holdings.iter().filter(|(_, hold)| !matches!(hold.state, HoldState::Wanted { .. }));
    open.map(|(room, hold)| {
        let known = inside.get(room).filter(|report| report.epoch == hold.opened_as);
        let empty = || RoomReport {
            key: room.clone(),
            epoch: hold.epoch,
            worker: 0,
            participants: 0,
            producers: 0,
            consumers: 0,
        };
        known.map_or_else(empty, |report| RoomReport { epoch: hold.epoch, ..(*report).clone() })
    })
    .collect()
}
