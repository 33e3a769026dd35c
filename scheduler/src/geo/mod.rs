//! Where a client is: from its address, by GeoIP databases, to the region and the carrier that are configured for it.

mod database;
#[cfg(test)]
mod sample;
mod source;
mod tree;

use std::hash::Hash;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use roost_proto::id::{Carrier, Region};
use roost_proto::lookup::Client;
use roost_scheduler_core::geography::Geography;
use roost_server::stamp::CHECK_EVERY;
use roost_server::telemetry;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

pub(crate) use database::{Kind, Known, Miss};
use source::Source;
pub(crate) use source::{GeoError, open};

use crate::app::Scheduler;
use crate::metrics::Metrics;

/// The databases that are configured, each record with what it means here.
#[derive(Debug, Default)]
pub(crate) struct Geo {
    city: Option<Source<Option<Region>>>,
    asn: Option<Source<Option<Carrier>>>,
}

/// By what a client came to its region.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// That the region lists: `CN-SH`.
    Subdivision(String),
    /// That the region lists: `CN`.
    Country(String),
    NearestPoint {
        km: u32,
    },
}

/// Reads the databases again when their files change; never ends.
pub(crate) async fn follow(scheduler: Arc<Scheduler>) {
    if scheduler.geo.city.is_none() && scheduler.geo.asn.is_none() {
        return std::future::pending().await;
    }
    scheduler.geo.announce(&scheduler.metrics);
    let mut ticks = interval(CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let shared = scheduler.clone();
        // A large file takes a second to be read. No thread that answers is held up by that.
        let done = tokio::task::spawn_blocking(move || shared.geo.reload(&shared.metrics)).await;
        if let Err(error) = done {
            tracing::error!(%error, "GeoIP databases could not be looked at");
        }
    }
}

/// The region of a client, and by what: the smallest of its subdivisions that a region lists, else its country, else the
/// region whose point is nearest.
pub(crate) fn region(geography: &Geography, known: &Known<'_>) -> Option<(Region, Reason)> {
    let by_subdivision = |code: String| {
        let region = geography.region_of(None, Some(&code), None)?;
        Some((region, Reason::Subdivision(code)))
    };
    let by_country = || {
        let region = geography.region_of(known.country, None, None)?;
        Some((region, Reason::Country(known.country?.to_owned())))
    };
    let by_point = || {
        let (region, km) = geography.nearest(known.point?)?;
        Some((region, Reason::NearestPoint { km: km.round() as u32 }))
    };
    known.subdivision_codes().rev().find_map(by_subdivision).or_else(by_country).or_else(by_point)
}

/// The carrier of a client.
pub(crate) fn carrier(geography: &Geography, known: &Known<'_>) -> Option<Carrier> {
    known.asn.map(|asn| geography.carrier_of(asn))
}

impl Geo {
    /// Opens what is configured, and reads all of it.
    pub(crate) fn open(geography: Geography, city: Option<&Path>, asn: Option<&Path>) -> Result<Self, GeoError> {
        let geography = Arc::new(geography);
        let places = geography.clone();
        let by_city = move |known: &Known<'_>| region(&places, known).map(|(region, _)| region);
        let by_asn = move |known: &Known<'_>| carrier(&geography, known);
        Ok(Self {
            city: city.map(|path| Source::open(Kind::City, path, by_city)).transpose()?,
            asn: asn.map(|path| Source::open(Kind::Asn, path, by_asn)).transpose()?,
        })
    }

    /// Fills in what is not said of the client, as far as its address tells.
    pub(crate) fn complete(&self, mut client: Client, metrics: &Metrics) -> Client {
        let Some(ip) = client.ip else { return client };
        if client.region.is_none() {
            client.region = self.city.as_ref().and_then(|city| ask(city, ip, metrics));
        }
        if client.carrier.is_none() {
            client.carrier = self.asn.as_ref().and_then(|asn| ask(asn, ip, metrics));
        }
        client
    }

    fn announce(&self, metrics: &Metrics) {
        self.city.iter().for_each(|city| announce(city, metrics));
        self.asn.iter().for_each(|asn| announce(asn, metrics));
    }

    fn reload(&self, metrics: &Metrics) {
        self.city.iter().for_each(|city| reload(city, metrics));
        self.asn.iter().for_each(|asn| reload(asn, metrics));
    }
}

fn ask<T: Clone + Eq + Hash>(source: &Source<Option<T>>, ip: IpAddr, metrics: &Metrics) -> Option<T> {
    let database = source.current();
    let answer = database.lookup(ip);
    metrics.geo.located(source.kind, answer.err());
    answer.ok()?.clone()
}

fn reload<T: Eq + Hash>(source: &Source<T>, metrics: &Metrics) {
    match source.reload() {
        None => {}
        Some(Ok(())) => {
            metrics.geo.reloaded(source.kind, true);
            announce(source, metrics);
        }
        Some(Err(error)) => {
            metrics.geo.reloaded(source.kind, false);
            let error = telemetry::causes(&error);
            tracing::warn!(error, "the new GeoIP database cannot be used, the old one stays");
        }
    }
}

fn announce<T: Eq + Hash>(source: &Source<T>, metrics: &Metrics) {
    let (database, file) = (source.current(), source.path.display());
    metrics.geo.in_use(source.kind, database.built_s);
    let unreadable_records = database.unreadable;
    tracing::info!(%file, built_s = database.built_s, unreadable_records, "GeoIP database read");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use roost_server::config;

    use super::*;
    use sample::made;

    const CONFIGURED: &str = r#"
        [regions.cn]
        countries = ["CN"]
        [regions."cn/east"]
        subdivisions = ["CN-SH", "CN-JS"]
        [regions.eu]
        countries = ["DE"]
        point = [50.1, 8.7]
        [regions."eu/london"]
        subdivisions = ["GB-LND"]
        [regions."us/east"]
        point = [39.0, -77.0]
        [carriers.telecom]
        asns = [4134, 4809]
    "#;

    #[test]
    fn a_client_is_where_its_address_is_unless_it_is_said() {
        let (geo, metrics) = (geo(CONFIGURED), Metrics::new());
        for (ip, region, carrier) in [
            ("192.0.2.1", Some("cn/east"), Some("telecom")),
            ("192.0.2.193", Some("cn"), Some("AS9808")),
            ("2001:db8:1::1", Some("cn/east"), Some("telecom")),
            ("::ffff:192.0.2.1", Some("cn/east"), Some("telecom")),
            ("198.51.100.65", Some("eu"), Some("AS3320")),
            ("198.51.100.193", Some("eu/london"), None),
            ("203.0.113.65", Some("us/east"), Some("AS7922")),
            ("203.0.113.193", None, None),
            ("10.0.0.1", None, None),
        ] {
            let client = Client { ip: Some(ip.parse().unwrap()), ..Client::default() };
            let found = geo.complete(client, &metrics);
            assert_eq!(found.region.as_ref().map(Region::as_str), region, "{ip}");
            assert_eq!(found.carrier.as_ref().map(Carrier::as_str), carrier, "{ip}");
        }
        let shanghai = Some("192.0.2.1".parse().unwrap());
        let (eu, unicom) = (Region::new("eu").unwrap(), Carrier::new("unicom").unwrap());
        let said = geo.complete(Client { ip: shanghai, region: Some(eu.clone()), carrier: None }, &metrics);
        assert_eq!((said.region, said.carrier.unwrap().as_str()), (Some(eu), "telecom"));
        let said = geo.complete(Client { ip: shanghai, region: None, carrier: Some(unicom.clone()) }, &metrics);
        assert_eq!((said.region.unwrap().as_str(), said.carrier), ("cn/east", Some(unicom)));
        assert_eq!(geo.complete(Client::default(), &metrics), Client::default());
        let text = String::from_utf8(metrics.registry.text().unwrap()).unwrap();
        for counted in [
            r#"roost_geo_lookups_total{database="city",result="found"} 9"#,
            r#"roost_geo_lookups_total{database="city",result="private"} 1"#,
            r#"roost_geo_lookups_total{database="asn",result="found"} 7"#,
            r#"roost_geo_lookups_total{database="asn",result="not_found"} 2"#,
        ] {
            assert!(text.contains(counted), "{counted}\n{text}");
        }
    }

    #[test]
    fn without_databases_and_regions_nothing_is_known() {
        let client = Client { ip: Some([192, 0, 2, 1].into()), ..Client::default() };
        assert_eq!(Geo::default().complete(client.clone(), &Metrics::new()), client);
        let found = geo("").complete(client, &Metrics::new());
        assert_eq!((found.region, found.carrier.unwrap().as_str()), (None, "AS4134"));
    }

    #[test]
    fn it_is_said_by_what_a_region_was_found() {
        let geography = geography(CONFIGURED);
        let city = open(Kind::City, &made("city.mmdb"), |known| region(&geography, known)).unwrap();
        for (ip, reason) in [
            ("192.0.2.65", Reason::Subdivision("CN-JS".to_owned())),
            ("192.0.2.129", Reason::Country("CN".to_owned())),
            ("198.51.100.193", Reason::Subdivision("GB-LND".to_owned())),
        ] {
            let (_, found) = city.lookup(ip.parse().unwrap()).unwrap().clone().unwrap();
            assert_eq!(found, reason, "{ip}");
        }
        let paris = city.lookup([198, 51, 100, 65].into()).unwrap();
        assert_eq!(paris.as_ref().unwrap().1, Reason::NearestPoint { km: 479 });
    }

    fn geo(tables: &str) -> Geo {
        Geo::open(geography(tables), Some(&made("city.mmdb")), Some(&made("asn.mmdb"))).unwrap()
    }

    fn geography(tables: &str) -> Geography {
        let file = sample::write(tables.as_bytes());
        let flags = BTreeMap::<String, String>::new();
        let (_, shared) = config::load::<_, BTreeMap<String, String>>(&flags, "scheduler", Some(file.path())).unwrap();
        Geography::new(&shared.regions, &shared.carriers).unwrap()
    }
}
