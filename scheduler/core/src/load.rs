//! A node's load: each resource in thousandths of its capacity, and the worst of them.

use roost_proto::admin::Load;
use roost_proto::report::Report;

/// Loads above ten times the capacity say nothing more.
const MOST_PERMILLE: u64 = 10_000;

/// The load that a report describes. A capacity of 0 is no limit, so its resource counts 0.
///
/// The worst is that of CPU, memory, bandwidth, streams and participants; many small rooms alone are no load.
#[must_use]
pub fn of(report: &Report) -> Load {
    let capacity = &report.description.capacity;
    let busiest_way_bps = report.host.network_rx_bps.max(report.host.network_tx_bps);
    let mut load = Load {
        cpu_permille: u64::from(report.host.cpu_permille).min(MOST_PERMILLE) as u32,
        memory_permille: permille(report.host.memory_used_bytes, report.host.memory_total_bytes),
        bandwidth_permille: permille(busiest_way_bps, capacity.bandwidth_bps),
        streams_permille: permille(report.streams.into(), capacity.streams.into()),
        participants_permille: permille(report.participants.into(), capacity.participants.into()),
        rooms_permille: permille(report.rooms.into(), capacity.rooms.into()),
        worst_permille: 0,
    };
    load.worst_permille = load
        .cpu_permille
        .max(load.memory_permille)
        .max(load.bandwidth_permille)
        .max(load.streams_permille)
        .max(load.participants_permille);
    load
}

/// How wide a band is, in thousandths of the capacity.
pub const BAND_PERMILLE: u32 = 8;

/// The band that a load lies in. Bands, not the load itself, are ranked, so that noise does not move rooms.
#[must_use]
pub fn band(permille: u32) -> u8 {
    (permille / BAND_PERMILLE).min(u8::MAX.into()) as u8
}

/// What a node is thought to take for each of its media workers, or of its CPUs where it lists no workers, when it
/// doesn't say how many participants it takes.
pub const NOMINAL_PARTICIPANTS: u64 = 100;

/// How many participants a load of 1 000 thousandths is.
#[must_use]
pub fn participants_at_capacity(report: &Report) -> u64 {
    match report.description.capacity.participants {
        0 if report.workers.is_empty() => NOMINAL_PARTICIPANTS * u64::from(report.host.cpus.max(1)),
        0 => NOMINAL_PARTICIPANTS * report.workers.len() as u64,
        participants => participants.into(),
    }
}

fn permille(used: u64, capacity: u64) -> u32 {
    if capacity == 0 {
        return 0;
    }
    (u128::from(used) * 1_000 / u128::from(capacity)).min(u128::from(MOST_PERMILLE)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn each_resource_is_measured_against_its_capacity_and_the_worst_counts() {
        let mut report = sample::report("a", "eu");
        report.description.capacity.participants = 200;
        report.description.capacity.bandwidth_bps = 1_000_000;
        report.participants = 50;
        report.host.cpu_permille = 100;
        report.host.memory_used_bytes = 1;
        report.host.memory_total_bytes = 3;
        report.host.network_tx_bps = 700_000;
        let load = of(&report);
        assert_eq!((load.participants_permille, load.memory_permille, load.bandwidth_permille), (250, 333, 700));
        assert_eq!(load.worst_permille, 700);
    }

    #[test]
    fn a_resource_without_a_limit_is_no_load() {
        let mut report = sample::report("a", "eu");
        report.description.capacity = Default::default();
        report.participants = u32::MAX;
        report.streams = u32::MAX;
        assert_eq!(of(&report).worst_permille, 0);
    }

    #[test]
    fn impossible_numbers_are_cut() {
        let mut report = sample::report("a", "eu");
        report.host.cpu_permille = u32::MAX;
        report.host.memory_used_bytes = u64::MAX;
        report.host.memory_total_bytes = 1;
        let load = of(&report);
        assert_eq!((load.cpu_permille, load.memory_permille), (10_000, 10_000));
        assert_eq!(band(load.worst_permille), u8::MAX);
    }

    #[test]
    fn a_band_is_eight_thousandths_wide() {
        for (permille, expected) in [(0, 0), (7, 0), (8, 1), (999, 124), (1_000, 125), (2_040, 255), (9_999, 255)] {
            assert_eq!(band(permille), expected, "{permille}");
        }
    }

    #[test]
    fn a_node_without_a_limit_of_its_own_is_thought_to_take_a_hundred_a_worker_or_cpu() {
        let mut report = sample::report("a", "eu");
        assert_eq!(participants_at_capacity(&report), 100);
        report.description.capacity.participants = 0;
        for (cpus, expected) in [(0, 100), (1, 100), (8, 800), (u32::MAX, 429_496_729_500)] {
            report.host.cpus = cpus;
            assert_eq!(participants_at_capacity(&report), expected, "{cpus}");
        }
        report.workers = (0..3).map(sample::worker).collect();
        assert_eq!(participants_at_capacity(&report), 300);
    }
}
