//! Where clients are: the region of a country, a subdivision or a point on the map, and the carrier of an autonomous
//! system, as they are configured.

use roost_proto::geography::{self, Carriers, Regions};
use roost_proto::id::{Carrier, Region};

pub use roost_proto::geography::GeographyError;

/// The configured regions and carriers, ready to be asked. All are sorted by what they are asked by.
#[derive(Debug, Clone, Default)]
pub struct Geography {
    countries: Vec<(String, Region)>,
    subdivisions: Vec<(String, Region)>,
    points: Vec<(Direction, Region)>,
    carriers: Vec<(u32, Carrier)>,
}

impl Geography {
    /// Sorts what is configured, after [`geography::check`].
    pub fn new(regions: &Regions, carriers: &Carriers) -> Result<Self, GeographyError> {
        geography::check(regions, carriers)?;
        let mut all = Self::default();
        for (region, settings) in regions {
            let place = |code: &String| (code.clone(), region.clone());
            all.countries.extend(settings.countries.iter().map(place));
            all.subdivisions.extend(settings.subdivisions.iter().map(place));
            all.points
                .extend(settings.point.map(|[latitude, longitude]| (direction(latitude, longitude), region.clone())));
        }
        for (carrier, settings) in carriers {
            all.carriers.extend(settings.asns.iter().map(|asn| (*asn, carrier.clone())));
        }
        all.countries.sort_unstable();
        all.subdivisions.sort_unstable();
        all.carriers.sort_unstable();
        Ok(all)
    }

    /// The region of a client of whom so much is known; none if that gives none.
    ///
    /// The region that lists the client's subdivision (ISO 3166-2, `CN-SH`), else the one that lists its country
    /// (ISO 3166-1, `CN`), else the one whose point is nearest to the client's (latitude and longitude in degrees), and
    /// of equally near ones the first by name. A point that is no pair of finite numbers is none.
    #[must_use]
    pub fn region_of(
        &self,
        country: Option<&str>,
        subdivision: Option<&str>,
        point: Option<(f64, f64)>,
    ) -> Option<Region> {
        let listed = |list: &[(String, Region)], code: Option<&str>| {
            let code = code?;
            let place = list.binary_search_by(|(listed, _)| listed.as_str().cmp(code)).ok()?;
            Some(list[place].1.clone())
        };
        listed(&self.subdivisions, subdivision)
            .or_else(|| listed(&self.countries, country))
            .or_else(|| self.nearest(point?).map(|(region, _)| region))
    }

    /// The carrier that has the autonomous system, or `AS` and its number.
    #[must_use]
    pub fn carrier_of(&self, asn: u32) -> Carrier {
        match self.carriers.binary_search_by_key(&asn, |(listed, _)| *listed) {
            Ok(place) => self.carriers[place].1.clone(),
            Err(_) => Carrier::of_system(asn),
        }
    }

    /// The region whose point is nearest to this one, and how far it is in kilometres.
    #[must_use]
    pub fn nearest(&self, (latitude, longitude): (f64, f64)) -> Option<(Region, f64)> {
        if !latitude.is_finite() || !longitude.is_finite() {
            return None;
        }
        let client = direction(latitude, longitude);
        let far = self.points.iter().map(|(direction, region)| (haversine(*direction, client), region));
        let (far, region) = far.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
        Some((region.clone(), kilometres(far)))
    }
}

/// A point on the globe as a vector of length 1.
type Direction = [f64; 3];

fn direction(latitude: f64, longitude: f64) -> Direction {
    let ((sin, cos), (east_sin, east_cos)) = (latitude.to_radians().sin_cos(), longitude.to_radians().sin_cos());
    [cos * east_cos, cos * east_sin, sin]
}

/// The haversine of the angle θ between two points on the globe, which grows with their distance on it:
/// hav θ = (1 − cos θ) / 2 = sin² (Δφ / 2) + cos φ₁ · cos φ₂ · sin² (Δλ / 2), with latitudes φ and longitudes λ
/// (R. W. Sinnott, "Virtues of the Haversine", 1984). It is a quarter of the square of the chord between the points,
/// which needs no sine for each of them.
fn haversine(a: Direction, b: Direction) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / 4.0
}

/// The distance on the globe that a haversine h stands for: 2 R · arcsin √h, R the mean radius of the earth.
fn kilometres(haversine: f64) -> f64 {
    const RADIUS_KM: f64 = 6_371.0;
    2.0 * RADIUS_KM * haversine.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_proto::geography::{CarrierSettings, RegionSettings};

    const SHANGHAI: [f64; 2] = [31.2, 121.5];
    const FRANKFURT: [f64; 2] = [50.1, 8.7];
    const HONOLULU: [f64; 2] = [21.3, -157.9];

    #[test]
    fn a_subdivision_comes_before_its_country_and_that_before_the_nearest_point() {
        let geography = geography();
        for (country, subdivision, point, expected) in [
            (Some("CN"), Some("CN-SH"), None, Some("cn/east")),
            (Some("CN"), Some("CN-SH"), Some(FRANKFURT), Some("cn/east")),
            (Some("CN"), Some("CN-XJ"), Some(FRANKFURT), Some("cn")),
            (Some("CN"), None, None, Some("cn")),
            (Some("FR"), Some("FR-IDF"), Some([48.9, 2.4]), Some("eu")),
            (Some("JP"), None, Some([35.7, 139.7]), Some("cn/east")),
            (None, None, Some([-0.1, -179.9]), Some("us/hawaii")),
            (None, None, Some([f64::NAN, 0.0]), None),
            (None, None, Some([0.0, f64::INFINITY]), None),
            (Some("FR"), None, None, None),
            (Some("cn"), Some(""), None, None),
            (None, None, None, None),
        ] {
            let point = point.map(|[latitude, longitude]| (latitude, longitude));
            let region = geography.region_of(country, subdivision, point);
            assert_eq!(region.as_ref().map(Region::as_str), expected, "{country:?} {subdivision:?} {point:?}");
        }
        assert_eq!(Geography::default().region_of(Some("CN"), Some("CN-SH"), Some((0.0, 0.0))), None);
    }

    #[test]
    fn the_way_around_the_globe_is_measured_over_the_date_line_and_the_poles() {
        let far = |[a, b]: [f64; 2], [c, d]: [f64; 2]| haversine(direction(a, b), direction(c, d));
        assert!(far([0.0, 179.0], [0.0, -179.0]) < far([0.0, 179.0], [0.0, 176.0]));
        assert!(far([89.0, 0.0], [89.0, 180.0]) < far([89.0, 0.0], [86.0, 0.0]));
        // The formula in its usual form, and a distance that is known: Frankfurt to Shanghai, 8 860 km.
        let km = kilometres(far(FRANKFURT, SHANGHAI));
        assert!((8_800.0..8_900.0).contains(&km), "{km}");
        let half = |a: f64, b: f64| ((a - b).to_radians() / 2.0).sin().powi(2);
        for (a, b) in [(FRANKFURT, SHANGHAI), (SHANGHAI, HONOLULU), (FRANKFURT, FRANKFURT)] {
            let usual = half(a[0], b[0]) + a[0].to_radians().cos() * b[0].to_radians().cos() * half(a[1], b[1]);
            assert!((usual - far(a, b)).abs() < 1e-12, "{a:?} {b:?}");
        }
    }

    #[test]
    fn of_equally_near_points_the_first_by_name_is_taken() {
        let at = |name: &str| (region(name), RegionSettings { point: Some(FRANKFURT), ..RegionSettings::default() });
        let geography = Geography::new(&[at("b"), at("a"), at("c")].into(), &Carriers::new()).unwrap();
        assert_eq!(geography.region_of(None, None, Some((0.0, 0.0))), Some(region("a")));
    }

    #[test]
    fn an_autonomous_system_that_no_carrier_has_is_a_carrier_itself() {
        let geography = geography();
        for (asn, expected) in
            [(4134, "telecom"), (4837, "unicom"), (4809, "telecom"), (3320, "AS3320"), (u32::MAX, "AS4294967295")]
        {
            assert_eq!(geography.carrier_of(asn).as_str(), expected);
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let twice = |name: &str| (region(name), RegionSettings { countries: vec!["CN".into()], ..Default::default() });
        let error = Geography::new(&[twice("a"), twice("b")].into(), &Carriers::new()).unwrap_err();
        assert_eq!((error.key.as_str(), error.value.as_str()), ("regions.b.countries[0]", "\"CN\""));
    }

    fn geography() -> Geography {
        let settings = |countries: &[&str], subdivisions: &[&str], point| RegionSettings {
            countries: countries.iter().map(|code| (*code).to_owned()).collect(),
            subdivisions: subdivisions.iter().map(|code| (*code).to_owned()).collect(),
            point,
        };
        let regions = [
            (region("us/hawaii"), settings(&[], &[], Some(HONOLULU))),
            (region("cn/east"), settings(&[], &["CN-ZJ", "CN-SH"], Some(SHANGHAI))),
            (region("cn"), settings(&["CN"], &[], None)),
            (region("eu"), settings(&["DE", "AT"], &[], Some(FRANKFURT))),
        ];
        let carriers = [("telecom", vec![4812, 4134, 4809]), ("unicom", vec![4837])]
            .map(|(name, asns)| (Carrier::new(name).unwrap(), CarrierSettings { asns }));
        Geography::new(&regions.into(), &carriers.into()).unwrap()
    }

    fn region(text: &str) -> Region {
        Region::new(text).unwrap()
    }
}
