//! Where a client is: from its address, by GeoIP databases, to the region and the carrier that are configured for it.

mod database;
#[cfg(test)]
mod sample;
mod source;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use roost_proto::id::{Carrier, Region};
use roost_proto::lookup::Client;
use roost_scheduler_core::geography::Geography;
use roost_server::stamp::CHECK_EVERY;
use roost_server::{ConfigError, Shared, telemetry};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

pub(crate) use database::{Kind, Known, Miss};
pub(crate) use source::GeoError;
use source::Source;

use crate::app::Scheduler;
use crate::config::Settings;
use crate::error::Failure;
use crate::metrics::Metrics;

/// Reads the databases again when their files change.
pub(crate) async fn follow(scheduler: Arc<Scheduler>) {
    scheduler.geo.sources().for_each(|source| announce(source, &scheduler.metrics));
    let mut ticks = interval(CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let shared = scheduler.clone();
        // A large file takes a second to be read and tried. No thread that answers is held up by that.
        let done = tokio::task::spawn_blocking(move || shared.geo.reload(&shared.metrics)).await;
        if let Err(error) = done {
            tracing::error!(%error, "GeoIP databases could not be looked at");
        }
    }
}

/// The databases that are configured, and what their answers mean here.
#[derive(Debug, Default)]
pub(crate) struct Geo {
    geography: Geography,
    city: Option<Source>,
    asn: Option<Source>,
}

/// By what a client came to its region.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// That the region lists: `CN-SH`.
    Subdivision(String),
    /// That the region lists: `CN`.
    Country(String),
    NearestPoint {
        km: f64,
    },
}

impl Geo {
    /// Opens what is configured, and tries all of it.
    pub(crate) fn open(settings: &Settings, shared: &Shared) -> Result<Self, Failure> {
        let geography = Geography::new(&shared.regions, &shared.carriers).map_err(ConfigError::from)?;
        let open = |kind, path: &Option<PathBuf>| path.as_deref().map(|path| Source::open(kind, path)).transpose();
        Ok(Self { geography, city: open(Kind::City, &settings.geo_city)?, asn: open(Kind::Asn, &settings.geo_asn)? })
    }

    /// Fills in what is not said of the client, as far as its address tells.
    pub(crate) fn complete(&self, mut client: Client, metrics: &Metrics) -> Client {
        let Some(ip) = client.ip else { return client };
        if client.region.is_none() {
            let region = |known: &Known<'_>| self.region(known).map(|(region, _)| region);
            client.region = self.ask_and_count(Kind::City, ip, metrics, region);
        }
        if client.carrier.is_none() {
            client.carrier = self.ask_and_count(Kind::Asn, ip, metrics, |known| self.carrier(known));
        }
        client
    }

    /// What comes of that which a database has of an address; none if there is no such database.
    pub(crate) fn ask<T>(&self, kind: Kind, ip: IpAddr, tell: impl FnOnce(&Known<'_>) -> T) -> Option<Result<T, Miss>> {
        let source = match kind {
            Kind::City => self.city.as_ref()?,
            Kind::Asn => self.asn.as_ref()?,
        };
        Some(source.current().lookup(ip).map(|known| tell(&known)))
    }

    /// The client's region, and by what: the smallest of its subdivisions that a region lists, else its country, else the
    /// region whose point is nearest.
    pub(crate) fn region(&self, known: &Known<'_>) -> Option<(Region, Reason)> {
        let country = known.country.unwrap_or_default();
        let by_subdivision = |code: String| {
            let region = self.geography.region_of(None, Some(&code), None)?;
            Some((region, Reason::Subdivision(code)))
        };
        let by_country = || {
            let region = self.geography.region_of(Some(country), None, None)?;
            Some((region, Reason::Country(country.to_owned())))
        };
        let by_point = || {
            let (region, km) = self.geography.nearest(known.point?)?;
            Some((region, Reason::NearestPoint { km }))
        };
        known.subdivision_codes().rev().find_map(by_subdivision).or_else(by_country).or_else(by_point)
    }

    /// The client's carrier.
    pub(crate) fn carrier(&self, known: &Known<'_>) -> Option<Carrier> {
        known.asn.map(|asn| self.geography.carrier_of(asn))
    }

    fn ask_and_count<T>(
        &self,
        kind: Kind,
        ip: IpAddr,
        metrics: &Metrics,
        tell: impl FnOnce(&Known<'_>) -> Option<T>,
    ) -> Option<T> {
        let answer = self.ask(kind, ip, tell)?;
        metrics.geo.located(kind, answer.as_ref().err().copied());
        answer.ok().flatten()
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.city.iter().chain(&self.asn)
    }

    fn reload(&self, metrics: &Metrics) {
        for source in self.sources() {
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
    }
}

fn announce(source: &Source, metrics: &Metrics) {
    let (database, file) = (source.current(), source.path.display());
    metrics.geo.in_use(source.kind, database.built_s);
    tracing::info!(%file, built_s = database.built_s, unreadable_records = database.unreadable, "GeoIP database read");
}

#[cfg(test)]
mod tests {
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
        let geo = geo(CONFIGURED);
        for (ip, reason) in [
            ("192.0.2.65", Reason::Subdivision("CN-JS".to_owned())),
            ("192.0.2.129", Reason::Country("CN".to_owned())),
            ("198.51.100.193", Reason::Subdivision("GB-LND".to_owned())),
        ] {
            let region = geo.ask(Kind::City, ip.parse().unwrap(), |known| geo.region(known)).unwrap().unwrap();
            assert_eq!(region.unwrap().1, reason, "{ip}");
        }
        let paris = geo.ask(Kind::City, [198, 51, 100, 65].into(), |known| geo.region(known)).unwrap().unwrap();
        let Some((_, Reason::NearestPoint { km })) = paris else { panic!("{paris:?}") };
        assert!((470.0..490.0).contains(&km), "Paris to Frankfurt: {km}");
    }

    fn geo(tables: &str) -> Geo {
        let settings =
            Settings { geo_city: Some(made("city.mmdb")), geo_asn: Some(made("asn.mmdb")), ..Settings::default() };
        let file = sample::write(tables.as_bytes());
        let flags = std::collections::BTreeMap::<String, String>::new();
        let (_, shared) = roost_server::config::load::<_, Settings>(&flags, "scheduler", Some(file.path())).unwrap();
        Geo::open(&settings, &shared).unwrap()
    }
}
