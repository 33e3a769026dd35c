//! `roost-scheduler`: decides where rooms live, and sends clients there.

mod app;
mod clock;
mod config;
mod decision_log;
mod error;
mod geo;
mod inbound;
mod ledger;
mod locate;
mod metrics;
mod outbound;
mod record;
mod replay;
mod run;
mod simulate;

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;

use crate::config::{Cli, Command};

/// A lookup allocates on one thread what others free; this allocator does that at half the price of the C library's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(flags) => run::serve(&flags),
        Command::Replay(flags) => replay::run(&flags),
        Command::Simulate(flags) => simulate::run(flags),
        Command::Locate(flags) => locate::print(&flags),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_output() => ExitCode::SUCCESS,
        Err(failure) => {
            run::complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
