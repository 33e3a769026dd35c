//! Numbers in a report that cannot be. Whoever sends them is broken, and may look idle to nobody but itself.

use roost_proto::report::{ALL_PERMILLE, Impossible, MOST_NETWORK_BPS, Report, Worker};

/// The most of its CPU that a machine can be seen to use, with what clocks and rounding add.
const MOST_CPU_PERMILLE: u32 = ALL_PERMILLE + ALL_PERMILLE / 10;
/// The most participants, rooms or streams that one machine can have.
const MOST_COUNTED: u64 = 1_000_000;
/// The most of its bandwidth that a node can be seen to use, for a capacity is but what an operator thinks.
const MOST_TIMES_BANDWIDTH: u64 = 10;

/// Every number of the report that cannot be:
///
/// | number | the most that it can be |
/// |---|---|
/// | CPU in use | all of it, and a tenth for rounding |
/// | memory in use | all of it |
/// | traffic in one direction | 10 Tbit/s, and ten times the capacity if there is one |
/// | participants, rooms, streams | a million |
/// | each of these, and the sum of it over the media workers, where any are listed | twice the other and a hundred |
/// | the sum of the participants of the rooms that are listed | twice all participants and a hundred |
#[must_use]
pub fn doubts(report: &Report) -> Vec<Impossible> {
    let (host, bandwidth_bps) = (&report.host, report.description.capacity.bandwidth_bps);
    let most_bps = match bandwidth_bps {
        0 => MOST_NETWORK_BPS,
        capacity => capacity.saturating_mul(MOST_TIMES_BANDWIDTH).min(MOST_NETWORK_BPS),
    };
    let sum = |count: fn(&Worker) -> u64| report.workers.iter().map(count).fold(0, u64::saturating_add);
    let totals = [
        ("participants", report.participants, "workers.participants", sum(|worker| worker.participants.into())),
        ("rooms", report.rooms, "workers.rooms", sum(|worker| worker.rooms.into())),
        (
            "streams",
            report.streams,
            "workers.producers + workers.consumers",
            sum(|worker| u64::from(worker.producers) + u64::from(worker.consumers)),
        ),
    ];
    let of_host = [
        ("host.cpu_permille", host.cpu_permille.into(), MOST_CPU_PERMILLE.into()),
        ("host.memory_used_bytes", host.memory_used_bytes, host.memory_total_bytes),
        ("host.network_rx_bps", host.network_rx_bps, most_bps),
        ("host.network_tx_bps", host.network_tx_bps, most_bps),
    ];
    let in_rooms = report.changed.iter().map(|room| u64::from(room.participants)).fold(0, u64::saturating_add);
    let of_rooms = ("changed.participants", in_rooms, about(report.participants.into()));
    let of_totals = totals.into_iter().flat_map(|(field, total, of_workers, sum)| {
        let (total, most_total) = (u64::from(total), if report.workers.is_empty() { u64::MAX } else { about(sum) });
        [(field, total, most_total.min(MOST_COUNTED)), (of_workers, sum, about(total))]
    });
    let numbers = of_host.into_iter().chain(of_totals).chain([of_rooms]).filter(|(_, value, most)| value > most);
    numbers.map(|(field, value, most)| Impossible { field, value, most }).collect()
}

/// Counts of one thing that were taken a moment apart, or of rooms that are only about to open, lie this far apart.
fn about(count: u64) -> u64 {
    count.saturating_mul(2).saturating_add(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn what_can_be_is_believed() {
        type Change = fn(&mut Report);
        let rows: [Change; 8] = [
            |_| {},
            |r| r.host.cpu_permille = 1_100,
            |r| (r.host.memory_used_bytes, r.host.memory_total_bytes) = (8, 8),
            |r| (r.host.network_rx_bps, r.description.capacity.bandwidth_bps) = (10_000, 1_000),
            |r| r.host.network_tx_bps = 10_000_000_000_000,
            |r| (r.participants, r.rooms, r.streams) = (1_000_000, 1_000_000, 1_000_000),
            |r| (r.workers, r.participants, r.rooms) = (vec![sample::worker(0)], 100, 100),
            |r| (r.workers, r.streams) = (vec![Worker { consumers: 900, ..sample::worker(0) }], 400),
        ];
        for (row, change) in rows.into_iter().enumerate() {
            let mut report = sample::report("a", "eu");
            change(&mut report);
            assert_eq!(doubts(&report), [], "row {row}");
        }
    }

    #[test]
    fn what_cannot_be_is_named_with_its_value_and_what_was_expected() {
        type Change = fn(&mut Report);
        let rows: [(Change, &str); 10] = [
            (|r| r.host.cpu_permille = 1_101, "host.cpu_permille 1101: expected at most 1100"),
            (
                |r| (r.host.memory_used_bytes, r.host.memory_total_bytes) = (9, 8),
                "host.memory_used_bytes 9: expected at most 8",
            ),
            (|r| r.host.memory_used_bytes = 1, "host.memory_used_bytes 1: expected at most 0"),
            (
                |r| (r.host.network_tx_bps, r.description.capacity.bandwidth_bps) = (10_001, 1_000),
                "host.network_tx_bps 10001: expected at most 10000",
            ),
            (
                |r| r.host.network_rx_bps = u64::MAX,
                "host.network_rx_bps 18446744073709551615: expected at most 10000000000000",
            ),
            (|r| r.streams = u32::MAX, "streams 4294967295: expected at most 1000000"),
            (
                |r| (r.workers, r.participants) = (vec![sample::worker(0)], 101),
                "participants 101: expected at most 100",
            ),
            (
                |r| {
                    r.workers =
                        vec![Worker { rooms: 60, ..sample::worker(0) }, Worker { rooms: 41, ..sample::worker(1) }]
                },
                "workers.rooms 101: expected at most 100",
            ),
            (|r| r.changed = vec![sample::held("x", 1, 101)], "changed.participants 101: expected at most 100"),
            (
                |r| r.workers = vec![Worker { producers: u32::MAX, consumers: 1, ..sample::worker(0) }],
                "workers.producers + workers.consumers 4294967296: expected at most 100",
            ),
        ];
        for (change, expected) in rows {
            let mut report = sample::report("a", "eu");
            change(&mut report);
            let said: Vec<_> = doubts(&report).iter().map(Impossible::to_string).collect();
            assert_eq!(said, [expected]);
        }
    }
}
