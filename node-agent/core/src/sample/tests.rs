//! Figures by hand, and what must hold of any samples.

use proptest::prelude::*;

use super::*;

/// Of two CPUs.
const LIMIT_PERMILLE: u64 = 2_000;

#[test]
fn half_of_two_cpus_is_500_permille() {
    let mut sampler = Sampler::default();
    assert_eq!(sampler.fold(sample(0, 10, 0), Millis(1_000)), []);
    assert_eq!((sampler.host().cpu_permille, sampler.host().memory_used_bytes), (0, 10));
    sampler.fold(sample(1_000_000, 10, 125_000), Millis(2_000));
    let host = sampler.host();
    assert_eq!((host.cpu_permille, host.cpus, host.network_rx_bps, host.network_tx_bps), (500, 2, 1_000_000, 0));
}

#[test]
fn a_rise_takes_one_sample_and_a_fall_takes_ten() {
    let (mut sampler, mut used_us, mut cpu, mut memory) = (Sampler::default(), 0, Vec::new(), Vec::new());
    // Five idle seconds, five busy ones, then idle again.
    for second in 0..31 {
        let is_busy = (5..10).contains(&second);
        sampler.fold(sample(used_us, if is_busy { 1_000 } else { 0 }, 0), Millis(second * 1_000));
        used_us += if is_busy { 2_000_000 } else { 0 };
        cpu.push(sampler.host().cpu_permille);
        memory.push(sampler.host().memory_used_bytes);
    }
    assert_eq!(cpu[4..11], [0, 0, 632, 865, 950, 982, 993]);
    assert_eq!((cpu[20], cpu[30]), (365, 134), "63 % of the way in ten seconds, and as much of the rest in ten more");
    assert_eq!((memory[5], memory[9], memory[19]), (632, 993, 365), "memory goes the same way");
}

#[test]
fn what_cannot_be_is_left_out_and_what_was_known_holds() {
    let mut sampler = Sampler::default();
    for second in 0..3 {
        sampler.fold(sample(second * 1_000_000, 500, second * 1_000), Millis(second * 1_000));
    }
    let known = sampler.host();
    assert_eq!((known.cpu_permille, known.memory_used_bytes, known.network_rx_bps), (500, 500, 8_000));
    use Resource::{Cpu, Disk, Memory, Network};
    let all = vec![Cpu, Memory, Network, Disk];
    assert_eq!(sampler.fold(HostSample::default(), Millis(3_000)), all, "nothing could be read");
    assert_eq!(sampler.fold(sample(1, 500, 1), Millis(4_000)), [Cpu, Network], "counters went back");
    assert_eq!(sampler.fold(sample(u64::MAX, u64::MAX, u64::MAX), Millis(5_000)), [Cpu, Memory, Network]);
    assert_eq!(sampler.host(), known);
    sampler.fold(sample(0, 500, 0), Millis(6_000));
    assert_eq!(sampler.fold(sample(0, 500, 0), Millis(6_000 + 3_600_000)), [Cpu, Network], "it was suspended");
    assert_eq!(sampler.host().cpu_permille, 500);
    assert_eq!(sampler.fold(sample(1_000_000, 500, 1_000), Millis(6_000 + 3_601_000)), []);
    assert_eq!(sampler.host(), known, "and goes on as before");
}

#[test]
fn a_clock_that_stands_still_breaks_nothing_and_short_steps_wait_for_the_next() {
    let mut sampler = Sampler::default();
    sampler.fold(sample(0, 0, 0), Millis(1_000));
    for now in [1_000, 900, 1_099] {
        assert_eq!(sampler.fold(sample(200_000, 0, 0), Millis(now)), [], "{now}");
        assert_eq!(sampler.host().cpu_permille, 0, "{now}");
    }
    sampler.fold(sample(200_000, 0, 0), Millis(1_200));
    assert_eq!(sampler.host().cpu_permille, 500);
}

#[test]
fn an_interface_counts_from_its_second_sample_and_one_that_goes_takes_nothing_along() {
    let mut sampler = Sampler::default();
    let at = |interfaces: &[(&str, u64)]| {
        let traffic = |bytes| Traffic { rx_bytes: bytes, tx_bytes: 0 };
        let network = interfaces.iter().map(|(name, bytes)| ((*name).to_owned(), traffic(*bytes))).collect();
        HostSample { network: Some(network), ..sample(0, 0, 0) }
    };
    sampler.fold(at(&[("eth0", 0)]), Millis(0));
    sampler.fold(at(&[("eth0", 1_000), ("eth1", 1 << 50)]), Millis(1_000));
    assert_eq!(sampler.host().network_rx_bps, 8_000);
    sampler.fold(at(&[("eth0", 2_000), ("eth1", 1 << 50)]), Millis(2_000));
    assert_eq!(sampler.fold(at(&[("eth1", 1_000 + (1 << 50))]), Millis(3_000)), []);
    assert_eq!(sampler.host().network_rx_bps, 8_000);
}

#[test]
fn a_limit_that_is_passed_or_lowered_is_cut() {
    let mut sampler = Sampler::default();
    let memory =
        |used_bytes, total_bytes| HostSample { memory: Some(Usage { used_bytes, total_bytes }), ..sample(0, 0, 0) };
    sampler.fold(memory(1_000, 4_000), Millis(0));
    assert_eq!(sampler.fold(memory(1_000, 700), Millis(1_000)), []);
    assert_eq!((sampler.host().memory_used_bytes, sampler.host().memory_total_bytes), (700, 700));
    assert_eq!(sampler.fold(memory(1_000, 0), Millis(2_000)), [Resource::Memory]);
}

proptest! {
    #[test]
    fn whatever_is_read_a_report_says_what_can_be(
        steps in proptest::collection::vec((wild(), wild(), wild(), wild(), 0u64..15_000), 1..30)
    ) {
        let mut sampler = Sampler::default();
        let mut now = 0;
        for (used, limit, total, bytes, passed_ms) in steps {
            now += passed_ms;
            let sample = HostSample {
                cpu: Some(Cpu { used_us: used, limit_permille: limit }),
                memory: Some(Usage { used_bytes: used, total_bytes: total }),
                disk: Some(Usage { used_bytes: bytes, total_bytes: total }),
                network: Some(BTreeMap::from([("eth0".to_owned(), Traffic { rx_bytes: bytes, tx_bytes: used })])),
            };
            sampler.fold(sample, Millis(now));
            let host = sampler.host();
            prop_assert!(host.cpu_permille <= ALL_PERMILLE && host.memory_used_bytes <= host.memory_total_bytes, "{host:?}");
            prop_assert!(host.network_rx_bps.max(host.network_tx_bps) <= MOST_NETWORK_BPS, "{host:?}");
            prop_assert!(host.disk_used_bytes <= host.disk_total_bytes, "{host:?}");
        }
    }

    #[test]
    fn a_value_stays_between_those_that_were_measured(
        steps in proptest::collection::vec((0u64..1 << 50, 100u64..5_000), 1..50)
    ) {
        let mut smoothed = Smoothed::default();
        let lowest = steps.iter().map(|(newest, _)| *newest).min().unwrap_or(0);
        let highest = steps.iter().map(|(newest, _)| *newest).max().unwrap_or(0);
        for (newest, passed_ms) in steps {
            let before = smoothed.0.map(|_| smoothed.value());
            smoothed.follow(newest, passed_ms);
            let between = before.unwrap_or(newest).min(newest)..=before.unwrap_or(newest).max(newest);
            prop_assert!(between.contains(&smoothed.value()), "{} of {:?}", smoothed.value(), between);
            prop_assert!((lowest..=highest).contains(&smoothed.value()));
        }
    }

    #[test]
    fn how_the_time_is_cut_changes_nothing(
        from in 0u64..1 << 40, to in 0u64..1 << 40, steps in proptest::collection::vec(100u64..3_000, 1..10)
    ) {
        let (mut whole, mut cut) = (Smoothed(Some(from as f64)), Smoothed(Some(from as f64)));
        whole.follow(to, steps.iter().sum());
        for passed_ms in steps {
            cut.follow(to, passed_ms);
        }
        prop_assert!(whole.value().abs_diff(cut.value()) <= 1, "{} {}", whole.value(), cut.value());
    }

    #[test]
    fn it_rises_faster_than_it_falls(low in 0u64..1 << 40, rise in 1_000u64..1 << 40, passed_ms in 100u64..60_000) {
        let high = low + rise;
        let (mut up, mut down) = (Smoothed(Some(low as f64)), Smoothed(Some(high as f64)));
        up.follow(high, passed_ms);
        down.follow(low, passed_ms);
        let (risen, fallen) = (up.value() - low, high - down.value());
        prop_assert!(risen >= fallen);
        prop_assert!(passed_ms < RISE_MS || risen * 100 >= rise * 63);
        prop_assert!(passed_ms > FALL_MS || fallen * 100 <= rise * 64);
    }
}

/// Numbers as they are, and as they are when something is broken.
fn wild() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..10_000, 0u64..1 << 40, any::<u64>(), Just(u64::MAX), Just(0)]
}

/// Of two CPUs, 1000 bytes of memory, and one interface.
fn sample(used_us: u64, memory: u64, rx_bytes: u64) -> HostSample {
    HostSample {
        cpu: Some(Cpu { used_us, limit_permille: LIMIT_PERMILLE }),
        memory: Some(Usage { used_bytes: memory, total_bytes: 1_000 }),
        disk: Some(Usage { used_bytes: 1, total_bytes: 2 }),
        network: Some(BTreeMap::from([("eth0".to_owned(), Traffic { rx_bytes, tx_bytes: 0 })])),
    }
}
