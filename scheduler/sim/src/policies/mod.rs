//! Who decides in a simulated scheduler: the real core, or another system's rule, restated from its published constants.
//!
//! The other rules know of each room's node at once and never split one; they are compared for where new rooms go.

mod jicofo;
mod livekit;
mod oracle;

use std::fmt;
use std::str::FromStr;

use roost_proto::report::Report;
use roost_proto::time::Millis;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plan::Plan;

/// A policy that a scenario can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PolicyName {
    /// The real core.
    #[default]
    Roost,
    /// The real core while it hears nothing from the store.
    RoostTwoChoice,
    /// The real core that is not told of other schedulers' claims.
    PrivateCorrection,
    LivekitRandom,
    LivekitTwoChoiceRooms,
    LivekitTwoChoiceCpu,
    LivekitLowestRooms,
    LivekitLowestCpu,
    JicofoCorrected,
    /// Knows how large each room gets, and where all are: no policy that decides at once can do much better.
    Oracle,
}

impl PolicyName {
    /// Every policy.
    pub const ALL: [Self; 10] = [
        Self::Roost,
        Self::RoostTwoChoice,
        Self::PrivateCorrection,
        Self::LivekitRandom,
        Self::LivekitTwoChoiceRooms,
        Self::LivekitTwoChoiceCpu,
        Self::LivekitLowestRooms,
        Self::LivekitLowestCpu,
        Self::JicofoCorrected,
        Self::Oracle,
    ];

    /// The policy as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Roost => "roost",
            Self::RoostTwoChoice => "roost-two-choice",
            Self::PrivateCorrection => "private-correction",
            Self::LivekitRandom => "livekit-random",
            Self::LivekitTwoChoiceRooms => "livekit-two-choice-rooms",
            Self::LivekitTwoChoiceCpu => "livekit-two-choice-cpu",
            Self::LivekitLowestRooms => "livekit-lowest-rooms",
            Self::LivekitLowestCpu => "livekit-lowest-cpu",
            Self::JicofoCorrected => "jicofo-corrected",
            Self::Oracle => "oracle",
        }
    }

    /// Whether the real core decides.
    #[must_use]
    pub const fn is_core(self) -> bool {
        matches!(self, Self::Roost | Self::RoostTwoChoice | Self::PrivateCorrection)
    }

    /// What decides instead of the core, in the scheduler of this number.
    pub(crate) fn selector(self, plan: &Plan, seed: u64, scheduler: usize) -> Option<Box<dyn Selector>> {
        use livekit::{LiveKit, Sort, Way};
        let livekit = |way, sort| Some(Box::new(LiveKit::new(plan, way, sort, (seed, scheduler))) as Box<dyn Selector>);
        match self {
            Self::Roost | Self::RoostTwoChoice | Self::PrivateCorrection => None,
            Self::LivekitRandom => livekit(Way::Random, Sort::Rooms),
            Self::LivekitTwoChoiceRooms => livekit(Way::TwoChoice, Sort::Rooms),
            Self::LivekitTwoChoiceCpu => livekit(Way::TwoChoice, Sort::Cpu),
            Self::LivekitLowestRooms => livekit(Way::Lowest, Sort::Rooms),
            Self::LivekitLowestCpu => livekit(Way::Lowest, Sort::Cpu),
            Self::JicofoCorrected => Some(Box::new(jicofo::Jicofo::new(plan))),
            Self::Oracle => Some(Box::new(oracle::Oracle)),
        }
    }
}

/// A rule that gives a new room its node. Nodes are numbers, in the plan's order.
pub(crate) trait Selector: fmt::Debug {
    /// A node's report has come.
    fn hear(&mut self, node: usize, report: &Report);

    /// The node of a new room.
    fn choose(&mut self, room: &NewRoom<'_>, now: Millis) -> Option<usize>;

    /// A participant is sent to the node.
    fn sent(&mut self, _node: usize, _now: Millis) {}
}

/// A room that has no node.
#[derive(Debug)]
pub(crate) struct NewRoom<'a> {
    /// How many participants all rooms of each node get in the end, as a share of what it takes.
    pub promised: &'a [f64],
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PolicyName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| format!("{text:?}: expected one of {}", names()))
    }
}

impl Serialize for PolicyName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for PolicyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
