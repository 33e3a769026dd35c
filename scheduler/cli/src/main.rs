//! `roost`: the operator's command line, a client of the admin API and of nothing else. One file for each command.

mod admin;
mod explain;
mod rebalance;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reqwest::Url;

use crate::admin::{Admin, Failure};

const EXIT_CODES: &str = "Exit codes: 0 done; 1 the answer is no, such as a lookup that would be refused; \
2 wrong arguments; 3 the scheduler answered with an error; 4 no scheduler answered.";

/// Asks a scheduler, and shows what it says.
#[derive(Debug, Parser)]
#[command(name = "roost", version, after_help = EXIT_CODES)]
struct Cli {
    /// A scheduler's admin listener.
    #[arg(long, env = "ROOST_ADMIN", value_name = "URL", default_value = "http://127.0.0.1:7401", global = true)]
    admin: Url,
    /// Prints the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what a lookup would give, how nodes rank for the room and why others cannot take it; changes nothing.
    Explain(explain::Question),
    /// Proposes moves of living rooms off nodes whose load stands above the others', and makes them if told to.
    Rebalance(rebalance::Order),
}

/// What a command prints, and whether the answer is a yes.
#[derive(Debug)]
struct Answer {
    text: String,
    yes: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(Answer { text, yes }) => {
            // Whoever closes the pipe has read enough.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            ExitCode::from(u8::from(!yes))
        }
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "roost: {}", failure.told());
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(cli: Cli) -> Result<Answer, Failure> {
    let admin = Admin::new(cli.admin)?;
    match cli.command {
        Command::Explain(question) => question.ask(&admin, cli.json).await,
        Command::Rebalance(order) => order.give(&admin, cli.json).await,
    }
}
