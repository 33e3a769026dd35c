//! What an operator says of the world: which clients are in which region, and which carriers they have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Carrier, Region};

/// The table `[regions.*]`: whose clients are in the region.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegionSettings {
    /// ISO 3166-1 codes of two letters: `CN`.
    pub countries: Vec<String>,
    /// ISO 3166-2 codes: `CN-SH`. They come before countries.
    pub subdivisions: Vec<String>,
    /// Latitude and longitude in degrees. A client that no list names is in the region whose point is nearest.
    pub point: Option<[f64; 2]>,
}

/// The table `[carriers.*]`: whose clients are the carrier's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CarrierSettings {
    /// Numbers of autonomous systems.
    pub asns: Vec<u32>,
}

/// All regions that are configured.
pub type Regions = BTreeMap<Region, RegionSettings>;

/// All carriers that are configured.
pub type Carriers = BTreeMap<Carrier, CarrierSettings>;
