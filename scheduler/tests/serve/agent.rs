//! An agent without media: registers, reports, and opens rooms when told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt, StreamExt};
use roost_proto::command::Command;
use roost_proto::id::{Epoch, Incarnation, NamespaceId, NodeId, Region, RoomKey};
use roost_proto::report::{Capacity, Description, Host, MediaKind, Mode, Report};
use roost_proto::room::Run;
use roost_proto::uplink::{UplinkMessage, UplinkRequest};
use roost_server::ClusterKeys;
use roost_store::operation::{Holding, Leave, NodeAnswer, NodeOperation, Register, Registered, Renew};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Asked = (NodeOperation, oneshot::Sender<NodeAnswer>);
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// A node of the test's own. It falls silent when this is dropped.
pub(crate) struct Agent {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// What it says in its next report; `seq` is its own.
    pub report: Arc<Mutex<Report>>,
    pub commands: Arc<Mutex<Vec<Command>>>,
    runs: Vec<Run>,
    asks: mpsc::Sender<Asked>,
    tasks: Vec<JoinHandle<()>>,
}

impl Agent {
    pub(crate) async fn start(cluster: &str, id: &str, region: &str) -> Self {
        Self::start_with(cluster, report(id, region)).await
    }

    pub(crate) async fn start_with(cluster: &str, mut report: Report) -> Self {
        let socket = connect(cluster).await;
        let (asks, asked) = mpsc::channel(16);
        let commands = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = vec![tokio::spawn(converse(socket, asked, commands.clone()))];
        let NodeAnswer::Runs(runs) = ask(&asks, NodeOperation::Runs).await else { panic!("no runs") };
        let register = Register {
            node: report.node.clone(),
            run: runs[usize::from(report.node.bucket())].clone(),
            process: format!("test-{}", report.node),
            after: Incarnation(0),
            lease_ms: report.lease_ms,
        };
        let answer = ask(&asks, NodeOperation::Register(register)).await;
        let NodeAnswer::Registered(Registered::Yes { incarnation, .. }) = answer else { panic!("{answer:?}") };
        report.incarnation = incarnation;
        let node = report.node.clone();
        let report = Arc::new(Mutex::new(report));
        let run = runs[usize::from(node.bucket())].clone();
        tasks.push(tokio::spawn(go_on_reporting(asks.clone(), report.clone(), run)));
        Self { node, incarnation, report, commands, runs, asks, tasks }
    }

    /// Goes on over another connection, in the same incarnation.
    pub(crate) async fn reconnect(&mut self, cluster: &str) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        let socket = connect(cluster).await;
        let (asks, asked) = mpsc::channel(16);
        let run = self.runs[usize::from(self.node.bucket())].clone();
        self.tasks.push(tokio::spawn(converse(socket, asked, self.commands.clone())));
        self.tasks.push(tokio::spawn(go_on_reporting(asks.clone(), self.report.clone(), run)));
        self.asks = asks;
    }

    /// Asks the store for something, through the scheduler.
    pub(crate) async fn ask(&self, operation: NodeOperation) -> NodeAnswer {
        ask(&self.asks, operation).await
    }

    /// Opens a room that was granted to it.
    pub(crate) async fn open(&self, room: &str, epoch: u64) -> NodeAnswer {
        ask(&self.asks, NodeOperation::Open(self.holding(room, epoch))).await
    }

    /// Gives up a room that is open here.
    pub(crate) async fn release(&self, room: &str, epoch: u64) -> NodeAnswer {
        ask(&self.asks, NodeOperation::Release(self.holding(room, epoch))).await
    }

    pub(crate) fn holding(&self, room: &str, epoch: u64) -> Holding {
        let room = RoomKey::new("default", room).unwrap();
        let run = self.runs[usize::from(room.bucket())].clone();
        let (node, incarnation) = (self.node.clone(), self.incarnation);
        Holding { room, run, node, incarnation, epoch: Epoch(epoch) }
    }

    /// Ends its incarnation, as an agent that stops does.
    pub(crate) async fn leave(self) {
        self.tasks[1].abort();
        let run = self.runs[usize::from(self.node.bucket())].clone();
        let leave = Leave { node: self.node.clone(), run, incarnation: self.incarnation };
        assert_eq!(ask(&self.asks, NodeOperation::Leave(leave)).await, NodeAnswer::Left);
    }

    /// Changes what its next report says.
    pub(crate) fn say(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Registers a node for each report and sends that one report, all over one connection: the nodes get suspect soon, and
/// lost after a minute.
pub(crate) async fn report_once(cluster: &str, reports: Vec<Report>) {
    const AT_ONCE: usize = 50;
    const LEASE_MS: u64 = 60_000;
    let socket = connect(cluster).await;
    let (asks, asked) = mpsc::channel(AT_ONCE);
    let connection = tokio::spawn(converse(socket, asked, Arc::default()));
    let NodeAnswer::Runs(runs) = ask(&asks, NodeOperation::Runs).await else { panic!("no runs") };
    let begin = async |mut report: Report| {
        let run = runs[usize::from(report.node.bucket())].clone();
        let process = format!("test-{}", report.node);
        let (node, after, lease_ms) = (report.node.clone(), Incarnation(0), LEASE_MS);
        let register = Register { node, run: run.clone(), process, after, lease_ms };
        let answer = ask(&asks, NodeOperation::Register(register)).await;
        let NodeAnswer::Registered(Registered::Yes { incarnation, .. }) = answer else { panic!("{answer:?}") };
        (report.incarnation, report.lease_ms, report.seq) = (incarnation, LEASE_MS, 1);
        ask(&asks, NodeOperation::Renew(Box::new(Renew { run, report, buckets: Vec::new() }))).await;
    };
    for some in reports.chunks(AT_ONCE) {
        futures_util::future::join_all(some.iter().cloned().map(&begin)).await;
    }
    connection.abort();
}

/// A connection to the cluster listener with a valid proof.
pub(crate) async fn connect(cluster: &str) -> Socket {
    let mut request = format!("ws://{cluster}/v1/agent").into_client_request().unwrap();
    let proof = ClusterKeys::dev().proof(SystemTime::now());
    request.headers_mut().insert("authorization", format!("Bearer {proof}").parse().unwrap());
    connect_async(request).await.unwrap().0
}

/// A report of an idle node with room for 100 participants.
pub(crate) fn report(id: &str, region: &str) -> Report {
    Report {
        v: 1,
        node: NodeId::new(id).unwrap(),
        incarnation: Incarnation(0),
        seq: 0,
        lease_ms: 4_000,
        description: Description {
            region: Region::new(region).unwrap(),
            carriers: vec![],
            namespaces: Vec::<NamespaceId>::new(),
            priority: 0,
            signaling_url: format!("ws://{id}.example/signaling"),
            link_url: format!("ws://{id}.example/link"),
            media: MediaKind::Synthetic,
            capacity: Capacity { participants: 100, ..Capacity::default() },
            temporary: false,
            version: "0.1.0".into(),
        },
        mode: Mode::Serving,
        steering: None,
        host: Host::default(),
        workers: vec![],
        rooms: 0,
        participants: 0,
        streams: 0,
        full: true,
        changed: vec![],
        ended: vec![],
    }
}

async fn ask(asks: &mpsc::Sender<Asked>, operation: NodeOperation) -> NodeAnswer {
    let (answer, answered) = oneshot::channel();
    asks.send((operation, answer)).await.unwrap();
    answered.await.unwrap()
}

async fn go_on_reporting(asks: mpsc::Sender<Asked>, report: Arc<Mutex<Report>>, run: Run) {
    for seq in 1.. {
        let report = {
            let mut report = report.lock().unwrap();
            report.seq = report.seq.max(seq) + 1;
            report.clone()
        };
        ask(&asks, NodeOperation::Renew(Box::new(Renew { run: run.clone(), report, buckets: Vec::new() }))).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn converse(mut socket: Socket, mut asked: mpsc::Receiver<Asked>, commands: Arc<Mutex<Vec<Command>>>) {
    let mut open = BTreeMap::new();
    let mut id = 0;
    loop {
        tokio::select! {
            ask = asked.recv() => {
                let Some((op, answer)) = ask else { return };
                id += 1;
                open.insert(id, answer);
                let request = serde_json::to_string(&UplinkRequest { v: 1, id, op }).unwrap();
                if socket.send(Message::text(request)).await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text).unwrap() {
                    UplinkMessage::<NodeAnswer>::Reply { id, answer } => {
                        let _ = open.remove(&id).expect("an open request").send(answer);
                    }
                    UplinkMessage::Command(command) => commands.lock().unwrap().push(command),
                },
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}
