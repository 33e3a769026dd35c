//! `roost-scheduler`: decides where rooms live, and sends clients there.

mod app;
mod clock;
mod config;
mod decision_log;
mod error;
mod inbound;
mod metrics;
mod outbound;
mod record;
mod run;

use std::process::ExitCode;

use clap::Parser as _;

use crate::config::{Cli, Command};

fn main() -> ExitCode {
    let Command::Serve(flags) = Cli::parse().command;
    match run::serve(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            run::complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
