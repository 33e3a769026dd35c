//! The flags of `roost-scheduler serve`, and the settings that come of them, the environment and the file.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use actix_web::http::Uri;
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use roost_scheduler_core::brake::{BRAKE, BrakeSettings};
use roost_server::secret::masked_url;
use roost_server::{AllowedOrigins, ClientAddress, ClusterKeys, ConfigError, LogFormat, Shared, TrustedHeader, config};
use serde::{Deserialize, Serialize};

use crate::ledger::{self, Address};

/// Decides where rooms live, and sends clients there.
#[derive(Debug, Parser)]
#[command(name = "roost-scheduler", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answers lookups until it is told to stop.
    Serve(Box<Flags>),
    /// Takes what `serve --record` wrote and runs it once more, with another configuration if one is given.
    Replay(crate::replay::Flags),
    /// Runs scenarios with the real placement in simulated time, and holds the figures to their goals.
    Simulate(crate::simulate::Flags),
    /// Says what is known of addresses: where they are, and which region and carrier the configuration gives them.
    Locate(crate::locate::Flags),
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct Flags {
    /// The TOML file with everything that is not said by flags or the environment.
    #[arg(long, env = "ROOST_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Prints the configuration that is in force, secrets masked, and ends.
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
    /// For clients [default: 0.0.0.0:7400].
    #[arg(long, env = "ROOST_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// For operators and Prometheus [default: 127.0.0.1:7401].
    #[arg(long, env = "ROOST_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// For agents [default: 0.0.0.0:7402].
    #[arg(long, env = "ROOST_CLUSTER_LISTEN", value_name = "ADDRESS")]
    cluster_listen: Option<String>,
    /// Where agents reach the cluster listener.
    #[arg(long, env = "ROOST_CLUSTER_URL", value_name = "URL")]
    cluster_url: Option<String>,
    /// `embedded`, or the URL of a Redis [default: embedded]. One with a password belongs in the environment or the file:
    /// other users of the machine can read arguments.
    #[arg(long, env = "ROOST_STORE", value_name = "STORE", hide_env_values = true)]
    store: Option<String>,
    /// What the names of all keys in Redis begin with [default: roost].
    #[arg(long, env = "ROOST_STORE_PREFIX", value_name = "TEXT")]
    store_prefix: Option<String>,
    /// The certificates that Redis's own must be signed by, instead of the machine's roots.
    #[arg(long, env = "ROOST_STORE_CA_FILE", value_name = "FILE")]
    store_ca_file: Option<PathBuf>,
    /// A GeoIP database that gives clients' regions (GeoLite2-City, GeoIP2-City, DBIP-City-Lite); read again when it
    /// changes.
    #[arg(long, env = "ROOST_GEO_CITY", value_name = "FILE")]
    geo_city: Option<PathBuf>,
    /// A GeoIP database that gives clients' carriers (GeoLite2-ASN, DBIP-ASN-Lite); read again when it changes.
    #[arg(long, env = "ROOST_GEO_ASN", value_name = "FILE")]
    geo_asn: Option<PathBuf>,
    /// A proxy, or a network of them, whose word on the client's address counts.
    #[arg(long, env = "ROOST_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    trusted_proxy: Vec<String>,
    /// The header that they say it in: X-Forwarded-For or Forwarded.
    #[arg(long, env = "ROOST_TRUSTED_HEADER", value_name = "NAME")]
    trusted_header: Option<String>,
    /// A page's origin that may call us, or *.
    #[arg(long, env = "ROOST_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<String>,
    /// One key a line, 32 bytes or more; two while one is replaced.
    #[arg(long, env = "ROOST_CLUSTER_KEY_FILE", value_name = "FILE")]
    cluster_key_file: Option<PathBuf>,
    #[arg(long, env = "ROOST_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    #[arg(long, env = "ROOST_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Takes namespaces that have no table of their own [default: true].
    #[arg(long, env = "ROOST_ALLOW_UNKNOWN_NAMESPACES", value_name = "BOOL")]
    allow_unknown_namespaces: Option<bool>,
    /// Takes it for a proof that an agent is dead when its own address refuses connections [default: true].
    #[arg(long, env = "ROOST_TRUST_REFUSED", value_name = "BOOL")]
    trust_refused: Option<bool>,
    /// When more than this share of all nodes falls silent together, no room leaves them [default: 0.5].
    #[arg(long, env = "ROOST_BRAKE_SHARE", value_name = "SHARE")]
    brake_share: Option<f64>,
    /// And at least so many of them [default: 4].
    #[arg(long, env = "ROOST_BRAKE_MIN_NODES", value_name = "N")]
    brake_min_nodes: Option<u32>,
    /// For so long at most [default: 30].
    #[arg(long, env = "ROOST_BRAKE_MAX_S", value_name = "S")]
    brake_max_s: Option<u64>,
    /// For development: loopback only, a fixed cluster key, hints believed, any origin.
    #[arg(long, env = "ROOST_DEV", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    dev: Option<bool>,
    /// Keeps the history of rooms: `sqlite:PATH`, or the URL of a PostgreSQL database. One with a password belongs in the
    /// environment or the file: other users of the machine can read arguments.
    #[arg(long, env = "ROOST_LEDGER", value_name = "LEDGER", hide_env_values = true)]
    ledger: Option<String>,
    /// After how many days the history is deleted; 0: never [default: 90].
    #[arg(long, env = "ROOST_LEDGER_RETENTION_DAYS", value_name = "DAYS")]
    ledger_retention_days: Option<u32>,
    /// Writes what happens as a trace that `replay` takes.
    #[arg(long, env = "ROOST_RECORD", value_name = "FILE")]
    record: Option<PathBuf>,
    /// How large the trace may get, in millions of bytes [default: 1024].
    #[arg(long, env = "ROOST_RECORD_MAX_MB", value_name = "MB")]
    record_max_mb: Option<u64>,
    /// Writes rooms' names into the trace, not hashes of them.
    #[arg(long, env = "ROOST_RECORD_NAMES", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    record_names: Option<bool>,
    /// `text` or `json`.
    #[arg(long, env = "ROOST_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or target=level pairs.
    #[arg(long, env = "ROOST_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
}

/// A brake that holds for longer would hide that nodes are gone.
const MOST_BRAKE_S: u64 = 600;

/// The table `[scheduler]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub listen: Option<String>,
    pub admin_listen: Option<String>,
    pub cluster_listen: Option<String>,
    pub cluster_url: Option<String>,
    pub store: String,
    pub store_prefix: String,
    pub store_ca_file: Option<PathBuf>,
    pub geo_city: Option<PathBuf>,
    pub geo_asn: Option<PathBuf>,
    #[serde(deserialize_with = "roost_server::client_address::networks")]
    pub trusted_proxy: Vec<IpNet>,
    pub trusted_header: TrustedHeader,
    pub cors_origin: AllowedOrigins,
    pub cluster_key_file: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub allow_unknown_namespaces: bool,
    pub trust_refused: bool,
    pub brake_share: f64,
    pub brake_min_nodes: u32,
    pub brake_max_s: u64,
    pub dev: bool,
    pub ledger: Option<String>,
    pub ledger_retention_days: u32,
    pub record: Option<PathBuf>,
    pub record_max_mb: u64,
    pub record_names: bool,
    pub log_format: LogFormat,
    pub log_level: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: None,
            admin_listen: None,
            cluster_listen: None,
            cluster_url: None,
            store: "embedded".to_owned(),
            store_prefix: "roost".to_owned(),
            store_ca_file: None,
            geo_city: None,
            geo_asn: None,
            trusted_proxy: Vec::new(),
            trusted_header: TrustedHeader::default(),
            cors_origin: AllowedOrigins::default(),
            cluster_key_file: None,
            tls_cert: None,
            tls_key: None,
            allow_unknown_namespaces: true,
            trust_refused: true,
            brake_share: BRAKE.share,
            brake_min_nodes: BRAKE.min_nodes,
            brake_max_s: BRAKE.max_ms / 1_000,
            dev: false,
            ledger: None,
            ledger_retention_days: 90,
            record: None,
            record_max_mb: 1_024,
            record_names: false,
            log_format: LogFormat::default(),
            log_level: "info".to_owned(),
        }
    }
}

/// Reads everything, fills in what depends on `--dev`, and checks what one value alone does not show.
pub(crate) fn load(flags: &Flags) -> Result<(Settings, Shared), ConfigError> {
    let (mut settings, shared) = config::load::<_, Settings>(flags, "scheduler", flags.config.as_deref())?;
    let host = if settings.dev { "127.0.0.1" } else { "0.0.0.0" };
    settings.listen.get_or_insert_with(|| format!("{host}:7400"));
    settings.admin_listen.get_or_insert_with(|| "127.0.0.1:7401".to_owned());
    settings.cluster_listen.get_or_insert_with(|| format!("{host}:7402"));
    if settings.dev && settings.cors_origin == AllowedOrigins::default() {
        settings.cors_origin = AllowedOrigins::any();
    }
    settings.check().map_err(|error| error.located(flags, flags.config.as_deref()))?;
    Ok((settings, shared))
}

impl Settings {
    /// The addresses to listen on: public, admin, cluster.
    pub(crate) fn listeners(&self) -> [(&'static str, &str); 3] {
        [
            ("listen", text(self.listen.as_ref())),
            ("admin_listen", text(self.admin_listen.as_ref())),
            ("cluster_listen", text(self.cluster_listen.as_ref())),
        ]
    }

    /// Whose word on the client's address counts.
    pub(crate) fn client_address(&self) -> ClientAddress {
        ClientAddress { trusted: self.trusted_proxy.clone(), header: self.trusted_header }
    }

    /// When rooms stay with nodes that fell silent.
    pub(crate) fn brake(&self) -> BrakeSettings {
        BrakeSettings { share: self.brake_share, min_nodes: self.brake_min_nodes, max_ms: self.brake_max_s * 1_000 }
    }

    /// The cluster's keys.
    pub(crate) fn keys(&self) -> Result<ClusterKeys, roost_server::keys::KeyError> {
        self.cluster_key_file.as_deref().map_or_else(|| Ok(ClusterKeys::dev()), ClusterKeys::from_file)
    }

    /// Where the ledger is kept; none: nowhere.
    pub(crate) fn ledger(&self) -> Result<Option<Address>, ConfigError> {
        let Some(text) = &self.ledger else { return Ok(None) };
        let address = text.parse().map_err(|_| ConfigError::wrong("ledger", masked_url(text), ledger::EXPECTED))?;
        Ok(Some(address))
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (key, text) in self.listeners() {
            // What is no address at all is refused when it is listened on.
            let elsewhere = |address: SocketAddr| !address.ip().is_loopback();
            if self.dev && text.to_socket_addrs().is_ok_and(|mut addresses| addresses.any(elsewhere)) {
                return Err(ConfigError::wrong(key, text, "a loopback address, because dev is on"));
            }
        }
        if !self.dev && self.cluster_key_file.is_none() {
            return Err(ConfigError::wrong("cluster_key_file", "", "a file with the cluster key, or --dev"));
        }
        let is_url = |url: &str| {
            let has_host = |uri: &Uri| uri.host().is_some_and(|host| !host.is_empty());
            url.parse::<Uri>().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && has_host(&uri))
        };
        match &self.cluster_url {
            None if !self.dev => {
                return Err(ConfigError::wrong("cluster_url", "", "the URL where agents reach us, or --dev"));
            }
            Some(url) if !is_url(url) => {
                return Err(ConfigError::wrong("cluster_url", url, "a URL like http://10.0.0.1:7402"));
            }
            _ => {}
        }
        if !(0.0..=1.0).contains(&self.brake_share) {
            return Err(ConfigError::wrong("brake_share", self.brake_share, "a share from 0 to 1"));
        }
        if self.brake_max_s > MOST_BRAKE_S {
            return Err(ConfigError::wrong("brake_max_s", self.brake_max_s, &format!("{MOST_BRAKE_S} at most")));
        }
        self.ledger()?;
        if self.record_max_mb == 0 {
            return Err(ConfigError::wrong("record_max_mb", 0, "1 or more"));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            let given = self.tls_cert.as_ref().or(self.tls_key.as_ref()).map(|path| path.display().to_string());
            let given = given.unwrap_or_default();
            return Err(ConfigError::wrong("tls_cert", given, "both tls_cert and tls_key, or neither"));
        }
        Ok(())
    }
}

/// `load` has filled them in; a free port on loopback harms nobody.
fn text(address: Option<&String>) -> &str {
    address.map_or("127.0.0.1:0", String::as_str)
}
