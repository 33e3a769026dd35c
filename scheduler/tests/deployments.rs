//! The configurations that are shipped: where clients are by them, and in which order nodes take their rooms.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use roost_proto::event::Event;
use roost_proto::explain::Candidate;
use roost_proto::id::{Carrier, Incarnation, NamespaceId, Region, RoomKey};
use roost_proto::report::Report;
use roost_proto::time::Millis;
use roost_scheduler_core::explain::ranking;
use roost_scheduler_core::geography::Geography;
use roost_scheduler_core::place::place;
use roost_scheduler_core::request::Request;
use roost_scheduler_core::view::View;
use roost_server::{Shared, config};

/// Name, region, and the carriers that it is on; none: all.
type Node<'a> = (&'a str, &'a str, &'a [&'a str]);

#[test]
fn on_one_machine_every_client_gets_its_node() {
    let cluster = Deployment::of("single.toml", &[("node-1", "local", &[])]);
    for client in [Client::unknown(), Client::at("CN", "CN-GD", 4134), Client::said("eu")] {
        cluster.expect("default", &client, "anywhere: node-1");
    }
}

#[test]
fn in_a_private_network_rooms_stay_where_their_department_may_be() {
    let mut cluster = Deployment::of("private.toml", &[("hq-1", "corp/hq", &[]), ("plant-1", "corp/plant", &[])]);
    cluster.add(("board-1", "corp/hq", &[]), &["board"]);
    for (namespace, client, expected) in [
        ("engineering", Client::said("corp/plant"), "region: plant-1, parent: hq-1 | wrong_namespace: board-1"),
        ("engineering", Client::unknown(), "region: hq-1 plant-1 | wrong_namespace: board-1"),
        ("board", Client::said("corp/plant"), "anywhere: board-1 hq-1 | outside_fence: plant-1"),
        ("board", Client::unknown(), "anywhere: board-1 hq-1 | outside_fence: plant-1"),
    ] {
        cluster.expect(namespace, &client, expected);
    }
}

#[test]
fn in_one_region_the_nearest_site_is_taken_and_there_the_carriers_node() {
    let cluster = Deployment::of(
        "regional.toml",
        &[
            ("fra-ix", "de/west/frankfurt", &[]),
            ("fra-dt", "de/west/frankfurt", &["telekom"]),
            ("fra-vf", "de/west/frankfurt", &["vodafone"]),
            ("ber-dt", "de/east/berlin", &["telekom"]),
            ("muc-ix", "de/south/munich", &[]),
        ],
    );
    let (cologne, leipzig, vienna) = ((50.9, 7.0), (51.3, 12.4), (48.2, 16.4));
    for (namespace, client, expected) in [
        (
            "default",
            Client::near("DE", cologne, 3320),
            "region+carrier: fra-dt fra-ix, region: fra-vf, parent+carrier: ber-dt muc-ix",
        ),
        (
            "default",
            Client::near("AT", vienna, 8447),
            "region+carrier: muc-ix, parent+carrier: fra-ix, parent: ber-dt fra-dt fra-vf",
        ),
        ("default", Client::unknown(), "region+carrier: ber-dt fra-dt fra-ix fra-vf muc-ix"),
        ("music", Client::near("DE", leipzig, 3209), "region: ber-dt | beyond_ladder: fra-dt fra-ix fra-vf muc-ix"),
    ] {
        cluster.expect(namespace, &client, expected);
    }
}

#[test]
fn in_one_country_the_carrier_comes_before_the_province() {
    let cluster = Deployment::of(
        "national.toml",
        &[
            ("sh-ct", "cn/east/shanghai", &["telecom"]),
            ("sh-cu", "cn/east/shanghai", &["unicom"]),
            ("hz-ct", "cn/east/zhejiang", &["telecom"]),
            ("hz-cm", "cn/east/zhejiang", &["mobile"]),
            ("gz-cm", "cn/south/guangdong", &["mobile"]),
            ("bj-bgp", "cn/north/beijing", &[]),
            ("hk", "hk", &[]),
        ],
    );
    for (namespace, client, expected) in [
        (
            "default",
            Client::at("CN", "CN-SH", 4812),
            "region+carrier: sh-ct, parent+carrier: hz-ct, region: sh-cu, parent: hz-cm, \
             anywhere: bj-bgp, anywhere: gz-cm | outside_fence: hk",
        ),
        (
            "default",
            Client::at("CN", "CN-ZJ", 56041),
            "region+carrier: hz-cm, region: hz-ct, parent: sh-ct sh-cu, anywhere: bj-bgp gz-cm | outside_fence: hk",
        ),
        (
            "default",
            Client::at("CN", "CN-XJ", 4538),
            "anywhere: bj-bgp, anywhere: gz-cm hz-cm hz-ct sh-ct sh-cu | outside_fence: hk",
        ),
        (
            "default",
            Client::at("CN", "", 9929),
            "region+carrier: bj-bgp sh-cu, region: gz-cm hz-cm hz-ct sh-ct | outside_fence: hk",
        ),
        (
            "default",
            Client::near("US", (37.8, -122.4), 7922),
            "region+carrier: bj-bgp, region: gz-cm hz-cm hz-ct sh-ct sh-cu | outside_fence: hk",
        ),
        (
            "school",
            Client::at("CN", "CN-JS", 4134),
            "parent+carrier: hz-ct sh-ct, parent: hz-cm sh-cu | outside_fence: hk, beyond_ladder: bj-bgp gz-cm",
        ),
        (
            "school",
            Client::at("CN", "CN-XJ", 4134),
            " | outside_fence: hk, beyond_ladder: bj-bgp gz-cm hz-cm hz-ct sh-ct sh-cu",
        ),
    ] {
        cluster.expect(namespace, &client, expected);
    }
}

#[test]
fn every_province_is_a_region_and_every_national_carrier_is_known() {
    let geography = Deployment::of("national.toml", &[]).geography;
    let provinces = "AH BJ CQ FJ GD GS GX GZ HA HB HE HI HL HN JL JS JX LN NM NX QH SC SD SH SN SX TJ XJ XZ YN ZJ";
    let mut regions = Vec::new();
    for province in provinces.split(' ') {
        let region = geography.region_of(Some("CN"), Some(&format!("CN-{province}")), None).unwrap();
        assert_eq!(region.depth(), 3, "{province} is in {region}");
        regions.push(region);
    }
    regions.sort();
    regions.dedup();
    assert_eq!(regions.len(), 31);
    for (carrier, asns) in [
        ("telecom", &[4134, 4809, 4812, 23724][..]),
        ("unicom", &[4837, 9929, 4808]),
        ("mobile", &[9808, 24400, 56040, 56041, 56042, 56043, 56044, 56045, 56046, 56047, 56048]),
        ("education", &[4538]),
    ] {
        for asn in asns {
            assert_eq!(geography.carrier_of(*asn).as_str(), carrier, "AS{asn}");
        }
    }
}

#[test]
fn all_over_the_world_fences_hold_and_the_nearest_place_comes_first() {
    let cluster = Deployment::of(
        "global.toml",
        &[
            ("fra", "eu/central/frankfurt", &[]),
            ("dub", "eu/west/dublin", &[]),
            ("lon", "uk/london", &[]),
            ("iad", "na/east/ashburn", &[]),
            ("sjc", "na/west/san-jose", &[]),
            ("sin", "ap/southeast/singapore", &[]),
            ("pvg-ct", "cn/east/shanghai", &["telecom"]),
            ("pek", "cn/north/beijing", &[]),
        ],
    );
    let (new_york, tokyo, sydney, zurich) = ((40.7, -74.0), (35.7, 139.7), (-33.9, 151.2), (47.4, 8.5));
    let outside_eu = "outside_fence: iad lon pek pvg-ct sin sjc";
    for (namespace, client, expected) in [
        (
            "default",
            Client::near("DE", (52.5, 13.4), 3320),
            "region+carrier: fra, parent+carrier: dub, anywhere: iad lon sin sjc | outside_fence: pek pvg-ct",
        ),
        (
            "default",
            Client::near("US", new_york, 7922),
            "region+carrier: iad, parent+carrier: sjc, anywhere: dub fra lon sin | outside_fence: pek pvg-ct",
        ),
        ("default", Client::at("CN", "CN-SH", 4134), "anywhere: dub fra iad lon sin sjc | outside_fence: pek pvg-ct"),
        ("eu-only", Client::near("JP", tokyo, 2516), &format!("anywhere: dub fra | {outside_eu}")),
        ("eu-only", Client::at("GB", "GB-ENG", 2856), &format!("anywhere: dub fra | {outside_eu}")),
        (
            "china",
            Client::at("CN", "CN-SH", 4812),
            "region+carrier: pvg-ct, parent+carrier: pek | outside_fence: dub fra iad lon sin sjc",
        ),
        (
            "china",
            Client::at("CN", "CN-ZJ", 4837),
            "parent+carrier: pek, region: pvg-ct | outside_fence: dub fra iad lon sin sjc",
        ),
        ("arcade", Client::near("CH", zurich, 3303), "region: dub fra | beyond_ladder: iad lon pek pvg-ct sin sjc"),
        ("arcade", Client::near("AU", sydney, 1221), " | beyond_ladder: dub fra iad lon pek pvg-ct sin sjc"),
        (
            "atlantic",
            Client::near("ES", (40.4, -3.7), 3352),
            "region+carrier: dub, anywhere: iad lon sjc | outside_fence: fra pek pvg-ct sin",
        ),
    ] {
        cluster.expect(namespace, &client, expected);
    }
}

/// What is known of a client.
#[derive(Debug, Default)]
struct Client {
    country: Option<&'static str>,
    subdivision: Option<&'static str>,
    point: Option<(f64, f64)>,
    asn: Option<u32>,
    /// The region that a caller with an API key says.
    said: Option<&'static str>,
}

impl Client {
    fn unknown() -> Self {
        Self::default()
    }

    fn at(country: &'static str, subdivision: &'static str, asn: u32) -> Self {
        Self { country: Some(country), subdivision: Some(subdivision), asn: Some(asn), ..Self::default() }
    }

    fn near(country: &'static str, point: (f64, f64), asn: u32) -> Self {
        Self { country: Some(country), point: Some(point), asn: Some(asn), ..Self::default() }
    }

    fn said(region: &'static str) -> Self {
        Self { said: Some(region), ..Self::default() }
    }
}

/// A shipped file, and idle nodes that have reported.
struct Deployment {
    shared: Shared,
    geography: Geography,
    view: View,
}

const NOW: Millis = Millis(0);

impl Deployment {
    fn of(file: &str, nodes: &[Node<'_>]) -> Self {
        let path = shipped(file);
        let (_, shared) =
            config::load::<_, serde_json::Value>(&BTreeMap::<String, String>::new(), "agent", Some(&path)).unwrap();
        let geography = Geography::new(&shared.regions, &shared.carriers).unwrap();
        let mut view = View::new(NOW);
        view.listen(NOW);
        let mut deployment = Self { shared, geography, view };
        for node in nodes {
            deployment.add(*node, &[]);
        }
        deployment
    }

    fn add(&mut self, (id, region, carriers): Node<'_>, namespaces: &[&str]) {
        let mut report: Report = serde_json::from_str(include_str!("../../proto/golden/report.json")).unwrap();
        report.node = id.parse().unwrap();
        (report.incarnation, report.seq, report.full) = (Incarnation(1), 1, true);
        report.changed.clear();
        report.ended.clear();
        (report.rooms, report.participants, report.streams) = (0, 0, 0);
        report.host = Default::default();
        report.description.region = Region::new(region).unwrap();
        report.description.carriers = carriers.iter().map(|name| Carrier::new(name).unwrap()).collect();
        report.description.namespaces = namespaces.iter().map(|name| NamespaceId::new(name).unwrap()).collect();
        self.view.apply(Event::Reported(Box::new(report)), NOW);
    }

    /// The nodes that take a room of the client in their order, rung by rung, those that rank alike by name; then who
    /// refuses it, by reason.
    fn expect(&self, namespace: &str, client: &Client, expected: &str) {
        let key = RoomKey::new(namespace, "standup").unwrap();
        let said = client.said.map(|region| Region::new(region).unwrap());
        let region = said.or_else(|| self.geography.region_of(client.country, client.subdivision, client.point));
        let carrier = client.asn.map(|asn| self.geography.carrier_of(asn));
        let policy = self.shared.namespaces.of(&key.namespace);
        let request = Request { region: region.as_ref(), carrier: carrier.as_ref(), ..Request::new(&key, policy) };
        let ranking = ranking(&self.view, &request);
        let placed = place(&self.view, &request).ok();
        let first = ranking.candidates.first();
        assert_eq!(placed.map(|placed| &placed.node.report.node), first.map(|first| &first.node));
        assert_eq!(placed.map(|placed| placed.rung), first.map(|first| first.rung));
        let alike = |candidate: &Candidate| (candidate.rung, candidate.region_missing, candidate.other_carrier);
        let takers = ranking.candidates.chunk_by(|a, b| alike(a) == alike(b)).map(|group| {
            let mut names: Vec<_> = group.iter().map(|candidate| candidate.node.as_str()).collect();
            names.sort_unstable();
            format!("{}: {}", group[0].rung, names.join(" "))
        });
        let refusals = ranking.counts.iter().map(|counted| {
            let of_reason = ranking.rejections.iter().filter(|rejection| rejection.reason == counted.reason);
            let names: Vec<_> = of_reason.map(|rejection| rejection.node.as_str()).collect();
            format!("{}: {}", counted.reason.as_str(), names.join(" "))
        });
        let (takers, refusals) = (takers.collect::<Vec<_>>().join(", "), refusals.collect::<Vec<_>>().join(", "));
        let separator = if refusals.is_empty() { "" } else { " | " };
        assert_eq!(format!("{takers}{separator}{refusals}"), expected, "{namespace} {client:?} {region:?} {carrier:?}");
    }
}

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/config").join(file)
}
