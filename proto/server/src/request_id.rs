//! The request id: taken from `X-Request-Id` or made, given back in that header, and in every log line of the request.
//!
//! It lives in a task-local, not in a span: a span for each request costs more than the rest of a lookup's logging,
//! and most requests log nothing. [`crate::telemetry`] writes it into each line.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::future::{Future, Ready, ready};
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpRequest};
use roost_proto::id::RequestId;

/// The header that carries it, both ways.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: RefCell<RequestId>;
}

/// A new id, unlike any other of this process and, almost surely, of any other process.
#[must_use]
pub fn new() -> RequestId {
    static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut text = String::with_capacity(32);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    write!(text, "{:016x}-{count:x}", *RUN).expect("a string takes what it is given");
    RequestId::new(text).expect("hexadecimal digits and a hyphen are valid")
}

/// The id of the request that this code works for; none outside of one.
#[must_use]
pub fn current() -> Option<RequestId> {
    CURRENT.try_with(|id| id.borrow().clone()).ok()
}

/// Puts another id in place of the current one, from here to the end of the request, its answer's header included.
/// Outside of a request it does nothing.
pub fn replace(id: RequestId) {
    let _ = CURRENT.try_with(|current| *current.borrow_mut() = id);
}

/// Runs `work` as part of request `id`: for tasks that outlive the request, such as a WebSocket's.
pub async fn within<F: Future>(id: RequestId, work: F) -> F::Output {
    CURRENT.scope(RefCell::new(id), work).await
}

/// The middleware: `App::new().wrap(actix_web::middleware::from_fn(request_id::carry))`.
pub async fn carry<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let id = given(request.request()).unwrap_or_else(new);
    within(id, async move {
        let mut response = next.call(request).await?;
        if let Some(value) = current().and_then(|id| HeaderValue::from_bytes(id.as_str().as_bytes()).ok()) {
            response.headers_mut().insert(HEADER, value);
        }
        Ok(response)
    })
    .await
}

/// The current request's id, as a handler's argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current(pub RequestId);

impl FromRequest for Current {
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(current().or_else(|| given(request)).unwrap_or_else(new))))
    }
}

/// The id that the caller gave, if it is valid.
fn given(request: &HttpRequest) -> Option<RequestId> {
    RequestId::new(std::str::from_utf8(request.headers().get(HEADER)?.as_bytes()).ok()?).ok()
}
