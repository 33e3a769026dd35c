//! What the cgroups around this process use and may use, in version 2 and in version 1.

use std::path::{Component, Path, PathBuf};

use roost_agent_core::sample::{Cpu, Usage};

use super::{keyed, number, read};

/// The process's own cgroup and those around it, outermost first, in each hierarchy that counts.
///
/// A folder that is not there says nothing: in a container the path may be the host's, of which only the container's own
/// part is mounted.
#[derive(Debug, Clone)]
pub(super) enum Cgroups {
    V2(Vec<PathBuf>),
    V1(V1),
}

/// Version 1 has a hierarchy for each controller.
#[derive(Debug, Clone, Default)]
pub(super) struct V1 {
    memory: Vec<PathBuf>,
    /// The folder with the quota, and the one of the same path with the time that was used.
    cpu: Vec<(PathBuf, PathBuf)>,
}

impl Cgroups {
    /// Those of the process whose machine has its files below `root`.
    pub(super) fn of(root: &Path) -> Self {
        let own = read(&root.join("proc/self/cgroup"));
        let mounted = root.join("sys/fs/cgroup");
        // A line is `number:controllers:path`; version 2 has the number 0 and no controllers.
        let mut lines = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        if mounted.join("cgroup.controllers").exists() {
            let path = lines.find(|(controllers, _)| controllers.is_empty()).map_or("", |(_, path)| path);
            return Self::V2(within(&mounted, path));
        }
        let mut found = V1::default();
        for (controllers, path) in lines {
            let has = |controller: &str| controllers.split(',').any(|name| name == controller);
            if has("memory") {
                found.memory = within(&mounted.join("memory"), path);
            }
            if has("cpu") {
                // Where both are one hierarchy, `cpuacct` is a link to it.
                let used = within(&mounted.join("cpuacct"), path);
                found.cpu = within(&mounted.join("cpu"), path).into_iter().zip(used).collect();
            }
        }
        Self::V1(found)
    }

    /// CPU of those that are limited, by a quota or to certain CPUs.
    pub(super) fn cpu(&self) -> Vec<Cpu> {
        match self {
            Self::V2(folders) => folders.iter().filter_map(|folder| cpu_v2(folder)).collect(),
            Self::V1(v1) => v1.cpu.iter().filter_map(|(quota, used)| cpu_v1(quota, used)).collect(),
        }
    }

    /// Memory of those that are limited.
    pub(super) fn memory(&self) -> Vec<Usage> {
        match self {
            Self::V2(folders) => folders.iter().filter_map(|folder| memory_v2(folder)).collect(),
            Self::V1(v1) => v1.memory.iter().filter_map(|folder| memory_v1(folder)).collect(),
        }
    }
}

/// The folders from `mounted` to the one at `path` below it.
fn within(mounted: &Path, path: &str) -> Vec<PathBuf> {
    let path = Path::new(path);
    // A process outside of its cgroup namespace has a path that leads out of what is mounted.
    let is_inside = !path.components().any(|part| part == Component::ParentDir);
    let path = if is_inside { path.strip_prefix("/").unwrap_or(path) } else { Path::new("") };
    let own = mounted.join(path);
    let mut folders: Vec<_> =
        own.ancestors().take_while(|folder| folder.starts_with(mounted)).map(Path::to_owned).collect();
    folders.reverse();
    folders
}

fn cpu_v2(folder: &Path) -> Option<Cpu> {
    let cpus = cpus(&read(&folder.join("cpuset.cpus.effective")));
    let limits = [quota(&read(&folder.join("cpu.max"))), cpus];
    let limit_permille = limits.into_iter().flatten().min()?;
    Some(Cpu { used_us: keyed(&read(&folder.join("cpu.stat")), "usage_usec")?, limit_permille })
}

fn cpu_v1(quota: &Path, used: &Path) -> Option<Cpu> {
    let quota_us = number::<u64>(&quota.join("cpu.cfs_quota_us"))?;
    let limit_permille = permille(quota_us, number(&quota.join("cpu.cfs_period_us"))?)?;
    Some(Cpu { used_us: number::<u64>(&used.join("cpuacct.usage"))? / 1_000, limit_permille })
}

/// `quota period` in µs, or `max period`.
fn quota(text: &str) -> Option<u64> {
    let (quota_us, period_us) = text.trim().split_once(' ')?;
    permille(quota_us.parse().ok()?, period_us.parse().ok()?)
}

fn permille(quota_us: u64, period_us: u64) -> Option<u64> {
    Some(quota_us.saturating_mul(1_000).checked_div(period_us)?.max(1))
}

/// How many thousandths of a CPU a list like `0-3,8` is.
fn cpus(list: &str) -> Option<u64> {
    let mut count = 0u64;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        count += u64::from(last.checked_sub(first)?) + 1;
    }
    Some(count * 1_000)
}

fn memory_v2(folder: &Path) -> Option<Usage> {
    // Above `memory.high` everything in the cgroup is slowed down: that is a limit too.
    let limits = [number(&folder.join("memory.max")), number(&folder.join("memory.high"))];
    let total_bytes = limits.into_iter().flatten().min()?;
    let stat = read(&folder.join("memory.stat"));
    Some(Usage {
        used_bytes: working_set(number(&folder.join("memory.current"))?, &stat, "inactive_file"),
        total_bytes,
    })
}

fn memory_v1(folder: &Path) -> Option<Usage> {
    // One without a limit has a number larger than any machine's memory: then the machine's is the tighter one.
    let total_bytes = number(&folder.join("memory.limit_in_bytes"))?;
    let stat = read(&folder.join("memory.stat"));
    let charged = number(&folder.join("memory.usage_in_bytes"))?;
    Some(Usage { used_bytes: working_set(charged, &stat, "total_inactive_file"), total_bytes })
}

/// What the kernel can drop at once is not in use.
fn working_set(charged_bytes: u64, stat: &str, cache: &str) -> u64 {
    charged_bytes.saturating_sub(keyed(stat, cache).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::Fixture;
    use super::*;

    #[test]
    fn version_2_gives_each_cgroup_on_the_way_that_has_a_limit() {
        let fixture = Fixture::new(&[
            ("proc/self/cgroup", "0::/kubepods/pod1/app\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory"),
            ("sys/fs/cgroup/cpuset.cpus.effective", "0-7\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 999\n"),
            ("sys/fs/cgroup/kubepods/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/kubepods/cpu.stat", "usage_usec 123456\nuser_usec 1\n"),
            ("sys/fs/cgroup/kubepods/memory.max", "max\n"),
            ("sys/fs/cgroup/kubepods/memory.current", "900000\n"),
            ("sys/fs/cgroup/kubepods/pod1/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/kubepods/pod1/cpu.stat", "usage_usec 7\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.max", "1000000\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.high", "800000\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.current", "700000\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.stat", "anon 1\ninactive_file 200000\n"),
            ("sys/fs/cgroup/kubepods/pod1/app/cpuset.cpus.effective", "1,3-4\n"),
            ("sys/fs/cgroup/kubepods/pod1/app/cpu.stat", "usage_usec 5\n"),
        ]);
        let cgroups = Cgroups::of(fixture.root());
        assert_eq!(cgroups.cpu(), [cpu(999, 8_000), cpu(123_456, 1_500), cpu(5, 3_000)]);
        assert_eq!(cgroups.memory(), [Usage { used_bytes: 500_000, total_bytes: 800_000 }]);
    }

    #[test]
    fn version_1_has_a_path_for_each_controller() {
        let fixture = Fixture::new(&[
            ("proc/self/cgroup", "4:memory:/docker/abc\n2:cpuacct:/\n1:cpu:/docker/abc\n0::/\n"),
            ("sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/docker/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpuacct/docker/abc/cpuacct.usage", "7000999\n"),
            ("sys/fs/cgroup/cpuacct/docker/cpuacct.usage", "9\n"),
            ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "900\n"),
            ("sys/fs/cgroup/memory/docker/abc/memory.stat", "inactive_file 1\ntotal_inactive_file 400\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "5000\n"),
        ]);
        let cgroups = Cgroups::of(fixture.root());
        assert_eq!(cgroups.cpu(), [cpu(7_000, 500)]);
        let unlimited = Usage { used_bytes: 5_000, total_bytes: 9_223_372_036_854_771_712 };
        assert_eq!(cgroups.memory(), [unlimited, Usage { used_bytes: 500, total_bytes: 1_000 }]);
    }

    #[test]
    fn in_a_container_that_sees_the_hosts_path_its_own_files_are_at_the_top() {
        for own in ["0::/docker/abc\n", "0::/../../abc\n", ""] {
            let fixture = Fixture::new(&[
                ("proc/self/cgroup", own),
                ("sys/fs/cgroup/cgroup.controllers", ""),
                ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
                ("sys/fs/cgroup/cpu.stat", "usage_usec 3\n"),
                ("sys/abc/cpu.max", "1 100000\n"),
                ("sys/abc/cpu.stat", "usage_usec 1\n"),
            ]);
            assert_eq!(Cgroups::of(fixture.root()).cpu(), [cpu(3, 500)], "{own}");
        }
    }

    #[test]
    fn what_is_broken_is_no_limit() {
        for text in ["max 100000", "5 0", "", "-1 100000", "5"] {
            assert_eq!(quota(text), None, "{text}");
        }
        for list in ["", "a", "3-1", "0-", "0,,1"] {
            assert_eq!(cpus(list), None, "{list}");
        }
        let fixture = Fixture::new(&[
            ("sys/fs/cgroup/cgroup.controllers", ""),
            ("sys/fs/cgroup/memory.max", "garbage"),
            ("sys/fs/cgroup/memory.current", "1"),
        ]);
        assert_eq!(Cgroups::of(fixture.root()).memory(), []);
    }

    fn cpu(used_us: u64, limit_permille: u64) -> Cpu {
        Cpu { used_us, limit_permille }
    }
}
