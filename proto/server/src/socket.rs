//! How a WebSocket is refused and closed: accepted first, told why, then closed with a code that stops stock clients
//! from reconnecting at once, for ever.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use actix_ws::{CloseCode, CloseReason, Message, MessageStream, Session};
use roost_proto::error::{Code, Problem};
use roost_proto::signaling::{Frame, MAX_FRAME_BYTES, SUBPROTOCOL};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::guard::Guard;
use crate::problem::ApiError;
use crate::request_id;

/// The one code upon which stock protoo clients stay away.
pub const FINAL: u16 = 4000;

/// The longest message of a process of the cluster, in bytes. What it may say is limited elsewhere; this only keeps it
/// from filling the memory.
pub const LONGEST_MESSAGE: usize = 16 * 1024 * 1024;

/// How long a closed socket may take to say goodbye itself.
const GOODBYE_MS: u64 = 1_000;

/// The close code of a code, 4000 + its HTTP status, and its close reason.
#[must_use]
pub const fn close_reason(code: Code) -> (u16, &'static str) {
    (4000 + code.status(), code.as_str())
}

/// How a protoo participant is told of a problem: the `error` notification, the close code (4000 if the answer is
/// final, else 4000 + status), and how long to wait between the two (1 to 3 s, spread, if it may come back).
#[must_use]
pub fn protoo_farewell(problem: &Problem) -> (String, u16, Duration) {
    let mut problem = problem.clone();
    if problem.request_id.is_none() {
        problem.request_id = request_id::current();
    }
    let retryable = problem.retryable;
    let (close, _) = close_reason(problem.code);
    let data = serde_json::to_value(&problem).expect("a problem has string keys only");
    let frame = Frame::notification("error", data).to_text();
    if retryable { (frame, close, pause()) } else { (frame, FINAL, Duration::ZERO) }
}

/// An accepted WebSocket.
pub struct Socket {
    pub session: Session,
    pub stream: MessageStream,
    /// Notified when a message is longer than allowed; after it the stream gives nothing more.
    pub too_long: Arc<Notify>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Socket").finish_non_exhaustive()
    }
}

/// Accepts a WebSocket of a process of the cluster, as [`accept_limited`] with [`LONGEST_MESSAGE`]. One who sends more
/// is not heard any more.
pub fn accept(
    request: &HttpRequest,
    body: web::Payload,
    protocols: &[&str],
) -> Result<(HttpResponse, Session, MessageStream), ApiError> {
    let (response, Socket { session, stream, .. }) = accept_limited(request, body, protocols, LONGEST_MESSAGE)?;
    Ok((response, session, stream))
}

/// Accepts a WebSocket with the first of `protocols` that the client offers; `bad_request` if the request asks for none.
/// Messages and frames have at most `limit` bytes; for participants that is
/// [`MAX_FRAME_BYTES`].
pub fn accept_limited(
    request: &HttpRequest,
    body: web::Payload,
    protocols: &[&str],
    limit: usize,
) -> Result<(HttpResponse, Socket), ApiError> {
    let not_accepted = |error| ApiError::new(Code::BadRequest, format!("expected a WebSocket handshake: {error}"));
    let too_long = Arc::new(Notify::new());
    let guard = Guard::new(body.into_inner(), limit, too_long.clone());
    let mut payload: Payload = Payload::Stream { payload: Box::pin(guard) };
    let body = web::Payload::from_request(request, &mut payload).into_inner().map_err(not_accepted)?;
    let (response, session, stream) =
        actix_ws::handle_with_protocols(request, body, protocols).map_err(not_accepted)?;
    Ok((response, Socket { session, stream: stream.max_frame_size(limit), too_long }))
}

/// Refuses a protoo WebSocket: accepts it, sends the `error` notification, closes it, after the pause if there is one.
pub fn refuse_protoo(request: &HttpRequest, body: web::Payload, problem: &Problem) -> Result<HttpResponse, ApiError> {
    let (response, Socket { mut session, stream, .. }) =
        accept_limited(request, body, &[SUBPROTOCOL], MAX_FRAME_BYTES)?;
    let (frame, close, wait) = protoo_farewell(problem);
    let reason = problem.code.as_str();
    actix_web::rt::spawn(async move {
        let mut stream = stream;
        if session.text(frame).await.is_ok() && !drain(&mut stream, wait).await {
            goodbye(session, stream, close, reason).await;
        }
    });
    Ok(response)
}

/// Refuses a WebSocket of another kind: accepts it and closes it with 4000 + status and the code as reason.
pub fn refuse(
    request: &HttpRequest,
    body: web::Payload,
    protocols: &[&str],
    problem: &Problem,
) -> Result<HttpResponse, ApiError> {
    let (response, Socket { session, stream, .. }) = accept_limited(request, body, protocols, MAX_FRAME_BYTES)?;
    let (close, reason) = close_reason(problem.code);
    actix_web::rt::spawn(goodbye(session, stream, close, reason));
    Ok(response)
}

/// Closes a socket with `code` and `reason`, and reads on until the client says goodbye too, for a second at most: ended
/// before that, what it was still sending would reset the connection, and the close frame would be lost.
pub async fn goodbye(session: Session, mut stream: MessageStream, code: u16, reason: &str) {
    let reason = CloseReason { code: CloseCode::Other(code), description: Some(reason.to_owned()) };
    let limit = Duration::from_millis(GOODBYE_MS);
    if let Ok(Ok(())) = timeout(limit, session.close(Some(reason))).await {
        drain(&mut stream, limit).await;
    }
}

/// Reads and forgets, until the time is over or the client has said goodbye or is gone; true if it did.
pub async fn drain(stream: &mut MessageStream, limit: Duration) -> bool {
    let gone = async {
        while let Some(Ok(message)) = stream.recv().await
            && !matches!(message, Message::Close(_))
        {}
    };
    timeout(limit, gone).await.is_ok()
}

/// 1 to 3 s, another each time, so that those who were refused together don't come back together.
fn pause() -> Duration {
    Duration::from_millis(1_000 + RandomState::new().hash_one(0_u8) % 2_001)
}
