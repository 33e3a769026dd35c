//! CPU time of a process, from /proc: steadier than rates on a noisy machine.

use std::fs;

use roost_tests::Trouble;

/// CPU time that all threads of the process have used, in microseconds.
pub(crate) fn used_us(pid: u32) -> Result<u64, Trouble> {
    let mut used_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // The first number of schedstat is nanoseconds on a CPU. A thread may end between the two reads.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            let first = text.split_whitespace().next().ok_or("an empty schedstat")?;
            used_ns += first.parse::<u64>()?;
        }
    }
    Ok(used_ns / 1_000)
}
