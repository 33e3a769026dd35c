//! How a WebSocket is refused and closed: accepted first, told why, then closed with a code that stops stock clients
//! from reconnecting at once, for ever.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{CloseCode, CloseReason, MessageStream, Session};
use roost_proto::error::{Code, Problem};
use roost_proto::signaling::{Frame, SUBPROTOCOL};
use tokio::time::timeout;

use crate::problem::ApiError;
use crate::request_id;

/// The one code upon which stock protoo clients stay away.
pub const FINAL: u16 = 4000;

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

/// Accepts a WebSocket with the first of `protocols` that the client offers; `bad_request` if the request asks for none.
pub fn accept(
    request: &HttpRequest,
    body: web::Payload,
    protocols: &[&str],
) -> Result<(HttpResponse, Session, MessageStream), ApiError> {
    actix_ws::handle_with_protocols(request, body, protocols)
        .map_err(|error| ApiError::new(Code::BadRequest, format!("expected a WebSocket handshake: {error}")))
}

/// Refuses a protoo WebSocket: accepts it, sends the `error` notification, closes it, after the pause if there is one.
pub fn refuse_protoo(request: &HttpRequest, body: web::Payload, problem: &Problem) -> Result<HttpResponse, ApiError> {
    let (response, mut session, stream) = accept(request, body, &[SUBPROTOCOL])?;
    let (frame, close, wait) = protoo_farewell(problem);
    let reason = problem.code.as_str();
    actix_web::rt::spawn(async move {
        let mut stream = stream;
        if session.text(frame).await.is_ok() {
            drain(&mut stream, wait).await;
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
    let (response, session, stream) = accept(request, body, protocols)?;
    let (close, reason) = close_reason(problem.code);
    actix_web::rt::spawn(goodbye(session, stream, close, reason));
    Ok(response)
}

/// Closes a socket with `code` and `reason`, and reads on for a moment, so that the close frame is not lost to a
/// connection reset by what the client had still sent.
pub async fn goodbye(session: Session, mut stream: MessageStream, code: u16, reason: &str) {
    let reason = CloseReason { code: CloseCode::Other(code), description: Some(reason.to_owned()) };
    let limit = Duration::from_millis(GOODBYE_MS);
    if let Ok(Ok(())) = timeout(limit, session.close(Some(reason))).await {
        drain(&mut stream, limit).await;
    }
}

/// Reads and forgets, until the time is over or the client is gone.
async fn drain(stream: &mut MessageStream, limit: Duration) {
    let _ = timeout(limit, async { while let Some(Ok(_)) = stream.recv().await {} }).await;
}

/// 1 to 3 s, another each time, so that those who were refused together don't come back together.
fn pause() -> Duration {
    Duration::from_millis(1_000 + RandomState::new().hash_one(0_u8) % 2_001)
}
