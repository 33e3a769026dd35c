//! Figures as text for people.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use roost_proto::policy::Rung;

use crate::goals::Verdict;
use crate::runner::Row;
use crate::scenario::Scenario;
use crate::world::{Figures, NodeFigures};

/// Of more nodes than these only those that differ most are shown.
const MOST_NODES_SHOWN: usize = 20;
/// So many reasons for refusals are named in a table.
const REASONS_SHOWN: usize = 3;

/// What a recording cannot have.
const DOORS: &str = "\
    recorded, over capacity and refused count lookups: a trace has nobody whom a node's door turned away\n\
    replayed, they count the doors too";

/// The figures of a scenario as a table, with the rungs that nodes were on and why participants got no place.
#[must_use]
pub fn figures(scenario: &Scenario, rows: &[Row]) -> String {
    let mut table = table(&[
        "policy",
        "schedulers",
        "hints",
        "max/mean",
        "over cap.",
        "fullest",
        "placed",
        "conflicts",
        "violations",
    ]);
    for Row { policy, schedulers, hint, figures, .. } in rows {
        table.add_row([
            policy.to_string(),
            schedulers.to_string(),
            if policy.is_core() { hint.to_string() } else { "-".to_owned() },
            max_mean(figures),
            percent(figures.over_capacity, 2),
            percent(figures.max_share, 0),
            figures.placed.to_string(),
            figures.conflicts.to_string(),
            figures.violations.total().to_string(),
        ]);
    }
    let (seeds, repeats) = rows.first().map_or((0, 0), |row| (row.seeds, row.repeats));
    let runs = if repeats > 1 { format!("{seeds} seeds, {repeats} times each") } else { format!("{seeds} seeds") };
    let mut text = format!("{} ({runs})\n\n{}\n", scenario.title, table.trim_fmt());
    if rows.iter().any(|row| row.figures.rungs.len() > 1 || !row.figures.refusals.is_empty()) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}\n", fallbacks(rows).trim_fmt());
    }
    text
}

/// On which rung rooms were placed, as shares of the rooms; how many of the participants got no place, and for what, the most
/// frequent first ([`Figures::refused`]).
fn fallbacks(rows: &[Row]) -> Table {
    let head = ["policy", "schedulers", "hints"].into_iter().chain(Rung::ALL.map(Rung::as_str));
    let mut table = table(&head.chain(["refused", "mostly for"]).collect::<Vec<_>>());
    for Row { policy, schedulers, hint, figures, .. } in
        rows.iter().filter(|row| row.policy.is_core() || !row.figures.refusals.is_empty())
    {
        let share = |rung| figures.rungs.get(&rung).copied().unwrap_or(0) as f64 / figures.placed.max(1) as f64;
        let mut reasons: Vec<_> = figures.refused.iter().collect();
        reasons.sort_by_key(|(_, count)| Reverse(**count));
        let mostly: Vec<&str> = reasons.into_iter().take(REASONS_SHOWN).map(|(reason, _)| reason.as_str()).collect();
        let (hint, rungs) = match policy.is_core() {
            true => (hint.to_string(), Rung::ALL.map(|rung| percent(share(rung), 1))),
            false => ("-".to_owned(), Rung::ALL.map(|_| "-".to_owned())),
        };
        let who = [policy.to_string(), schedulers.to_string(), hint];
        let refused = percent(figures.refused_share(), 1);
        table.add_row(who.into_iter().chain(rungs).chain([refused, mostly.join(", ")]));
    }
    table
}

/// Goals with what was reached; empty where there is none.
#[must_use]
pub fn verdicts(verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return String::new();
    }
    let mut table = table(&["policy", "schedulers", "hints", "figure", "goal", "reached", ""]);
    for verdict in verdicts {
        table.add_row([
            verdict.policy.to_string(),
            verdict.schedulers.to_string(),
            verdict.hint.to_string(),
            verdict.what.to_owned(),
            format!("<= {:.3}", verdict.goal),
            verdict.figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.3}")),
            if verdict.met { "met".to_owned() } else { "MISSED".to_owned() },
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

/// What came of a trace's traffic when it was recorded, and what comes of it when it is replayed.
#[must_use]
pub fn comparison(recorded: &Figures, replayed: &Figures) -> String {
    let mut table = table(&["", "recorded", "replayed"]);
    let both = |show: &dyn Fn(&Figures) -> String| [show(recorded), show(replayed)];
    let mut row = |name: &str, [recorded, replayed]: [String; 2]| {
        table.add_row([name.to_owned(), recorded, replayed]);
    };
    row("max/mean", both(&max_mean));
    row("over capacity", both(&|figures| percent(figures.over_capacity, 2)));
    row("fullest node", both(&|figures| percent(figures.max_share, 0)));
    row("participants", both(&|figures| figures.joins.to_string()));
    row("got no place", both(&|figures| percent(figures.refused_share(), 1)));
    row("rooms placed", both(&|figures| figures.placed.to_string()));
    for rung in Rung::ALL {
        let share = |figures: &Figures| figures.rungs.get(&rung).copied().unwrap_or(0) as f64;
        if share(recorded) + share(replayed) > 0.0 {
            let of_placed = |figures: &Figures| percent(share(figures) / figures.placed.max(1) as f64, 1);
            row(&format!("  on {rung}"), both(&of_placed));
        }
    }
    let reasons: BTreeSet<&String> = recorded.refusals.keys().chain(replayed.refusals.keys()).collect();
    for reason in reasons {
        row(&format!("refused: {reason}"), both(&|f| f.refusals.get(reason).copied().unwrap_or(0).to_string()));
    }
    row("violations", ["-".to_owned(), replayed.violations.total().to_string()]);
    format!("{}\n\n{DOORS}\n", table.trim_fmt())
}

/// What each node got, recorded and replayed: all, or those that differ most.
#[must_use]
pub fn nodes(names: &[&str], recorded: &[NodeFigures], replayed: &[NodeFigures]) -> String {
    let mut table = table(&["node", "rooms recorded", "replayed", "most participants recorded", "replayed"]);
    let mut all: Vec<_> = names.iter().zip(recorded.iter().zip(replayed)).collect();
    all.sort_by_key(|(name, (recorded, replayed))| {
        let differ = if names.len() > MOST_NODES_SHOWN { recorded.most.abs_diff(replayed.most) } else { 0 };
        (Reverse(differ), **name)
    });
    for (name, (recorded, replayed)) in all.into_iter().take(MOST_NODES_SHOWN) {
        let counts = [recorded.placed, replayed.placed, recorded.most.into(), replayed.most.into()];
        table.add_row([(*name).to_owned()].into_iter().chain(counts.map(|count: u64| count.to_string())));
    }
    let rest = names.len().saturating_sub(MOST_NODES_SHOWN);
    let rest = if rest > 0 { format!("and {rest} nodes that differ less\n") } else { String::new() };
    format!("{}\n{rest}", table.trim_fmt())
}

fn max_mean(figures: &Figures) -> String {
    figures.max_mean.map_or_else(|| "-".to_owned(), |max_mean| format!("{max_mean:.2}"))
}

/// A table without lines, numbers to the right.
fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn percent(share: f64, digits: usize) -> String {
    format!("{:.digits$} %", share * 100.0)
}
