//! What the machine is doing, for the report. What the media workers do, they say themselves.

mod cgroup;
pub(crate) mod host;
pub(crate) mod network;

use std::fs;
use std::path::Path;

/// The text of a file of the kernel's; empty where it cannot be read.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The one number that a file of the kernel's holds.
fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    read(path).trim().parse().ok()
}

/// The number behind a key, in a file with `key number` on each line.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A folder with a machine's files as a test wants them.
#[cfg(test)]
struct Fixture(tempfile::TempDir);

#[cfg(test)]
impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let fixture = Self(tempfile::tempdir().expect("a folder"));
        for (path, text) in files {
            fixture.write(path, text);
        }
        fixture
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn root(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roost_agent_core::sample::Sampler;
    use roost_proto::time::Millis;

    use super::*;

    const FILES: [&str; 14] = [
        "proc/stat",
        "proc/meminfo",
        "proc/net/dev",
        "proc/net/route",
        "proc/net/ipv6_route",
        "proc/self/cgroup",
        "sys/fs/cgroup/cpu.max",
        "sys/fs/cgroup/cpu.stat",
        "sys/fs/cgroup/cpuset.cpus.effective",
        "sys/fs/cgroup/memory.max",
        "sys/fs/cgroup/memory.current",
        "sys/fs/cgroup/memory.stat",
        "sys/class/net/eth0/device/x",
        "sys/class/net/eth0/speed",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn whatever_the_kernel_says_nothing_panics_and_what_is_reported_can_be(
            samples in proptest::collection::vec(proptest::collection::vec(text(), FILES.len()), 2..5),
            has_v2 in any::<bool>(),
        ) {
            let fixture = Fixture::new(if has_v2 { &[("sys/fs/cgroup/cgroup.controllers", "")] } else { &[] });
            let mut sampler = Sampler::default();
            for (second, texts) in (0..).zip(samples) {
                for (file, text) in FILES.iter().zip(texts) {
                    fixture.write(file, &text);
                }
                let _ = network::link_mbps(fixture.root());
                sampler.fold(host::HostProbe::new(fixture.root()).sample(), Millis(second * 1_000));
                let host = sampler.host();
                prop_assert!(host.cpu_permille <= 1_000 && host.memory_used_bytes <= host.memory_total_bytes, "{host:?}");
            }
        }
    }

    /// Words that the kernel writes, in an order that it does not.
    fn text() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            "(cpu|cpu0|MemTotal:|MemAvailable:|kB|max|usage_usec|inactive_file|eth0:|lo:|00000000|0::/|:)",
            "[ \n\t,/-]",
            "[0-9]{1,21}",
        ];
        proptest::collection::vec(word, 0..30).prop_map(|words| words.concat())
    }
}
