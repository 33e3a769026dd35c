//! What an operator says of the world: which clients are in which region, and which carriers they have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Carrier, Region};
use crate::policy::Policies;

/// The table `[regions.*]`: whose clients are in the region.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegionSettings {
    /// ISO 3166-1 codes of two capital letters: `CN`.
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

/// A setting that contradicts another, or that nothing could match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {value}: expected {expected}")]
pub struct GeographyError {
    /// Where it is: `regions.cn/east.countries[1]`.
    pub key: String,
    pub value: String,
    pub expected: String,
}

/// Checks what one value alone does not show: a country, a subdivision and an autonomous system have one place each, and
/// no region lies in itself.
pub fn check(regions: &Regions, carriers: &Carriers) -> Result<(), GeographyError> {
    let mut owners = BTreeMap::new();
    for (region, settings) in regions {
        let key = format!("regions.{region}");
        check_path(&key, region)?;
        for (index, code) in settings.countries.iter().enumerate() {
            let key = format!("{key}.countries[{index}]");
            if !is_country(code) {
                return Err(wrong(key, code, "a country as two capital letters, like CN"));
            }
            check_owner(&mut owners, key, code)?;
        }
        for (index, code) in settings.subdivisions.iter().enumerate() {
            let key = format!("{key}.subdivisions[{index}]");
            if !is_subdivision(code) {
                return Err(wrong(key, code, "a country, - and 1 to 3 capital letters or digits, like CN-SH"));
            }
            check_owner(&mut owners, key, code)?;
        }
        if let Some(point) = settings.point
            && !is_on_earth(point)
        {
            return Err(wrong(format!("{key}.point"), point, "a latitude of -90 to 90 and a longitude of -180 to 180"));
        }
    }
    let mut owners = BTreeMap::new();
    for (carrier, settings) in carriers {
        let key = format!("carriers.{carrier}");
        if is_system_name(carrier) {
            let expected = "another name: one of this form means the autonomous system of that number";
            return Err(wrong(key, carrier, expected));
        }
        for (index, asn) in settings.asns.iter().enumerate() {
            let key = format!("{key}.asns[{index}]");
            if *asn == 0 {
                return Err(wrong(key, asn, "the number of an autonomous system, 1 to 4294967295"));
            }
            check_owner(&mut owners, key, asn)?;
        }
    }
    Ok(())
}

/// Checks each namespace's fence. It need not be a configured region, but one that lies in another says nothing, like a
/// rung of a ladder after one that covers it.
pub fn check_fences(namespaces: &Policies) -> Result<(), GeographyError> {
    for (namespace, policy) in &namespaces.0 {
        for (index, region) in policy.fence.iter().enumerate() {
            let key = format!("namespaces.{namespace}.fence[{index}]");
            check_path(&key, region)?;
            let mut others = policy.fence.iter().enumerate().filter(|(other, _)| *other != index);
            if let Some((_, around)) = others.find(|(_, other)| region.is_within(other)) {
                let expected = format!("a region outside {around}, which the fence lets rooms into as a whole");
                return Err(wrong(key, region, &expected));
            }
        }
    }
    Ok(())
}

/// Checks that the region at `key` does not lie in itself, as `cn/east/cn` does: what would be a cycle in its tree.
pub fn check_path(key: &str, region: &Region) -> Result<(), GeographyError> {
    let labels: Vec<&str> = region.as_str().split('/').collect();
    match labels.iter().enumerate().find(|(index, label)| labels[..*index].contains(label)) {
        None => Ok(()),
        Some((_, label)) => {
            let expected = format!("the label {label} once: a region cannot lie in itself");
            Err(wrong(key.to_owned(), region, &expected))
        }
    }
}

/// Checks the carrier that a node says at `key`. Where carriers are configured, it is one of them, or an autonomous system
/// that none of them has: clients would never have any other.
pub fn check_carrier(key: &str, carrier: &Carrier, carriers: &Carriers) -> Result<(), GeographyError> {
    if carriers.is_empty() || carriers.contains_key(carrier) {
        return Ok(());
    }
    let known = || carriers.keys().map(Carrier::as_str).collect::<Vec<_>>().join(", ");
    match system_number(carrier) {
        None => Err(wrong(key.to_owned(), carrier, &format!("AS and a number, or one of {}", known()))),
        Some(number) => match carriers.iter().find(|(_, settings)| settings.asns.contains(&number)) {
            None => Ok(()),
            Some((owner, _)) => Err(wrong(key.to_owned(), carrier, &format!("{owner}, which has it in its asns"))),
        },
    }
}

/// The carrier that somebody means: that which has the system of the name, if it is one. `key` is who says it.
pub fn carrier_meant(key: &str, carrier: Carrier, carriers: &Carriers) -> Result<Carrier, GeographyError> {
    let number = system_number(&carrier);
    let owner = number.and_then(|number| carriers.iter().find(|(_, settings)| settings.asns.contains(&number)));
    match owner {
        Some((owner, _)) => Ok(owner.clone()),
        None => check_carrier(key, &carrier, carriers).map(|()| carrier),
    }
}

impl Carrier {
    /// The carrier of clients whose autonomous system no configured carrier has: `AS64500`.
    #[must_use]
    pub fn of_system(number: u32) -> Self {
        Self::new(format!("AS{number}")).expect("AS and ten digits at most")
    }
}

/// The number in a name that [`Carrier::of_system`] gives.
fn system_number(carrier: &Carrier) -> Option<u32> {
    let number = carrier.as_str().strip_prefix("AS")?.parse().ok()?;
    (Carrier::of_system(number) == *carrier && number > 0).then_some(number)
}

fn is_system_name(carrier: &Carrier) -> bool {
    let (head, tail) = carrier.as_str().split_at_checked(2).unwrap_or_default();
    head.eq_ignore_ascii_case("as") && !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_country(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_subdivision(code: &str) -> bool {
    code.split_once('-').is_some_and(|(country, part)| {
        let is_part = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        is_country(country) && (1..=3).contains(&part.len()) && part.bytes().all(is_part)
    })
}

fn is_on_earth([latitude, longitude]: [f64; 2]) -> bool {
    (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude)
}

/// Notes that `value` stands at `key`, unless it stands elsewhere already.
fn check_owner<T: Ord + std::fmt::Debug>(
    owners: &mut BTreeMap<T, String>,
    key: String,
    value: T,
) -> Result<(), GeographyError> {
    if let Some(other) = owners.get(&value) {
        let expected = format!("it in one place, but it is in {other} too");
        return Err(wrong(key, value, &expected));
    }
    owners.insert(value, key);
    Ok(())
}

fn wrong(key: String, value: impl std::fmt::Debug, expected: &str) -> GeographyError {
    GeographyError { key, value: format!("{value:?}"), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn what_leaves_no_doubt_is_taken() {
        let regions = [
            ("cn", RegionSettings { countries: codes(&["CN"]), ..RegionSettings::default() }),
            ("cn/east", RegionSettings { subdivisions: codes(&["CN-SH", "ES-7", "GB-ENG"]), ..Default::default() }),
            ("pole", RegionSettings { point: Some([-90.0, 180.0]), ..Default::default() }),
            ("nobody", RegionSettings::default()),
        ];
        let carriers = [("telecom", vec![4134, 4809]), ("assured", vec![u32::MAX]), ("AS-wide", vec![])];
        assert_eq!(check(&all(regions), &systems(&carriers)), Ok(()));
    }

    #[test]
    fn a_contradiction_is_named_with_key_value_and_what_was_expected() {
        let countries = |list: &[&str]| RegionSettings { countries: codes(list), ..RegionSettings::default() };
        let subdivisions = |list: &[&str]| RegionSettings { subdivisions: codes(list), ..RegionSettings::default() };
        let point = |latitude, longitude| RegionSettings { point: Some([latitude, longitude]), ..Default::default() };
        for (regions, says) in [
            (vec![("cn/east/cn", countries(&[]))], "regions.cn/east/cn: \"cn/east/cn\": expected the label cn once"),
            (
                vec![("eu", countries(&["DE", "de"]))],
                "regions.eu.countries[1]: \"de\": expected a country as two capital",
            ),
            (vec![("eu", countries(&["DEU"]))], "regions.eu.countries[0]: \"DEU\": expected"),
            (vec![("eu", countries(&["ÄE"]))], "regions.eu.countries[0]: \"ÄE\": expected"),
            (vec![("eu", countries(&["DE", "DE"]))], "regions.eu.countries[1]: \"DE\": expected it in one place"),
            (
                vec![("eu/east", countries(&["PL"])), ("eu/north", countries(&["SE", "PL"]))],
                "regions.eu/north.countries[1]: \"PL\": expected it in one place, but it is in regions.eu/east.countries[0]",
            ),
            (
                vec![("a", subdivisions(&["CN-SH"])), ("b", subdivisions(&["CN-SH"]))],
                "regions.b.subdivisions[0]: \"CN-SH\": expected it in one place, but it is in regions.a.subdivisions[0]",
            ),
            (vec![("a", subdivisions(&["SH"]))], "regions.a.subdivisions[0]: \"SH\": expected a country, -"),
            (vec![("a", subdivisions(&["CN-"]))], "regions.a.subdivisions[0]: \"CN-\""),
            (vec![("a", subdivisions(&["CN-SHAN"]))], "regions.a.subdivisions[0]: \"CN-SHAN\""),
            (vec![("a", subdivisions(&["CN-sh"]))], "regions.a.subdivisions[0]: \"CN-sh\""),
            (vec![("a", point(90.5, 0.0))], "regions.a.point: [90.5, 0.0]: expected a latitude of -90 to 90"),
            (vec![("a", point(0.0, -181.0))], "regions.a.point: [0.0, -181.0]"),
            (vec![("a", point(f64::NAN, 0.0))], "regions.a.point: [NaN, 0.0]"),
            (vec![("a", point(0.0, f64::INFINITY))], "regions.a.point: [0.0, inf]"),
        ] {
            let error = check(&all(regions), &Carriers::new()).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
        for (carriers, says) in [
            (vec![("telecom", vec![0])], "carriers.telecom.asns[0]: 0: expected the number of an autonomous system"),
            (
                vec![("telecom", vec![4134]), ("unicom", vec![4837, 4134])],
                "carriers.unicom.asns[1]: 4134: expected it in one place, but it is in carriers.telecom.asns[0] too",
            ),
            (vec![("AS4134", vec![])], "carriers.AS4134: \"AS4134\": expected another name"),
            (vec![("as99999999999", vec![])], "carriers.as99999999999: \"as99999999999\": expected another name"),
        ] {
            let error = check(&Regions::new(), &systems(&carriers)).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_fence_names_each_region_once_and_need_not_be_configured() {
        for (fence, says) in [
            (&["cn", "eu/west", "eu/east"][..], None),
            (&["cn/east", "cn"], Some("namespaces.acme.fence[0]: \"cn/east\": expected a region outside cn,")),
            (&["eu", "eu"], Some("namespaces.acme.fence[0]: \"eu\": expected a region outside eu,")),
            (&["eu/eu"], Some("namespaces.acme.fence[0]: \"eu/eu\": expected the label eu once")),
        ] {
            let fence = fence.iter().map(|text| Region::new(text).expect("valid")).collect();
            let policy = Policy { fence, ..Policy::default() };
            let acme = crate::id::NamespaceId::new("acme").expect("valid");
            let error = check_fences(&Policies(BTreeMap::from([(acme, policy)]))).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), says.is_some(), "{error:?}");
            assert!(error.unwrap_or_default().contains(says.unwrap_or_default()));
        }
    }

    #[test]
    fn a_nodes_carrier_is_one_that_clients_can_have() {
        let known = systems(&[("telecom", vec![4134]), ("unicom", vec![4837])]);
        for (carrier, says) in [
            ("telecom", None),
            ("AS3320", None),
            ("mobile", Some("carrier: \"mobile\": expected AS and a number, or one of telecom, unicom")),
            ("AS4134", Some("carrier: \"AS4134\": expected telecom, which has it in its asns")),
            ("as3320", Some("expected AS and a number")),
            ("AS03320", Some("expected AS and a number")),
            ("AS4294967296", Some("expected AS and a number")),
            ("AS0", Some("expected AS and a number")),
        ] {
            let carrier = Carrier::new(carrier).expect("valid");
            assert_eq!(check_carrier("carrier", &carrier, &Carriers::new()), Ok(()), "none is configured");
            let error = check_carrier("carrier", &carrier, &known).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), says.is_some(), "{error:?}");
            assert!(error.unwrap_or_default().contains(says.unwrap_or_default()));
        }
    }

    fn all<'a>(regions: impl IntoIterator<Item = (&'a str, RegionSettings)>) -> Regions {
        regions.into_iter().map(|(region, settings)| (Region::new(region).expect("valid"), settings)).collect()
    }

    fn systems(carriers: &[(&str, Vec<u32>)]) -> Carriers {
        let carrier = |name: &str| Carrier::new(name).expect("valid");
        carriers.iter().map(|(name, asns)| (carrier(name), CarrierSettings { asns: asns.clone() })).collect()
    }

    fn codes(list: &[&str]) -> Vec<String> {
        list.iter().map(|code| (*code).to_owned()).collect()
    }
}
