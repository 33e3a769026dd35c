//! Puts the agent together: which store, which media, which door, and the tasks that keep them going.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use roost_agent_core::lease::renew_timeout_ms;
use roost_agent_core::sample::Sampler;
use roost_proto::id::{Epoch, RoomKey};
use roost_proto::report::{Description, MediaKind};
use roost_server::{Readiness, tls};
use roost_store::{EmbeddedStore, NodeStore};

use crate::config::{Config, Uplink};
use crate::control::Control;
use crate::door::alone::Alone;
use crate::door::gate::{Gate, Limits};
use crate::door::lookup::{Directory, Schedulers};
use crate::error::AgentError;
use crate::inside::{Inside, Served};
use crate::leaving::Leaving;
use crate::link::Link;
use crate::link::watchers::Watchers;
use crate::listeners::Addresses;
use crate::media::mediasoup::{Mediasoup, Program};
use crate::media::synthetic::Synthetic;
use crate::media::{MediaServer, MediaStartError};
use crate::metrics::AgentMetrics;
use crate::node::Node;
use crate::probe::host::HostProbe;
use crate::report::Reporter;
use crate::signaling::{Limits as Patience, RoomSettings, Rooms};
use crate::uplink::assertion::Assertion;
use crate::uplink::commands::Commands;
use crate::uplink::lost::LostRooms;
use crate::uplink::moving::Moving;
use crate::uplink::pace::random;
use crate::uplink::renewal::Renewal;
use crate::uplink::scheduler::SchedulerStore;
use crate::uplink::{redis, release};

/// The parts of a running agent.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) node: Arc<Node>,
    pub(crate) rooms: Arc<Rooms>,
    inside: Arc<dyn Inside>,
    pub(crate) readiness: Readiness,
    pub(crate) description: Description,
    store: Arc<dyn NodeStore>,
    directory: Arc<dyn Directory>,
    watchers: Watchers,
    metrics: Arc<AgentMetrics>,
    /// Where the media workers connect; removed at the end.
    _socket_folder: Option<SocketFolder>,
}

impl Parts {
    /// Makes all of them. `ended` is told by the rooms that end.
    pub(crate) fn assemble(
        config: Config,
        addresses: &Addresses,
        ended: mpsc::Sender<(RoomKey, Epoch)>,
    ) -> Result<Self, AgentError> {
        let node = Arc::new(Node::new(config.node.clone(), config.settings.lease_ms));
        let metrics = Arc::new(AgentMetrics::new());
        let watchers = Watchers::default();
        let (store, directory) = shared_state(&config, &node, &watchers)?;
        let gate = Gate {
            node: node.clone(),
            store: store.clone(),
            directory: directory.clone(),
            keys: config.keys.clone(),
            require_ticket: config.require_ticket,
            limits: Limits { participants: config.capacity.participants, rooms: config.capacity.rooms },
            shared: Arc::new(config.shared.clone()),
            metrics: metrics.clone(),
        };
        let (media, socket_folder) = media(&config)?;
        let settings = RoomSettings {
            empty_room_ms: config.settings.empty_room_s * 1_000,
            codecs: config.shared.media.codecs.clone(),
            ice_servers: config.shared.media.ice_servers.clone(),
            node: config.node.clone(),
            region: config.region.clone(),
            limits: Patience::default(),
        };
        let rooms = Rooms::new(media, Arc::new(gate), settings, ended);
        Ok(Self {
            description: description(&config, addresses),
            config,
            node,
            inside: Arc::new(Served(rooms.clone())),
            rooms,
            readiness: Readiness::new(),
            store,
            directory,
            watchers,
            metrics,
            _socket_folder: socket_folder,
        })
    }

    /// Starts what goes on beside the lease.
    pub(crate) fn spawn_tasks(&self, ends: mpsc::Receiver<(RoomKey, Epoch)>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(release::run(self.node.clone(), self.store.clone()));
        let (lost, search) = LostRooms::new(self.node.id.clone(), self.directory.clone(), self.inside.clone());
        tasks.spawn(search.run());
        let assertion = Assertion {
            node: self.node.clone(),
            store: self.store.clone(),
            lost: lost.clone(),
            metrics: self.metrics.clone(),
        };
        tasks.spawn(assertion.run());
        let moving = Moving {
            node: self.node.clone(),
            store: self.store.clone(),
            inside: self.inside.clone(),
            lost,
            keys: self.config.keys.clone(),
            metrics: self.metrics.clone(),
        };
        tasks.spawn(moving.run());
        let commands = Commands {
            node: self.node.clone(),
            store: self.store.clone(),
            inside: self.inside.clone(),
            metrics: self.metrics.clone(),
        };
        tasks.spawn(commands.run());
        tasks.spawn(end_rooms(self.node.clone(), ends));
        tasks
    }

    pub(crate) fn link(&self) -> Link {
        Link { node: self.node.clone(), keys: self.config.keys.clone(), watchers: self.watchers.clone() }
    }

    pub(crate) fn renewal(&self) -> Renewal {
        Renewal {
            trust_refused: self.config.settings.trust_refused,
            node: self.node.clone(),
            store: self.store.clone(),
            reporter: Reporter {
                node: self.node.id.clone(),
                description: self.description.clone(),
                inside: self.inside.clone(),
                probe: HostProbe::new(Path::new("/")),
                sampler: Sampler::default(),
                empty_room_ms: self.config.settings.empty_room_s * 1_000,
            },
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            process: format!("{:016x}{:016x}", random(), random()),
        }
    }

    pub(crate) fn leaving(&self) -> Leaving {
        Leaving {
            node: self.node.clone(),
            store: self.store.clone(),
            directory: (self.config.uplink != Uplink::Standalone).then(|| self.directory.clone()),
            inside: self.inside.clone(),
            region: self.config.region.clone(),
        }
    }

    pub(crate) fn control(&self) -> Control {
        Control {
            node: self.node.clone(),
            description: self.description.clone(),
            inside: self.inside.clone(),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
        }
    }
}

/// Gives up the claims of rooms that ended, unless somebody has come in since.
async fn end_rooms(node: Arc<Node>, mut ends: mpsc::Receiver<(RoomKey, Epoch)>) {
    while let Some((room, opened_as)) = ends.recv().await {
        if node.with(|state, _| state.holdings.end_if_empty(&room, opened_as)).is_some() {
            tracing::info!(%room, "the room has ended");
        }
    }
}

/// The way to the shared state, and whoever knows where rooms live.
type SharedState = (Arc<dyn NodeStore>, Arc<dyn Directory>);

fn shared_state(config: &Config, node: &Arc<Node>, watchers: &Watchers) -> Result<SharedState, AgentError> {
    let settings = &config.settings;
    let Some(keys) = config.keys.clone().filter(|_| config.uplink != Uplink::Standalone) else {
        let store = Arc::new(EmbeddedStore::new());
        let namespaces = settings.namespace.clone();
        let directory = Alone { node: node.clone(), store: store.clone(), namespaces };
        return Ok((store, Arc::new(directory)));
    };
    let (store, uplink): (Arc<dyn NodeStore>, _) = match &config.uplink {
        Uplink::Scheduler { url } => {
            let tls = if url.starts_with("https") { Some(tls::client_config()?) } else { None };
            let answer_within = Duration::from_millis(renew_timeout_ms(settings.lease_ms));
            (Arc::new(SchedulerStore::new(url, keys.clone(), tls, answer_within, watchers.clone())), Some(url.clone()))
        }
        Uplink::Redis { url } => {
            (redis::open(url, &settings.store_prefix, settings.store_ca_file.as_deref(), settings.lease_ms)?, None)
        }
        Uplink::Standalone => unreachable!("it was filtered out above"),
    };
    let http = reqwest::Client::builder().no_proxy().build()?;
    let directory = Schedulers::new(http, keys, store.clone(), uplink);
    Ok((store, Arc::new(directory)))
}

fn description(config: &Config, addresses: &Addresses) -> Description {
    let settings = &config.settings;
    let scheme = if settings.tls_cert.is_some() { "wss" } else { "ws" };
    let signaling_url = || format!("{scheme}://{}/signaling", addresses.signaling);
    let link_url = || format!("{scheme}://{}", addresses.link);
    Description {
        region: config.region.clone(),
        carriers: settings.carrier.clone(),
        namespaces: settings.namespace.clone(),
        priority: settings.priority,
        signaling_url: settings.signaling_url.clone().unwrap_or_else(signaling_url),
        link_url: settings.link_url.clone().unwrap_or_else(link_url),
        media: settings.media,
        capacity: config.capacity,
        temporary: settings.temporary,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn media(config: &Config) -> Result<(Arc<dyn MediaServer>, Option<SocketFolder>), AgentError> {
    let settings = &config.settings;
    if settings.media != MediaKind::Mediasoup {
        return Ok((Arc::new(Synthetic::new(settings.workers)), None));
    }
    let (socket, folder) = match &settings.media_socket {
        Some(path) => (path.clone(), None),
        None => {
            let folder = SocketFolder::make()?;
            (folder.0.join("media.sock"), Some(folder))
        }
    };
    let program = Program {
        binary: settings.mediasoup_bin.clone().unwrap_or_else(beside_this_program),
        socket,
        workers: settings.workers,
        listen: config.media_listen,
        announced: settings.media_announced.clone(),
        port: settings.media_port,
    };
    Ok((Arc::new(Mediasoup::start(program)?), folder))
}

/// `roost-mediasoup` beside this program, if it is there; else wherever the search path has it.
fn beside_this_program() -> PathBuf {
    let name = Path::new("roost-mediasoup");
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name)));
    beside.filter(|path| path.exists()).unwrap_or_else(|| name.to_owned())
}

/// A folder that only this user can enter.
#[derive(Debug)]
struct SocketFolder(PathBuf);

/// What folders of agents begin with; the process id follows.
const FOLDER_PREFIX: &str = "roost-agent-";

impl SocketFolder {
    fn make() -> Result<Self, MediaStartError> {
        let temporary = std::env::temp_dir();
        remove_left_over(&temporary);
        let path = temporary.join(format!("{FOLDER_PREFIX}{}-{:08x}", std::process::id(), random() as u32));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(MediaStartError::Socket { path, source }),
        }
    }
}

/// Removes the folders of agents that were killed.
fn remove_left_over(temporary: &Path) {
    let Ok(entries) = std::fs::read_dir(temporary) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let of =
            name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX)?.split_once('-')?.0.parse::<u32>().ok());
        if of.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            // It may be another user's.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "the media socket's folder stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_of_killed_agents_are_removed_and_those_of_living_ones_stay() {
        let temporary = tempfile::tempdir().expect("a folder");
        let living = format!("{FOLDER_PREFIX}{}-0", std::process::id());
        let names = [living.as_str(), "roost-agent-4294967295-0", "roost-agent-x", "other"];
        for name in names {
            std::fs::create_dir_all(temporary.path().join(name).join("inner")).expect("a folder");
        }
        remove_left_over(temporary.path());
        let left = names.map(|name| temporary.path().join(name).exists());
        assert_eq!(left, [true, false, true, true]);
    }
}
