//! The admin listener's calls by which operators steer nodes: modes, drains, and the end of lost ones.

use actix_web::{HttpRequest, HttpResponse, web};
use roost_proto::admin::{DrainRequest, DrainView, MOST_DEADLINE_S, ModeRequest, NodeView};
use roost_proto::error::{Code, Problem};
use roost_proto::id::NodeId;
use roost_server::problem::other_methods;
use roost_server::{ApiError, JsonBody};
use serde_json::json;

use super::{acted, admin};
use crate::app::Scheduler;

/// Mounts them, and the node itself.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource("/v1/nodes/{id}")
                .route(web::get().to(admin::node))
                .route(web::delete().to(purge))
                .default_service(other_methods("GET, DELETE")),
        )
        .service(
            web::resource("/v1/nodes/{id}/mode").route(web::put().to(set_mode)).default_service(other_methods("PUT")),
        )
        .service(
            web::resource("/v1/nodes/{id}/drain")
                .route(web::post().to(drain))
                .route(web::get().to(drain_of))
                .route(web::delete().to(cancel_drain))
                .default_service(other_methods("POST, GET, DELETE")),
        );
}

/// Sets a node's mode. `draining` is a drain with its defaults; any other mode takes a drain back that runs.
///
/// All schedulers know of it within milliseconds, the node with its next report. It outlives a restart of either.
#[utoipa::path(
    put,
    path = "/v1/nodes/{id}/mode",
    params(("id" = String, Path)),
    request_body = ModeRequest,
    responses(
        (status = 200, description = "the node", body = NodeView),
        (status = 404, description = "no such node", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the store does not answer, or nodes have yet to report", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "what is wrong with the request", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set_mode(
    request: HttpRequest,
    id: web::Path<String>,
    JsonBody(ModeRequest { mode }): JsonBody<ModeRequest>,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    let id = NodeId::new(id.as_str())?;
    let node = scheduler.set_mode(&id, mode).await;
    acted::outcome((&scheduler, &request), "set_mode", &id, &node, |_| json!({ "mode": mode }));
    Ok(HttpResponse::Ok().json(node?))
}

/// Drains a node: it takes no more rooms, its rooms end or are moved, then it is in maintenance. A drain that runs gets this
/// deadline.
#[utoipa::path(
    post,
    path = "/v1/nodes/{id}/drain",
    params(("id" = String, Path)),
    request_body = DrainRequest,
    responses(
        (status = 200, description = "how far it has come", body = DrainView),
        (status = 404, description = "no such node", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the store does not answer, or nodes have yet to report", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", description = "what is wrong with the request", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn drain(
    request: HttpRequest,
    id: web::Path<String>,
    JsonBody(wanted): JsonBody<DrainRequest>,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    let id = NodeId::new(id.as_str())?;
    if wanted.deadline_s > MOST_DEADLINE_S {
        let detail = format!("body deadline_s: {}: expected 0 to {MOST_DEADLINE_S}", wanted.deadline_s);
        return Err(Problem::new(Code::BadRequest, detail).into());
    }
    let drain = scheduler.drain(&id, &wanted).await;
    acted::outcome((&scheduler, &request), "drain", &id, &drain, |_| json!(wanted));
    Ok(HttpResponse::Ok().json(drain?))
}

/// How far a node's last drain has come; while it runs, with the rooms that could not be moved at this moment, by reason.
#[utoipa::path(
    get,
    path = "/v1/nodes/{id}/drain",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "how far it has come", body = DrainView),
        (status = 400, description = "no node id", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "no such node, or it has no drain", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "nodes have yet to report", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn drain_of(id: web::Path<String>, scheduler: web::Data<Scheduler>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(scheduler.drain_of(&NodeId::new(id.as_str())?).await?))
}

/// Takes a drain back, also one that has finished: the node has the mode that it had before.
#[utoipa::path(
    delete,
    path = "/v1/nodes/{id}/drain",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "the drain, cancelled", body = DrainView),
        (status = 400, description = "no node id", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "no such node, or it has no drain", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the store does not answer, or nodes have yet to report", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel_drain(
    request: HttpRequest,
    id: web::Path<String>,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    let id = NodeId::new(id.as_str())?;
    let drain = scheduler.cancel_drain(&id).await;
    acted::outcome((&scheduler, &request), "cancel_drain", &id, &drain, |_| json!({}));
    Ok(HttpResponse::Ok().json(drain?))
}

/// Forgets a lost node, at all schedulers. If it comes back all the same, it is a node like any other.
#[utoipa::path(
    delete,
    path = "/v1/nodes/{id}",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "the node as it was", body = NodeView),
        (status = 400, description = "no node id", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "no such node", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "it has a lease, or may have one as far as this scheduler has heard", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the store does not answer, or nodes have yet to report", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn purge(
    request: HttpRequest,
    id: web::Path<String>,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    let id = NodeId::new(id.as_str())?;
    let node = scheduler.purge(&id).await;
    acted::outcome((&scheduler, &request), "purge", &id, &node, |_| json!({}));
    Ok(HttpResponse::Ok().json(node?))
}
