//! The command line, and the environment behind it. What is set here lies over the file's table `[agent]`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

/// Stands beside a node's media workers: reports what they do, holds the node's right to its rooms, serves participants.
#[derive(Debug, Parser)]
#[command(name = "roost-agent", version, about)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve participants until SIGTERM.
    Serve(Box<Flags>),
}

/// `roost-agent serve`. Values are checked where the file's are.
#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct Flags {
    /// TOML file with the tables agent, media and namespaces.
    #[arg(long, env = "ROOST_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Print the configuration that is in force, and end.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) print_config: bool,
    /// The node's name in the cluster.
    #[arg(long, env = "ROOST_NODE_ID", value_name = "ID")]
    node_id: Option<String>,
    /// Where the node is, from the largest part to the smallest: cn/east/shanghai.
    #[arg(long, env = "ROOST_REGION", value_name = "REGION")]
    region: Option<String>,
    /// A carrier whose clients the node serves; none: all.
    #[arg(long, env = "ROOST_CARRIER", value_name = "CARRIER", value_delimiter = ',')]
    carrier: Vec<String>,
    /// A namespace that the node serves; none: all.
    #[arg(long, env = "ROOST_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',')]
    namespace: Vec<String>,
    /// Among equally suited nodes the one with the higher priority is taken first.
    #[arg(long, env = "ROOST_PRIORITY", value_name = "N", allow_hyphen_values = true)]
    priority: Option<i32>,
    /// Where participants connect.
    #[arg(long, env = "ROOST_SIGNALING_LISTEN", value_name = "ADDRESS")]
    signaling_listen: Option<String>,
    /// The URL that participants are given for it.
    #[arg(long, env = "ROOST_SIGNALING_URL", value_name = "URL")]
    signaling_url: Option<String>,
    /// Metrics and the node as JSON.
    #[arg(long, env = "ROOST_CONTROL_LISTEN", value_name = "ADDRESS")]
    control_listen: Option<String>,
    /// Where schedulers and other agents connect.
    #[arg(long, env = "ROOST_LINK_LISTEN", value_name = "ADDRESS")]
    link_listen: Option<String>,
    /// The URL that schedulers and other agents are given for it.
    #[arg(long, env = "ROOST_LINK_URL", value_name = "URL")]
    link_url: Option<String>,
    /// The cluster's store, redis://…, or a scheduler, http://HOST:7402. One with a password belongs in the environment or
    /// the file: other users of the machine can read arguments.
    #[arg(long, env = "ROOST_UPLINK", value_name = "URL", hide_env_values = true)]
    uplink: Option<String>,
    /// What the cluster's keys in Redis begin with.
    #[arg(long, env = "ROOST_STORE_PREFIX", value_name = "TEXT")]
    store_prefix: Option<String>,
    /// Certificates (PEM) that a rediss:// server is trusted by; none: those of the system.
    #[arg(long, env = "ROOST_STORE_CA_FILE", value_name = "FILE")]
    store_ca_file: Option<PathBuf>,
    /// Length of the node's lease.
    #[arg(long, env = "ROOST_LEASE_MS", value_name = "MS")]
    lease_ms: Option<u64>,
    /// mediasoup, external or synthetic.
    #[arg(long, env = "ROOST_MEDIA", value_name = "KIND")]
    media: Option<String>,
    /// How many media workers; one core each.
    #[arg(long, env = "ROOST_WORKERS", value_name = "N")]
    workers: Option<u16>,
    /// The program roost-mediasoup.
    #[arg(long, env = "ROOST_MEDIASOUP_BIN", value_name = "FILE")]
    mediasoup_bin: Option<PathBuf>,
    /// Where the agent listens for its media workers.
    #[arg(long, env = "ROOST_MEDIA_SOCKET", value_name = "FILE")]
    media_socket: Option<PathBuf>,
    /// The address that media workers listen on.
    #[arg(long, env = "ROOST_MEDIA_LISTEN", value_name = "IP")]
    media_listen: Option<String>,
    /// An address that clients are told for media.
    #[arg(long, env = "ROOST_MEDIA_ANNOUNCED", value_name = "ADDRESS", value_delimiter = ',')]
    media_announced: Vec<String>,
    /// Worker i uses this port and i more, UDP and TCP; 0: any.
    #[arg(long, env = "ROOST_MEDIA_PORT", value_name = "PORT")]
    media_port: Option<u16>,
    /// The most participants on the node.
    #[arg(long, env = "ROOST_MAX_PARTICIPANTS", value_name = "N")]
    max_participants: Option<u32>,
    /// The most rooms on the node; 0: no limit.
    #[arg(long, env = "ROOST_MAX_ROOMS", value_name = "N")]
    max_rooms: Option<u32>,
    /// The most producers and consumers of media on the node; 0: no limit.
    #[arg(long, env = "ROOST_MAX_STREAMS", value_name = "N")]
    max_streams: Option<u32>,
    /// The most traffic each way; 0: the speed of the default route's link where it is known (not with --dev).
    #[arg(long, env = "ROOST_MAX_BANDWIDTH_MBPS", value_name = "MBPS")]
    max_bandwidth_mbps: Option<u64>,
    /// CPU use from which on the node takes nothing new, in thousandths; 0: no limit.
    #[arg(long, env = "ROOST_MAX_CPU_PERMILLE", value_name = "PERMILLE")]
    max_cpu_permille: Option<u32>,
    /// Memory use from which on the node takes nothing new, in thousandths; 0: no limit.
    #[arg(long, env = "ROOST_MAX_MEMORY_PERMILLE", value_name = "PERMILLE")]
    max_memory_permille: Option<u32>,
    /// How long a room stays open without participants.
    #[arg(long, env = "ROOST_EMPTY_ROOM_S", value_name = "S")]
    empty_room_s: Option<u64>,
    /// Goes on admitting to rooms that are open here while the store's own address refuses connections [default: true].
    #[arg(long, env = "ROOST_TRUST_REFUSED", value_name = "BOOL")]
    trust_refused: Option<bool>,
    /// Whether participants need a ticket from a lookup.
    #[arg(long, env = "ROOST_REQUIRE_TICKET", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    require_ticket: Option<bool>,
    /// How long the agent takes to move its participants when it is told to stop.
    #[arg(long, env = "ROOST_LEAVE_S", value_name = "S")]
    leave_s: Option<u64>,
    /// One or two keys, one a line, that all processes of the cluster share.
    #[arg(long, env = "ROOST_CLUSTER_KEY_FILE", value_name = "FILE")]
    cluster_key_file: Option<PathBuf>,
    /// Certificate chain of the signaling and link listeners; read again when it changes.
    #[arg(long, env = "ROOST_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, env = "ROOST_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// A proxy that may say whom it speaks for, as an address or a network.
    #[arg(long, env = "ROOST_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    trusted_proxy: Vec<String>,
    /// The one header that is believed from it: X-Forwarded-For or Forwarded.
    #[arg(long, env = "ROOST_TRUSTED_HEADER", value_name = "NAME")]
    trusted_header: Option<String>,
    /// An origin whose pages may connect, or *.
    #[arg(long, env = "ROOST_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<String>,
    /// text or json.
    #[arg(long, env = "ROOST_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<String>,
    /// error, warn, info, debug or trace; or target=level pairs.
    #[arg(long, env = "ROOST_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
    /// The node leaves the list at once when it stops or its lease lapses.
    #[arg(long, env = "ROOST_TEMPORARY", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    temporary: Option<bool>,
    /// Serve rooms without any scheduler.
    #[arg(long, env = "ROOST_STANDALONE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    standalone: Option<bool>,
    /// For development: loopback only, a fixed cluster key, no tickets, any origin, URLs from the bound addresses.
    #[arg(long, env = "ROOST_DEV", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    dev: Option<bool>,
}
