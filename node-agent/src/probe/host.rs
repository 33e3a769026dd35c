//! The machine's counters: CPU, memory, network, disk. Where a cgroup (version 2) limits CPU or memory, that cgroup
//! counts in place of the machine.

use std::fs;
use std::path::{Path, PathBuf};

use roost_agent_core::sample::HostSample;

/// The kernel's unit of CPU time in `/proc/stat`, the same on every Linux that we run on.
const TICK_US: u64 = 10_000;

/// Interfaces whose traffic is counted on another one as well, or leaves no machine.
const NOT_COUNTED: [&str; 7] = ["lo", "veth", "docker", "br-", "virbr", "ifb", "cni"];

/// Reads the counters. What cannot be read is 0: a node reports what it knows.
#[derive(Debug, Clone)]
pub(crate) struct HostProbe {
    proc: PathBuf,
    /// The process's own cgroup and those around it, innermost first; none without cgroup version 2.
    cgroups: Vec<PathBuf>,
    disk: PathBuf,
}

impl HostProbe {
    /// Of this process's machine.
    pub(crate) fn new() -> Self {
        Self::at(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
    }

    fn at(proc: &Path, cgroup: &Path) -> Self {
        let own = read(&proc.join("self/cgroup"));
        let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let has_v2 = cgroup.join("cgroup.controllers").exists();
        let own = cgroup.join(path);
        let around = own.ancestors().take_while(|folder| folder.starts_with(cgroup)).map(Path::to_owned);
        let cgroups = if has_v2 { around.collect() } else { Vec::new() };
        Self { proc: proc.to_owned(), cgroups, disk: PathBuf::from("/") }
    }

    /// The counters at this moment.
    pub(crate) fn sample(&self) -> HostSample {
        let (cpu_used_us, cpu_limit_permille) = self.cgroup_cpu().unwrap_or_else(|| self.machine_cpu());
        let (memory_used_bytes, memory_total_bytes) = self.memory();
        let (network_rx_bytes, network_tx_bytes) = network(&read(&self.proc.join("net/dev")));
        let (disk_used_bytes, disk_total_bytes) = disk(&self.disk);
        HostSample {
            cpu_used_us,
            cpu_limit_permille,
            memory_used_bytes,
            memory_total_bytes,
            network_rx_bytes,
            network_tx_bytes,
            disk_used_bytes,
            disk_total_bytes,
        }
    }

    /// Used time and limit of the innermost cgroup that has a limit; none if none has.
    fn cgroup_cpu(&self) -> Option<(u64, u64)> {
        self.cgroups.iter().find_map(|folder| {
            let limit = cpu_max(&read(&folder.join("cpu.max")))?;
            Some((keyed(&read(&folder.join("cpu.stat")), "usage_usec")?, limit))
        })
    }

    fn machine_cpu(&self) -> (u64, u64) {
        cpu_times(&read(&self.proc.join("stat")))
    }

    /// Used and total; the smallest limit of the machine and its cgroups is the total.
    fn memory(&self) -> (u64, u64) {
        let machine = machine_memory(&read(&self.proc.join("meminfo")));
        let limited = self.cgroups.iter().filter_map(|folder| {
            let total = read(&folder.join("memory.max")).trim().parse::<u64>().ok()?;
            let current = read(&folder.join("memory.current")).trim().parse::<u64>().ok()?;
            // What the kernel can drop at once is not in use.
            let cache = keyed(&read(&folder.join("memory.stat")), "inactive_file").unwrap_or(0);
            Some((current.saturating_sub(cache), total))
        });
        limited.chain([machine]).filter(|(_, total)| *total > 0).min_by_key(|(_, total)| *total).unwrap_or_default()
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// `quota period` in µs, or `max period`: the limit in thousandths of a CPU.
fn cpu_max(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    Some(quota.saturating_mul(1_000).checked_div(period)?.max(1))
}

/// The number behind a key, in a file with `key number` on each line.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Used µs of all CPUs together, and how many thousandths of a CPU there are.
fn cpu_times(stat: &str) -> (u64, u64) {
    let cpus = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    let total = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = total.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let used: u64 = ticks.iter().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).map(|(_, ticks)| ticks).sum();
    (used.saturating_mul(TICK_US), u64::try_from(cpus).unwrap_or(0) * 1_000)
}

fn machine_memory(meminfo: &str) -> (u64, u64) {
    let kilobytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let total = kilobytes("MemTotal:");
    (total.saturating_sub(kilobytes("MemAvailable:")).saturating_mul(1_024), total.saturating_mul(1_024))
}

/// Bytes received and sent.
fn network(dev: &str) -> (u64, u64) {
    let counted = dev.lines().filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let counts = !NOT_COUNTED.iter().any(|prefix| name.trim().starts_with(prefix));
        counts.then(|| Some((*counters.first()?, *counters.get(8)?))).flatten()
    });
    counted.fold((0, 0), |sum, (rx, tx)| (sum.0.saturating_add(rx), sum.1.saturating_add(tx)))
}

fn disk(path: &Path) -> (u64, u64) {
    let Ok(found) = rustix::fs::statvfs(path) else { return (0, 0) };
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    (bytes(found.f_blocks.saturating_sub(found.f_bfree)), bytes(found.f_blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_read() {
        let sample = HostProbe::new().sample();
        assert!(sample.cpu_limit_permille > 0 && sample.cpu_used_us > 0, "{sample:?}");
        assert!(sample.memory_total_bytes > sample.memory_used_bytes && sample.memory_used_bytes > 0, "{sample:?}");
        assert!(sample.disk_total_bytes >= sample.disk_used_bytes && sample.disk_total_bytes > 0, "{sample:?}");
    }

    #[test]
    fn the_innermost_limits_of_a_cgroup_count() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        write("proc/self/cgroup", "0::/kubepods/pod1\n");
        write("proc/meminfo", "MemTotal:       8000000 kB\nMemAvailable:   6000000 kB\n");
        write("proc/stat", "cpu  1 0 1 9 9 0 0 0 0 0\ncpu0 1 0 1 9 9 0 0 0 0 0\n");
        write("cgroup/cgroup.controllers", "cpu memory");
        write("cgroup/kubepods/pod1/cpu.max", "max 100000\n");
        write("cgroup/kubepods/cpu.max", "150000 100000\n");
        write("cgroup/kubepods/cpu.stat", "usage_usec 123456\nuser_usec 1\n");
        write("cgroup/kubepods/pod1/memory.max", "1000000\n");
        write("cgroup/kubepods/pod1/memory.current", "700000\n");
        write("cgroup/kubepods/pod1/memory.stat", "anon 1\ninactive_file 200000\n");
        let sample = HostProbe::at(&root.path().join("proc"), &root.path().join("cgroup")).sample();
        assert_eq!((sample.cpu_used_us, sample.cpu_limit_permille), (123_456, 1_500));
        assert_eq!((sample.memory_used_bytes, sample.memory_total_bytes), (500_000, 1_000_000));
    }

    #[test]
    fn without_limits_the_machine_counts() {
        assert_eq!(cpu_times("cpu  10 1 5 900 80 2 2 0 7 0\ncpu0 1\ncpu1 1\nintr 5\n"), (200_000, 2_000));
        assert_eq!(machine_memory("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable:   40 kB\n"), (61_440, 102_400));
        let dev = "Inter-| Receive\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0: 100 1 0 0 0 0 0 0 200 1\nveth1: 5 0 0 0 0 0 0 0 5 0\n";
        assert_eq!(network(dev), (100, 200));
    }

    #[test]
    fn what_cannot_be_read_is_zero() {
        assert_eq!((cpu_max("max 100000"), cpu_max("5 0"), cpu_max("")), (None, None, None));
        assert_eq!((cpu_times(""), machine_memory("x"), network("y: z")), ((0, 0), (0, 0), (0, 0)));
    }
}
