//! The store behind a scheduler: its agent half over one WebSocket, for clusters without Redis.
//!
//! Answers match requests by id (rule 4). A connection that is lost, or silent, leaves its calls unknown; only
//! [`NodeStore::runs`] makes a new one, so that no call travels on another connection than it was meant for (rule 1).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config, tungstenite};

use roost_proto::WIRE_VERSION;
use roost_proto::command::Command;
use roost_proto::id::{Incarnation, NodeId};
use roost_proto::link::OWN_STORE_HEADER;
use roost_proto::room::Run;
use roost_proto::uplink::{UplinkMessage, UplinkRequest};
use roost_server::ClusterKeys;
use roost_store::operation::{
    Assert, Asserted, HandOver, HandedOver, Holding, Leave, NodeAnswer, NodeOperation, Opened, Raise, Raised, Register,
    Registered, Released, Renew, Renewed, SchedulerEntry,
};
use roost_store::{NodeStore, StoreError};

use crate::link::watchers::{Watchers, Watching};
use roost_server::telemetry::causes;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How many calls may be on their way; more wait.
const CALLS_WAITING: usize = 1_024;
/// How many commands may wait to be read.
const COMMANDS_WAITING: usize = 256;
/// The longest message that is read. Lists of schedulers are short, and runs are 16.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// The store, through one scheduler.
#[derive(Debug)]
pub(crate) struct SchedulerStore {
    /// `ws://host:port/v1/agent`.
    url: String,
    keys: ClusterKeys,
    tls: Option<Arc<rustls::ClientConfig>>,
    answer_within: Duration,
    watchers: Watchers,
    current: Mutex<Option<Arc<Connection>>>,
    /// One connects at a time.
    connecting: tokio::sync::Mutex<()>,
}

/// One connection, from its handshake to its end.
#[derive(Debug)]
struct Connection {
    next_id: AtomicU64,
    outgoing: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    /// Reading and writing. They end with the connection: one to a silent host would be read for ever.
    _tasks: JoinSet<()>,
}

/// What the connection's two tasks share with the calls.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    is_over: bool,
    calls: BTreeMap<u64, oneshot::Sender<NodeAnswer>>,
    commands: Option<mpsc::Sender<Command>>,
    /// While the connection lives, no scheduler with another store is let in.
    watching: Option<Watching>,
}

impl SchedulerStore {
    /// The store behind the scheduler whose cluster listener is at `base` (`http://…` or `https://…`). It connects with
    /// the first [`NodeStore::runs`]; a call that takes longer than `answer_within` is unknown.
    pub(crate) fn new(
        base: &str,
        keys: ClusterKeys,
        tls: Option<Arc<rustls::ClientConfig>>,
        answer_within: Duration,
        watchers: Watchers,
    ) -> Self {
        let socket = base.replacen("http", "ws", 1);
        Self {
            url: format!("{socket}/v1/agent"),
            keys,
            tls,
            answer_within,
            watchers,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
        }
    }

    fn current(&self) -> Option<Arc<Connection>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        current.filter(|connection| !connection.shared.lock().is_over)
    }

    async fn connect(&self) -> Result<Arc<Connection>, StoreError> {
        let _one = self.connecting.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let unavailable = |reason: String| StoreError::Unavailable { reason };
        let mut request = self.url.as_str().into_client_request().map_err(|error| unavailable(causes(&error)))?;
        let proof = format!("Bearer {}", self.keys.proof(SystemTime::now()));
        let proof = HeaderValue::from_str(&proof).map_err(|error| unavailable(causes(&error)))?;
        request.headers_mut().insert("Authorization", proof);
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let tls = self.tls.clone().map(Connector::Rustls);
        let connecting = connect_async_tls_with_config(request, Some(limits), true, tls);
        let (socket, response) = timeout(self.answer_within, connecting)
            .await
            .map_err(|_| unavailable(format!("{}: no answer to the handshake", self.url)))?
            .map_err(|error| unavailable(format!("{}: {}", self.url, refusal(&error))))?;
        // Of a scheduler that lives beside another one that has us, nothing is taken.
        let own = response.headers().get(OWN_STORE_HEADER).and_then(|store| store.to_str().ok());
        let watching = own.map(|store| self.watchers.enter(store).ok_or_else(|| unavailable(self.second())));
        let connection = Arc::new(Connection::start(socket, watching.transpose()?));
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        Ok(connection)
    }

    fn second(&self) -> String {
        let reason = "is a second scheduler that keeps its state in memory, and the first still watches this node: stop \
                      one, or give both --store redis://…";
        format!("{}: {reason}", self.url)
    }

    async fn call(&self, op: NodeOperation) -> Result<NodeAnswer, StoreError> {
        let Some(connection) = self.current() else {
            return Err(StoreError::Unavailable { reason: "not connected to the scheduler".to_owned() });
        };
        connection.call(op, self.answer_within).await
    }
}

/// Why the scheduler did not let us in.
fn refusal(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Http(answer) if answer.status() == tungstenite::http::StatusCode::UNAUTHORIZED => {
            "the scheduler does not accept our cluster key: expected the same key file at both".to_owned()
        }
        _ => causes(error),
    }
}

impl Connection {
    fn start(socket: Socket, watching: Option<Watching>) -> Self {
        let (sink, stream) = socket.split();
        let (outgoing, queue) = mpsc::channel(CALLS_WAITING);
        let shared = Arc::new(Shared { state: Mutex::new(Waiting { watching, ..Waiting::default() }) });
        let mut tasks = JoinSet::new();
        tasks.spawn(write(sink, queue, shared.clone()));
        tasks.spawn(read(stream, shared.clone()));
        Self { next_id: AtomicU64::new(1), outgoing, shared, _tasks: tasks }
    }

    async fn call(&self, op: NodeOperation, answer_within: Duration) -> Result<NodeAnswer, StoreError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let text = serde_json::to_string(&UplinkRequest { v: WIRE_VERSION, id, op })
            .map_err(|error| StoreError::Unavailable { reason: causes(&error) })?;
        let (tell, told) = oneshot::channel();
        if !self.shared.expect(id, tell) {
            return Err(StoreError::Unavailable { reason: "the scheduler closed the connection".to_owned() });
        }
        let _forget = Forget { id, shared: &self.shared };
        let unknown = |reason: &str| StoreError::Unknown { reason: reason.to_owned() };
        let exchange = async {
            let closed = |_| unknown("the connection to the scheduler was lost");
            self.outgoing.send(Message::text(text)).await.map_err(closed)?;
            told.await.map_err(|_| unknown("the connection to the scheduler was lost"))
        };
        match timeout(answer_within, exchange).await {
            Ok(Ok(NodeAnswer::Unavailable(reason))) => Err(StoreError::Unavailable { reason }),
            Ok(Ok(NodeAnswer::Unknown(reason))) => Err(StoreError::Unknown { reason }),
            Ok(answer) => answer,
            Err(_) => {
                // Whoever is silent for so long may be gone: the next attempt takes a new connection.
                self.shared.end();
                Err(unknown("the scheduler did not answer in time"))
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if the connection is over.
    fn expect(&self, id: u64, tell: oneshot::Sender<NodeAnswer>) -> bool {
        let mut waiting = self.lock();
        if !waiting.is_over {
            waiting.calls.insert(id, tell);
        }
        !waiting.is_over
    }

    /// False if the connection is over, and there will be no commands.
    fn subscribe(&self, commands: mpsc::Sender<Command>) -> bool {
        let mut waiting = self.lock();
        if !waiting.is_over {
            waiting.commands = Some(commands);
        }
        !waiting.is_over
    }

    /// Every call on its way becomes unknown, and whoever reads commands learns that there will be no more.
    fn end(&self) {
        let mut waiting = self.lock();
        waiting.is_over = true;
        waiting.calls.clear();
        waiting.commands = None;
        waiting.watching = None;
    }

    fn take_in(&self, message: UplinkMessage<NodeAnswer>) {
        let mut waiting = self.lock();
        match message {
            UplinkMessage::Reply { id, answer } => {
                if let Some(tell) = waiting.calls.remove(&id) {
                    // The caller may have given up.
                    let _ = tell.send(answer);
                }
            }
            UplinkMessage::Command(command) => {
                if let Some(commands) = &waiting.commands
                    && commands.try_send(command).is_err()
                {
                    tracing::warn!("a command was dropped: too many are waiting");
                }
            }
        }
    }
}

/// Takes a call off the list, however it ended.
struct Forget<'a> {
    id: u64,
    shared: &'a Shared,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.lock().calls.remove(&self.id);
    }
}

async fn write(mut sink: SplitSink<Socket, Message>, mut queue: mpsc::Receiver<Message>, shared: Arc<Shared>) {
    while let Some(message) = queue.recv().await {
        if shared.lock().is_over || sink.send(message).await.is_err() {
            break;
        }
    }
    shared.end();
}

async fn read(mut stream: SplitStream<Socket>, shared: Arc<Shared>) {
    while let Some(Ok(message)) = stream.next().await {
        if shared.lock().is_over {
            break;
        }
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(message) => shared.take_in(message),
                Err(error) => tracing::warn!(%error, "the scheduler said something that is not understood"),
            },
            Message::Close(_) => break,
            // Pings are answered by the library, with the next frame that is read or written.
            _ => {}
        }
    }
    shared.end();
}

macro_rules! expect {
    ($call:expr, $answer:ident) => {
        match $call.await? {
            NodeAnswer::$answer(data) => Ok(data),
            other => Err(wrong_answer(&other)),
        }
    };
}

fn wrong_answer(answer: &NodeAnswer) -> StoreError {
    tracing::warn!(?answer, "the scheduler answered something else than was asked");
    StoreError::Unknown { reason: "the scheduler answered something else than was asked".to_owned() }
}

#[async_trait]
impl NodeStore for SchedulerStore {
    async fn runs(&self) -> Result<Vec<Run>, StoreError> {
        let connection = self.connect().await?;
        expect!(connection.call(NodeOperation::Runs, self.answer_within), Runs)
    }

    async fn identity(&self) -> Result<String, StoreError> {
        expect!(self.call(NodeOperation::Identity), Identity)
    }

    async fn register(&self, register: Register) -> Result<Registered, StoreError> {
        expect!(self.call(NodeOperation::Register(register)), Registered)
    }

    async fn renew(&self, renew: Renew) -> Result<Renewed, StoreError> {
        expect!(self.call(NodeOperation::Renew(Box::new(renew))), Renewed)
    }

    async fn open(&self, holding: Holding) -> Result<Opened, StoreError> {
        expect!(self.call(NodeOperation::Open(holding)), Opened)
    }

    async fn assert(&self, assert: Assert) -> Result<Asserted, StoreError> {
        expect!(self.call(NodeOperation::Assert(assert)), Asserted)
    }

    async fn release(&self, holding: Holding) -> Result<Released, StoreError> {
        expect!(self.call(NodeOperation::Release(holding)), Released)
    }

    async fn hand_over(&self, hand_over: HandOver) -> Result<HandedOver, StoreError> {
        expect!(self.call(NodeOperation::HandOver(hand_over)), HandedOver)
    }

    async fn raise(&self, raise: Raise) -> Result<Raised, StoreError> {
        expect!(self.call(NodeOperation::Raise(raise)), Raised)
    }

    async fn leave(&self, leave: Leave) -> Result<(), StoreError> {
        match self.call(NodeOperation::Leave(leave)).await? {
            NodeAnswer::Left => Ok(()),
            other => Err(wrong_answer(&other)),
        }
    }

    /// The scheduler pushes them on the connection on which the incarnation was registered.
    async fn commands(&self, _: &NodeId, _: Incarnation) -> Result<mpsc::Receiver<Command>, StoreError> {
        let (sender, receiver) = mpsc::channel(COMMANDS_WAITING);
        match self.current() {
            Some(connection) if connection.shared.subscribe(sender) => Ok(receiver),
            _ => Err(StoreError::Unavailable { reason: "not connected to the scheduler".to_owned() }),
        }
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerEntry>, StoreError> {
        expect!(self.call(NodeOperation::Schedulers), Schedulers)
    }
}

#[cfg(test)]
mod tests;
