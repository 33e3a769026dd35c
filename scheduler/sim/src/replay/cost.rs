//! What a participant costs a node, and what its machine does besides, told apart by its reports.

use roost_proto::report::Host;
use roost_proto::time::Millis;

use crate::scenario::PerParticipant;

/// With fewer reports, or hardly more participants in one than in another, nothing can be told apart.
const LEAST_REPORTS: usize = 3;
const LEAST_VARIANCE: f64 = 4.0;

/// What a node reported of its use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    pub(super) at: Millis,
    pub(super) participants: u32,
    pub(super) streams: u32,
    pub(super) host: Host,
}

/// Fits what a participant costs to the reports of one node, and gives what is left of each report. A cost is never
/// negative, nor is what is left.
pub(super) fn fit(reports: &[Use]) -> (PerParticipant, Vec<(Millis, Host)>) {
    let of = |value: fn(&Use) -> f64| slope(reports.iter().map(|report| (report.participants.into(), value(report))));
    let cost = PerParticipant {
        cpu_permille: of(|report| report.host.cpu_permille.into()),
        memory_permille: of(|report| {
            report.host.memory_used_bytes as f64 * 1_000.0 / report.host.memory_total_bytes.max(1) as f64
        }),
        bps: of(|report| report.host.network_rx_bps.max(report.host.network_tx_bps) as f64),
        streams: of(|report| report.streams.into()),
    };
    let rest = |report: &Use| {
        let left =
            |value: u64, each: f64| (value as f64 - each * f64::from(report.participants)).max(0.0).round() as u64;
        let host = report.host;
        let each_byte = cost.memory_permille * host.memory_total_bytes as f64 / 1_000.0;
        let rest = Host {
            cpu_permille: left(host.cpu_permille.into(), cost.cpu_permille) as u32,
            memory_used_bytes: left(host.memory_used_bytes, each_byte),
            network_rx_bps: left(host.network_rx_bps, cost.bps),
            network_tx_bps: left(host.network_tx_bps, cost.bps),
            ..host
        };
        (report.at, rest)
    };
    (cost, reports.iter().map(rest).collect())
}

/// How much the value grows with each participant: least squares, 0 if that cannot be told.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count();
    let (x, y) = points.clone().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count.max(1) as f64, y / count.max(1) as f64);
    let (variance, covariance) = points.fold((0.0, 0.0), |(variance, covariance), point| {
        (variance + (point.0 - x) * (point.0 - x), covariance + (point.0 - x) * (point.1 - y))
    });
    if count < LEAST_REPORTS || variance / (count as f64) < LEAST_VARIANCE {
        0.0
    } else {
        (covariance / variance).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_with_participants_is_their_cost() {
        let steady = [(0.0, 40.0), (10.0, 60.0), (20.0, 80.0), (30.0, 100.0)];
        assert!((slope(steady.into_iter()) - 2.0).abs() < 1e-9);
        for unclear in [&[(5.0, 1.0), (5.0, 9.0), (5.0, 3.0)][..], &[(0.0, 0.0), (50.0, 9.0)], &[]] {
            assert_eq!(slope(unclear.iter().copied()), 0.0, "{unclear:?}");
        }
        let falling = [(0.0, 9.0), (10.0, 5.0), (20.0, 1.0)];
        assert_eq!(slope(falling.into_iter()), 0.0, "a participant is no gain");
    }
}
