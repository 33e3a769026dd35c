//! The table of what was seen, against what it should be.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use roost_tests::Trouble;

use crate::is_full;

/// How much slower a busy machine with debug builds may be.
const SHORT_FACTOR: u32 = 10;

/// One line of it.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    seen: Vec<String>,
    missed: Vec<String>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), seen: Vec::new(), missed: Vec::new() }
    }

    /// Something that is told without a goal.
    pub(crate) fn note(&mut self, seen: impl Into<String>) {
        self.seen.push(seen.into());
    }

    /// Must be none.
    pub(crate) fn none(&mut self, what: &str, seen: u64) {
        self.hold(format!("{seen} {what}"), seen == 0);
    }

    /// Must not take longer; in short it may take much longer, because others use the machine.
    pub(crate) fn within(&mut self, what: &str, goal: Duration, seen: Duration) {
        let limit = if is_full() { goal } else { goal * SHORT_FACTOR };
        self.hold(format!("{what} {:.2} s (≤ {} s)", seen.as_secs_f64(), goal.as_secs_f64()), seen <= limit);
    }

    /// Must be so.
    pub(crate) fn hold(&mut self, what: impl Into<String>, is_so: bool) {
        let what = what.into();
        if !is_so {
            self.missed.push(what.clone());
        }
        self.seen.push(what);
    }

    /// Shows the line, in the file `$ROOST_CHAOS_TABLE` too; an error if a goal was missed.
    pub(crate) fn end(self) -> Result<(), Trouble> {
        let verdict = if self.missed.is_empty() { "ok" } else { "NOT OK" };
        let line = format!("{verdict:<7} {:<58} {}", self.what, self.seen.join(", "));
        println!("{line}");
        if let Some(path) = std::env::var_os("ROOST_CHAOS_TABLE") {
            writeln!(File::options().create(true).append(true).open(path)?, "{line}")?;
        }
        if self.missed.is_empty() { Ok(()) } else { Err(format!("{}: {}", self.what, self.missed.join(", ")).into()) }
    }
}
