//! Errors as RFC 9457 `application/problem+json`, and the extractors' errors turned into them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::{PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_LENGTH, RETRY_AFTER};
use actix_web::web::{self, BytesMut, PathConfig, QueryConfig, ServiceConfig};
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError, Route};
use futures_util::StreamExt as _;
use roost_proto::error::{Code, Problem};
use roost_proto::id::InvalidId;
use serde::de::DeserializeOwned;

use crate::request_id;

/// The largest body of a request.
pub const MAX_BODY_BYTES: usize = 16 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How deep a body may be nested, in fields that nobody reads as well.
pub const MAX_BODY_DEPTH: usize = 32;

/// The `Content-Type` of every error.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// A handler's error: the problem that the client gets.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError(pub Problem);

impl ApiError {
    /// An error of this code; `detail` says what exactly.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self::new(code, code.meaning())
    }
}

impl From<InvalidId> for ApiError {
    fn from(error: InvalidId) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.detail)
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut problem = self.0.clone();
        if problem.request_id.is_none() {
            problem.request_id = request_id::current();
        }
        let mut response = HttpResponse::build(self.status_code());
        response.content_type(CONTENT_TYPE);
        if let Some(seconds) = retry_after_s(problem.code) {
            response.insert_header((RETRY_AFTER, seconds));
        }
        response.body(serde_json::to_vec(&problem).expect("a problem has string keys only"))
    }
}

/// How long a client should wait before it tries again, in seconds; none if it need not try again.
#[must_use]
pub const fn retry_after_s(code: Code) -> Option<u64> {
    match code {
        Code::RoomFull => Some(5),
        _ if code.retryable() => Some(1),
        _ => None,
    }
}

/// The errors of path and query extractors, and 404 for what is not served. For every `App`.
pub fn configure(config: &mut ServiceConfig) {
    config
        .app_data(PathConfig::default().error_handler(|error, _| path_error(&error).into()))
        .app_data(QueryConfig::default().error_handler(|error, _| query_error(&error).into()))
        .default_service(web::to(not_found));
}

/// The answer to the methods that a resource does not have: `web::resource(…).default_service(other_methods("GET"))`.
#[must_use]
pub fn other_methods(allowed: &'static str) -> Route {
    web::to(move |request: HttpRequest| async move {
        let detail = format!("method {}: expected {allowed}", request.method());
        let mut response = ApiError::new(Code::MethodNotAllowed, detail).error_response();
        response.headers_mut().insert(ALLOW, allowed.parse().expect("method names make a header"));
        response
    })
}

/// A body as JSON of at most [`MAX_BODY_BYTES`], whatever its `Content-Type`. No body counts as `{}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest for JsonBody<T> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let announced = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
            .unwrap_or(0);
        let mut payload = payload.take();
        Box::pin(async move {
            if announced > MAX_BODY_BYTES as u64 {
                return Err(too_large());
            }
            let body = tokio::time::timeout(BODY_TIMEOUT, collect(&mut payload)).await.map_err(|_| {
                ApiError::new(Code::BadRequest, format!("body: expected within {} s", BODY_TIMEOUT.as_secs()))
            })??;
            parse(&body).map(Self)
        })
    }
}

/// Reads a body as a JSON object; an empty one counts as `{}`. Errors name the field and what was expected there.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = if body.is_empty() { b"{}" } else { body };
    // To serde a list of values is a struct as well.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::new(Code::BadRequest, "body: expected a JSON object"));
    }
    if depth(body) > MAX_BODY_DEPTH {
        let detail = format!("body: expected at most {MAX_BODY_DEPTH} levels of nesting");
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    serde_json::from_slice(body).map_err(|error| body_error::<T>(body, &error))
}

async fn collect(payload: &mut Payload) -> Result<BytesMut, ApiError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| ApiError::new(Code::BadRequest, format!("body: {error}")))?;
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn not_found(request: HttpRequest) -> HttpResponse {
    let path: String = request.path().chars().take(200).collect();
    ApiError::new(Code::NotFound, format!("path {path:?}: nothing is served here")).error_response()
}

fn too_large() -> ApiError {
    ApiError::new(Code::BodyTooLarge, format!("body: expected at most {MAX_BODY_BYTES} bytes"))
}

/// The largest number of arrays and objects that are open at once; what stands in strings does not count.
fn depth(body: &[u8]) -> usize {
    let (mut open, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' if !quoted => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Reads the body once more, slowly, to learn the path of the field that was wrong.
fn body_error<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> ApiError {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let detail = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) if error.inner().is_data() && error.path().iter().next().is_some() => {
            format!("body {}: {}", error.path(), error.inner())
        }
        _ => format!("body: {error}"),
    };
    ApiError::new(code_of(&error.to_string()), detail)
}

/// `bad_id` if the message is that of an [`InvalidId`], which serde hands on as text only.
fn code_of(message: &str) -> Code {
    if message.contains("\": expected ") { Code::BadId } else { Code::BadRequest }
}

fn path_error(error: &PathError) -> ApiError {
    ApiError::new(Code::BadId, format!("path: {error}"))
}

fn query_error(error: &QueryPayloadError) -> ApiError {
    let message = error.to_string();
    ApiError::new(code_of(&message), format!("query: {message}"))
}
