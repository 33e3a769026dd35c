//! Real processes are broken, and what is seen is held to a goal: `make chaos` at full length, `make test` in short.
#![expect(clippy::print_stdout, reason = "figures are shown with --nocapture")]

mod caller;
mod crowd;
mod cut_off;
mod elsewhere;
mod freeze;
mod kill_agent;
mod load;
mod race;
mod rolling;
mod store_emptied;
mod store_refuses;
mod store_silent;
mod table;

use std::time::Duration;

use tempfile::TempDir;

use roost_tests::Trouble;
use roost_tests::namespace::{Pair, enter};

/// A node's lease.
const LEASE: Duration = Duration::from_secs(4);
/// How long after the last answered renewal was sent a node admits.
const ADMITS: Duration = Duration::from_secs(3);

/// Whether everything has the length that the goals ask for.
fn is_full() -> bool {
    std::env::var("ROOST_CHAOS").is_ok_and(|value| value == "full")
}

/// The one in a full run, the other in short.
fn full_or<T>(full: T, short: T) -> T {
    if is_full() { full } else { short }
}

/// Runs a scenario on a thread at one end of a cable that can be cut: all that it starts is there. Where the machine does
/// not allow that it is skipped, but not in CI.
fn run_at_cable(body: impl AsyncFnOnce(&TempDir, &Pair) -> Result<(), Trouble> + Send + 'static) {
    let done = std::thread::spawn(|| -> Result<(), Trouble> {
        let folder = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let pair = match runtime.block_on(Pair::make(folder.path())) {
            Ok(pair) => pair,
            Err(trouble) if std::env::var_os("CI").is_none() => {
                println!("skipped: no network namespaces here: {trouble}");
                return Ok(());
            }
            Err(trouble) => return Err(trouble),
        };
        enter(&pair.namespaces()[0])?;
        runtime.block_on(body(&folder, &pair))
    });
    match done.join() {
        Ok(Ok(())) => {}
        Ok(Err(trouble)) => panic!("{trouble}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs a scenario and shows what went wrong in words.
fn run(body: impl Future<Output = Result<(), Trouble>>) {
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(body));
    if let Err(trouble) = done {
        panic!("{trouble}");
    }
}
