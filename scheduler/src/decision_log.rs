//! The log of decisions: one line, target `decision`, for each lookup that placed a room or was refused; when there are
//! many, for some of them. Every part of a line is a field.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use roost_proto::error::{Problem, Reason};
use roost_proto::explain::Candidate;
use roost_proto::id::{Carrier, Region};
use roost_proto::time::Millis;
use roost_scheduler_core::join::Home;
use roost_scheduler_core::request::Request;
use tracing::Level;

use crate::app::lookup::Placed;

/// The target of the lines.
macro_rules! target {
    () => {
        "decision"
    };
}

/// So many decisions of a second are all written.
const IN_FULL: u32 = 50;
/// Beyond that, one of so many is.
const ONE_OF: u32 = 100;

const _: () = assert!(Reason::ALL.len() == 15, "each reason is a field of the line of a refusal");

/// Which decisions are written.
#[derive(Debug, Default)]
pub(crate) struct DecisionLog {
    /// The second, and how many decisions it has had: one word, so that threads count together.
    second: AtomicU64,
}

/// A line to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    /// It stands for so many; none: for itself.
    sampled: Option<u32>,
}

impl DecisionLog {
    /// Counts a decision; none if it is not to be written.
    pub(crate) fn draw(&self, now: Millis) -> Option<Line> {
        if !tracing::enabled!(target: target!(), Level::INFO) {
            return None;
        }
        self.count(now.0 / 1_000)
    }

    fn count(&self, second: u64) -> Option<Line> {
        let begun = second << 32;
        let next = |counted: u64| Some(if counted >> 32 == second { counted + 1 } else { begun + 1 });
        // It never gives none, so it never fails.
        let before = self.second.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        let nth = if before >> 32 == second { before as u32 } else { 0 };
        match nth.checked_sub(IN_FULL) {
            None => Some(Line { sampled: None }),
            Some(beyond) => (beyond % ONE_OF == ONE_OF - 1).then_some(Line { sampled: Some(ONE_OF) }),
        }
    }
}

impl Line {
    /// The room got a node, which ranked as `candidate` when it was decided.
    pub(crate) fn placed(
        self,
        request: &Request<'_>,
        home: &Home,
        placed: Placed,
        candidate: Option<&Candidate>,
        took: Duration,
    ) {
        let standing = candidate.map(|candidate| candidate.standing.as_str());
        tracing::info!(
            target: target!(),
            outcome = "placed",
            namespace = request.key.namespace.as_str(),
            room = request.key.room.as_str(),
            node = home.node.id.as_str(),
            epoch = home.epoch.0,
            rung = placed.rung.as_str(),
            region = request.region.map(Region::as_str),
            carrier = request.carrier.map(Carrier::as_str),
            expected = placed.expected.participants,
            hint = request.hint,
            avoid = request.avoid.len(),
            standing,
            load_band = candidate.map(|candidate| candidate.load_band),
            load_permille = candidate.map(|candidate| candidate.load_permille),
            reserved_permille = candidate.map(|candidate| candidate.reserved_permille),
            took_us = micros(took),
            sampled = self.sampled,
            "a room is placed"
        );
    }

    /// The lookup got no node.
    pub(crate) fn refused(self, request: &Request<'_>, problem: &Problem, took: Duration) {
        let count = |reason: Reason| {
            let counted = problem.rejection_counts.iter().find(|counted| counted.reason == reason);
            counted.map(|counted| counted.count)
        };
        tracing::info!(
            target: target!(),
            outcome = "refused",
            namespace = request.key.namespace.as_str(),
            room = request.key.room.as_str(),
            code = problem.code.as_str(),
            region = request.region.map(Region::as_str),
            carrier = request.carrier.map(Carrier::as_str),
            hint = request.hint,
            avoid = request.avoid.len(),
            took_us = micros(took),
            sampled = self.sampled,
            wrong_namespace = count(Reason::WrongNamespace),
            outside_fence = count(Reason::OutsideFence),
            beyond_ladder = count(Reason::BeyondLadder),
            wrong_carrier = count(Reason::WrongCarrier),
            mode = count(Reason::Mode),
            not_alive = count(Reason::NotAlive),
            avoided = count(Reason::Avoided),
            full_participants = count(Reason::FullParticipants),
            full_rooms = count(Reason::FullRooms),
            full_streams = count(Reason::FullStreams),
            full_bandwidth = count(Reason::FullBandwidth),
            full_cpu = count(Reason::FullCpu),
            full_memory = count(Reason::FullMemory),
            link_budget = count(Reason::LinkBudget),
            version = count(Reason::Version),
            "a lookup is refused"
        );
    }
}

/// The room lived already; told only to whoever asks for the details.
pub(crate) fn existing(request: &Request<'_>, home: &Home) {
    tracing::debug!(
        target: target!(),
        outcome = "existing",
        namespace = request.key.namespace.as_str(),
        room = request.key.room.as_str(),
        node = home.node.id.as_str(),
        epoch = home.epoch.0,
        region = request.region.map(Region::as_str),
        carrier = request.carrier.map(Carrier::as_str),
        "a room lives"
    );
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_decisions_of_a_second_are_written_and_then_each_hundredth() {
        let log = DecisionLog::default();
        for second in [1, 2, 7] {
            let drawn: Vec<Option<Line>> = (0..1_000).map(|_| log.count(second)).collect();
            assert!(drawn[..50].iter().all(|line| *line == Some(Line { sampled: None })));
            let sampled: Vec<usize> = (50..1_000).filter(|nth| drawn[*nth].is_some()).collect();
            assert_eq!(sampled, (149..1_000).step_by(100).collect::<Vec<_>>());
            assert_eq!(drawn[149], Some(Line { sampled: Some(100) }));
        }
    }
}
