//! Figures as text for people.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write as _};

use comfy_table::{CellAlignment, Table, presets};
use roost_proto::policy::Rung;

use crate::goals::Verdict;
use crate::runner::Row;
use crate::scenario::Scenario;
use crate::world::{Figures, NodeFigures};

/// Of more nodes than these only those that differ most are shown.
const MOST_NODES_SHOWN: usize = 20;

/// The figures of a scenario as a table, with the rungs that nodes were on and why participants were refused.
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
            format!("{:.2}", figures.max_mean),
            percent(figures.over_capacity, 2),
            percent(figures.max_share, 0),
            figures.placed.to_string(),
            figures.conflicts.to_string(),
            figures.violations.total().to_string(),
        ]);
    }
    let seeds = rows.first().map_or(0, |row| row.seeds);
    let mut text = format!("{} ({seeds} seeds)\n\n{}\n", scenario.title, table.trim_fmt());
    for row in rows.iter().filter(|row| row.figures.rungs.len() > 1 || !row.figures.refusals.is_empty()) {
        let figures = &row.figures;
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}, schedulers: {}, hints: {}", row.policy, row.schedulers, row.hint);
        let _ = write!(text, "{}", Shares { of: "placed on", counts: &figures.rungs, all: figures.placed });
        let _ = write!(text, "{}", Shares { of: "refused for", counts: &figures.refusals, all: figures.joins });
        if figures.violations.total() > 0 {
            let _ = write!(text, "; {:?}", figures.violations);
        }
    }
    text.push('\n');
    text
}

/// Goals with what was reached.
#[must_use]
pub fn verdicts(verdicts: &[Verdict]) -> String {
    let mut table = table(&["policy", "schedulers", "hints", "figure", "goal", "reached", ""]);
    for verdict in verdicts {
        table.add_row([
            verdict.policy.to_string(),
            verdict.schedulers.to_string(),
            verdict.hint.to_string(),
            verdict.what.to_owned(),
            format!("<= {:.2}", verdict.goal),
            format!("{:.2}", verdict.figure),
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
    row("max/mean", both(&|figures| format!("{:.2}", figures.max_mean)));
    row("over capacity", both(&|figures| percent(figures.over_capacity, 2)));
    row("fullest node", both(&|figures| percent(figures.max_share, 0)));
    row("participants", both(&|figures| figures.joins.to_string()));
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
    format!("{}\n", table.trim_fmt())
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

/// A table without lines, numbers to the right.
pub(crate) fn table(head: &[&str]) -> Table {
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

pub(crate) fn percent(share: f64, digits: usize) -> String {
    format!("{:.digits$} %", share * 100.0)
}

/// Counts as shares of all, the most frequent first.
struct Shares<'a, K> {
    of: &'static str,
    counts: &'a BTreeMap<K, u64>,
    all: u64,
}

impl<K: Display> Display for Shares<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.counts.is_empty() {
            return Ok(());
        }
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(**count));
        write!(f, "; {}", self.of)?;
        for (index, (what, count)) in counts.into_iter().enumerate() {
            let share = *count as f64 / self.all.max(1) as f64;
            write!(f, "{} {what} {}", if index > 0 { "," } else { "" }, percent(share, 1))?;
        }
        Ok(())
    }
}
