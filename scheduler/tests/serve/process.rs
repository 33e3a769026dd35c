//! A scheduler of the test's own, on free ports.

use std::fs::File;
use std::path::Path;
use std::process::{Output, Stdio};

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::agent::Agent;
use crate::wait;

/// A running scheduler; it ends when this is dropped.
pub(crate) struct Scheduler {
    pub child: Child,
    /// `127.0.0.1:port` of each listener.
    pub public: String,
    pub admin: String,
    pub cluster: String,
    pub http: Client,
}

impl Scheduler {
    /// With the embedded store, in development mode.
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--dev"]).await
    }

    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        Self::start_to(arguments, Stdio::null()).await
    }

    /// Its log goes to a file.
    pub(crate) async fn start_logged(arguments: &[&str], log: &Path) -> Self {
        Self::start_to(arguments, File::create(log).unwrap().into()).await
    }

    async fn start_to(arguments: &[&str], errors: Stdio) -> Self {
        let mut child = command(arguments)
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--cluster-listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("the ready line");
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["ready"], true);
        let listener = |name: &str| ready["listeners"][name].as_str().unwrap().to_owned();
        let http = Client::builder().danger_accept_invalid_certs(true).build().unwrap();
        Self { child, public: listener("public"), admin: listener("admin"), cluster: listener("cluster"), http }
    }

    /// Waits until it answers lookups of unknown rooms.
    pub(crate) async fn ready(self) -> Self {
        wait::until("the scheduler is ready", || async {
            let answer = self.http.get(format!("http://{}/readyz", self.admin)).send().await.unwrap();
            answer.status().is_success().then_some(())
        })
        .await;
        self
    }

    /// Ready, with nodes `fra-1` in `eu/central` and `iad-1` in `us/east`.
    pub(crate) async fn with_two_nodes() -> (Self, Agent, Agent) {
        let scheduler = Self::start().await.ready().await;
        let fra = Agent::start(&scheduler.cluster, "fra-1", "eu/central").await;
        let iad = Agent::start(&scheduler.cluster, "iad-1", "us/east").await;
        scheduler.knows(2).await;
        (scheduler, fra, iad)
    }

    /// Tells it to end, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        assert!(self.child.wait().await.unwrap().success());
    }

    /// Waits until so many nodes are alive, or in maintenance.
    pub(crate) async fn knows(&self, nodes: u64) {
        wait::until("the nodes are alive", || async {
            let counts = self.admin("/v1/cluster").await["nodes"].clone();
            (counts["alive"].as_u64()? + counts["maintenance"].as_u64()? == nodes).then_some(())
        })
        .await;
    }

    pub(crate) fn lookup_request(&self, room: &str, body: &Value) -> RequestBuilder {
        self.http.post(format!("http://{}/v1/namespaces/default/rooms/{room}/lookup", self.public)).json(body)
    }

    /// Looks a room up and expects an answer.
    pub(crate) async fn lookup(&self, room: &str, body: Value) -> Value {
        let response = self.lookup_request(room, &body).send().await.unwrap();
        let (status, answer) = (response.status(), response.json::<Value>().await.unwrap());
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Looks a room up in a namespace; a refusal is an answer too.
    pub(crate) async fn lookup_in(&self, namespace: &str, room: &str, body: &Value) -> Value {
        let url = format!("http://{}/v1/namespaces/{namespace}/rooms/{room}/lookup", self.public);
        self.http.post(url).json(body).send().await.unwrap().json().await.unwrap()
    }

    /// The dry run of a lookup.
    pub(crate) async fn explain(&self, namespace: &str, room: &str, body: &Value) -> Value {
        let mut body = body.clone();
        (body["namespace"], body["room"]) = (json!(namespace), json!(room));
        self.explain_at("/v1/explain", &body).await
    }

    /// The same at a path with a query of its own.
    pub(crate) async fn explain_at(&self, path: &str, body: &Value) -> Value {
        let response = self.http.post(format!("http://{}{path}", self.admin)).json(body).send().await.unwrap();
        let (status, answer) = (response.status(), response.json::<Value>().await.unwrap());
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Looks a room up from a region.
    pub(crate) async fn lookup_from(&self, region: &str, room: &str) -> Value {
        self.lookup(room, json!({ "region": region })).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.http.get(format!("http://{}{path}", self.public)).send().await.unwrap()
    }

    pub(crate) async fn admin(&self, path: &str) -> Value {
        self.http.get(format!("http://{}{path}", self.admin)).send().await.unwrap().json().await.unwrap()
    }
}

/// Runs it to its end.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    command(arguments).kill_on_drop(true).output().await.unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost-scheduler"));
    command.arg("serve").args(arguments);
    command
}
