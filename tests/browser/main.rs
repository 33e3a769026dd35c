//! Real browsers, and clients that are not ours, against a real cluster with real mediasoup workers.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "figures are shown with --nocapture")]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use roost_tests::browsers::{Browsers, Page, aiortc, stock, stock_comes_back};
use roost_tests::cluster::{Cluster, Media, NodePlan, Plan};
use roost_tests::{Trouble, wait};

/// How long a room may be away when its media worker is killed. An idle machine shows 1 to 2.5 s (printed with
/// --nocapture); here four browsers encode video on what may be two cores.
const BACK_WITHIN_MS: u64 = 8_000;

#[test]
fn two_browsers_meet_by_lookup_by_a_schedulers_socket_and_at_the_wrong_node() {
    run(async {
        let cluster = Cluster::start(plan()).await?;
        let page = Page::serve(&cluster).await?;
        let nodes: Vec<_> = cluster.nodes.iter().map(|node| format!("ws://{}/", node.signaling)).collect();
        let ways: &[&[&str]] = &[
            &["--mode", "lookup", "--names", "anna \u{fc},bob & co"],
            &["--mode", "scheduler-ws"],
            &["--mode", "wrong-node", "--ws", &nodes.join(",")],
        ];
        for (index, way) in ways.iter().enumerate() {
            let browsers = Browsers::meet(&cluster, &page, &format!("standup {index}"), way).await?;
            println!("{}: {}", way[1], browsers.result);
            browsers.close().await?;
        }
        cluster.stop().await
    });
}

#[test]
fn two_browsers_meet_who_use_different_schedulers() {
    run(async {
        let cluster = Cluster::start(plan().with_redis(2)).await?;
        let page = Page::serve(&cluster).await?;
        for mode in ["lookup", "scheduler-ws"] {
            let browsers = Browsers::meet(&cluster, &page, mode, &["--mode", mode]).await?;
            println!("{mode}: {}", browsers.result);
            browsers.close().await?;
        }
        cluster.stop().await
    });
}

#[test]
fn an_independent_client_hears_the_browsers_in_the_same_room() {
    run(async {
        let cluster = Cluster::start(plan()).await?;
        let page = Page::serve(&cluster).await?;
        let browsers = Browsers::meet(&cluster, &page, "standup", &[]).await?;
        let heard = aiortc(&cluster, "standup").await?;
        println!("aiortc: {heard}");
        assert_eq!(heard["node"].as_str(), Some(browsers.node()?));
        browsers.close().await?;
        cluster.stop().await
    });
}

#[test]
fn a_stock_client_stays_away_after_a_redirect_and_comes_back_after_4503() {
    run(async {
        stock(None, "standup").await?;
        let cluster = Cluster::start(plan()).await?;
        let scheduler = format!("ws://{}/", cluster.schedulers[0].public);
        println!("scheduler: {}", stock(Some(&scheduler), "standup").await?);
        let home = cluster.lookup(0, "default", "standup", json!({})).await?.node.id;
        let other = cluster.nodes.iter().find(|node| node.id != home.as_str()).ok_or("one node only")?;
        println!("wrong node: {}", stock(Some(&format!("ws://{}/", other.signaling)), "standup").await?);
        cluster.stop().await
    });
}

#[test]
fn a_stock_client_comes_back_to_the_same_node_when_its_media_worker_is_killed() {
    run(async {
        let nodes = vec![NodePlan::new("fra-1", "eu/central")];
        let cluster = Cluster::start(Plan { nodes, ..plan() }).await?;
        let node = cluster.node("fra-1")?;
        let agent = node.process.pid().ok_or("no agent")?;
        let socket = format!("ws://{}/", node.signaling);
        println!("{}", stock_comes_back(&socket, "standup", || kill_worker(agent, 0)).await?);
        cluster.stop().await
    });
}

#[test]
fn a_killed_media_worker_costs_its_own_rooms_a_moment_and_the_others_nothing() {
    run(async {
        let nodes = vec![NodePlan::new("fra-1", "eu/central")];
        let cluster = Cluster::start(Plan { nodes, media: Media::Mediasoup(2), ..Plan::small() }).await?;
        let page = Page::serve(&cluster).await?;
        let mut rooms = BTreeMap::new();
        // Rooms go to the least loaded worker, so the second meets at the other one.
        for room in ["standup", "retro", "planning"] {
            let browsers = Browsers::meet(&cluster, &page, room, &["--fps", "5"]).await?;
            rooms.insert(worker_of(&cluster, room).await?, browsers);
            if rooms.len() == 2 {
                break;
            }
        }
        let (mut hit, mut spared) = match (rooms.remove(&0), rooms.remove(&1)) {
            (Some(hit), Some(spared)) => (hit, spared),
            _ => return Err("all rooms went to one worker".into()),
        };
        hit.expect("expect-return 20").await?;
        spared.expect("expect-steady 6").await?;
        kill_worker(cluster.node("fra-1")?.process.pid().ok_or("no agent")?, 0)?;
        let (returned, steady) = (hit.answer().await?, spared.answer().await?);
        println!("hit: {returned}\nspared: {steady}");
        assert_eq!(steady["ok"], true, "{steady}");
        for participant in returned["participants"].as_array().ok_or("no participants")? {
            assert_eq!(participant["ok"], true, "{returned}");
            assert!(participant["ms"].as_u64().unwrap() <= BACK_WITHIN_MS, "{returned}");
            assert_eq!(participant["node"], "fra-1");
        }
        hit.close().await?;
        spared.close().await?;
        cluster.stop().await
    });
}

/// Runs an async test body and shows what went wrong in words.
fn run(body: impl Future<Output = Result<(), Trouble>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Err(trouble) = runtime.block_on(body) {
        panic!("{trouble}");
    }
}

fn plan() -> Plan {
    Plan { media: Media::Mediasoup(1), ..Plan::small() }
}

/// The worker of its node that a room is on.
async fn worker_of(cluster: &Cluster, room: &str) -> Result<u64, Trouble> {
    let url = format!("http://{}/v1/namespaces/default/rooms/{room}", cluster.schedulers[0].public);
    wait::until("the room's worker is known", Duration::from_secs(5), || async {
        let found: Value = cluster.http.get(&url).send().await.ok()?.json().await.ok()?;
        found["worker"].as_u64()
    })
    .await
}

/// kill -9 of the media worker of this number: the agent's child that was started with it.
fn kill_worker(agent: u32, worker: u16) -> Result<(), Trouble> {
    let number = worker.to_string();
    // A child is listed with the thread that started it.
    for thread in fs::read_dir(format!("/proc/{agent}/task"))? {
        for child in fs::read_to_string(thread?.path().join("children"))?.split_whitespace() {
            let arguments = fs::read_to_string(format!("/proc/{child}/cmdline"))?;
            let arguments: Vec<&str> = arguments.split('\0').collect();
            if arguments.windows(2).any(|pair| pair == ["--worker", &number]) {
                let pid = Pid::from_raw(child.parse()?).ok_or("no process id")?;
                return Ok(kill_process(pid, Signal::KILL)?);
            }
        }
    }
    Err(format!("the agent has no child for worker {worker}").into())
}
