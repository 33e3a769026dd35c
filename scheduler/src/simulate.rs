//! `roost-scheduler simulate`: what the placement would do in scenarios, without a cluster.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use roost_sim::goals::{Verdict, judge};
use roost_sim::policies::PolicyName;
use roost_sim::progress::Progress;
use roost_sim::runner::{Choice, Row, decisions_per_second, simulate};
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
    /// Of the core on one processor, in real time: differs from run to run. None if it decided nothing.
    decisions_per_second: Option<f64>,
}

/// Runs all scenarios. A goal that is missed is a failure.
pub(crate) fn run(flags: Flags) -> Result<(), Failure> {
    let loaded = flags.scenarios.iter().map(|path| scenario::load(path)).collect::<Result<Vec<_>, _>>()?;
    flags.plot.as_deref().map(make_folder).transpose()?;
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
            rows.iter().try_for_each(|row| picture::of_row(folder, loaded, row))?;
        }
        let goals = judge(&loaded.scenario, &rows);
        if !flags.json {
            let figures = table::figures(&loaded.scenario, &rows);
            write!(io::stdout(), "{figures}\n{}\n", table::verdicts(&goals)).map_err(Failure::Output)?;
        }
        let decisions_per_second = tell_pace(&rows);
        let (scenario, title) = (loaded.name.as_str(), loaded.scenario.title.as_str());
        outcomes.push(Outcome { scenario, title, rows, goals, decisions_per_second });
    }
    if flags.json {
        print_json(&outcomes)?;
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

/// The folder for pictures, before anything is run for them.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|source| Failure::Folder { path: folder.to_owned(), source })
}

/// Prints figures for programs.
pub(crate) fn print_json(figures: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(figures).expect("figures have string keys only");
    writeln!(io::stdout(), "{text}").map_err(Failure::Output)
}

/// On standard error, because it differs each time.
fn tell_pace(rows: &[Row]) -> Option<f64> {
    let decisions: u64 = rows.iter().map(|row| row.figures.decisions).sum();
    let pace = decisions_per_second(decisions, rows.iter().map(|row| row.deciding).sum())?;
    // Nobody listens on standard error: the figures are told all the same.
    let _ = writeln!(io::stderr(), "the core decided {decisions} times, {pace} times a second of one processor");
    Some(pace)
}
