//! A scenario: nodes, clients and arrivals as a TOML file says them, and the goals that its figures are held to.

mod check;
mod rows;

use std::path::{Path, PathBuf};

use roost_proto::id::{Carrier, NamespaceId, Region};
use roost_proto::report::{Capacity, Mode};
use roost_server::{ConfigError, Shared, config};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policies::PolicyName;
pub use rows::{Row, Rows};

/// A scenario file without the shared tables. Times are in seconds of simulated time, from the first possible arrival on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    pub title: String,
    pub duration_s: f64,
    /// How long nodes report before anybody arrives: at least a grace.
    pub warm_up_s: f64,
    /// From here on load is looked at each `sample_every_s`; absent: at the end only.
    pub measure_from_s: Option<f64>,
    pub sample_every_s: f64,
    /// Run with each of these numbers of schedulers.
    pub schedulers: Vec<u16>,
    /// Run with the seeds 0 to this one, exclusive.
    pub seeds: u32,
    /// How often with each seed: the same rooms, with other delays, paces and schedulers asked, so that figures do not
    /// hang on a coin.
    pub repeats: u32,
    pub policies: Vec<PolicyName>,
    pub hints: Vec<Hint>,
    pub delays: Delays,
    pub nodes: Vec<NodeGroup>,
    pub clients: Vec<ClientGroup>,
    pub arrivals: Vec<Arrivals>,
    pub goals: Vec<Goal>,
    pub jicofo: Jicofo,
}

/// How well callers know how large a room gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Hint {
    /// They say nothing.
    #[default]
    None,
    /// They say size × e^(p/100 · g), with a normal g; 0: the size.
    Off { percent: u16 },
}

/// How long messages take, as the least and the most, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Delays {
    /// From the store to each scheduler that watches it.
    pub events_ms: [u64; 2],
    /// From a scheduler or node to the store, or back.
    pub store_ms: [u64; 2],
    /// From a lookup's answer to the node's door.
    pub client_ms: [u64; 2],
}

/// Nodes that are alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeGroup {
    /// `{}` stands for the node's number in the group, from 1.
    pub id: String,
    #[serde(default = "one")]
    pub count: u32,
    pub region: Region,
    #[serde(default)]
    pub carriers: Vec<Carrier>,
    #[serde(default)]
    pub namespaces: Vec<NamespaceId>,
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub mode: Mode,
    #[serde(default)]
    pub mode_changes: Vec<ModeChange>,
    pub capacity: Limits,
    #[serde(default)]
    pub initial_rooms: u32,
    #[serde(default)]
    pub initial_participants: u32,
    /// What a node says of its load is renewed this often, each node at its own pace between the two.
    #[serde(default = "each_second")]
    pub report_every_ms: [u64; 2],
    #[serde(default)]
    pub per_participant: PerParticipant,
    /// What the nodes say of their load never changes.
    #[serde(default)]
    pub frozen_load: bool,
}

/// A node's mode from a time on.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeChange {
    pub at_s: f64,
    pub mode: Mode,
}

/// The most a node takes; 0: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub participants: u32,
    pub rooms: u32,
    pub streams: u32,
    pub bandwidth_bps: u64,
    pub cpu_permille: u32,
    pub memory_permille: u32,
}

/// What one participant costs its node.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PerParticipant {
    pub cpu_permille: f64,
    pub memory_permille: f64,
    pub bps: f64,
    pub streams: f64,
}

/// Clients that are alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientGroup {
    /// How many they are, compared with the other groups.
    pub share: f64,
    pub namespace: NamespaceId,
    pub region: Option<Region>,
    pub carrier: Option<Carrier>,
}

/// Rooms that begin, and their participants. A room's first participant comes with it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Arrivals {
    /// Rooms by seed, from a file beside the scenario with the columns `seed,at_ms,size,hint_P…`.
    pub csv: Option<PathBuf>,
    /// So many rooms in all, at random times.
    pub rooms: Option<u32>,
    /// So many rooms a second, on average.
    pub rooms_per_s: Option<f64>,
    pub from_s: f64,
    /// Rooms begin for so long; absent: to the end.
    pub over_s: Option<f64>,
    pub size: Size,
    /// The other participants come uniformly in this time.
    pub fill_s: f64,
    /// How long a participant stays, on average (exponential); absent: to the end.
    pub stay_s: Option<f64>,
}

/// How many participants a room gets in all: lognormal, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Size {
    pub mean: f64,
    pub sigma2: f64,
}

/// What a policy's figures must not be worse than.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    #[serde(default)]
    pub policy: PolicyName,
    #[serde(default)]
    pub hint: Hint,
    pub max_mean: Option<f64>,
    pub over_capacity_percent: Option<f64>,
    /// The most that any node gets, as a share of its capacity.
    pub max_share_percent: Option<f64>,
    /// Neither figure is worse than with these hints.
    pub no_worse_than: Option<Hint>,
}

/// What the policy `jicofo-corrected` counts.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jicofo {
    /// Stress for each participant that was sent to a node lately, in thousandths.
    pub stress_permille: f64,
    /// How long that is.
    pub within_s: f64,
}

/// A scenario with all that its file names.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The file's name without its ending.
    pub name: String,
    pub scenario: Scenario,
    pub shared: Shared,
    /// What the arrivals' files hold, in the order of the arrivals.
    pub rows: Vec<Option<Rows>>,
}

/// Reads and checks a scenario.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let (scenario, shared) = config::load_beside::<Scenario>(path)?;
    check::check(&scenario, &shared).map_err(|wrong| wrong.located(&(), Some(path)))?;
    let mut all = Vec::new();
    for (index, arrivals) in scenario.arrivals.iter().enumerate() {
        let read = |csv: &PathBuf| rows::read(&path.with_file_name(csv), &scenario, index);
        all.push(arrivals.csv.as_ref().map(read).transpose()?);
    }
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Loaded { name, scenario, shared, rows: all })
}

fn one() -> u32 {
    1
}

fn each_second() -> [u64; 2] {
    [1_000, 1_000]
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            title: String::new(),
            duration_s: 0.0,
            warm_up_s: 10.0,
            measure_from_s: None,
            sample_every_s: 1.0,
            schedulers: vec![1],
            seeds: 30,
            repeats: 1,
            policies: vec![PolicyName::Roost],
            hints: vec![Hint::None],
            delays: Delays::default(),
            nodes: Vec::new(),
            clients: vec![ClientGroup::default()],
            arrivals: Vec::new(),
            goals: Vec::new(),
            jicofo: Jicofo::default(),
        }
    }
}

impl Default for Delays {
    fn default() -> Self {
        Self { events_ms: [5, 20], store_ms: [1, 1], client_ms: [10, 50] }
    }
}

impl Default for ClientGroup {
    fn default() -> Self {
        let namespace = NamespaceId::new(roost_proto::redirect::DEFAULT_NAMESPACE).expect("it is a label");
        Self { share: 1.0, namespace, region: None, carrier: None }
    }
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            csv: None,
            rooms: None,
            rooms_per_s: None,
            from_s: 0.0,
            over_s: None,
            size: Size::default(),
            fill_s: 120.0,
            stay_s: None,
        }
    }
}

impl Default for Size {
    fn default() -> Self {
        Self { mean: 15.0, sigma2: std::f64::consts::LN_2 }
    }
}

/// Jicofo's own defaults: `average-participant-stress` and `participant-rampup-interval`.
impl Default for Jicofo {
    fn default() -> Self {
        Self { stress_permille: 10.0, within_s: 20.0 }
    }
}

impl From<Limits> for Capacity {
    fn from(limits: Limits) -> Self {
        let Limits { participants, rooms, streams, bandwidth_bps, cpu_permille, memory_permille } = limits;
        Self { participants, rooms, streams, bandwidth_bps, cpu_permille, memory_permille }
    }
}

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::Off { percent } => f.pad(&format!("{percent}%")),
        }
    }
}

impl Serialize for Hint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::str::FromStr for Hint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = |text: &str| text.strip_suffix('%')?.parse().ok().filter(|percent| *percent <= 300);
        match (text, percent(text)) {
            ("none", _) => Ok(Self::None),
            (_, Some(percent)) => Ok(Self::Off { percent }),
            _ => Err(format!("{text:?}: expected none, or how far hints are off, 0% to 300%")),
        }
    }
}

impl<'de> Deserialize<'de> for Hint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
