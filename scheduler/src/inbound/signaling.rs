//! WebSockets on the public listener: whoever connects here instead of at its room's node is sent there, in the words of
//! its own dialect.

use std::time::{Duration, Instant};

use actix_web::http::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, MessageStream, ProtocolError, Session};
use futures_util::StreamExt as _;
use roost_proto::error::{CloseReason, Code, Problem};
use roost_proto::id::{NamespaceId, PeerId, RoomKey, RoomName};
use roost_proto::redirect::{
    DEFAULT_NAMESPACE, MAX_REDIRECTS, Redirect, SignalingQuery, SoraClient, SoraServer, location,
};
use roost_proto::signaling::{Frame, MAX_FRAME_BYTES, SUBPROTOCOL};
use roost_server::problem::other_methods;
use roost_server::socket::Socket;
use roost_server::{ApiError, request_id, socket};
use tokio::time::{interval, timeout};

use super::client;
use crate::app::Scheduler;
use crate::app::lookup::{Asked, Found};
use crate::metrics::Dialect;

/// Who has not said by then what it wants is sent away.
const SAY_WITHIN: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(5);

/// Mounts `/` and `/signaling`.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    for path in ["/", "/signaling"] {
        config.service(web::resource(path).route(web::get().to(upgrade)).default_service(other_methods("GET")));
    }
}

async fn upgrade(
    request: HttpRequest,
    body: web::Payload,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    if !request.headers().contains_key(UPGRADE) {
        return Err(ApiError::new(Code::BadRequest, "this path: expected a WebSocket"));
    }
    let query = SignalingQuery::parse(request.query_string());
    let allowed = scheduler.rules.origins.check(request.headers());
    if !offers_protoo(&request) {
        return match allowed {
            Err(problem) => socket::refuse(&request, body, &[], &problem),
            Ok(()) => {
                let (response, socket) = socket::accept_limited(&request, body, &[], MAX_FRAME_BYTES)?;
                let id = request_id::current().unwrap_or_else(request_id::new);
                actix_web::rt::spawn(request_id::within(id, serve_sora(request, socket, query, scheduler)));
                Ok(response)
            }
        };
    }
    let found = match allowed {
        Ok(()) => find_protoo(&request, &query, &scheduler).await,
        Err(problem) => Err(problem),
    };
    match found {
        Ok(redirect) => {
            scheduler.metrics.redirected(Dialect::Protoo);
            let data = serde_json::to_value(&redirect).expect("a redirect has string keys only");
            let frame = Frame::notification("redirect", data).to_text();
            let (response, socket) = socket::accept_limited(&request, body, &[SUBPROTOCOL], MAX_FRAME_BYTES)?;
            actix_web::rt::spawn(send_away(socket.session, socket.stream, frame));
            Ok(response)
        }
        Err(problem) => socket::refuse_protoo(&request, body, &problem),
    }
}

fn offers_protoo(request: &HttpRequest) -> bool {
    let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).filter_map(|line| line.to_str().ok());
    offers.flat_map(|line| line.split(',')).any(|offer| offer.trim() == SUBPROTOCOL)
}

async fn find_protoo(
    request: &HttpRequest,
    query: &SignalingQuery,
    scheduler: &Scheduler,
) -> Result<Redirect, Problem> {
    let (key, peer) = (query.room()?, query.peer()?);
    find(request, key, Some(&peer), query.redirects, scheduler).await
}

/// Looks the room up, as over HTTP, and says where to go.
async fn find(
    request: &HttpRequest,
    key: RoomKey,
    peer: Option<&PeerId>,
    redirects: u8,
    scheduler: &Scheduler,
) -> Result<Redirect, Problem> {
    if redirects >= MAX_REDIRECTS {
        let detail = format!("redirects {redirects}: expected fewer than {MAX_REDIRECTS}");
        return Err(Problem::new(Code::TooManyRedirects, detail));
    }
    let started = Instant::now();
    let client = client::at_the_door(request, scheduler);
    tracing::debug!(?client, "a client is to be redirected");
    let asked = Asked { key, client, expected_participants: None, avoid: Vec::new(), alternatives: 0 };
    match scheduler.look_up(&asked).await {
        Ok(Found { outcome, home, .. }) => {
            scheduler.metrics.looked_up(outcome, started.elapsed());
            let ticket = scheduler.ticket(&asked.key, &home);
            let location = location(&home.node.signaling_url, &asked.key, peer, &ticket, redirects + 1);
            Ok(Redirect { location, node: home.node.id, epoch: home.epoch, ticket })
        }
        Err(problem) => {
            scheduler.metrics.refused(problem.code, &problem.rejection_counts, started.elapsed());
            Err(problem)
        }
    }
}

async fn send_away(mut session: Session, stream: MessageStream, frame: String) {
    if session.text(frame).await.is_ok() {
        socket::goodbye(session, stream, socket::FINAL, CloseReason::Redirect.as_str()).await;
    }
}

/// How a conversation in Sora's style ends.
enum End {
    Redirected,
    Refused(Box<Problem>),
    TooLarge,
    /// The scheduler is told to stop.
    Stopping,
    Gone,
}

async fn serve_sora(request: HttpRequest, socket: Socket, query: SignalingQuery, scheduler: web::Data<Scheduler>) {
    let Socket { mut session, stream, too_long } = socket;
    let mut stream = stream.aggregate_continuations().max_continuation_size(MAX_FRAME_BYTES);
    let heard = tokio::select! {
        heard = timeout(SAY_WITHIN, hear(&mut session, &mut stream)) => heard.unwrap_or_else(|_| {
            Err(refused(Problem::new(Code::BadRequest, "expected a message connect within 10 s")))
        }),
        () = too_long.notified() => Err(End::TooLarge),
        () = scheduler.stopped() => Err(End::Stopping),
    };
    let end = match heard {
        Err(end) => end,
        Ok(text) => match answer_sora(&request, &text, &query, &scheduler).await {
            Ok(answer) => {
                scheduler.metrics.redirected(Dialect::Sora);
                if session.text(answer).await.is_ok() { End::Redirected } else { End::Gone }
            }
            Err(problem) => refused(problem),
        },
    };
    finish(session, stream, end).await;
}

fn refused(problem: Problem) -> End {
    End::Refused(Box::new(problem))
}

/// Waits for the first message.
async fn hear(session: &mut Session, stream: &mut AggregatedMessageStream) -> Result<String, End> {
    let mut pings = interval(PING_EVERY);
    pings.reset();
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            _ = pings.tick() => {
                session.ping(b"").await.map_err(|_| End::Gone)?;
                continue;
            }
        };
        match message {
            Some(Ok(AggregatedMessage::Text(text))) => return Ok(text.to_string()),
            Some(Ok(AggregatedMessage::Binary(_))) => {
                return Err(refused(Problem::new(Code::BadRequest, "binary frame: expected text")));
            }
            Some(Ok(AggregatedMessage::Ping(payload))) => session.pong(&payload).await.map_err(|_| End::Gone)?,
            Some(Ok(AggregatedMessage::Pong(_))) => {}
            Some(Err(ProtocolError::Overflow)) => return Err(End::TooLarge),
            Some(Ok(AggregatedMessage::Close(_)) | Err(_)) | None => return Err(End::Gone),
        }
    }
}

async fn answer_sora(
    request: &HttpRequest,
    text: &str,
    query: &SignalingQuery,
    scheduler: &Scheduler,
) -> Result<String, Problem> {
    let connect: SoraClient = serde_json::from_str(text)
        .map_err(|error| Problem::new(Code::BadRequest, format!("message: {error}: expected connect")))?;
    let SoraClient::Connect { channel_id, redirect } = connect;
    let namespace = NamespaceId::new(query.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE))?;
    let key = RoomKey { namespace, room: RoomName::new(channel_id)? };
    // A client that lost the count on its way was redirected once at least.
    let redirects = query.redirects.max(u8::from(redirect));
    let found = find(request, key, None, redirects, scheduler).await?;
    Ok(text_of(&SoraServer::Redirect { location: found.location }))
}

async fn finish(mut session: Session, stream: AggregatedMessageStream, end: End) {
    let (code, reason) = match end {
        End::Gone => return,
        End::Redirected => (socket::FINAL, CloseReason::Redirect.as_str()),
        End::TooLarge => (1009, "message_too_large"),
        End::Stopping => (1001, "stopping"),
        End::Refused(problem) => {
            let close = socket::close_reason(problem.code);
            let mut problem = *problem;
            problem.request_id = request_id::current();
            if session.text(text_of(&SoraServer::Error { problem })).await.is_err() {
                return;
            }
            close
        }
    };
    say_goodbye(session, stream, code, reason).await;
}

/// As [`socket::goodbye`], for a stream that joins fragments.
async fn say_goodbye(session: Session, mut stream: AggregatedMessageStream, code: u16, reason: &str) {
    let limit = Duration::from_secs(1);
    let reason = actix_ws::CloseReason { code: code.into(), description: Some(reason.to_owned()) };
    if let Ok(Ok(())) = timeout(limit, session.close(Some(reason))).await {
        let gone = async {
            while let Some(Ok(message)) = stream.next().await
                && !matches!(message, AggregatedMessage::Close(_))
            {}
        };
        let _ = timeout(limit, gone).await;
    }
}

fn text_of(message: &SoraServer) -> String {
    serde_json::to_string(message).expect("messages have string keys only")
}
