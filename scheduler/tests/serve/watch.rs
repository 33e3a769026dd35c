//! Watch connections to link listeners that are of no use.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use roost_proto::id::{Incarnation, NodeId};
use roost_proto::link::Acting;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

use crate::agent::{Agent, report};
use crate::process::Scheduler;
use crate::wait;

/// What the watcher pauses for at least between its first connection and the fourth, if none is of use.
const PAUSES: Duration = Duration::from_millis(20 + 100 + 500);

#[tokio::test]
async fn a_node_at_another_nodes_link_url_is_dialled_ever_more_seldom_and_told_of_once() {
    let (_scheduler, link, log, _fra) = watched().await;
    let mut dialled = Vec::new();
    for _ in 0..4 {
        let (stream, address) = link.accept().await.unwrap();
        dialled.push(Instant::now());
        let mut socket = accept_async(stream).await.unwrap();
        let other = Acting { v: 1, node: NodeId::new("iad-1").unwrap(), incarnation: Incarnation(7), address };
        socket.send(Message::text(serde_json::to_string(&other).unwrap())).await.unwrap();
    }
    assert!(dialled[3] - dialled[0] >= PAUSES, "{dialled:?}");
    assert_eq!(log.count("another node is there, iad-1"), 1);
}

#[tokio::test]
async fn a_scheduler_that_is_the_second_one_says_so_once() {
    let (_scheduler, link, log, _fra) = watched().await;
    for _ in 0..3 {
        let (mut stream, _) = link.accept().await.unwrap();
        let _request = stream.read(&mut [0; 4_096]).await.unwrap();
        stream.write_all(b"HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    }
    wait::until("it is said", || async { (log.count("second_scheduler") == 1).then_some(()) }).await;
}

/// The log of a scheduler.
struct Log(tempfile::TempDir);

impl Log {
    fn count(&self, text: &str) -> usize {
        std::fs::read_to_string(self.0.path().join("log")).unwrap().matches(text).count()
    }
}

/// A scheduler, and the link listener of the one node that it knows.
async fn watched() -> (Scheduler, TcpListener, Log, Agent) {
    let log = Log(tempfile::tempdir().unwrap());
    let link = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheduler = Scheduler::start_logged(&["--dev"], &log.0.path().join("log")).await;
    let mut fra = report("fra-1", "eu");
    fra.description.link_url = format!("ws://{}", link.local_addr().unwrap());
    let fra = Agent::start_with(&scheduler.cluster, fra).await;
    (scheduler, link, log, fra)
}
