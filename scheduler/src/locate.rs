//! `roost-scheduler locate`: what is known of addresses, and what the configuration makes of it.

use std::fmt;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use roost_proto::id::{Carrier, Region};
use roost_scheduler_core::geography::Geography;
use roost_server::{ConfigError, config};
use serde::Serialize;
use serde_json::Number;

use crate::config::Settings;
use crate::error::Failure;
use crate::geo::{self, Kind, Known, Miss, Reason};

/// What the command is given.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Flags {
    /// The TOML file with `[regions.*]`, `[carriers.*]` and the databases.
    #[arg(long, env = "ROOST_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// As for `serve`.
    #[arg(long, env = "ROOST_GEO_CITY", value_name = "FILE")]
    geo_city: Option<PathBuf>,
    /// As for `serve`.
    #[arg(long, env = "ROOST_GEO_ASN", value_name = "FILE")]
    geo_asn: Option<PathBuf>,
    /// Prints a line of JSON for each address.
    #[arg(long)]
    #[serde(skip)]
    json: bool,
    #[arg(required = true, value_name = "ADDRESS")]
    #[serde(skip)]
    addresses: Vec<String>,
}

/// An address, and what each database tells of it; none: it is not configured.
#[derive(Debug, Serialize)]
struct Located<'a> {
    ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    city: Option<Told<'a, Place>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asn: Option<Told<'a, System>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told<'a, T> {
    Known(&'a T),
    Unknown { unknown: Miss },
}

#[derive(Debug, PartialEq, Eq, Hash, Serialize)]
struct Place {
    country: Option<String>,
    /// The largest first.
    subdivisions: Vec<String>,
    /// Latitude and longitude in degrees.
    point: Option<(Number, Number)>,
    region: Option<Region>,
    region_by: Option<Reason>,
}

#[derive(Debug, PartialEq, Eq, Hash, Serialize)]
struct System {
    number: Option<u32>,
    organisation: Option<String>,
    carrier: Option<Carrier>,
}

/// Prints all of them, if all arguments are addresses.
pub(crate) fn print(flags: &Flags) -> Result<(), Failure> {
    let read = |text: &String| text.parse::<IpAddr>().map_err(|_| Failure::Address(text.clone()));
    let addresses = flags.addresses.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let (settings, shared) = config::load::<_, Settings>(flags, "scheduler", flags.config.as_deref())?;
    if settings.geo_city.is_none() && settings.geo_asn.is_none() {
        return Err(ConfigError::wrong("geo_city", "", "a database for it, for geo_asn, or for both").into());
    }
    let geography = Geography::new(&shared.regions, &shared.carriers).map_err(ConfigError::from)?;
    let mean_place = |known: &Known<'_>| Place::of(known, &geography);
    let city = settings.geo_city.as_deref().map(|path| geo::open(Kind::City, path, mean_place)).transpose()?;
    let mean_system = |known: &Known<'_>| System::of(known, &geography);
    let asn = settings.geo_asn.as_deref().map(|path| geo::open(Kind::Asn, path, mean_system)).transpose()?;
    let mut out = io::stdout().lock();
    for ip in addresses {
        let city = city.as_ref().map(|city| Told::from(city.lookup(ip)));
        let asn = asn.as_ref().map(|asn| Told::from(asn.lookup(ip)));
        let located = Located { ip, city, asn };
        if flags.json {
            let line = serde_json::to_string(&located).expect("it has string keys only");
            writeln!(out, "{line}").map_err(Failure::Output)?;
        } else {
            write!(out, "{located}").map_err(Failure::Output)?;
        }
    }
    Ok(())
}

impl Place {
    fn of(known: &Known<'_>, geography: &Geography) -> Self {
        let (region, region_by) = geo::region(geography, known).unzip();
        Self {
            country: known.country.map(str::to_owned),
            subdivisions: known.subdivision_codes().collect(),
            point: known.point.and_then(|(a, b)| Number::from_f64(a).zip(Number::from_f64(b))),
            region,
            region_by,
        }
    }
}

impl System {
    fn of(known: &Known<'_>, geography: &Geography) -> Self {
        Self {
            number: known.asn,
            organisation: known.organisation.map(str::to_owned),
            carrier: geo::carrier(geography, known),
        }
    }
}

impl<'a, T> From<Result<&'a T, Miss>> for Told<'a, T> {
    fn from(told: Result<&'a T, Miss>) -> Self {
        told.map_or_else(|unknown| Self::Unknown { unknown }, Self::Known)
    }
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.ip)?;
        match &self.city {
            None => {}
            Some(Told::Unknown { unknown }) => line(f, "place", &format!("unknown ({})", unknown.as_str()))?,
            Some(Told::Known(place)) => place.fmt(f)?,
        }
        match &self.asn {
            None => Ok(()),
            Some(Told::Unknown { unknown }) => line(f, "carrier", &format!("unknown ({})", unknown.as_str())),
            Some(Told::Known(system)) => system.fmt(f),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "country", self.country.as_deref().unwrap_or("unknown"))?;
        if !self.subdivisions.is_empty() {
            line(f, "subdivision", &self.subdivisions.join(", "))?;
        }
        if let Some((latitude, longitude)) = &self.point {
            line(f, "point", &format!("{latitude}, {longitude}"))?;
        }
        let region = match (&self.region, &self.region_by) {
            (Some(region), Some(Reason::Subdivision(code) | Reason::Country(code))) => format!("{region} (has {code})"),
            (Some(region), Some(Reason::NearestPoint { km })) => format!("{region} (its point is nearest: {km} km)"),
            _ => "unknown (no region is configured for it)".to_owned(),
        };
        line(f, "region", &region)
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number.map_or_else(|| "unknown".to_owned(), |number| format!("AS{number}"));
        line(f, "system", format!("{number} {}", self.organisation.as_deref().unwrap_or_default()).trim_end())?;
        line(f, "carrier", self.carrier.as_ref().map_or("unknown", Carrier::as_str))
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    writeln!(f, "  {name:<12} {value}")
}
