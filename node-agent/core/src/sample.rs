//! What the machine's counters mean: shares and rates from two samples, smoothed so that one busy second moves no room.

use roost_proto::report::Host;
use roost_proto::time::Millis;

/// Of the distance to the newest value a smoothed one goes so much in each step, in thousandths: about 63 % in 3 s at
/// one sample a second.
const SMOOTHING_PERMILLE: u64 = 283;

/// The machine's or cgroup's counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostSample {
    /// CPU time that was used, ever growing.
    pub cpu_used_us: u64,
    /// How much CPU may be used at once, in thousandths of a CPU.
    pub cpu_limit_permille: u64,
    pub memory_used_bytes: u64,
    pub memory_total_bytes: u64,
    /// Bytes received and sent, ever growing.
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
    pub disk_used_bytes: u64,
    pub disk_total_bytes: u64,
}

/// Makes rates of samples.
#[derive(Debug, Clone, Default)]
pub struct Sampler {
    last: Option<(Millis, HostSample)>,
    smoothed: Option<Rates>,
    host: Host,
}

#[derive(Debug, Clone, Copy)]
struct Rates {
    cpu_permille: u64,
    rx_bps: u64,
    tx_bps: u64,
}

impl Sampler {
    /// Takes a sample in, and gives what the next report says. The first sample has no rates: they are 0.
    pub fn fold(&mut self, sample: HostSample, now: Millis) -> Host {
        if let Some((at, last)) = self.last
            && now > at
        {
            let newest = rates(&last, &sample, now.since(at));
            self.smoothed = Some(self.smoothed.map_or(newest, |smoothed| smoothed.toward(&newest)));
        }
        self.last = Some((now, sample));
        let rates = self.smoothed.unwrap_or(Rates { cpu_permille: 0, rx_bps: 0, tx_bps: 0 });
        self.host = Host {
            cpu_permille: u32::try_from(rates.cpu_permille).unwrap_or(u32::MAX),
            cpus: u32::try_from(sample.cpu_limit_permille.div_ceil(1_000)).unwrap_or(u32::MAX),
            memory_used_bytes: sample.memory_used_bytes,
            memory_total_bytes: sample.memory_total_bytes,
            network_rx_bps: rates.rx_bps,
            network_tx_bps: rates.tx_bps,
            disk_used_bytes: sample.disk_used_bytes,
            disk_total_bytes: sample.disk_total_bytes,
        };
        self.host
    }

    /// What the last sample said.
    #[must_use]
    pub fn host(&self) -> Host {
        self.host
    }
}

impl Rates {
    fn toward(&self, newest: &Self) -> Self {
        Self {
            cpu_permille: step(self.cpu_permille, newest.cpu_permille),
            rx_bps: step(self.rx_bps, newest.rx_bps),
            tx_bps: step(self.tx_bps, newest.tx_bps),
        }
    }
}

/// A part of the way from `from` to `to`; at least one, so that it arrives.
fn step(from: u64, to: u64) -> u64 {
    let part = (u128::from(from.abs_diff(to)) * u128::from(SMOOTHING_PERMILLE)).div_ceil(1_000);
    let part = u64::try_from(part).unwrap_or(u64::MAX);
    if to >= from { from + part } else { from - part }
}

/// A counter that went back was started anew: nothing is known of the time between.
fn rates(last: &HostSample, sample: &HostSample, passed_ms: u64) -> Rates {
    let used_us = u128::from(sample.cpu_used_us.saturating_sub(last.cpu_used_us));
    let could_us = u128::from(passed_ms) * u128::from(sample.cpu_limit_permille.max(1));
    let per_second = |now: u64, before: u64| {
        u64::try_from(u128::from(now.saturating_sub(before)) * 8_000 / u128::from(passed_ms)).unwrap_or(u64::MAX)
    };
    Rates {
        cpu_permille: u64::try_from((used_us * 1_000 / could_us).min(1_000)).unwrap_or(1_000),
        rx_bps: per_second(sample.network_rx_bytes, last.network_rx_bytes),
        tx_bps: per_second(sample.network_tx_bytes, last.network_tx_bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_of_two_cpus_is_500_permille() {
        let mut sampler = Sampler::default();
        assert_eq!(sampler.fold(sample(0, 0), Millis(1_000)).cpu_permille, 0);
        let host = sampler.fold(sample(1_000_000, 125_000), Millis(2_000));
        assert_eq!((host.cpu_permille, host.cpus, host.network_rx_bps), (500, 2, 1_000_000));
    }

    #[test]
    fn one_busy_second_moves_the_share_only_in_part() {
        let mut sampler = Sampler::default();
        sampler.fold(sample(0, 0), Millis(0));
        sampler.fold(sample(0, 0), Millis(1_000));
        assert_eq!(sampler.fold(sample(2_000_000, 0), Millis(2_000)).cpu_permille, 283);
        for second in 3..60 {
            sampler.fold(sample((second - 1) * 2_000_000, 0), Millis(second * 1_000));
        }
        assert_eq!(sampler.host().cpu_permille, 1_000, "it arrives");
    }

    #[test]
    fn counters_that_went_back_and_clocks_that_stood_still_break_nothing() {
        let mut sampler = Sampler::default();
        sampler.fold(sample(5_000_000, 900), Millis(1_000));
        assert_eq!(sampler.fold(sample(6_000_000, 900), Millis(1_000)).cpu_permille, 0);
        assert_eq!(sampler.fold(sample(10, 10), Millis(2_000)).cpu_permille, 0);
    }

    proptest! {
        #[test]
        fn a_share_is_never_above_all(steps in proptest::collection::vec((any::<u64>(), 0u64..9_999, 0u64..64_000), 1..20)) {
            let mut sampler = Sampler::default();
            let mut now = 0;
            for (cpu_used_us, passed_ms, cpu_limit_permille) in steps {
                now += passed_ms;
                let sample = HostSample { cpu_used_us, cpu_limit_permille, network_tx_bytes: cpu_used_us, ..Default::default() };
                prop_assert!(sampler.fold(sample, Millis(now)).cpu_permille <= 1_000);
            }
        }
    }

    fn sample(cpu_used_us: u64, network_rx_bytes: u64) -> HostSample {
        HostSample { cpu_used_us, cpu_limit_permille: 2_000, network_rx_bytes, ..HostSample::default() }
    }
}
