//! A whole cluster of real processes on loopback.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use roost_proto::id::{PeerId, RoomKey};
use roost_proto::lookup::LookupReply;
use roost_proto::redirect::location;

use crate::process::Process;
use crate::redis::Redis;
use crate::{Trouble, binaries, namespace, wait};

const LOOPBACK: &str = "127.0.0.1";
const NODES_WITHIN: Duration = Duration::from_secs(30);

/// Where the cluster keeps its shared state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Embedded,
    Redis,
}

/// What is behind the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Synthetic,
    /// Real workers, so many per node.
    Mediasoup(u16),
}

/// One node to start.
#[derive(Debug, Clone)]
pub struct NodePlan {
    pub id: String,
    pub region: String,
    /// Where it reports, if that is not the cluster's own store.
    pub uplink: Option<String>,
    /// Further arguments of its agent.
    pub arguments: Vec<String>,
    /// How many seconds the agent's clock is ahead; not the clock that only goes forward.
    pub clock_s: i64,
    /// The network namespace in which it runs, with its address there.
    pub elsewhere: Option<(PathBuf, String)>,
}

impl NodePlan {
    /// A node with the defaults.
    #[must_use]
    pub fn new(id: &str, region: &str) -> Self {
        let (id, region) = (id.to_owned(), region.to_owned());
        Self { id, region, uplink: None, arguments: Vec::new(), clock_s: 0, elsewhere: None }
    }

    /// With further arguments of its agent.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    pub store: StoreKind,
    pub schedulers: usize,
    pub nodes: Vec<NodePlan>,
    pub media: Media,
    /// The programs run with `--dev`; without it they get a cluster key and URLs.
    pub dev: bool,
    /// The file with the cluster key, when not in `dev`.
    pub cluster_key: Option<PathBuf>,
    /// Further arguments of the schedulers.
    pub scheduler_arguments: Vec<String>,
    /// How many seconds the first scheduler's clock is ahead; not the clock that only goes forward.
    pub scheduler_clock_s: i64,
    /// Where everything listens that is to be reached from elsewhere.
    pub host: String,
    /// The network namespace in which Redis runs, with its address there.
    pub redis_elsewhere: Option<(PathBuf, String)>,
}

impl Plan {
    /// One scheduler with the embedded store and two nodes in `eu/central` and `us/east`, media synthetic.
    #[must_use]
    pub fn small() -> Self {
        Self {
            store: StoreKind::Embedded,
            schedulers: 1,
            nodes: vec![NodePlan::new("fra-1", "eu/central"), NodePlan::new("iad-1", "us/east")],
            media: Media::Synthetic,
            dev: true,
            cluster_key: None,
            scheduler_arguments: Vec::new(),
            scheduler_clock_s: 0,
            host: LOOPBACK.to_owned(),
            redis_elsewhere: None,
        }
    }

    /// The same with Redis and so many schedulers.
    #[must_use]
    pub fn with_redis(mut self, schedulers: usize) -> Self {
        self.store = StoreKind::Redis;
        self.schedulers = schedulers;
        self
    }
}

/// A running scheduler.
#[derive(Debug)]
pub struct Scheduler {
    pub process: Process,
    /// `127.0.0.1:port` of each listener.
    pub public: String,
    pub admin: String,
    pub cluster: String,
}

/// A running agent.
#[derive(Debug)]
pub struct Node {
    pub id: String,
    pub process: Process,
    /// `127.0.0.1:port` of each listener.
    pub signaling: String,
    pub control: String,
}

/// A running cluster. Its processes end when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    // Before the folder, so that the processes are gone when it is removed.
    pub schedulers: Vec<Scheduler>,
    pub nodes: Vec<Node>,
    pub redis: Option<Redis>,
    pub http: Client,
    plan: Plan,
    folder: TempDir,
}

impl Cluster {
    /// Starts all of `plan` and waits until each scheduler is ready and knows every node.
    pub async fn start(plan: Plan) -> Result<Self, Trouble> {
        let folder = tempfile::Builder::new().prefix("roost-").tempdir()?;
        let redis = match (plan.store, &plan.redis_elsewhere) {
            (StoreKind::Embedded, _) => None,
            (StoreKind::Redis, None) => Some(Redis::start_at(folder.path(), &plan.host).await?),
            (StoreKind::Redis, Some((namespace, host))) => Some(Redis::start_in(folder.path(), namespace, host).await?),
        };
        let http = Client::builder().timeout(Duration::from_secs(10)).build()?;
        let mut cluster = Self { schedulers: Vec::new(), nodes: Vec::new(), redis, http, plan, folder };
        for index in 0..cluster.plan.schedulers {
            let scheduler = cluster.start_scheduler(index, None).await?;
            cluster.schedulers.push(scheduler);
        }
        for node in cluster.plan.nodes.clone() {
            let node = cluster.start_node(&node).await?;
            cluster.nodes.push(node);
        }
        cluster.settled().await?;
        Ok(cluster)
    }

    /// Starts one scheduler; `ports` gives it the addresses of a scheduler that ran before.
    pub async fn start_scheduler(&self, index: usize, before: Option<&Scheduler>) -> Result<Scheduler, Trouble> {
        let any = format!("{}:0", self.plan.host);
        let any = any.as_str();
        let cluster = before.map_or_else(|| self.address(&self.plan.host), |before| Ok(before.cluster.clone()))?;
        let mut command = Command::new(binaries::own("roost-scheduler")?);
        if index == 0 {
            set_clock(&mut command, self.plan.scheduler_clock_s)?;
        }
        command.arg("serve");
        command.args(["--listen", before.map_or(any, |before| &before.public)]);
        command.args(["--admin-listen", before.map_or(any, |before| &before.admin)]);
        command.args(["--cluster-listen", &cluster]);
        if !self.plan.dev {
            command.args(["--cluster-url", &format!("http://{cluster}")]);
        }
        command.args(["--store", &self.store_url()]).args(self.trust());
        command.args(&self.plan.scheduler_arguments);
        let mut process = Process::start(&format!("scheduler-{index}"), self.folder(), command)?;
        let ready = process.ready().await?;
        let listener = |name: &str| text(&ready["listeners"][name]);
        Ok(Scheduler { public: listener("public")?, admin: listener("admin")?, cluster: listener("cluster")?, process })
    }

    /// Kills scheduler `index` and starts it again at its addresses; does not wait until it is ready for lookups.
    pub async fn restart_scheduler(&mut self, index: usize) -> Result<(), Trouble> {
        self.schedulers[index].process.kill().await?;
        self.schedulers[index] = self.start_scheduler(index, Some(&self.schedulers[index])).await?;
        Ok(())
    }

    /// Starts one agent.
    pub async fn start_node(&self, plan: &NodePlan) -> Result<Node, Trouble> {
        let agent = binaries::own("roost-agent")?;
        let host = plan.elsewhere.as_ref().map_or(&self.plan.host, |(_, host)| host);
        let mut command = match &plan.elsewhere {
            Some((namespace, _)) => namespace::inside(namespace, &agent),
            None => Command::new(agent),
        };
        set_clock(&mut command, plan.clock_s)?;
        // The machine is busy with the tests themselves. A test's own arguments are stronger.
        command.env("ROOST_MAX_CPU_PERMILLE", "0").env("ROOST_MAX_MEMORY_PERMILLE", "0");
        command.args(["serve", "--node-id", &plan.id, "--region", &plan.region]);
        let (signaling, link) = (self.address(host)?, self.address(host)?);
        command.args(["--signaling-listen", &signaling, "--control-listen", "127.0.0.1:0", "--link-listen", &link]);
        if !self.plan.dev {
            command.args(["--signaling-url", &format!("ws://{signaling}/signaling")]);
            command.args(["--link-url", &format!("ws://{link}")]);
        }
        let uplink = match (&plan.uplink, &self.redis, self.schedulers.first()) {
            (Some(uplink), ..) => uplink.clone(),
            (None, Some(redis), _) => redis.url(),
            (None, None, Some(scheduler)) => format!("http://{}", scheduler.cluster),
            (None, None, None) => return Err("a node needs a scheduler or Redis".into()),
        };
        command.args(["--uplink", &uplink]).args(self.trust());
        match self.plan.media {
            Media::Synthetic => {
                command.args(["--media", "synthetic"]);
            }
            Media::Mediasoup(workers) => {
                command.args([
                    "--media",
                    "mediasoup",
                    "--workers",
                    &workers.to_string(),
                    "--media-listen",
                    "127.0.0.1",
                ]);
                command.args(["--media-port", "0", "--mediasoup-bin"]).arg(binaries::own("roost-mediasoup")?);
            }
        }
        command.args(&plan.arguments);
        let mut process = Process::start(&plan.id, self.folder(), command)?;
        let ready = process.ready().await?;
        let listener = |name: &str| text(&ready["listeners"][name]);
        Ok(Node { id: plan.id.clone(), signaling: listener("signaling")?, control: listener("control")?, process })
    }

    /// Waits until each scheduler is ready and knows every running node as alive, with a media worker that runs.
    pub async fn settled(&self) -> Result<(), Trouble> {
        for scheduler in &self.schedulers {
            let want = self.nodes.len();
            wait::until("the scheduler is ready and knows every node", NODES_WITHIN, || async {
                let ready = self.http.get(format!("http://{}/readyz", scheduler.public)).send().await.ok()?;
                let nodes = self.admin(scheduler, "/v1/nodes?limit=1000").await.ok()?;
                let works = |node: &&Value| {
                    let workers = node["workers"].as_array();
                    node["state"] == "alive" && workers.is_some_and(|all| all.iter().any(|one| one["state"] == "up"))
                };
                let alive = nodes["items"].as_array()?.iter().filter(works).count();
                (ready.status().is_success() && alive == want).then_some(())
            })
            .await
            .map_err(|trouble| format!("{trouble}\n{}", scheduler.process.log_tail()))?;
        }
        Ok(())
    }

    /// Waits until each scheduler has a watch connection to every running agent.
    pub async fn watched(&self) -> Result<(), Trouble> {
        for scheduler in &self.schedulers {
            let line = format!("roost_watch_connections {}", self.nodes.len());
            wait::until("all agents are watched", NODES_WITHIN, || async {
                let metrics = self.http.get(format!("http://{}/metrics", scheduler.admin)).send().await.ok()?;
                metrics.text().await.ok()?.lines().any(|found| found == line).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    /// The URL of a node's door for a participant of a room in the namespace `default`.
    pub fn door(&self, node: &str, room: &str, peer: &str, ticket: &str) -> Result<String, Trouble> {
        let signaling = format!("ws://{}/signaling", self.node(node)?.signaling);
        let key = RoomKey::new("default", room)?;
        Ok(location(&signaling, &key, Some(&PeerId::new(peer)?), ticket, 0))
    }

    /// Looks a room up at scheduler `index`.
    pub async fn lookup(&self, index: usize, namespace: &str, room: &str, body: Value) -> Result<LookupReply, Trouble> {
        let response = self.lookup_response(index, namespace, room, body).await?;
        let (status, text) = (response.status(), response.text().await?);
        if !status.is_success() {
            return Err(format!("lookup of {namespace}/{room}: {status} {text}").into());
        }
        Ok(serde_json::from_str(&text)?)
    }

    /// Looks a room up at scheduler `index`, whatever comes back.
    pub async fn lookup_response(
        &self,
        index: usize,
        namespace: &str,
        room: &str,
        body: Value,
    ) -> Result<Response, Trouble> {
        let scheduler = &self.schedulers[index];
        let mut url = reqwest::Url::parse(&format!("http://{}", scheduler.public))?;
        url.path_segments_mut().map_err(|()| "a URL without a path")?.extend([
            "v1",
            "namespaces",
            namespace,
            "rooms",
            room,
            "lookup",
        ]);
        Ok(self.http.post(url).json(&body).send().await?)
    }

    /// A lookup by a client in `region`.
    pub async fn lookup_from(&self, region: &str, room: &str) -> Result<LookupReply, Trouble> {
        self.lookup(0, "default", room, json!({ "region": region })).await
    }

    /// Reads a path of a scheduler's admin listener.
    pub async fn admin(&self, scheduler: &Scheduler, path: &str) -> Result<Value, Trouble> {
        Ok(self.http.get(format!("http://{}{path}", scheduler.admin)).send().await?.json().await?)
    }

    /// The running node of this id.
    pub fn node(&self, id: &str) -> Result<&Node, Trouble> {
        self.nodes.iter().find(|node| node.id == id).ok_or_else(|| format!("no node {id} runs").into())
    }

    /// The running node of this id, to be broken.
    pub fn node_mut(&mut self, id: &str) -> Result<&mut Node, Trouble> {
        self.nodes.iter_mut().find(|node| node.id == id).ok_or_else(|| format!("no node {id} runs").into())
    }

    /// The folder with the logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What was started.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Ends everything in the order that an operator would: nodes, schedulers, Redis.
    pub async fn stop(mut self) -> Result<(), Trouble> {
        for node in &mut self.nodes {
            node.process.stop().await?;
        }
        for scheduler in &mut self.schedulers {
            scheduler.process.stop().await?;
        }
        if let Some(redis) = &mut self.redis {
            redis.process().stop().await?;
        }
        Ok(())
    }

    /// Where to listen: anywhere in `dev`, which takes the URLs from there, else on a port that is named beforehand.
    fn address(&self, host: &str) -> Result<String, Trouble> {
        if self.plan.dev {
            return Ok(format!("{host}:0"));
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(format!("{host}:{port}"))
    }

    fn store_url(&self) -> String {
        self.redis.as_ref().map_or_else(|| "embedded".to_owned(), Redis::url)
    }

    fn trust(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.plan.dev {
            arguments.push("--dev".to_owned());
        }
        if let Some(key) = &self.plan.cluster_key {
            arguments.extend(["--cluster-key-file".to_owned(), key.display().to_string()]);
        }
        arguments
    }
}

/// Starts `command` with a clock that is so many seconds ahead.
fn set_clock(command: &mut Command, ahead_s: i64) -> Result<(), Trouble> {
    if ahead_s != 0 {
        command.env("LD_PRELOAD", binaries::wrong_clock()?).env("FAKETIME", format!("{ahead_s:+}s"));
        command.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
    Ok(())
}

fn text(value: &Value) -> Result<String, Trouble> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("the ready line lacks a listener: {value}").into())
}
