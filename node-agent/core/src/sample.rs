//! What the machine's counters mean: shares and rates from two samples, smoothed once and here, so that all schedulers
//! see the same numbers. They rise fast, because a full node must not look free, and fall slowly, because one quiet
//! second between two busy ones is no room for another meeting.

use std::collections::BTreeMap;

use roost_proto::report::{ALL_PERMILLE, Host, MOST_NETWORK_BPS};
use roost_proto::time::Millis;

/// In this time a rise has come 63 % (1 - 1/e) of its way: one sample, at one a second.
pub const RISE_MS: u64 = 1_000;
/// In this time a fall has come 63 % of its way: ten samples.
pub const FALL_MS: u64 = 10_000;
/// The kernel counts CPU time in steps of 10 ms: over less time than this a share is noise. The next sample covers it.
pub const SHORTEST_MS: u64 = 100;
/// After a longer pause (the machine was suspended, the process stopped, the store away) a rate says nothing of today.
const LONGEST_MS: u64 = 10_000;

const _: () = assert!(SHORTEST_MS < RISE_MS && RISE_MS < FALL_MS);

/// The counters of the machine, or of the cgroups that limit it, at one moment. None: it could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostSample {
    pub cpu: Option<Cpu>,
    pub memory: Option<Usage>,
    pub disk: Option<Usage>,
    /// By interface.
    pub network: Option<BTreeMap<String, Traffic>>,
}

/// CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Ever growing.
    pub used_us: u64,
    /// How much may be used at once, in thousandths of a CPU.
    pub limit_permille: u64,
}

/// What is used of something, and all there is of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub used_bytes: u64,
    pub total_bytes: u64,
}

/// What an interface has received and sent, ever growing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

/// What a sample measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Cpu,
    Memory,
    Network,
    Disk,
}

/// Makes of samples what a report says of its host.
#[derive(Debug, Clone, Default)]
pub struct Sampler {
    folded: Option<Millis>,
    last_cpu: Option<(Millis, Cpu)>,
    last_network: Option<(Millis, BTreeMap<String, Traffic>)>,
    cpu_permille: Smoothed,
    memory_used_bytes: Smoothed,
    rx_bps: Smoothed,
    tx_bps: Smoothed,
    host: Host,
}

/// A value that follows what is measured.
#[derive(Debug, Clone, Copy, Default)]
struct Smoothed(Option<f64>);

/// A sample that cannot be: nothing follows from it.
#[derive(Debug)]
struct Impossible;

impl Sampler {
    /// Takes a sample in, and gives the resources of which it said nothing that can be: for those, what was known before
    /// goes on to hold. Shares and rates need two samples; before that they are 0.
    pub fn fold(&mut self, sample: HostSample, now: Millis) -> Vec<Resource> {
        let passed_ms = self.folded.map_or(0, |folded| now.since(folded));
        if self.folded.is_some() && passed_ms < SHORTEST_MS {
            return Vec::new();
        }
        self.folded = Some(now);
        let folded = [
            (Resource::Cpu, self.fold_cpu(sample.cpu, now)),
            (Resource::Memory, self.fold_memory(sample.memory, passed_ms)),
            (Resource::Network, self.fold_network(sample.network, now)),
            (Resource::Disk, self.fold_disk(sample.disk)),
        ];
        folded.into_iter().filter(|(_, folded)| folded.is_err()).map(|(resource, _)| resource).collect()
    }

    /// What the samples so far say.
    #[must_use]
    pub fn host(&self) -> Host {
        self.host
    }

    fn fold_cpu(&mut self, cpu: Option<Cpu>, now: Millis) -> Result<(), Impossible> {
        if let Some((share, passed_ms)) = rate(&mut self.last_cpu, cpu, now, share)? {
            self.cpu_permille.follow(share, passed_ms);
            self.host.cpu_permille = u32::try_from(self.cpu_permille.value()).unwrap_or(ALL_PERMILLE);
        }
        if let Some(Cpu { limit_permille, .. }) = cpu {
            self.host.cpus = u32::try_from(limit_permille.div_ceil(1_000)).unwrap_or(u32::MAX);
        }
        Ok(())
    }

    fn fold_memory(&mut self, memory: Option<Usage>, passed_ms: u64) -> Result<(), Impossible> {
        let Usage { used_bytes, total_bytes } = possible(memory)?;
        self.memory_used_bytes.follow(used_bytes, passed_ms);
        // The limit may have been lowered since.
        self.host.memory_used_bytes = self.memory_used_bytes.value().min(total_bytes);
        self.host.memory_total_bytes = total_bytes;
        Ok(())
    }

    fn fold_network(&mut self, network: Option<BTreeMap<String, Traffic>>, now: Millis) -> Result<(), Impossible> {
        if let Some(((rx_bps, tx_bps), passed_ms)) = rate(&mut self.last_network, network, now, traffic)? {
            self.rx_bps.follow(rx_bps, passed_ms);
            self.tx_bps.follow(tx_bps, passed_ms);
            (self.host.network_rx_bps, self.host.network_tx_bps) = (self.rx_bps.value(), self.tx_bps.value());
        }
        Ok(())
    }

    fn fold_disk(&mut self, disk: Option<Usage>) -> Result<(), Impossible> {
        let Usage { used_bytes, total_bytes } = possible(disk)?;
        (self.host.disk_used_bytes, self.host.disk_total_bytes) = (used_bytes, total_bytes);
        Ok(())
    }
}

impl Smoothed {
    /// Goes toward `newest` as far as the time that has passed allows; the first one is taken as it is. However the time
    /// is cut into steps, the same follows.
    fn follow(&mut self, newest: u64, passed_ms: u64) {
        let newest = newest as f64;
        let before = self.0.unwrap_or(newest);
        let length_ms = if newest > before { RISE_MS } else { FALL_MS };
        let left = (-(passed_ms as f64) / length_ms as f64).exp();
        self.0 = Some(newest + (before - newest) * left);
    }

    fn value(self) -> u64 {
        self.0.map_or(0, |value| value.round() as u64)
    }
}

/// What follows from two samples of a counter, with the time between them. None while there is only one.
fn rate<C, R>(
    last: &mut Option<(Millis, C)>,
    newest: Option<C>,
    now: Millis,
    between: impl FnOnce(&C, &C, u64) -> Option<R>,
) -> Result<Option<(R, u64)>, Impossible> {
    let newest = newest.ok_or(Impossible)?;
    let known = match last.as_ref() {
        None => Ok(None),
        Some((at, _)) if now.since(*at) > LONGEST_MS => Err(Impossible),
        Some((at, before)) => {
            let passed_ms = now.since(*at).max(1);
            between(before, &newest, passed_ms).map(|rate| Some((rate, passed_ms))).ok_or(Impossible)
        }
    };
    *last = Some((now, newest));
    known
}

/// The share of the CPU that was used. Counters and clocks are not read at one instant, so a little too much is cut; one
/// that went back, or shows twice what there is, was not a measurement.
fn share(before: &Cpu, newest: &Cpu, passed_ms: u64) -> Option<u64> {
    let used_us = u128::from(newest.used_us.checked_sub(before.used_us)?);
    let could_us = u128::from(passed_ms) * u128::from(newest.limit_permille);
    let permille = (used_us * 1_000).checked_div(could_us)?;
    let all = u64::from(ALL_PERMILLE);
    u64::try_from(permille).ok().filter(|permille| *permille <= 2 * all).map(|permille| permille.min(all))
}

/// Bits per second in each way. An interface counts from its second sample on; if the counter of one went back, nothing
/// is known of all.
fn traffic(
    before: &BTreeMap<String, Traffic>,
    newest: &BTreeMap<String, Traffic>,
    passed_ms: u64,
) -> Option<(u64, u64)> {
    let (mut rx_bytes, mut tx_bytes) = (0u64, 0u64);
    for (name, newest) in newest {
        let Some(before) = before.get(name) else { continue };
        rx_bytes = rx_bytes.checked_add(newest.rx_bytes.checked_sub(before.rx_bytes)?)?;
        tx_bytes = tx_bytes.checked_add(newest.tx_bytes.checked_sub(before.tx_bytes)?)?;
    }
    let per_second = |bytes: u64| {
        let bps = u128::from(bytes) * 8_000 / u128::from(passed_ms);
        u64::try_from(bps).ok().filter(|bps| *bps <= MOST_NETWORK_BPS)
    };
    Some((per_second(rx_bytes)?, per_second(tx_bytes)?))
}

/// A limit may be passed for a moment, or be lowered below what is used: that is cut. Twice of it is no measurement.
fn possible(usage: Option<Usage>) -> Result<Usage, Impossible> {
    let Usage { used_bytes, total_bytes } = usage.ok_or(Impossible)?;
    if total_bytes == 0 || used_bytes / 2 > total_bytes {
        return Err(Impossible);
    }
    Ok(Usage { used_bytes: used_bytes.min(total_bytes), total_bytes })
}

#[cfg(test)]
mod tests;
