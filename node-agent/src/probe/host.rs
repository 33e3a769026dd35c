//! The machine's counters: CPU, memory, network, disk. Where a cgroup limits CPU or memory, it counts in place of the
//! machine; of several on the way to the process the one with the tightest limit.

use std::path::{Path, PathBuf};

use roost_agent_core::sample::{Cpu, HostSample, Usage};

use super::cgroup::Cgroups;
use super::{network, read};

/// The kernel's unit of CPU time in `/proc/stat`, the same on every Linux that we run on.
const TICK_US: u64 = 10_000;

/// Reads the counters.
#[derive(Debug, Clone)]
pub(crate) struct HostProbe {
    /// Where the machine has its files; `/` but in tests.
    root: PathBuf,
    cgroups: Cgroups,
}

impl HostProbe {
    /// Of the machine whose files are below `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), cgroups: Cgroups::of(root) }
    }

    /// The counters at this moment.
    pub(crate) fn sample(&self) -> HostSample {
        HostSample {
            cpu: self.cpu(),
            memory: self.memory(),
            disk: disk(&self.root),
            network: network::traffic(&self.root),
        }
    }

    /// Where two limits are equally tight the outer one is nearer to its limit, so the machine comes first.
    fn cpu(&self) -> Option<Cpu> {
        let machine = machine_cpu(&read(&self.root.join("proc/stat")));
        machine.into_iter().chain(self.cgroups.cpu()).min_by_key(|cpu| cpu.limit_permille)
    }

    fn memory(&self) -> Option<Usage> {
        let machine = machine_memory(&read(&self.root.join("proc/meminfo")));
        machine.into_iter().chain(self.cgroups.memory()).min_by_key(|memory| memory.total_bytes)
    }
}

/// Used time of all CPUs together, and how many thousandths of a CPU there are.
fn machine_cpu(stat: &str) -> Option<Cpu> {
    let cpus = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    let total = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; guest time is in user already. What was stolen is not free either.
    let ticks = total.split_whitespace().take(8).map(|number| number.parse::<u64>().ok());
    let ticks = ticks.collect::<Option<Vec<_>>>().filter(|ticks| ticks.len() >= 4)?;
    let used = ticks.iter().enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).map(|(_, ticks)| *ticks);
    let used_us = used.fold(0, u64::saturating_add).saturating_mul(TICK_US);
    Some(Cpu { used_us, limit_permille: u64::try_from(cpus).ok()? * 1_000 }).filter(|cpu| cpu.limit_permille > 0)
}

/// All memory but what is available: the kernel counts as available what it can drop.
fn machine_memory(meminfo: &str) -> Option<Usage> {
    let bytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
    };
    let total_bytes = bytes("MemTotal")?;
    Some(Usage { used_bytes: total_bytes.checked_sub(bytes("MemAvailable")?)?, total_bytes })
}

fn disk(path: &Path) -> Option<Usage> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.checked_mul(found.f_frsize);
    Some(Usage { used_bytes: bytes(found.f_blocks.checked_sub(found.f_bfree)?)?, total_bytes: bytes(found.f_blocks)? })
}

#[cfg(test)]
mod tests {
    use super::super::Fixture;
    use super::*;

    /// Two CPUs: 700 ms used. 100 kB: 60 kB used.
    const STAT: &str = "cpu  10 1 5 900 80 2 2 50 7 0\ncpu0 1\ncpu1 1\nintr 5\n";
    const MEMINFO: &str = "MemTotal:         100 kB\nMemFree:    1 kB\nMemAvailable:   40 kB\n";

    #[test]
    fn this_machine_can_be_read() {
        let sample = HostProbe::new(Path::new("/")).sample();
        let (cpu, memory, disk) =
            (sample.cpu.expect("CPU"), sample.memory.expect("memory"), sample.disk.expect("disk"));
        assert!(cpu.limit_permille > 0 && cpu.used_us > 0, "{cpu:?}");
        assert!(memory.total_bytes > memory.used_bytes && memory.used_bytes > 0, "{memory:?}");
        assert!(disk.total_bytes >= disk.used_bytes && disk.total_bytes > 0, "{disk:?}");
        assert!(sample.network.is_some());
    }

    #[test]
    fn without_limits_the_machine_counts() {
        let fixture = Fixture::new(&[
            ("proc/stat", STAT),
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/app\n"),
            ("sys/fs/cgroup/cgroup.controllers", ""),
            ("sys/fs/cgroup/app/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/app/memory.max", "max\n"),
        ]);
        let sample = HostProbe::new(fixture.root()).sample();
        assert_eq!(sample.cpu, Some(Cpu { used_us: 700_000, limit_permille: 2_000 }));
        assert_eq!(sample.memory, Some(Usage { used_bytes: 61_440, total_bytes: 102_400 }));
    }

    #[test]
    fn the_tightest_limit_on_the_way_counts_and_one_that_the_machine_cannot_give_does_not() {
        let pod = |cpu_max: &str, memory_max: &str| {
            let fixture = Fixture::new(&[
                ("proc/stat", STAT),
                ("proc/meminfo", MEMINFO),
                ("proc/self/cgroup", "0::/pod/app\n"),
                ("sys/fs/cgroup/cgroup.controllers", ""),
                ("sys/fs/cgroup/pod/app/cpu.max", "100000 100000\n"),
                ("sys/fs/cgroup/pod/app/cpu.stat", "usage_usec 1\n"),
                ("sys/fs/cgroup/pod/app/memory.max", "100000\n"),
                ("sys/fs/cgroup/pod/app/memory.current", "2\n"),
                ("sys/fs/cgroup/pod/cpu.stat", "usage_usec 3\n"),
                ("sys/fs/cgroup/pod/memory.current", "4\n"),
            ]);
            fixture.write("sys/fs/cgroup/pod/cpu.max", cpu_max);
            fixture.write("sys/fs/cgroup/pod/memory.max", memory_max);
            let sample = HostProbe::new(fixture.root()).sample();
            (sample.cpu.expect("CPU").used_us, sample.memory.expect("memory").used_bytes)
        };
        assert_eq!(pod("max 100000", "max"), (1, 2), "only the inner one has limits");
        assert_eq!(pod("50000 100000", "50000"), (3, 4), "the outer one is tighter");
        assert_eq!(pod("100000 100000", "100000"), (3, 4), "equally tight: more counts in the outer one");
        assert_eq!(pod("150000 100000", "102000"), (1, 2), "the inner one is tighter");
        let huge = Fixture::new(&[
            ("proc/stat", STAT),
            ("proc/meminfo", MEMINFO),
            ("sys/fs/cgroup/cgroup.controllers", ""),
            ("sys/fs/cgroup/cpu.max", "400000 100000\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 1\n"),
            ("sys/fs/cgroup/memory.max", "1000000\n"),
            ("sys/fs/cgroup/memory.current", "1\n"),
        ]);
        let sample = HostProbe::new(huge.root()).sample();
        assert_eq!(
            (sample.cpu.map(|cpu| cpu.used_us), sample.memory.map(|m| m.used_bytes)),
            (Some(700_000), Some(61_440))
        );
    }

    #[test]
    fn what_is_broken_is_unknown_and_not_zero() {
        for stat in ["", "cpu  1 2", "cpu  1 2 3 x 5 6 7 8\ncpu0 1", "cpu  1 2 3 4 5 6 7 8\n", "cpu  -1 2 3 4\ncpu0 1"]
        {
            assert_eq!(machine_cpu(stat), None, "{stat}");
        }
        for meminfo in
            ["", "MemTotal: 5 kB\n", "MemTotal: 5 kB\nMemAvailable: 6 kB\n", "MemTotal: -5 kB\nMemAvailable: 1 kB"]
        {
            assert_eq!(machine_memory(meminfo), None, "{meminfo}");
        }
        let huge = format!("cpu  {0} {0} {0} {0}\ncpu0 1\n", u64::MAX);
        assert_eq!(machine_cpu(&huge).map(|cpu| cpu.used_us), Some(u64::MAX));
        let empty = Fixture::new(&[]);
        let sample = HostProbe::new(empty.root()).sample();
        assert_eq!((sample.cpu, sample.memory, sample.network), (None, None, None));
    }
}
