//! Watch connections: one to the link listener of each agent. When it breaks and the agent's host refuses the next one,
//! the process is dead, and its rooms need not wait for the lease (rule 13).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt as _, StreamExt as _};
use roost_proto::error::Code;
use roost_proto::id::NodeId;
use roost_proto::link::{Acting, OWN_STORE_HEADER};
use roost_server::telemetry::causes;
use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::app::Scheduler;

/// How often the list of nodes is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A host that does not answer within this time does not refuse either.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(5);
/// A connection on which nothing was heard for so long is broken.
const GONE_AFTER: Duration = Duration::from_secs(15);
/// Pauses between attempts to connect.
const PAUSES_MS: [u64; 5] = [20, 100, 500, 1_000, 2_000];
/// What an agent says is short.
const MOST_BYTES: usize = 4_096;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}: expected ws:// or wss://, a host and a port")]
    Url(String),
    #[error("the agent's own address refuses connections")]
    Refused,
    #[error(
        "another scheduler that keeps its state in memory has this node (second_scheduler): stop one, or give both \
         --store redis://…"
    )]
    Second,
    #[error("not reached")]
    Unreached(#[source] std::io::Error),
    #[error("no WebSocket")]
    Handshake(#[source] Box<tungstenite::Error>),
    #[error("no answer in time")]
    Late,
}

/// Watches all nodes that the view knows, until the process ends.
pub(crate) async fn watch_all(scheduler: Arc<Scheduler>, tls: Arc<ClientConfig>) {
    let mut watched: BTreeMap<NodeId, (String, AbortHandle)> = BTreeMap::new();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let wanted: BTreeMap<NodeId, String> = {
            let view = scheduler.view();
            view.nodes(None).map(|(id, node)| (id.clone(), node.report.description.link_url.clone())).collect()
        };
        watched.retain(|node, (url, task)| {
            let stays = wanted.get(node) == Some(url);
            if !stays {
                task.abort();
                scheduler.view_mut().agent_forgotten(node);
            }
            stays
        });
        for (node, url) in wanted {
            watched.entry(node).or_insert_with_key(|node| {
                let watcher = Watcher {
                    scheduler: scheduler.clone(),
                    node: node.clone(),
                    url: url.clone(),
                    own: None,
                    is_named: false,
                    said: None,
                };
                let task = tokio::task::spawn_local(watcher.watch(tls.clone()));
                (url, task.abort_handle())
            });
        }
    }
}

/// Watches one node.
struct Watcher {
    scheduler: Arc<Scheduler>,
    node: NodeId,
    url: String,
    /// The address of the last connection, where that was the agent's own: only its refusals count.
    own: Option<SocketAddr>,
    /// Whether the last connection was of use: our node named an incarnation on it.
    is_named: bool,
    /// What was last said to be wrong: once is enough.
    said: Option<String>,
}

impl Watcher {
    async fn watch(mut self, tls: Arc<ClientConfig>) {
        let mut failed = 0;
        loop {
            match self.connect(&tls).await {
                Ok(socket) => {
                    let _counted = self.scheduler.metrics.watching();
                    self.is_named = false;
                    self.listen(socket).await;
                    self.scheduler.view_mut().agent_broke(&self.node);
                    // One that is of no use says nothing of the next one.
                    failed = if self.is_named { 0 } else { failed };
                }
                Err(Failure::Refused) => self.refused(),
                Err(second @ Failure::Second) => self.say(second.to_string()),
                Err(error) => tracing::debug!(node = %self.node, error = causes(&error), "no watch connection"),
            }
            sleep(Duration::from_millis(PAUSES_MS[failed.min(PAUSES_MS.len() - 1)])).await;
            failed += 1;
        }
    }

    fn refused(&self) {
        let dead = self.scheduler.view_mut().agent_refused(&self.node);
        if let Some(incarnation) = dead {
            self.scheduler.metrics.found_dead();
            tracing::warn!(node = %self.node, %incarnation, "the agent's process is dead: its rooms may go elsewhere at once");
        }
    }

    /// Dials the address of the last connection first: a name may lead to others meanwhile.
    async fn connect(&self, tls: &Arc<ClientConfig>) -> Result<Socket, Failure> {
        let wrong = || Failure::Url(self.url.clone());
        let mut request =
            format!("{}/v1/watch", self.url.trim_end_matches('/')).into_client_request().map_err(|_| wrong())?;
        let (host, port) = {
            let uri = request.uri();
            let port = uri.port_u16().or(match uri.scheme_str() {
                Some("ws") => Some(80),
                Some("wss") => Some(443),
                _ => None,
            });
            (uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned(), port.ok_or_else(wrong)?)
        };
        let proof = format!("Bearer {}", self.scheduler.rules.keys.proof(SystemTime::now()));
        request
            .headers_mut()
            .insert("Authorization", HeaderValue::from_str(&proof).expect("a JWT is a header's value"));
        if let Some(store) = self.scheduler.own_store().await {
            let store = HeaderValue::from_str(&store).expect("the identity of a store in memory is letters and digits");
            request.headers_mut().insert(OWN_STORE_HEADER, store);
        }
        let stream = self.dial(&host, port).await?;
        let limits = WebSocketConfig::default().max_message_size(Some(MOST_BYTES)).max_frame_size(Some(MOST_BYTES));
        let connector = Some(Connector::Rustls(tls.clone()));
        let handshake = client_async_tls_with_config(request, stream, Some(limits), connector);
        let shaken = timeout(HANDSHAKE_WITHIN, handshake).await.map_err(|_| Failure::Late)?;
        shaken.map(|(socket, _)| socket).map_err(|error| match error {
            tungstenite::Error::Http(answer) if answer.status().as_u16() == Code::SecondScheduler.status() => {
                Failure::Second
            }
            error => Failure::Handshake(Box::new(error)),
        })
    }

    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, Failure> {
        let mut failure = Failure::Late;
        if let Some(own) = self.own {
            match timeout(CONNECT_WITHIN, TcpStream::connect(own)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => failure = Failure::Refused,
                Ok(Err(error)) => failure = Failure::Unreached(error),
                Err(_) => {}
            }
        }
        let named = timeout(CONNECT_WITHIN, lookup_host((host, port))).await.map_err(|_| Failure::Late)?;
        for address in named.map_err(Failure::Unreached)?.filter(|address| Some(*address) != self.own) {
            match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                // What its own address said counts more.
                Ok(Err(error)) if !matches!(failure, Failure::Refused) => failure = Failure::Unreached(error),
                _ => {}
            }
        }
        Err(failure)
    }

    /// Hears what the agent says until the connection breaks.
    async fn listen(&mut self, mut socket: Socket) {
        let dialled = match socket.get_ref() {
            MaybeTlsStream::Plain(stream) => stream.peer_addr(),
            MaybeTlsStream::Rustls(tls) => tls.get_ref().0.peer_addr(),
            _ => return,
        };
        let Ok(dialled) = dialled else { return };
        let (mut pings, mut heard) = (interval(PING_EVERY), Instant::now());
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        heard = Instant::now();
                        match serde_json::from_str::<Acting>(&text) {
                            Ok(acting) if acting.node == self.node => self.acts(&acting, dialled),
                            Ok(other) => return self.say(format!("another node is there, {}", other.node)),
                            Err(error) => tracing::warn!(node = %self.node, %error, "a message on a watch connection is dropped"),
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => heard = Instant::now(),
                },
                _ = pings.tick() => {
                    let ping = timeout(PING_EVERY, socket.send(Message::Ping(Default::default())));
                    if heard.elapsed() > GONE_AFTER || !matches!(ping.await, Ok(Ok(()))) {
                        return;
                    }
                }
            }
        }
    }

    fn say(&mut self, wrong: String) {
        if self.said.as_ref() != Some(&wrong) {
            tracing::warn!(node = %self.node, url = self.url, "no watch connection: {wrong}");
            self.said = Some(wrong);
        }
    }

    fn acts(&mut self, acting: &Acting, dialled: SocketAddr) {
        let is_own = self.scheduler.rules.trust_refused && acting.address == dialled;
        self.own = is_own.then_some(dialled);
        (self.is_named, self.said) = (true, None);
        self.scheduler.view_mut().agent_named(&self.node, acting.incarnation);
    }
}
