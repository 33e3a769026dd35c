//! What the worker costs: CPU time of its thread, memory of the process.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Ticks of `/proc/…/stat` are 1/100 s on every Linux that this runs on.
const MS_PER_TICK: u64 = 10;

/// Where the kernel tells about the worker's thread; known once that thread runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct ThreadClock(Arc<OnceLock<PathBuf>>);

impl ThreadClock {
    /// Takes the thread that calls it for the worker's.
    pub(crate) fn is_this_thread(&self) {
        // A link to `PID/task/TID`.
        if let Ok(link) = fs::read_link("/proc/thread-self") {
            let path = PathBuf::from("/proc").join(link).join("stat");
            // It is set once: a second worker would be another process.
            let _ = self.0.set(path);
        }
    }

    /// CPU time that the thread has used since it started; 0 if the kernel does not tell.
    pub(crate) fn cpu_ms(&self) -> u64 {
        let stat = self.0.get().and_then(|path| fs::read_to_string(path).ok());
        stat.and_then(|stat| ticks(&stat)).map_or(0, |ticks| ticks * MS_PER_TICK)
    }
}

/// Resident memory of this process in bytes; 0 if the kernel does not tell.
pub(crate) fn memory_bytes() -> u64 {
    fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_kib(&status)).map_or(0, |kib| kib * 1024)
}

/// User and system time together: fields 14 and 15. The name in field 2 may contain anything, also blanks and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut times = after_name.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_with_brackets() {
        let stat = "7 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 150 30 0 0 20 0 1 0 99";
        assert_eq!(ticks(stat), Some(180));
        assert_eq!(ticks("7 (a) R 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn a_thread_knows_its_own_clock() {
        let clock = ThreadClock::default();
        assert_eq!(clock.cpu_ms(), 0);
        clock.is_this_thread();
        assert!(clock.0.get().is_some_and(|path| path.exists()));
    }

    #[test]
    fn memory_is_what_the_kernel_says() {
        assert_eq!(resident_kib("VmHWM:\t9 kB\nVmRSS:\t  1234 kB\n"), Some(1234));
        assert!(memory_bytes() > 1024 * 1024);
    }
}
