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

/// How many bands there are: tenths of the capacity, and one for all that is over it.
pub const BANDS: u8 = 11;

/// The band that a load lies in. Bands, not the load itself, are ranked, so that noise does not move rooms.
#[must_use]
pub fn band(worst_permille: u32) -> u8 {
    (worst_permille / 100).min(u32::from(BANDS - 1)) as u8
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
        assert_eq!(band(load.worst_permille), BANDS - 1);
    }

    #[test]
    fn bands_are_tenths() {
        for (permille, expected) in [(0, 0), (99, 0), (100, 1), (999, 9), (1_000, 10), (9_999, 10)] {
            assert_eq!(band(permille), expected, "{permille}");
        }
    }
}
