//! Whether figures are as good as a scenario's goals ask.

use serde::Serialize;

use crate::policies::PolicyName;
use crate::runner::Row;
use crate::scenario::{Goal, Hint, Scenario};

/// One goal under one set of circumstances.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    pub policy: PolicyName,
    pub schedulers: u16,
    pub hint: Hint,
    pub what: &'static str,
    /// The figure is not to be above it.
    pub goal: f64,
    /// None: nobody got a place, so there is nothing to be met.
    pub figure: Option<f64>,
    pub met: bool,
}

/// Holds the rows to the goals of those that were run, and the real core to breaking no rule at all.
#[must_use]
pub fn judge(scenario: &Scenario, rows: &[Row]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for row in rows {
        let of_row = |goal: &&Goal| goal.policy == row.policy && goal.hint == row.hint;
        for goal in scenario.goals.iter().filter(of_row) {
            verdicts.extend(limits(goal, row));
            let same = |other: &&Row| other.policy == row.policy && other.schedulers == row.schedulers;
            let other = rows.iter().filter(same).find(|other| Some(other.hint) == goal.no_worse_than);
            if let Some(other) = other {
                let goal = other.figures.max_mean.unwrap_or(0.0);
                verdicts.push(verdict(row, MAX_MEAN, goal, row.figures.max_mean));
                verdicts.push(verdict(row, OVER, percent(other.figures.over_capacity), over_capacity(row)));
            }
        }
        if row.policy.is_core() {
            verdicts.push(verdict(row, "violations", 0.0, Some(row.figures.violations.total() as f64)));
        }
    }
    verdicts
}

const MAX_MEAN: &str = "max/mean";
const OVER: &str = "over capacity %";

fn limits(goal: &Goal, row: &Row) -> impl Iterator<Item = Verdict> {
    let figures = &row.figures;
    let limits = [
        (MAX_MEAN, goal.max_mean, figures.max_mean.and_then(|max_mean| of_somebody(row, max_mean))),
        (OVER, goal.over_capacity_percent, over_capacity(row)),
        ("fullest node %", goal.max_share_percent, of_somebody(row, percent(figures.max_share))),
    ];
    limits.into_iter().filter_map(|(what, goal, figure)| Some(verdict(row, what, goal?, figure)))
}

fn verdict(row: &Row, what: &'static str, goal: f64, figure: Option<f64>) -> Verdict {
    let Row { policy, schedulers, hint, .. } = *row;
    Verdict { policy, schedulers, hint, what, goal, figure, met: figure.is_some_and(|figure| figure <= goal) }
}

fn over_capacity(row: &Row) -> Option<f64> {
    of_somebody(row, percent(row.figures.over_capacity))
}

/// Where nobody got in, figures say nothing of where they were put.
fn of_somebody(row: &Row, figure: f64) -> Option<f64> {
    (row.figures.admitted > 0).then_some(figure)
}

fn percent(share: f64) -> f64 {
    share * 100.0
}
