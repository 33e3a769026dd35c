//! Load per node over time as a picture (SVG): one thin line for each node, the fullest one and the mean stand out.

use std::iter::repeat_n;
use std::path::{Path, PathBuf};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use roost_proto::time::Millis;

use crate::plan::millis;
use crate::runner::Row;
use crate::scenario::{Hint, Loaded};
use crate::world::Sample;

const SIZE: (u32, u32) = (960, 540);
const NODE: RGBAColor = RGBAColor(70, 110, 160, 0.45);
const FULLEST: RGBColor = RGBColor(200, 40, 40);
const MEAN: RGBColor = RGBColor(20, 20, 20);
const CAPACITY: RGBColor = RGBColor(230, 140, 0);

/// What a picture shows.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    pub title: &'a str,
    /// Under the title.
    pub subtitle: &'a str,
    pub samples: &'a [Sample],
    /// Time 0 of the picture.
    pub from: Millis,
    /// How many participants each node takes; 0: no limit.
    pub capacities: &'a [u32],
}

/// What a picture measures nodes by.
#[derive(Debug, Clone, Copy)]
enum Scale {
    Participants {
        capacity: Option<u32>,
    },
    /// Of each node's own capacity.
    Percent,
}

/// The picture could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: expected a folder that can be written to: {reason}", path.display())]
pub struct PlotError {
    path: PathBuf,
    reason: String,
}

/// Writes the picture of a scenario's row, named after all that makes it.
pub fn of_row(folder: &Path, loaded: &Loaded, row: &Row) -> Result<(), PlotError> {
    let Row { policy, schedulers, hint, .. } = row;
    let (file, hints) = match hint {
        Hint::None => ("none".to_owned(), "no hints".to_owned()),
        Hint::Off { percent } => (percent.to_string(), format!("hints {percent} % off")),
    };
    let hints = if policy.is_core() { hints } else { "no hints".to_owned() };
    let plural = if *schedulers == 1 { "" } else { "s" };
    let groups = loaded.scenario.nodes.iter();
    let capacities = groups.flat_map(|group| repeat_n(group.capacity.participants, group.count as usize));
    let picture = Picture {
        title: &loaded.scenario.title,
        subtitle: &format!("{policy}, {schedulers} scheduler{plural}, {hints}, seed 0"),
        samples: &row.samples,
        from: millis(loaded.scenario.warm_up_s),
        capacities: &capacities.collect::<Vec<_>>(),
    };
    write(&folder.join(format!("{}-{policy}-{schedulers}-{file}.svg", loaded.name)), &picture)
}

/// Writes a picture.
pub fn write(path: &Path, picture: &Picture<'_>) -> Result<(), PlotError> {
    let failed = |reason: String| PlotError { path: path.to_owned(), reason };
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    draw(&root, picture).and_then(|()| root.present()).map_err(|error| failed(error.to_string()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Failed<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn draw<'a>(root: &Area<'a>, picture: &Picture<'_>) -> Result<(), Failed<'a>> {
    root.fill(&WHITE)?;
    let (title, body) = root.split_vertically(64);
    title.draw(&Text::new(picture.title, (20, 12), ("sans-serif", 20).into_font()))?;
    title.draw(&Text::new(picture.subtitle, (20, 38), ("sans-serif", 15).into_font().color(&BLACK.mix(0.7))))?;
    let seconds = |sample: &Sample| sample.at.since(picture.from) as f64 / 1_000.0;
    let scale = Scale::of(picture.capacities);
    let value = |sample: &Sample, node: usize| scale.value(sample.demand[node], picture.capacities.get(node));
    let nodes = picture.samples.first().map_or(0, |sample| sample.demand.len());
    let all = picture.samples.iter().flat_map(|sample| (0..nodes).map(|node| value(sample, node)));
    let top = all.fold(scale.capacity().unwrap_or(1.0), f64::max) * 1.08;
    let last = |node: &usize| picture.samples.last().map_or(0.0, |sample| value(sample, *node));
    let fullest = (0..nodes).max_by(|a, b| last(a).total_cmp(&last(b))).unwrap_or(0);
    let end = picture.samples.last().map_or(1.0, seconds).max(0.001);
    // Room at the right for the names of the lines.
    let mut chart = ChartBuilder::on(&body)
        .margin_right(150)
        .margin_bottom(8)
        .margin_left(8)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("time, seconds from the first arrival on")
        .y_desc(scale.name())
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 14))
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    let line = |value: &dyn Fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        picture.samples.iter().map(|sample| (seconds(sample), value(sample))).collect()
    };
    let of = |node: usize| move |sample: &Sample| value(sample, node);
    for node in (0..nodes).filter(|node| *node != fullest) {
        chart.draw_series(LineSeries::new(line(&of(node)), NODE))?;
    }
    let mean = line(&|sample| (0..nodes).map(|node| value(sample, node)).sum::<f64>() / nodes.max(1) as f64);
    let mut names = Vec::new();
    if nodes > 0 {
        let fullest = line(&of(fullest));
        names.extend(fullest.last().map(|(_, y)| (*y, "fullest node".to_owned(), FULLEST)));
        chart.draw_series(LineSeries::new(fullest, FULLEST.stroke_width(2)))?;
        names.extend(mean.last().map(|(_, y)| (*y, "mean".to_owned(), MEAN)));
        chart.draw_series(LineSeries::new(mean, MEAN.stroke_width(2)))?;
    }
    if let Some(level) = scale.capacity() {
        let unit = if matches!(scale, Scale::Percent) { " %" } else { "" };
        names.push((level, format!("capacity {level:.0}{unit}"), CAPACITY));
        chart.draw_series(DashedLineSeries::new([(0.0, level), (end, level)], 6, 4, CAPACITY.stroke_width(2)))?;
    }
    let place = |(y, text, color)| (chart.backend_coord(&(end, y)).1, text, color);
    let (right, _) = chart.backend_coord(&(end, 0.0));
    for (y, text, color) in apart(names.into_iter().map(place).collect()) {
        let style = TextStyle::from(("sans-serif", 14)).color(&color).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(text, (right + 8, y), style))?;
    }
    Ok(())
}

impl Scale {
    /// Nodes that take as many as each other are compared by participants, others by percent.
    fn of(capacities: &[u32]) -> Self {
        let first = capacities.first().copied().unwrap_or(0);
        match capacities.iter().all(|capacity| *capacity == first) {
            true => Self::Participants { capacity: Some(first).filter(|capacity| *capacity > 0) },
            false if capacities.contains(&0) => Self::Participants { capacity: None },
            false => Self::Percent,
        }
    }

    fn value(self, demand: u32, capacity: Option<&u32>) -> f64 {
        match (self, capacity) {
            (Self::Percent, Some(capacity)) => f64::from(demand) * 100.0 / f64::from(*capacity),
            _ => f64::from(demand),
        }
    }

    fn capacity(self) -> Option<f64> {
        match self {
            Self::Participants { capacity } => capacity.map(f64::from),
            Self::Percent => Some(100.0),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Participants { .. } => "participants on a node, with those turned away",
            Self::Percent => "percent of what a node takes, with those turned away",
        }
    }
}

/// Moves names that would lie on each other apart, downwards.
fn apart(mut names: Vec<(i32, String, RGBColor)>) -> Vec<(i32, String, RGBColor)> {
    const LINE: i32 = 18;
    names.sort_by_key(|(y, ..)| *y);
    for index in 1..names.len() {
        names[index].0 = names[index].0.max(names[index - 1].0 + LINE);
    }
    names
}
