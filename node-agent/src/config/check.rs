//! What settings must be like. Each error names the key, its value, and what was expected.

use std::net::ToSocketAddrs;

use roost_agent_core::lease::{MAX_LEASE_MS, MIN_LEASE_MS};
use roost_proto::geography::{self, Carriers};
use roost_proto::id::{Carrier, Region};
use roost_proto::report::{ALL_PERMILLE, MOST_NETWORK_BPS, MediaKind};
use roost_server::{ClusterKeys, ConfigError};

use super::{Settings, Uplink};

/// More cores than any machine that we know of.
pub(super) const MAX_WORKERS: u16 = 512;

const ONE_DAY_S: u64 = 24 * 3_600;

/// Where an agent in development looks for its scheduler.
const DEV_UPLINK: &str = "http://127.0.0.1:7402";

pub(super) fn required<T>(key: &str, set: Option<T>, or: Option<T>) -> Result<T, ConfigError> {
    set.or(or).ok_or_else(|| ConfigError::wrong(key, "", "a value: it is required without --dev"))
}

pub(super) fn keys(settings: &Settings) -> Result<Option<ClusterKeys>, ConfigError> {
    match &settings.cluster_key_file {
        Some(path) => ClusterKeys::from_file(path).map(Some).map_err(|error| ConfigError::Key {
            origin: ConfigError::UNLOCATED.to_owned(),
            key: "cluster_key_file".to_owned(),
            message: error.to_string(),
        }),
        None if settings.dev => Ok(Some(ClusterKeys::dev())),
        None if settings.standalone => Ok(None),
        None => Err(ConfigError::wrong("cluster_key_file", "", "the file with the cluster's key, or --dev")),
    }
}

pub(super) fn uplink(settings: &Settings) -> Result<Uplink, ConfigError> {
    if settings.standalone {
        return match &settings.uplink {
            None => Ok(Uplink::Standalone),
            Some(url) => Err(ConfigError::wrong("uplink", url, "none with standalone = true")),
        };
    }
    let url = required("uplink", settings.uplink.clone(), settings.dev.then(|| DEV_UPLINK.to_owned()))?;
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme {
        "redis" | "rediss" | "redis+sentinel" | "rediss+sentinel" | "redis+cluster" | "rediss+cluster" => {
            Ok(Uplink::Redis { url })
        }
        "http" | "https" if url.parse::<reqwest::Url>().is_ok() => {
            Ok(Uplink::Scheduler { url: url.trim_end_matches('/').to_owned() })
        }
        _ => {
            // There may be a password in what follows the scheme.
            let shown = if scheme.is_empty() { url } else { format!("{scheme}://…") };
            Err(ConfigError::wrong(
                "uplink",
                shown,
                "redis://…, rediss://…, redis+sentinel://…, redis+cluster://…, or http://SCHEDULER:7402",
            ))
        }
    }
}

pub(super) fn urls(settings: &Settings) -> Result<(), ConfigError> {
    for (key, url) in [("signaling_url", &settings.signaling_url), ("link_url", &settings.link_url)] {
        let Some(url) = url else {
            if settings.dev || settings.standalone {
                continue;
            }
            return Err(ConfigError::wrong(
                key,
                "",
                "the URL that others reach it by, like wss://fra-1.example/signaling",
            ));
        };
        let is_socket = reqwest::Url::parse(url)
            .is_ok_and(|url| matches!(url.scheme(), "ws" | "wss") && url.has_host() && url.fragment().is_none());
        if !is_socket {
            return Err(ConfigError::wrong(key, url, "a URL that begins with ws:// or wss://"));
        }
    }
    Ok(())
}

pub(super) fn tls(settings: &Settings) -> Result<(), ConfigError> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert), None) => {
            Err(ConfigError::wrong("tls_key", "", &format!("the key of tls_cert {}", cert.display())))
        }
        (None, Some(key)) => Err(ConfigError::wrong("tls_cert", "", &format!("the certificate of {}", key.display()))),
        _ => Ok(()),
    }
}

pub(super) fn numbers(settings: &Settings) -> Result<(), ConfigError> {
    let lease = MIN_LEASE_MS..=MAX_LEASE_MS;
    for (key, value, allowed) in [
        ("lease_ms", settings.lease_ms, lease),
        ("workers", u64::from(settings.workers), 1..=u64::from(MAX_WORKERS)),
        ("empty_room_s", settings.empty_room_s, 0..=ONE_DAY_S),
        ("leave_s", settings.leave_s, 0..=ONE_DAY_S),
        ("max_bandwidth_mbps", settings.max_bandwidth_mbps, 0..=MOST_NETWORK_BPS / 1_000_000),
        ("max_cpu_permille", settings.max_cpu_permille.unwrap_or(0).into(), 0..=ALL_PERMILLE.into()),
        ("max_memory_permille", settings.max_memory_permille.unwrap_or(0).into(), 0..=ALL_PERMILLE.into()),
    ] {
        if !allowed.contains(&value) {
            let expected = format!("a number from {} to {}", allowed.start(), allowed.end());
            return Err(ConfigError::wrong(key, value, &expected));
        }
    }
    let last = u32::from(settings.media_port) + u32::from(settings.workers) - 1;
    if settings.media_port > 0 && last > u32::from(u16::MAX) {
        return Err(ConfigError::wrong("media_port", settings.media_port, "a port with one for each worker after it"));
    }
    Ok(())
}

pub(super) fn media(settings: &Settings) -> Result<(), ConfigError> {
    match settings.media {
        MediaKind::External => {
            Err(ConfigError::wrong("media", "external", "mediasoup or synthetic: external is not served yet"))
        }
        MediaKind::Mediasoup if settings.media_announced.is_empty() => match settings.media_listen {
            None if settings.dev => Ok(()),
            Some(address) if !address.is_unspecified() => Ok(()),
            _ => Err(ConfigError::wrong(
                "media_announced",
                "",
                "an address that clients reach, because media_listen is not one address",
            )),
        },
        MediaKind::Mediasoup | MediaKind::Synthetic => Ok(()),
    }
}

/// The region is a place in the tree, and the carriers are such as clients have.
pub(super) fn place(region: &Region, carriers: &[Carrier], known: &Carriers) -> Result<(), ConfigError> {
    geography::check_path("region", region)?;
    for carrier in carriers {
        geography::check_carrier("carrier", carrier, known)?;
    }
    Ok(())
}

/// In development nothing listens where others can reach it.
pub(super) fn loopback(key: &str, address: &str) -> Result<(), ConfigError> {
    let is_loopback =
        address.to_socket_addrs().is_ok_and(|mut found| found.all(|address| address.ip().to_canonical().is_loopback()));
    if is_loopback { Ok(()) } else { Err(ConfigError::wrong(key, address, "a loopback address, because of --dev")) }
}

#[cfg(test)]
mod tests {
    use roost_proto::report::Capacity;
    use roost_server::Shared;

    use super::super::Config;
    use super::*;

    #[test]
    fn in_development_nothing_need_be_said() {
        let config = load(|settings| settings.dev = true).expect("enough");
        assert_eq!(config.uplink, Uplink::Scheduler { url: DEV_UPLINK.to_owned() });
        assert_eq!((config.signaling_listen.as_str(), config.require_ticket), ("127.0.0.1:7410", false));
        assert!(config.settings.cors_origin.is_any());
    }

    #[test]
    fn what_is_in_force_is_what_is_printed() {
        let config = load(|settings| {
            (settings.dev, settings.workers) = (true, 2);
            settings.cors_origin = "https://a.example".parse().expect("an origin");
        });
        let settings = config.expect("enough").settings;
        assert_eq!(settings.signaling_listen.as_deref(), Some("127.0.0.1:7410"));
        assert_eq!(settings.link_listen.as_deref(), Some("127.0.0.1:7412"));
        assert_eq!(settings.uplink.as_deref(), Some(DEV_UPLINK));
        assert_eq!((settings.require_ticket, settings.max_participants), (Some(false), 200));
        assert!(settings.node_id.is_some() && settings.region.is_some() && settings.media_listen.is_some());
        assert!(!settings.cors_origin.is_any(), "a flag is stronger than the default of --dev");
    }

    #[test]
    fn standing_alone_needs_neither_key_nor_scheduler() {
        let config = load(|settings| {
            settings.standalone = true;
            settings.media = MediaKind::Synthetic;
        })
        .expect("enough");
        assert_eq!((config.uplink, config.keys.is_none(), config.require_ticket), (Uplink::Standalone, true, false));
    }

    #[test]
    fn a_worker_carries_100_participants_unless_said() {
        let most = |max_participants| {
            let config = load(|settings| {
                (settings.dev, settings.workers, settings.max_participants) = (true, 3, max_participants);
            });
            config.expect("enough").capacity.participants
        };
        assert_eq!((most(0), most(7)), (300, 7));
    }

    #[test]
    fn what_a_node_takes_is_set_or_known_or_without_limit() {
        let capacity = |dev: bool, change: fn(&mut Settings)| {
            let config = load(|settings| {
                (settings.dev, settings.standalone, settings.media) = (dev, !dev, MediaKind::Synthetic);
                change(settings);
            });
            let config = config.expect("enough");
            let Capacity { streams, bandwidth_bps, cpu_permille, memory_permille, .. } = config.capacity;
            let printed = &config.settings;
            assert_eq!(printed.max_bandwidth_mbps * 1_000_000, bandwidth_bps);
            assert_eq!(
                (printed.max_cpu_permille, printed.max_memory_permille),
                (Some(cpu_permille), Some(memory_permille))
            );
            (streams, bandwidth_bps, cpu_permille, memory_permille)
        };
        let set: fn(&mut Settings) = |s| {
            (s.max_streams, s.max_bandwidth_mbps) = (5_000, 300);
            (s.max_cpu_permille, s.max_memory_permille) = (Some(800), Some(0));
        };
        assert_eq!(capacity(false, |_| ()), (0, 1_000_000_000, 950, 950), "the link's speed is known");
        assert_eq!(capacity(true, |_| ()), (0, 0, 0, 0), "a busy laptop is never full");
        assert_eq!([capacity(false, set), capacity(true, set)], [(5_000, 300_000_000, 800, 0); 2]);
    }

    #[test]
    fn what_is_wrong_or_missing_is_named() {
        type Row = (fn(&mut Settings), &'static str, &'static str);
        let rows: [Row; 17] = [
            (|s| s.dev = false, "cluster_key_file", "expected the file"),
            (|s| s.uplink = Some("mysql://u:secret@x".into()), "uplink", "\"mysql://…\""),
            (|s| s.uplink = Some("redis+other://x".into()), "uplink", "\"redis+other://…\""),
            (|s| s.signaling_url = Some("http://x".into()), "signaling_url", "ws://"),
            (|s| s.link_url = Some("wss://".into()), "link_url", "wss://"),
            (|s| s.tls_cert = Some("c".into()), "tls_key", "c"),
            (|s| s.lease_ms = 2_999, "lease_ms", "3000 to 60000"),
            (|s| s.workers = 0, "workers", "1 to 512"),
            (|s| s.max_cpu_permille = Some(1_001), "max_cpu_permille", "1001: expected a number from 0 to 1000"),
            (|s| s.max_memory_permille = Some(u32::MAX), "max_memory_permille", "0 to 1000"),
            (|s| s.max_bandwidth_mbps = u64::MAX, "max_bandwidth_mbps", "0 to 10000000"),
            (|s| s.media_port = 65_535, "media_port", "65535"),
            (|s| s.media = MediaKind::External, "media", "not served yet"),
            (|s| s.media_listen = Some([0, 0, 0, 0].into()), "media_announced", "clients reach"),
            (|s| s.signaling_listen = Some("0.0.0.0:1".into()), "signaling_listen", "loopback"),
            (|s| s.standalone = true, "uplink", "none with standalone"),
            (
                |s| (s.standalone, s.dev, s.uplink, s.require_ticket) = (true, false, None, Some(true)),
                "require_ticket",
                "false",
            ),
        ];
        for (change, key, says) in rows {
            let error = load(|settings| {
                (settings.dev, settings.workers, settings.uplink) = (true, 2, Some("redis://127.0.0.1".to_owned()));
                settings.media_port = 44_400;
                change(settings);
                if key == "require_ticket" {
                    settings.media = MediaKind::Synthetic;
                }
            });
            let error = error.expect_err(key).to_string();
            assert!(error.contains(key) && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_carrier_that_no_client_has_is_refused_with_those_that_are_known() {
        let carriers = serde_json::json!({ "telecom": { "asns": [4134] }, "mobile": { "asns": [9808] } });
        let shared = Shared { carriers: serde_json::from_value(carriers).expect("carriers"), ..Shared::default() };
        for (region, carrier, says) in [
            ("cn/east", "telecom", None),
            ("cn/east", "AS4837", None),
            ("cn/east", "telekom", Some("carrier: \"telekom\": expected AS and a number, or one of mobile, telecom")),
            ("cn/east", "AS4134", Some("carrier: \"AS4134\": expected telecom, which has it in its asns")),
            ("cn/east/cn", "telecom", Some("region: \"cn/east/cn\": expected the label cn once")),
        ] {
            let mut settings = Settings { dev: true, ..Settings::default() };
            settings.region = Some(Region::new(region).expect("a path"));
            settings.carrier = vec![Carrier::new(carrier).expect("a carrier")];
            let error = Config::new(settings, shared.clone(), None).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), says.is_some(), "{error:?}");
            assert!(error.unwrap_or_default().contains(says.unwrap_or_default()), "{says:?}");
        }
    }

    fn load(change: impl FnOnce(&mut Settings)) -> Result<Config, ConfigError> {
        let mut settings = Settings::default();
        change(&mut settings);
        Config::new(settings, Shared::default(), Some(1_000))
    }
}
