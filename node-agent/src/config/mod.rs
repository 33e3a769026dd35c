//! The agent's configuration: its settings, what they must be like, and what follows from them.

mod check;
pub(crate) mod flags;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use roost_agent_core::lease::LEASE_MS;
use roost_proto::id::{Carrier, NamespaceId, NodeId, Region};
use roost_proto::report::{Capacity, MediaKind};
use roost_server::{AllowedOrigins, ClusterKeys, ConfigError, LogFormat, Shared, TrustedHeader};

use crate::probe::network;
use flags::Flags;

/// How many participants a worker carries unless said.
const PARTICIPANTS_PER_WORKER: u32 = 100;

/// How full a node's CPU and memory get before it takes nothing new, unless said: some is left for those who are inside.
const FULL_PERMILLE: u32 = 950;

/// The table `[agent]`, flags laid over it. What is `None` is filled in by what else is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) node_id: Option<NodeId>,
    pub(crate) region: Option<Region>,
    pub(crate) carrier: Vec<Carrier>,
    pub(crate) namespace: Vec<NamespaceId>,
    pub(crate) priority: i32,
    pub(crate) signaling_listen: Option<String>,
    pub(crate) signaling_url: Option<String>,
    pub(crate) control_listen: String,
    pub(crate) link_listen: Option<String>,
    pub(crate) link_url: Option<String>,
    pub(crate) uplink: Option<String>,
    pub(crate) store_prefix: String,
    pub(crate) store_ca_file: Option<PathBuf>,
    pub(crate) lease_ms: u64,
    pub(crate) media: MediaKind,
    pub(crate) workers: u16,
    pub(crate) mediasoup_bin: Option<PathBuf>,
    pub(crate) media_socket: Option<PathBuf>,
    pub(crate) media_listen: Option<IpAddr>,
    pub(crate) media_announced: Vec<String>,
    pub(crate) media_port: u16,
    pub(crate) max_participants: u32,
    pub(crate) max_rooms: u32,
    pub(crate) max_streams: u32,
    pub(crate) max_bandwidth_mbps: u64,
    pub(crate) max_cpu_permille: Option<u32>,
    pub(crate) max_memory_permille: Option<u32>,
    pub(crate) empty_room_s: u64,
    pub(crate) trust_refused: bool,
    pub(crate) require_ticket: Option<bool>,
    pub(crate) leave_s: u64,
    pub(crate) cluster_key_file: Option<PathBuf>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    #[serde(deserialize_with = "roost_server::client_address::networks")]
    pub(crate) trusted_proxy: Vec<IpNet>,
    pub(crate) trusted_header: TrustedHeader,
    pub(crate) cors_origin: AllowedOrigins,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
    pub(crate) temporary: bool,
    pub(crate) standalone: bool,
    pub(crate) dev: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node_id: None,
            region: None,
            carrier: Vec::new(),
            namespace: Vec::new(),
            priority: 0,
            signaling_listen: None,
            signaling_url: None,
            control_listen: "127.0.0.1:7411".to_owned(),
            link_listen: None,
            link_url: None,
            uplink: None,
            store_prefix: "roost".to_owned(),
            store_ca_file: None,
            lease_ms: LEASE_MS,
            media: MediaKind::Mediasoup,
            workers: std::thread::available_parallelism()
                .map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(check::MAX_WORKERS))
                .min(check::MAX_WORKERS),
            mediasoup_bin: None,
            media_socket: None,
            media_listen: None,
            media_announced: Vec::new(),
            media_port: 44_400,
            max_participants: 0,
            max_rooms: 0,
            max_streams: 0,
            max_bandwidth_mbps: 0,
            max_cpu_permille: None,
            max_memory_permille: None,
            empty_room_s: 20,
            trust_refused: true,
            require_ticket: None,
            leave_s: 30,
            cluster_key_file: None,
            tls_cert: None,
            tls_key: None,
            trusted_proxy: Vec::new(),
            trusted_header: TrustedHeader::default(),
            cors_origin: AllowedOrigins::default(),
            log_format: LogFormat::default(),
            log_level: "info".to_owned(),
            temporary: false,
            standalone: false,
            dev: false,
        }
    }
}

/// Where the shared state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uplink {
    /// In a Redis that the schedulers use too.
    Redis { url: String },
    /// Behind a scheduler: the base URL of its cluster listener, without a slash at its end.
    Scheduler { url: String },
    /// In this process alone.
    Standalone,
}

/// A configuration that can be run: checked, with every default filled in.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) settings: Settings,
    pub(crate) shared: Shared,
    pub(crate) node: NodeId,
    pub(crate) region: Region,
    pub(crate) signaling_listen: String,
    pub(crate) link_listen: String,
    pub(crate) uplink: Uplink,
    /// None standing alone without a key file: then there are no tickets.
    pub(crate) keys: Option<ClusterKeys>,
    pub(crate) require_ticket: bool,
    pub(crate) capacity: Capacity,
    pub(crate) media_listen: IpAddr,
}

impl Config {
    /// Reads flags, environment and file, and checks all of it.
    pub(crate) fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let (settings, shared) =
            roost_server::config::load::<Flags, Settings>(flags, "agent", flags.config.as_deref())?;
        Self::new(settings, shared, network::link_mbps(Path::new("/")))
            .map_err(|error| error.located(flags, flags.config.as_deref()))
    }

    /// Checks `settings` and fills in what is not set; the speed of the machine's link, where it is known, among it.
    pub(crate) fn new(mut settings: Settings, shared: Shared, link_mbps: Option<u64>) -> Result<Self, ConfigError> {
        let is_local = settings.dev || settings.standalone;
        let keys = check::keys(&settings)?;
        let node = check::required("node_id", settings.node_id.clone(), is_local.then(|| label("node-1")))?;
        let region = check::required("region", settings.region.clone(), is_local.then(|| label("local")))?;
        let uplink = check::uplink(&settings)?;
        check::urls(&settings)?;
        check::tls(&settings)?;
        check::numbers(&settings)?;
        check::media(&settings)?;
        check::place(&region, &settings.carrier, &shared.carriers)?;
        let host = if settings.dev { "127.0.0.1" } else { "0.0.0.0" };
        let listen = |set: &Option<String>, port: u16| set.clone().unwrap_or_else(|| format!("{host}:{port}"));
        let (signaling_listen, link_listen) =
            (listen(&settings.signaling_listen, 7410), listen(&settings.link_listen, 7412));
        if settings.dev {
            check::loopback("signaling_listen", &signaling_listen)?;
            check::loopback("control_listen", &settings.control_listen)?;
            check::loopback("link_listen", &link_listen)?;
            if settings.cors_origin == AllowedOrigins::default() {
                settings.cors_origin = AllowedOrigins::any();
            }
        }
        let require_ticket = settings.require_ticket.unwrap_or(!is_local);
        if require_ticket && keys.is_none() {
            return Err(ConfigError::wrong(
                "require_ticket",
                true,
                "false, or a cluster_key_file to check tickets with",
            ));
        }
        let host = if settings.dev { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        let media_listen = settings.media_listen.unwrap_or(IpAddr::V4(host));
        let capacity = capacity(&mut settings, link_mbps);
        // What is in force is what `--print-config` shows.
        settings.node_id = Some(node.clone());
        settings.region = Some(region.clone());
        settings.signaling_listen = Some(signaling_listen.clone());
        settings.link_listen = Some(link_listen.clone());
        settings.uplink = uplink.url().map(str::to_owned);
        settings.require_ticket = Some(require_ticket);
        settings.media_listen = Some(media_listen);
        Ok(Self {
            node,
            region,
            signaling_listen,
            link_listen,
            uplink,
            keys,
            require_ticket,
            capacity,
            media_listen,
            settings,
            shared,
        })
    }
}

/// How much the node takes. What is not set is filled in.
fn capacity(settings: &mut Settings, link_mbps: Option<u64>) -> Capacity {
    if settings.max_participants == 0 {
        settings.max_participants = u32::from(settings.workers) * PARTICIPANTS_PER_WORKER;
    }
    // A developer's machine is busy with other things.
    let full_permille = if settings.dev { 0 } else { FULL_PERMILLE };
    if settings.max_bandwidth_mbps == 0 && !settings.dev {
        settings.max_bandwidth_mbps = link_mbps.unwrap_or(0);
    }
    Capacity {
        participants: settings.max_participants,
        rooms: settings.max_rooms,
        streams: settings.max_streams,
        bandwidth_bps: settings.max_bandwidth_mbps * 1_000_000,
        cpu_permille: *settings.max_cpu_permille.get_or_insert(full_permille),
        memory_permille: *settings.max_memory_permille.get_or_insert(full_permille),
    }
}

impl Uplink {
    fn url(&self) -> Option<&str> {
        match self {
            Self::Redis { url } | Self::Scheduler { url } => Some(url),
            Self::Standalone => None,
        }
    }
}

/// A default that is an identifier.
fn label<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| unreachable!("the default {text} is valid"))
}
