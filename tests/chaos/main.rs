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

use roost_tests::Trouble;

/// A node's lease.
const LEASE: Duration = Duration::from_secs(4);

/// Whether everything has the length that the goals ask for.
fn is_full() -> bool {
    std::env::var("ROOST_CHAOS").is_ok_and(|value| value == "full")
}

/// The one in a full run, the other in short.
fn full_or<T>(full: T, short: T) -> T {
    if is_full() { full } else { short }
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
