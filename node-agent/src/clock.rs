//! The process's own clock: it only goes forward, and counts the time in which the machine was suspended.

use rustix::time::{ClockId, clock_gettime};

use roost_proto::time::Millis;

/// Milliseconds since the machine was started, suspend included. Deadlines of the lease are on this clock (rule 7):
/// one that stands still in suspend would let a node admit after its lease was given away.
pub(crate) fn now() -> Millis {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
    Millis(seconds.saturating_mul(1_000).saturating_add(millis))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Tells the test in the namespace what the clock showed outside of it.
    const SHOWN: &str = "ROOST_TEST_CLOCK_MS";

    #[test]
    fn it_goes_forward() {
        let before = now();
        assert!(before.0 > 0 && now() >= before);
    }

    /// In a time namespace whose clock that counts suspend is ahead, and no other one: as after a suspend.
    #[test]
    #[expect(clippy::print_stdout, reason = "says why it is skipped")]
    fn it_counts_the_time_in_which_the_machine_was_suspended() {
        const SUSPENDED_S: u64 = 1_000_000;
        if let Ok(shown) = std::env::var(SHOWN) {
            let shown: u64 = shown.parse().expect("a number");
            assert!(now() >= Millis(shown + SUSPENDED_S * 1_000));
            return;
        }
        let tried = ahead("0").arg("true").output().expect("unshare (util-linux) is installed");
        if !tried.status.success() && std::env::var_os("CI").is_none() {
            println!("skipped: no time namespace here: {}", String::from_utf8_lossy(&tried.stderr));
            return;
        }
        let mut inside = ahead(&SUSPENDED_S.to_string());
        inside.env(SHOWN, now().0.to_string()).arg(std::env::current_exe().expect("it runs"));
        inside.args(["--exact", "clock::tests::it_counts_the_time_in_which_the_machine_was_suspended"]);
        let output = inside.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs something in a time namespace, where the clock that counts suspend is so many seconds ahead.
    fn ahead(seconds: &str) -> Command {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--time", "--boottime", seconds]);
        command
    }
}
