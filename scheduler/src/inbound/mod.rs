//! The scheduler's doors: handlers parse, call, answer.

mod acted;
pub(crate) mod admin;
pub(crate) mod agents;
mod api;
mod client;
mod closing;
mod limits;
mod moves;
pub(crate) mod public;
pub(crate) mod signaling;
mod steering;

use actix_web::{HttpRequest, web};
use percent_encoding::percent_decode_str;
use roost_proto::error::{Code, Problem};
use roost_proto::id::RoomKey;
use roost_server::problem;

use crate::app::Scheduler;

/// What every listener's app begins with.
fn basics(config: &mut web::ServiceConfig, scheduler: &web::Data<Scheduler>) {
    config.app_data(scheduler.clone()).configure(problem::configure);
    scheduler.readiness.routes(config);
}

/// The room in a path `/v1/namespaces/{namespace}/rooms/{room}…`, read from what was sent, so that names with `/` or `%`
/// stay whole and broken UTF-8 is refused rather than mended.
fn room_in_path(request: &HttpRequest) -> Result<RoomKey, Problem> {
    let mut parts = request.uri().path().split('/').skip(3).step_by(2);
    let mut part = |name: &str| {
        percent_decode_str(parts.next().unwrap_or_default())
            .decode_utf8()
            .map_err(|_| Problem::new(Code::BadId, format!("path {name}: expected UTF-8, percent-encoded")))
    };
    Ok(RoomKey::new(part("namespace")?, part("room")?)?)
}
