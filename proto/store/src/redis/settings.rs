//! How to reach Redis.

use std::path::PathBuf;
use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates};

use super::cluster::Cluster;
use super::reach::{Reach, Sentinels};
use super::shard::Place;

const EXPECTED: &str = "expected embedded, redis://HOST:PORT, rediss://HOST:PORT, unix:///PATH, \
    redis+sentinel://HOST:PORT,HOST:PORT/MASTER or redis+cluster://HOST:PORT,HOST:PORT";
const EXPECTED_SENTINEL: &str = "expected redis+sentinel://HOST:PORT,HOST:PORT/MASTER";

/// What goes with the URL.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// All keys begin with it: 1 to 64 letters, digits and `- _ . :`.
    pub prefix: String,
    /// How many connections; as many as the process has server threads is best.
    pub connections: usize,
    /// How long a connection or an answer may take. An answer that takes longer is unknown.
    pub timeout: Duration,
    /// The certificates (PEM) that a `rediss://` server is trusted by; none: those of the system.
    pub ca_file: Option<PathBuf>,
}

/// A setting of the store that cannot be used. Passwords are left out.
#[derive(Debug, thiserror::Error)]
#[error("{name} {value:?}: {reason}")]
pub struct InvalidSetting {
    pub name: &'static str,
    pub value: String,
    pub reason: String,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self { prefix: "roost".to_owned(), connections: 2, timeout: Duration::from_secs(1), ca_file: None }
    }
}

impl RedisSettings {
    pub(super) fn place(&self, url: &str) -> Result<Place, InvalidSetting> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if !(1..=64).contains(&self.prefix.len()) || !self.prefix.chars().all(is_plain) {
            let reason = "expected 1 to 64 letters, digits and - _ . :".to_owned();
            return Err(InvalidSetting { name: "store_prefix", value: self.prefix.clone(), reason });
        }
        let wrong = |reason: String| InvalidSetting { name: "store", value: masked(url), reason };
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let refused = |error: redis::RedisError| wrong(error.to_string());
        match scheme {
            "redis" | "valkey" | "unix" | "redis+unix" => {
                Client::open(resp3(url).map_err(refused)?).map(Place::Server).map_err(refused)
            }
            "rediss" | "valkeys" => {
                let address = resp3(url).map_err(refused)?;
                Client::build_with_tls(address, self.certificates()?).map(Place::Server).map_err(refused)
            }
            "redis+sentinel" | "rediss+sentinel" => {
                let (hosts, path) = rest.split_once('/').ok_or_else(|| wrong(EXPECTED_SENTINEL.into()))?;
                let (master, database) = path.split_once('/').unwrap_or((path, "0"));
                let (addresses, reach) = self.several(scheme, hosts, database, 26_379).map_err(wrong)?;
                if master.is_empty() {
                    return Err(wrong(EXPECTED_SENTINEL.into()));
                }
                let master = master.to_owned();
                let reach = self.with_tls(scheme, reach)?;
                Ok(Place::Sentinels(Sentinels { addresses, master, reach }))
            }
            "redis+cluster" | "rediss+cluster" => {
                let hosts = rest.trim_end_matches('/');
                let (seeds, reach) = self.several(scheme, hosts, "0", 6_379).map_err(wrong)?;
                Ok(Place::Cluster(Cluster::new(seeds, self.with_tls(scheme, reach)?)))
            }
            _ => Err(wrong(EXPECTED.into())),
        }
    }

    /// Hosts with their ports, and what is the same for all of them.
    fn several(
        &self,
        scheme: &str,
        hosts: &str,
        database: &str,
        default_port: u16,
    ) -> Result<(Vec<(String, u16)>, Reach), String> {
        let (user, hosts) = hosts.rsplit_once('@').map_or(("", hosts), |(user, hosts)| (user, hosts));
        let at = if user.is_empty() { "" } else { "@" };
        let mut addresses = Vec::new();
        let mut reach = None;
        for host in hosts.split(',') {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let port = if has_port { String::new() } else { format!(":{default_port}") };
            // The scheme is not part of it, so that a password is read as in any other URL.
            let info =
                resp3(&format!("redis://{user}{at}{host}{port}/{database}")).map_err(|error| error.to_string())?;
            let ConnectionAddr::Tcp(host, port) = info.addr() else { return Err(format!("{scheme}: no host")) };
            addresses.push((host.clone(), *port));
            reach.get_or_insert(Reach { settings: info.redis_settings().clone(), tls: None });
        }
        reach.map(|reach| (addresses, reach)).ok_or_else(|| "no host".to_owned())
    }

    fn with_tls(&self, scheme: &str, reach: Reach) -> Result<Reach, InvalidSetting> {
        let tls = if scheme.starts_with("rediss") { Some(self.certificates()?) } else { None };
        Ok(Reach { tls, ..reach })
    }

    fn certificates(&self) -> Result<TlsCertificates, InvalidSetting> {
        // One crypto provider for all processes. That it is installed already is no error.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let root_cert = self.ca_file.as_ref().map(std::fs::read).transpose().map_err(|error| InvalidSetting {
            name: "store_ca_file",
            value: self.ca_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            reason: error.to_string(),
        })?;
        Ok(TlsCertificates { client_tls: None, root_cert })
    }
}

/// With RESP3 a connection tells that it ended also while nobody calls.
fn resp3(url: &str) -> redis::RedisResult<ConnectionInfo> {
    let address = url.into_connection_info()?;
    let redis = address.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    Ok(address.set_redis_settings(redis))
}

/// The URL without its user and password.
fn masked(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if host.len() == rest.len() { url.to_owned() } else { format!("{scheme}://***@{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_servers_share_user_password_and_database() {
        let settings = RedisSettings::default();
        let url = "redis+sentinel://roost:a%2Fb@10.0.0.1,[::1]:7,s.example:8/main/3";
        let Place::Sentinels(found) = settings.place(url).expect("valid") else { panic!("sentinels") };
        let expected = [("10.0.0.1".to_owned(), 26_379), ("::1".to_owned(), 7), ("s.example".to_owned(), 8)];
        assert_eq!((found.addresses.as_slice(), found.master.as_str()), (expected.as_slice(), "main"));
        let redis = found.reach.settings;
        assert_eq!((redis.username(), redis.password(), redis.db()), (Some("roost"), Some("a/b"), 3));
        let Place::Cluster(found) = settings.place("rediss+cluster://h,i:1/").expect("valid") else {
            panic!("a cluster")
        };
        assert_eq!(found.seeds, [("h".to_owned(), 6_379), ("i".to_owned(), 1)]);
        assert!(found.reach.tls.is_some());
    }

    #[test]
    fn a_url_that_cannot_be_used_is_named_without_its_password() {
        for (url, expected) in [
            ("redis+cluster://u:secret@h:1,h:99999", "store"),
            ("redis+cluster://u:secret@", "store"),
            ("redis+sentinel://u:secret@h:1", "HOST:PORT/MASTER"),
            ("redis+sentinel://u:secret@h:1/", "HOST:PORT/MASTER"),
            ("redis+sentinel://u:secret@h:1/main/x", "store"),
            ("http://u:secret@h", "expected embedded, redis://"),
            ("", "expected embedded, redis://"),
            ("redis://u:secret@h:99999", "store"),
        ] {
            let error = RedisSettings::default().place(url).expect_err(url).to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
        let settings = RedisSettings { prefix: "a*{b}".into(), ..RedisSettings::default() };
        assert!(settings.place("redis://localhost").expect_err("prefix").to_string().starts_with("store_prefix"));
        let settings = RedisSettings { ca_file: Some("/nowhere.pem".into()), ..RedisSettings::default() };
        assert!(settings.place("rediss://localhost").expect_err("file").to_string().contains("/nowhere.pem"));
    }
}
