//! The admin listener's call that closes a room.

use actix_web::{HttpRequest, HttpResponse, web};
use roost_proto::error::Problem;
use roost_proto::room::RoomView;
use roost_server::ApiError;
use roost_server::problem::other_methods;
use serde_json::json;

use super::{acted, room_in_path};
use crate::app::Scheduler;

/// Mounts it.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    let room = web::resource("/v1/namespaces/{namespace}/rooms/{room}").default_service(other_methods("DELETE"));
    config.service(room.route(web::delete().to(close_room)));
}

/// Closes a room: its participants are sent away with `room_closed`. Answered when it is done. Whoever looks the room up
/// later gets a new one.
#[utoipa::path(
    delete,
    path = "/v1/namespaces/{namespace}/rooms/{room}",
    params(("namespace" = String, Path), ("room" = String, Path)),
    responses(
        (status = 200, description = "the room as it was", body = RoomView),
        (status = 404, description = "no such room", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "its node is lost; or it is not known to be done yet, or lives on elsewhere by now", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "what is wrong with the request", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn close_room(
    request: HttpRequest,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    let key = room_in_path(&request)?;
    let closed = scheduler.close_room(&key).await;
    acted::outcome((&scheduler, &request), "close_room", &key, &closed, |room| {
        room.map_or_else(|| json!({}), |room| json!({ "node": room.node, "epoch": room.epoch }))
    });
    Ok(HttpResponse::Ok().json(closed?))
}
