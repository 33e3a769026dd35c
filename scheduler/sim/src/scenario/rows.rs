//! Rooms that a CSV file lists: when each begins, how large it gets, and what callers say of that.

use std::collections::BTreeMap;
use std::path::Path;

use roost_server::ConfigError;

use super::{Hint, Scenario};
use crate::plan::MOST_VISITS;

/// The most rooms in a file.
const MOST_ROWS: usize = 5_000_000;
/// The largest room.
pub(super) const MOST_PARTICIPANTS: u32 = 100_000;

/// One room.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub at_ms: u64,
    pub size: u32,
    /// In the order of `Rows::percents`.
    pub hints: Vec<f64>,
}

/// The rooms of all seeds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// How far the hints of each column are off.
    percents: Vec<u16>,
    by_seed: BTreeMap<u64, Vec<Row>>,
}

impl Rows {
    /// The rooms of a seed.
    #[must_use]
    pub fn of(&self, seed: u64) -> &[Row] {
        self.by_seed.get(&seed).map_or(&[], Vec::as_slice)
    }

    /// From 0 on, of so many seeds there are rooms.
    #[must_use]
    pub fn seeds(&self) -> usize {
        (0..).take_while(|seed| self.by_seed.contains_key(seed)).count()
    }

    /// What callers say of the room's size.
    #[must_use]
    pub fn hint(&self, row: &Row, hint: Hint) -> Option<f64> {
        match hint {
            Hint::None => None,
            Hint::Off { percent: 0 } => Some(row.size.into()),
            Hint::Off { percent } => {
                let column = self.percents.iter().position(|column| *column == percent)?;
                row.hints.get(column).copied()
            }
        }
    }
}

/// Reads the file of the scenario's arrivals number `index`; it has all that the scenario asks for.
pub(super) fn read(path: &Path, scenario: &Scenario, index: usize) -> Result<Rows, ConfigError> {
    let refused = |place: String, message: String| ConfigError::Key {
        origin: path.display().to_string(),
        key: if place.is_empty() { format!("arrivals[{index}].csv") } else { place },
        message,
    };
    let mut reader = csv::Reader::from_path(path).map_err(|error| refused(String::new(), error.to_string()))?;
    let header = reader.headers().map_err(|error| refused("line 1".to_owned(), error.to_string()))?;
    let percents = columns(header).map_err(|message| refused("line 1".to_owned(), message))?;
    let mut rows = Rows { percents, by_seed: BTreeMap::new() };
    let mut sizes = BTreeMap::<u64, u64>::new();
    for (count, record) in reader.records().enumerate() {
        let line = |message: String| refused(format!("line {}", count + 2), message);
        let record = record.map_err(|error| line(error.to_string()))?;
        if count == MOST_ROWS {
            return Err(line(format!("expected {MOST_ROWS} rooms at most")));
        }
        let (seed, row) = row(&record).map_err(line)?;
        let all = sizes.entry(seed).or_default();
        *all += u64::from(row.size);
        if *all > MOST_VISITS {
            return Err(line(format!("size {}: expected {MOST_VISITS} participants at most of a seed", row.size)));
        }
        let rooms = rows.by_seed.entry(seed).or_default();
        if rooms.last().is_some_and(|before| before.at_ms > row.at_ms) {
            return Err(line(format!("at_ms {}: expected the rooms of a seed in order of time", row.at_ms)));
        }
        rooms.push(row);
    }
    complete(&rows, scenario).map_err(|message| refused(String::new(), message))?;
    Ok(rows)
}

fn columns(header: &csv::StringRecord) -> Result<Vec<u16>, String> {
    let mut names = header.iter();
    for expected in ["seed", "at_ms", "size"] {
        let found = names.next().unwrap_or_default();
        if found != expected {
            return Err(format!("column {found:?}: expected seed,at_ms,size and then hint_P for hints P % off"));
        }
    }
    let percent = |name: &str| {
        let percent = name.strip_prefix("hint_").and_then(|percent| percent.parse().ok());
        percent.ok_or_else(|| format!("column {name:?}: expected hint_ and how far its hints are off in percent"))
    };
    names.map(percent).collect()
}

fn row(record: &csv::StringRecord) -> Result<(u64, Row), String> {
    let number = |column: usize, name: &str, most: u64| {
        let text = record.get(column).unwrap_or_default();
        let number = text.parse().ok().filter(|number| *number <= most);
        number.ok_or_else(|| format!("{name} {text:?}: expected a whole number up to {most}"))
    };
    let seed = number(0, "seed", u64::MAX)?;
    let at_ms = number(1, "at_ms", 1_000 * 3_600 * 24 * 7)?;
    let size = number(2, "size", MOST_PARTICIPANTS.into())? as u32;
    if size == 0 {
        return Err("size 0: expected at least 1".to_owned());
    }
    let hint = |text: &str| {
        let hint = text.parse().ok().filter(|hint: &f64| hint.is_finite() && *hint >= 0.0);
        hint.ok_or_else(|| format!("hint {text:?}: expected a number of 0 or more"))
    };
    let hints = record.iter().skip(3).map(hint).collect::<Result<_, _>>()?;
    Ok((seed, Row { at_ms, size, hints }))
}

fn complete(rows: &Rows, scenario: &Scenario) -> Result<(), String> {
    if let Some(seed) = (0..u64::from(scenario.seeds)).find(|seed| rows.of(*seed).is_empty()) {
        return Err(format!("no rooms for seed {seed}: expected some for each of {} seeds", scenario.seeds));
    }
    let is_there = |hint: &Hint| match hint {
        Hint::None | Hint::Off { percent: 0 } => true,
        Hint::Off { percent } => rows.percents.contains(percent),
    };
    match scenario.hints.iter().find(|hint| !is_there(hint)) {
        Some(Hint::Off { percent }) => Err(format!("no column hint_{percent}: expected one for each of the hints")),
        _ => Ok(()),
    }
}
