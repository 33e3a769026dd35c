//! What an operator rules for the rooms of a namespace: how far they may be from their clients, and how many fit in one.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::id::{NamespaceId, Region};

/// How near a node is to a client: one step of a ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum Rung {
    /// In the client's region, on the client's carrier.
    #[serde(rename = "region+carrier")]
    RegionCarrier,
    /// In the client's region.
    #[serde(rename = "region")]
    Region,
    /// In the region one level above the client's, on the client's carrier.
    #[serde(rename = "parent+carrier")]
    ParentCarrier,
    /// In the region one level above the client's.
    #[serde(rename = "parent")]
    Parent,
    /// Wherever the fence allows; the nearer the better.
    #[serde(rename = "anywhere")]
    Anywhere,
}

impl Rung {
    /// Every rung, from the nearest.
    pub const ALL: [Self; 5] = [Self::RegionCarrier, Self::Region, Self::ParentCarrier, Self::Parent, Self::Anywhere];

    /// The rung as it is written in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RegionCarrier => "region+carrier",
            Self::Region => "region",
            Self::ParentCarrier => "parent+carrier",
            Self::Parent => "parent",
            Self::Anywhere => "anywhere",
        }
    }

    /// Whether it asks for the client's carrier.
    #[must_use]
    pub const fn wants_carrier(self) -> bool {
        matches!(self, Self::RegionCarrier | Self::ParentCarrier)
    }

    /// Whether every node on `other` is on `self` too.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Parent => !matches!(other, Self::Anywhere),
            Self::ParentCarrier => matches!(other, Self::ParentCarrier | Self::RegionCarrier),
            Self::Region => matches!(other, Self::Region | Self::RegionCarrier),
            Self::RegionCarrier => matches!(other, Self::RegionCarrier),
        }
    }
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a lookup may fall back, in order: at least one rung, none of which an earlier one makes useless.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    rungs: [Rung; Rung::ALL.len()],
    length: u8,
}

/// Why a list of rungs is no ladder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLadder {
    #[error("[]: expected at least one of region+carrier, region, parent+carrier, parent, anywhere")]
    Empty,
    #[error("{after} after {before}: expected nearer rungs first, for {before} has every node of {after} already")]
    Contradictory { before: Rung, after: Rung },
}

impl Ladder {
    /// From the client's region and carrier to everywhere.
    pub const FULL: Self = Self { rungs: Rung::ALL, length: Rung::ALL.len() as u8 };

    /// The ladder with these rungs.
    pub fn new(rungs: &[Rung]) -> Result<Self, InvalidLadder> {
        if rungs.is_empty() {
            return Err(InvalidLadder::Empty);
        }
        for (index, after) in rungs.iter().enumerate() {
            if let Some(before) = rungs[..index].iter().find(|before| before.covers(*after)) {
                return Err(InvalidLadder::Contradictory { before: *before, after: *after });
            }
        }
        // No rung comes twice, so they are at most as many as there are.
        let mut ladder = Self { rungs: Rung::ALL, length: rungs.len() as u8 };
        ladder.rungs[..rungs.len()].copy_from_slice(rungs);
        Ok(ladder)
    }

    /// The rungs, in order.
    #[must_use]
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs[..usize::from(self.length)]
    }
}

impl Default for Ladder {
    fn default() -> Self {
        Self::FULL
    }
}

impl std::fmt::Debug for Ladder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.rungs()).finish()
    }
}

impl Serialize for Ladder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.rungs().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ladder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&Vec::<Rung>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What holds for the rooms of one namespace: the table `[namespaces.*]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    pub ladder: Ladder,
    /// The regions that its rooms may never leave; none: everywhere.
    pub fence: Vec<Region>,
    /// 0: no limit.
    pub max_participants_per_room: u32,
}

/// What holds where nothing is configured.
pub static DEFAULT: Policy = Policy { ladder: Ladder::FULL, fence: Vec::new(), max_participants_per_room: 0 };

impl Policy {
    /// Whether rooms may be there.
    #[must_use]
    pub fn allows(&self, region: &Region) -> bool {
        self.fence.is_empty() || self.fence.iter().any(|fence| region.is_within(fence))
    }
}

/// The policies of all namespaces that are configured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policies(pub std::collections::BTreeMap<NamespaceId, Policy>);

impl Policies {
    /// The namespace's policy. One that is not configured has that of `default`.
    #[must_use]
    pub fn of(&self, namespace: &NamespaceId) -> &Policy {
        self.0.get(namespace).or_else(|| self.0.get(crate::redirect::DEFAULT_NAMESPACE)).unwrap_or(&DEFAULT)
    }

    /// Whether the namespace has a table of its own.
    #[must_use]
    pub fn has(&self, namespace: &NamespaceId) -> bool {
        self.0.contains_key(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_has_nearer_rungs_first() {
        use Rung::{Anywhere, Parent, ParentCarrier, Region, RegionCarrier};
        for good in [
            &Rung::ALL[..],
            &[Anywhere],
            &[RegionCarrier],
            &[RegionCarrier, ParentCarrier, Region, Parent],
            &[Region, ParentCarrier, Parent],
        ] {
            assert_eq!(Ladder::new(good).unwrap().rungs(), good);
        }
        assert_eq!(Ladder::new(&[]), Err(InvalidLadder::Empty));
        for (before, after) in [
            (Anywhere, Region),
            (Region, RegionCarrier),
            (Parent, Region),
            (Parent, ParentCarrier),
            (ParentCarrier, RegionCarrier),
            (Region, Region),
        ] {
            assert_eq!(Ladder::new(&[before, after]), Err(InvalidLadder::Contradictory { before, after }));
        }
    }

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        let text = r#"{"ladder":["region+carrier","parent"],"fence":["cn"],"max_participants_per_room":7}"#;
        let policy: Policy = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&policy).unwrap(), text);
        assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), DEFAULT);
        for wrong in
            [r#"{"ladder":[]}"#, r#"{"ladder":["here"]}"#, r#"{"ladder":["parent","region"]}"#, r#"{"fense":[]}"#]
        {
            assert!(serde_json::from_str::<Policy>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fence_holds_a_region_and_all_in_it() {
        let policy = Policy { fence: vec![Region::new("cn").unwrap()], ..Policy::default() };
        for (region, allowed) in [("cn", true), ("cn/east/shanghai", true), ("cn2", false), ("eu", false)] {
            assert_eq!(policy.allows(&Region::new(region).unwrap()), allowed, "{region}");
        }
    }
}
