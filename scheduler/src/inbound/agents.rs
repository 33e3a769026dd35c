//! The cluster listener: agents without Redis have the store from here, over a WebSocket; and lookups for participants
//! who stand at an agent's door.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, Closed, ProtocolError, Session};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use roost_proto::command::Command;
use roost_proto::error::{Code, Problem};
use roost_proto::id::NodeId;
use roost_proto::link::OWN_STORE_HEADER;
use roost_proto::uplink::{UplinkMessage, UplinkRequest};
use roost_server::problem::other_methods;
use roost_server::{ApiError, bearer, request_id, socket};
use roost_store::StoreError;
use roost_store::operation::{Assert, NodeAnswer, NodeOperation, Registered, Right};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::interval;

use super::public;
use crate::app::Scheduler;

/// The largest message of an agent: a full report of ten thousand rooms fits in well.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// How many operations of one agent are under way at once; further ones wait unread.
const MOST_AT_ONCE: usize = 64;
const PING_EVERY: Duration = Duration::from_secs(5);
/// An agent of which nothing was heard for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(15);

/// Mounts the cluster listener's paths.
pub(crate) fn configure(config: &mut web::ServiceConfig, scheduler: &web::Data<Scheduler>) {
    super::basics(config, scheduler);
    config
        .service(web::resource("/v1/agent").route(web::get().to(agent)).default_service(other_methods("GET")))
        .service(
            web::resource("/v1/namespaces/{namespace}/rooms/{room}/lookup")
                .route(web::post().to(lookup))
                .default_service(other_methods("POST")),
        );
}

fn check_proof(request: &HttpRequest, scheduler: &Scheduler) -> Result<(), Problem> {
    let token = bearer::token(request.headers())
        .ok_or_else(|| Problem::new(Code::ClusterKeyInvalid, "header Authorization: expected Bearer and a proof"))?;
    scheduler.rules.keys.check_proof(token, SystemTime::now())
}

/// As the public lookup; the agent speaks for its participant.
async fn lookup(
    request: HttpRequest,
    payload: web::Payload,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    check_proof(&request, &scheduler)?;
    public::answer(&request, payload, &scheduler, |_, _| true).await
}

async fn agent(
    request: HttpRequest,
    body: web::Payload,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    check_proof(&request, &scheduler)?;
    let (mut response, session, stream) = socket::accept(&request, body, &[])?;
    if let Some(store) = scheduler.own_store().await {
        let store = HeaderValue::from_str(&store).expect("the identity of a store in memory is letters and digits");
        response.headers_mut().insert(HeaderName::from_static(OWN_STORE_HEADER), store);
    }
    let stream = stream.max_frame_size(MOST_BYTES).aggregate_continuations().max_continuation_size(MOST_BYTES);
    let uplink = Uplink { scheduler, session, commands: None, heard: Instant::now() };
    let id = request_id::current().unwrap_or_else(request_id::new);
    actix_web::rt::spawn(request_id::within(id, uplink.serve(stream)));
    Ok(response)
}

/// One agent's connection.
struct Uplink {
    scheduler: web::Data<Scheduler>,
    session: Session,
    /// The commands for the incarnation that registered, or goes on reporting, here.
    commands: Option<mpsc::Receiver<Command>>,
    heard: Instant,
}

/// What must be known of a request to answer its sender.
#[derive(Deserialize)]
struct Unread {
    id: u64,
    op: UnreadOperation,
}

#[derive(Deserialize)]
struct UnreadOperation {
    op: String,
    #[serde(default)]
    report: Option<Sender>,
}

#[derive(Deserialize)]
struct Sender {
    #[serde(default)]
    node: Option<NodeId>,
}

/// Why the connection ends.
enum End {
    Gone,
    Close(u16, &'static str),
}

impl Uplink {
    async fn serve(mut self, stream: AggregatedMessageStream) {
        self.scheduler.metrics.agents(1);
        let end = self.converse(stream).await;
        self.scheduler.metrics.agents(-1);
        if let End::Close(code, reason) = end {
            tracing::info!(reason, "the connection of an agent is closed");
            let reason = actix_ws::CloseReason { code: code.into(), description: Some(reason.to_owned()) };
            let _ = tokio::time::timeout(Duration::from_secs(1), self.session.close(Some(reason))).await;
        }
    }

    async fn converse(&mut self, mut stream: AggregatedMessageStream) -> End {
        let scheduler = self.scheduler.clone();
        let mut pings = interval(PING_EVERY);
        let mut under_way = FuturesUnordered::new();
        let mut waiting: VecDeque<UplinkRequest<NodeOperation>> = VecDeque::new();
        loop {
            while let Some(request) = waiting.pop_front() {
                under_way.push(carry_out(&scheduler, request, self.commands.is_some()));
            }
            let step = tokio::select! {
                message = stream.next(), if under_way.len() < MOST_AT_ONCE => self.hear(message).await,
                Some((id, answer, commands)) = under_way.next() => {
                    self.commands = commands.or_else(|| self.commands.take());
                    self.say(&UplinkMessage::Reply { id, answer }).await
                }
                command = next_command(&mut self.commands) => match command {
                    Some(command) => self.say(&UplinkMessage::Command(command)).await,
                    // The store lost them; the agent's next report subscribes anew.
                    None => {
                        self.commands = None;
                        Ok(None)
                    }
                },
                _ = pings.tick() => self.ping().await,
                () = scheduler.stopped() => Err(End::Close(1001, "scheduler_stops")),
            };
            match step {
                Ok(Some(request)) => waiting.push_back(request),
                Ok(None) => {}
                Err(end) => return end,
            }
        }
    }

    async fn hear(
        &mut self,
        message: Option<Result<AggregatedMessage, ProtocolError>>,
    ) -> Result<Option<UplinkRequest<NodeOperation>>, End> {
        self.heard = Instant::now();
        match message {
            Some(Ok(AggregatedMessage::Text(text))) => match serde_json::from_str(&text) {
                Ok(request) => Ok(Some(request)),
                Err(error) => self.refuse(&text, &error).await,
            },
            Some(Ok(AggregatedMessage::Ping(payload))) => in_time(self.session.pong(&payload)).await,
            Some(Ok(AggregatedMessage::Pong(_))) => Ok(None),
            Some(Ok(AggregatedMessage::Binary(_))) => Err(End::Close(4400, Code::BadRequest.as_str())),
            Some(Err(ProtocolError::Overflow)) => Err(End::Close(1009, "message_too_large")),
            Some(Ok(AggregatedMessage::Close(_)) | Err(_)) | None => Err(End::Gone),
        }
    }

    /// A report that cannot be read is dropped like one that came through Redis, and its lease not renewed. An operation of
    /// a later version is not done. With anything else that cannot be read there is no going on.
    async fn refuse(
        &mut self,
        text: &str,
        error: &serde_json::Error,
    ) -> Result<Option<UplinkRequest<NodeOperation>>, End> {
        let Ok(Unread { id, op }) = serde_json::from_str(text) else {
            tracing::warn!(%error, "an agent's message cannot be read");
            return Err(End::Close(4400, Code::BadRequest.as_str()));
        };
        if op.op == "renew" {
            self.scheduler.store.dropped_reports().unreadable(op.report.and_then(|report| report.node), error);
        } else {
            tracing::info!(operation = format!("{:.80}", op.op), %error, "an agent asks for what cannot be read: it may be of a later version");
        }
        let answer = NodeAnswer::Unavailable(format!("{:.80}: cannot be read: {error}", op.op));
        self.say(&UplinkMessage::Reply { id, answer }).await
    }

    async fn say(&mut self, message: &UplinkMessage<NodeAnswer>) -> Result<Option<UplinkRequest<NodeOperation>>, End> {
        let text = serde_json::to_string(message).expect("messages have string keys only");
        in_time(self.session.text(text)).await
    }

    async fn ping(&mut self) -> Result<Option<UplinkRequest<NodeOperation>>, End> {
        if self.heard.elapsed() > GONE_AFTER {
            return Err(End::Close(1001, "silent"));
        }
        in_time(self.session.ping(b"")).await
    }
}

/// Sends something; an agent that has not read what was sent before for so long is gone.
async fn in_time(
    sending: impl Future<Output = Result<(), Closed>>,
) -> Result<Option<UplinkRequest<NodeOperation>>, End> {
    match tokio::time::timeout(GONE_AFTER, sending).await {
        Ok(Ok(())) => Ok(None),
        _ => Err(End::Gone),
    }
}

async fn next_command(commands: &mut Option<mpsc::Receiver<Command>>) -> Option<Command> {
    match commands {
        Some(commands) => commands.recv().await,
        None => std::future::pending().await,
    }
}

fn in_grace(scheduler: &Scheduler, assert: &Assert) -> bool {
    scheduler.view().grace_left_ms(assert.held.room.bucket(), scheduler.clock.now()) > 0
}

type Done = (u64, NodeAnswer, Option<mpsc::Receiver<Command>>);

/// Does on the store what an agent asked for. The first registration or report on a connection brings the commands of its
/// incarnation with it.
async fn carry_out(scheduler: &Scheduler, request: UplinkRequest<NodeOperation>, is_subscribed: bool) -> Done {
    let store = &scheduler.store;
    let reports = match &request.op {
        NodeOperation::Renew(renew) => Some((renew.report.node.clone(), renew.report.incarnation)),
        _ => None,
    };
    let mut subscriber = reports.filter(|_| !is_subscribed);
    let answer = match request.op {
        NodeOperation::Runs => store.runs().await.map(NodeAnswer::Runs),
        NodeOperation::Identity => store.identity().await.map(NodeAnswer::Identity),
        NodeOperation::Register(register) => {
            let node = register.node.clone();
            let registered = store.register(register).await;
            if let Ok(Registered::Yes { incarnation, .. }) = &registered {
                tracing::info!(%node, %incarnation, "a node registers");
                subscriber = Some((node, *incarnation));
            }
            registered.map(NodeAnswer::Registered)
        }
        NodeOperation::Renew(renew) => store.renew(*renew).await.map(NodeAnswer::Renewed),
        NodeOperation::Open(holding) => store.open(holding).await.map(NodeAnswer::Opened),
        // The agent's own grace knows only its own lease, and not what server is behind this scheduler (rule 18).
        NodeOperation::Assert(assert) if assert.right == Right::Confirming && in_grace(scheduler, &assert) => {
            Err(StoreError::Unavailable { reason: "the grace of the room's bucket is not over".to_owned() })
        }
        NodeOperation::Assert(assert) => store.assert(assert).await.map(NodeAnswer::Asserted),
        NodeOperation::Release(holding) => store.release(holding).await.map(NodeAnswer::Released),
        NodeOperation::HandOver(hand_over) => store.hand_over(hand_over).await.map(NodeAnswer::HandedOver),
        NodeOperation::Raise(raise) => store.raise(raise).await.map(NodeAnswer::Raised),
        NodeOperation::Leave(leave) => store.leave(leave).await.map(|()| NodeAnswer::Left),
        NodeOperation::Schedulers => store.schedulers().await.map(NodeAnswer::Schedulers),
    };
    scheduler.metrics.store_called("for_agent", &answer);
    // Before the answer goes out, so that the agent misses none; without the store the next report tries again.
    let commands = match subscriber {
        Some((node, incarnation)) => store.commands(&node, incarnation).await.ok(),
        None => None,
    };
    let answer = answer.unwrap_or_else(|error| match error {
        StoreError::Unavailable { reason } | StoreError::Refused { reason } => NodeAnswer::Unavailable(reason),
        other => NodeAnswer::Unknown(other.to_string()),
    });
    (request.id, answer, commands)
}
