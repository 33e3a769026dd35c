//! The admin listener's calls that move rooms.

use actix_web::{HttpRequest, HttpResponse, web};
use roost_proto::admin::MoveRequest;
use roost_proto::error::Problem;
use roost_proto::rebalance::{RebalanceReply, RebalanceRequest};
use roost_proto::room::RoomView;
use roost_server::problem::other_methods;
use roost_server::{ApiError, JsonBody};
use serde_json::json;

use super::{acted, room_in_path};
use crate::app::Scheduler;

/// Mounts them.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    let post = |path: &str| web::resource(path).default_service(other_methods("POST"));
    config
        .service(post("/v1/namespaces/{namespace}/rooms/{room}/move").route(web::post().to(move_room)))
        .service(post("/v1/rebalance").route(web::post().to(rebalance)));
}

/// Moves a room to another node: to the one that is named, or to where placement says, beside its home.
///
/// Answered when it is done: the new home has the room, and its participants are redirected. Hard constraints hold for an
/// operator too.
#[utoipa::path(
    post,
    path = "/v1/namespaces/{namespace}/rooms/{room}/move",
    params(("namespace" = String, Path), ("room" = String, Path)),
    request_body = MoveRequest,
    responses(
        (status = 200, description = "the room where it lives from here on", body = RoomView),
        (status = 404, description = "no such room, or node", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "no node can take it, with the reasons; or it is not known to be done yet", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "what is wrong with the request", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn move_room(
    request: HttpRequest,
    JsonBody(body): JsonBody<MoveRequest>,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    let key = room_in_path(&request)?;
    let moved = scheduler.relocate(&key, None, body.node.as_ref()).await;
    acted::outcome((&scheduler, &request), "move_room", &key, &moved, |room| match room {
        Some(room) => json!({ "node": room.node, "epoch": room.epoch }),
        None => json!({ "node": body.node }),
    });
    Ok(HttpResponse::Ok().json(moved?))
}

/// Moves of living rooms off nodes whose load stands above that of their peers; never made unless `apply` says so.
///
/// Peers are the nodes of a region with the same priority. Answered when all moves are done or given up.
#[utoipa::path(
    post,
    path = "/v1/rebalance",
    request_body = RebalanceRequest,
    responses(
        (status = 200, description = "the moves; none if the load is even enough", body = RebalanceReply),
        (status = 400, description = "what is wrong with the request", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rebalance(
    request: HttpRequest,
    JsonBody(body): JsonBody<RebalanceRequest>,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    let reply = scheduler.rebalance(&body).await?;
    if reply.applied {
        let made = reply.moves.iter().filter(|one| one.failed.is_none()).count();
        acted::note(&scheduler, &request, "rebalance", "", json!({ "planned": reply.moves.len(), "moved": made }));
    }
    Ok(HttpResponse::Ok().json(reply))
}
