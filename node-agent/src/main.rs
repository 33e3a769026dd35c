//! `roost-agent`: stands beside a node's media workers, reports what they do, and holds the node's right to its rooms.

mod assembly;
mod clock;
mod config;
mod control;
mod door;
mod error;
mod inside;
mod leaving;
mod link;
mod listeners;
mod media;
mod metrics;
mod node;
mod probe;
mod report;
mod run;
mod signaling;
mod uplink;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use config::flags::{Command, CommandLine};

fn main() -> ExitCode {
    let Command::Serve(flags) = CommandLine::parse().command;
    match run::serve(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody listens on standard error: there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "roost-agent: {}", roost_server::telemetry::causes(&error));
            ExitCode::from(error.exit_code())
        }
    }
}
