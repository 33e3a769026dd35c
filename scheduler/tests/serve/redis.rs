//! Two schedulers over one Redis, and what they do without it.

use std::process::Stdio;
use std::time::Duration;

use roost_store::operation::{NodeAnswer, Opened};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::agent::Agent;
use crate::process::Scheduler;
use crate::wait;

#[tokio::test]
async fn schedulers_with_one_redis_give_one_answer() {
    let redis = Redis::start().await;
    let (one, two) = (redis.scheduler().await, redis.scheduler().await);
    let _fra = Agent::start(&one.cluster, "fra-1", "eu").await;
    let _iad = Agent::start(&two.cluster, "iad-1", "us").await;
    one.knows(2).await;
    two.knows(2).await;
    for room in 0..20 {
        let room = format!("race-{room}");
        let lookups =
            (0..20).map(|i| if i % 2 == 0 { one.lookup(&room, json!({})) } else { two.lookup(&room, json!({})) });
        let answers = futures_util::future::join_all(lookups).await;
        let homes = answers.iter().map(|answer| (answer["node"]["id"].clone(), answer["epoch"].clone()));
        let mut homes: Vec<_> = homes.collect();
        homes.dedup();
        assert_eq!(homes.len(), 1, "{room}: {homes:?}");
    }
    let cluster = one.admin("/v1/cluster").await;
    assert_eq!(cluster["schedulers"].as_array().unwrap().len(), 2, "{cluster}");
    wait::until("both know all rooms", || async {
        let rooms = (one.admin("/v1/cluster").await["rooms"].clone(), two.admin("/v1/cluster").await["rooms"].clone());
        (rooms == (json!(20), json!(20))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_redis_living_rooms_are_answered_and_new_ones_get_store_unavailable() {
    let mut redis = Redis::start().await;
    let scheduler = redis.scheduler().await;
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu").await;
    scheduler.knows(1).await;
    let first = scheduler.lookup("living", json!({})).await;
    assert_eq!(fra.open("living", first["epoch"].as_u64().unwrap()).await, NodeAnswer::Opened(Opened::Yes));
    wait::until("the room is open", || async {
        let room: Value = scheduler.get("/v1/namespaces/default/rooms/living").await.json().await.unwrap();
        (room["state"] == "open").then_some(())
    })
    .await;
    redis.child.kill().await.unwrap();
    // Longer than a lease: the node's silence is not its own.
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let living = scheduler.lookup("living", json!({})).await;
        assert_eq!((&living["outcome"], &living["epoch"]), (&json!("existing"), &first["epoch"]));
    }
    let response = scheduler.lookup_request("new", &json!({})).send().await.unwrap();
    assert!(response.status() == 503 && response.headers().contains_key("retry-after"));
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "store_unavailable");
    assert_eq!(scheduler.admin("/v1/cluster").await["store"], json!({"kind": "redis", "reachable": false}));
    assert_eq!(scheduler.get("/readyz").await.status(), 200, "it can answer for living rooms");
}

/// A Redis of the test's own; it ends when this is dropped.
pub(crate) struct Redis {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed");
        wait::until("Redis answers", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
        })
        .await;
        Self { child, url: format!("redis://127.0.0.1:{port}"), _folder: folder }
    }

    pub(crate) async fn scheduler(&self) -> Scheduler {
        Scheduler::start_with(&["--dev", "--store", &self.url]).await.ready().await
    }

    /// Publishes any text as a report, where those of `agent` go.
    pub(crate) async fn report(&self, agent: &Agent, text: &str) {
        let stream = format!("roost:{{b{}}}:reports", agent.node.bucket());
        let mut command = Command::new("redis-cli");
        command.args(["-u", &self.url, "XADD", &stream, "*", "report", text]);
        assert!(command.output().await.unwrap().status.success());
    }
}
