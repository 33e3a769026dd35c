//! `roost-scheduler simulate`: what the placement would do in scenarios, without a cluster.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use roost_sim::goals::{Verdict, judge};
use roost_sim::policies::PolicyName;
use roost_sim::progress::Progress;
use roost_sim::runner::{Choice, Row, simulate};
use roost_sim::scenario::{self, Hint, Loaded};
use roost_sim::{picture, table};
use serde::Serialize;

use crate::error::Failure;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Scenario files.
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// How many seeds each is run with [default: as the scenario says, like all below].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    seeds: Option<u32>,
    /// How often each seed is run, with other delays and paces.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeats: Option<u32>,
    /// How many schedulers there are.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1_000))]
    schedulers: Vec<u16>,
    /// Who decides.
    #[arg(long, value_name = "POLICY", value_delimiter = ',')]
    policy: Vec<PolicyName>,
    /// How well callers know a room's size: none, or how far they are off, such as 30%.
    #[arg(long, value_name = "HINT", value_delimiter = ',')]
    hint: Vec<Hint>,
    /// Prints figures as JSON.
    #[arg(long)]
    json: bool,
    /// Draws the load of each node over time, of the first seed, as SVG files in this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// What a scenario came to.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    scenario: &'a str,
    title: &'a str,
    rows: Vec<Row>,
    goals: Vec<Verdict>,
}

/// Runs all scenarios. A goal that is missed is a failure.
pub(crate) fn run(flags: Flags) -> Result<(), Failure> {
    let loaded = flags.scenarios.iter().map(|path| scenario::load(path)).collect::<Result<Vec<_>, _>>()?;
    let choice = Choice {
        seeds: flags.seeds,
        repeats: flags.repeats,
        schedulers: flags.schedulers,
        policies: flags.policy,
        hints: flags.hint,
        keep_samples: flags.plot.is_some(),
    };
    let mut outcomes = Vec::new();
    for loaded in &loaded {
        check(loaded, &choice)?;
        let progress = Progress::new(&loaded.name, "runs");
        let rows = simulate(loaded, &choice, &|done, all| progress.show(done, all));
        drop(progress);
        if let Some(folder) = &flags.plot {
            draw(folder, loaded, &rows)?;
        }
        let goals = judge(&loaded.scenario, &rows);
        if !flags.json {
            write!(io::stdout(), "{}\n{}\n", table::figures(&loaded.scenario, &rows), table::verdicts(&goals))?;
        }
        tell_pace(&rows)?;
        outcomes.push(Outcome { scenario: &loaded.name, title: &loaded.scenario.title, rows, goals });
    }
    if flags.json {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&outcomes).map_err(io::Error::other)?)?;
    }
    let missed = outcomes.iter().flat_map(|outcome| &outcome.goals).filter(|goal| !goal.met).count();
    if missed == 0 { Ok(()) } else { Err(Failure::Missed { goals: missed }) }
}

/// Hints of which the scenario's file knows nothing would be no hints.
fn check(loaded: &Loaded, choice: &Choice) -> Result<(), Failure> {
    let is_known = |hint: &&Hint| {
        loaded.rows.iter().all(Option::is_none)
            || loaded.scenario.hints.contains(hint)
            || matches!(hint, Hint::None | Hint::Off { percent: 0 })
    };
    let wrong = |name: &str, value: String, expected: &str| {
        Err(roost_server::ConfigError::Key {
            origin: format!("--{name}"),
            key: loaded.name.clone(),
            message: format!("{value}: expected {expected}"),
        }
        .into())
    };
    if let Some(hint) = choice.hints.iter().find(|hint| !is_known(hint)) {
        return wrong("hint", hint.to_string(), "one of the scenario's, none or 0%");
    }
    let listed = loaded.rows.iter().flatten().map(|rows| rows.seeds()).min();
    match (choice.seeds, listed) {
        (Some(seeds), Some(listed)) if seeds as usize > listed => {
            wrong("seeds", seeds.to_string(), &format!("{listed} at most, as many as the scenario's file has"))
        }
        _ => Ok(()),
    }
}

fn draw(folder: &Path, loaded: &Loaded, rows: &[Row]) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    for row in rows {
        picture::of_row(folder, loaded, row)?;
    }
    Ok(())
}

/// On standard error, because it differs each time.
fn tell_pace(rows: &[Row]) -> Result<(), Failure> {
    let decisions: u64 = rows.iter().map(|row| row.figures.decisions).sum();
    let seconds: f64 = rows.iter().map(|row| row.deciding.as_secs_f64()).sum();
    if decisions > 0 {
        let pace = decisions as f64 / seconds.max(1e-9);
        writeln!(io::stderr(), "the core decided {decisions} times, {pace:.0} times a second of one processor")?;
    }
    Ok(())
}
