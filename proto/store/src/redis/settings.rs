//! How to reach Redis.

use std::path::PathBuf;
use std::time::Duration;

use redis::{Client, IntoConnectionInfo, ProtocolVersion, TlsCertificates};

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
    pub(super) fn client(&self, url: &str) -> Result<Client, InvalidSetting> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if !(1..=64).contains(&self.prefix.len()) || !self.prefix.chars().all(is_plain) {
            let reason = "expected 1 to 64 letters, digits and - _ . :".to_owned();
            return Err(InvalidSetting { name: "store_prefix", value: self.prefix.clone(), reason });
        }
        let wrong = |reason: String| InvalidSetting { name: "store", value: masked(url), reason };
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        match scheme {
            "redis" | "valkey" | "unix" | "redis+unix" | "rediss" | "valkeys" => {}
            "redis+sentinel" | "redis+cluster" => {
                return Err(wrong("Sentinel and Cluster are not supported yet".into()));
            }
            _ => return Err(wrong("expected embedded, redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH".into())),
        }
        let address = url.into_connection_info().map_err(|error| wrong(error.to_string()))?;
        // With RESP3 a connection tells that it ended also while nobody calls.
        let redis = address.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        let address = address.set_redis_settings(redis);
        if !matches!(scheme, "rediss" | "valkeys") {
            return Client::open(address).map_err(|error| wrong(error.to_string()));
        }
        // One crypto provider for all processes. That it is installed already is no error.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let root_cert = self.ca_file.as_ref().map(std::fs::read).transpose().map_err(|error| InvalidSetting {
            name: "store_ca_file",
            value: self.ca_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            reason: error.to_string(),
        })?;
        let certificates = TlsCertificates { client_tls: None, root_cert };
        Client::build_with_tls(address, certificates).map_err(|error| wrong(error.to_string()))
    }
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
    fn a_url_that_cannot_be_used_is_named_without_its_password() {
        for (url, expected) in [
            ("redis+cluster://u:secret@h:1", "not supported yet"),
            ("redis+sentinel://h:1", "not supported yet"),
            ("http://u:secret@h", "expected embedded, redis://"),
            ("", "expected embedded, redis://"),
            ("redis://u:secret@h:99999", "store"),
        ] {
            let error = RedisSettings::default().client(url).expect_err(url).to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
        let settings = RedisSettings { prefix: "a*{b}".into(), ..RedisSettings::default() };
        assert!(settings.client("redis://localhost").expect_err("prefix").to_string().starts_with("store_prefix"));
        let settings = RedisSettings { ca_file: Some("/nowhere.pem".into()), ..RedisSettings::default() };
        assert!(settings.client("rediss://localhost").expect_err("file").to_string().contains("/nowhere.pem"));
    }
}
