//! `roost-scheduler replay`: yesterday's traffic once more, with another configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use roost_proto::id::NodeId;
use roost_server::config;
use roost_sim::picture::{self, Picture};
use roost_sim::progress::Progress;
use roost_sim::replay::{self, Namespaces, Outcome, Replay};
use roost_sim::runner::decisions_per_second;
use roost_sim::table;
use roost_sim::trace::{self, TraceError};
use roost_sim::world::NodeFigures;
use serde::Serialize;

use crate::config::Settings;
use crate::error::Failure;
use crate::simulate::{make_folder, print_json};

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// What `serve --record` wrote.
    trace: PathBuf,
    /// A configuration whose namespaces hold, instead of those of the recording.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many schedulers there are.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    schedulers: u16,
    /// Prints figures as JSON.
    #[arg(long)]
    json: bool,
    /// Draws the load of each node over time, recorded and replayed, as SVG files in this folder.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// Both outcomes, and what each node got.
#[derive(Debug, Serialize)]
struct Comparison<'a> {
    recorded: &'a Outcome,
    replayed: &'a Outcome,
    nodes: BTreeMap<&'a NodeId, NodeComparison>,
    /// Of the core on one processor, in real time: differs from run to run. None if it decided nothing.
    decisions_per_second: Option<f64>,
}

#[derive(Debug, Serialize)]
struct NodeComparison {
    recorded: NodeFigures,
    replayed: NodeFigures,
}

/// Replays a trace and prints what came of it, then and now.
pub(crate) fn run(flags: &Flags) -> Result<(), Failure> {
    let file = flags.trace.display().to_string();
    let unreadable = |source| TraceError::Unreadable { file: file.clone(), source };
    let trace = trace::read(BufReader::new(File::open(&flags.trace).map_err(unreadable)?), &file)?;
    flags.plot.as_deref().map(make_folder).transpose()?;
    let namespaces = flags.config.as_deref().map(namespaces).transpose()?;
    let replay = replay::read(&trace, namespaces)?;
    drop(trace);
    let progress = Progress::new(&file, "s");
    let replayed = &replay.run(flags.schedulers, |done, all| progress.show(done, all));
    drop(progress);
    let recorded = &replay.recorded;
    if let Some(folder) = &flags.plot {
        draw(folder, &file, &replay, replayed)?;
    }
    let names: Vec<&NodeId> = replay.plan.nodes.iter().map(|node| &node.id).collect();
    if flags.json {
        let pairs = recorded.nodes.iter().zip(&replayed.nodes);
        let nodes = names.into_iter().zip(pairs.map(|(a, b)| NodeComparison { recorded: *a, replayed: *b })).collect();
        let decisions_per_second = decisions_per_second(replayed.figures.decisions, replayed.deciding);
        print_json(&Comparison { recorded, replayed, nodes, decisions_per_second })?;
    } else {
        let names: Vec<&str> = names.into_iter().map(NodeId::as_str).collect();
        let figures = table::comparison(&recorded.figures, &replayed.figures);
        let nodes = table::nodes(&names, &recorded.nodes, &replayed.nodes);
        write!(io::stdout(), "{figures}\n{nodes}").map_err(Failure::Output)?;
    }
    Ok(())
}

/// What the file says of namespaces. Regions and carriers of clients are in the trace as they were found.
fn namespaces(path: &Path) -> Result<Namespaces, Failure> {
    let (settings, shared) = config::load::<_, Settings>(&BTreeMap::<String, String>::new(), "scheduler", Some(path))?;
    if !shared.regions.is_empty() || !shared.carriers.is_empty() {
        // Nobody listens on standard error: the figures are told all the same.
        let _ = writeln!(
            io::stderr(),
            "{}: regions and carriers have no effect: a trace has those of its clients as they were found",
            path.display()
        );
    }
    Ok(Namespaces { policies: shared.namespaces, known_only: !settings.allow_unknown_namespaces })
}

fn draw(folder: &Path, file: &str, replay: &Replay, replayed: &Outcome) -> Result<(), Failure> {
    let nodes = replay.plan.nodes.iter();
    let capacities: Vec<u32> = nodes.map(|node| node.description.capacity.participants).collect();
    for (name, subtitle, outcome) in
        [("recorded", "as it was recorded", &replay.recorded), ("replayed", "as it was replayed", replayed)]
    {
        let picture = Picture {
            title: file,
            subtitle,
            samples: &outcome.samples,
            from: replay.plan.warm_up,
            capacities: &capacities,
        };
        picture::write(&folder.join(format!("{name}.svg")), &picture)?;
    }
    Ok(())
}
