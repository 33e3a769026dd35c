//! Real processes, real Redis: does it hold for real?
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "figures are shown with --nocapture")]

mod command_line;
mod configuration;
mod door;
mod failure;
mod ledger;
mod lookup;
mod metrics;
mod moves;
mod national;
mod race;
mod redirect;
mod second_scheduler;
mod skew;
mod steering;

/// Runs an async test body and shows what went wrong in words.
fn run(body: impl Future<Output = Result<(), roost_tests::Trouble>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Err(trouble) = runtime.block_on(body) {
        panic!("{trouble}");
    }
}
