//! The admin listener: what operators, Prometheus and the console read.

use actix_web::{HttpRequest, HttpResponse, web};
use roost_proto::admin::{ClusterView, NodeView, Page, RoomFilter};
use roost_proto::error::{Code, Problem};
use roost_proto::explain::{ExplainReply, ExplainRequest};
use roost_proto::id::{NamespaceId, NodeId, RoomKey, RoomName};
use roost_proto::lookup::LookupRequest;
use roost_proto::room::RoomView;
use roost_server::problem::{self, other_methods};
use roost_server::{ApiError, JsonBody, request_id};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::IntoParams;

use super::public::openapi;
use super::{acted, api, client, limits};
use crate::app::Scheduler;
use crate::app::explain::Cut;

/// How many items a page has unless it is said.
const PAGE: usize = 100;
/// The most that may be said.
const MOST_PER_PAGE: usize = 1_000;

/// Mounts the admin listener's paths.
pub(crate) fn configure(config: &mut web::ServiceConfig, scheduler: &web::Data<Scheduler>) {
    super::basics(config, scheduler);
    scheduler.metrics.registry.routes(config);
    let get = |path: &str| web::resource(path).default_service(other_methods("GET"));
    config
        .service(get("/").route(web::get().to(index)))
        .service(get("/v1/cluster").route(web::get().to(cluster)))
        .service(
            web::resource("/v1/cluster/brake")
                .route(web::delete().to(release_brake))
                .default_service(other_methods("DELETE")),
        )
        .service(get("/v1/nodes").route(web::get().to(nodes)))
        .service(get("/v1/rooms").route(web::get().to(rooms)))
        .service(web::resource("/v1/explain").route(web::post().to(explain)).default_service(other_methods("POST")))
        .service(openapi("/openapi.json", api::of_admin()))
        .configure(super::moves::configure)
        .configure(super::closing::configure)
        .configure(super::steering::configure);
}

/// How a list is cut. All of it text: what is wrong is answered with its name and value.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Items on a page: 100 unless said, of a dry run 1000; at most 1000.
    #[param(value_type = Option<u16>)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct RoomQuery {
    namespace: Option<String>,
    node: Option<String>,
}

/// What a dry run's body has besides a lookup's.
#[derive(Debug, Deserialize)]
struct Room {
    namespace: NamespaceId,
    room: RoomName,
}

impl Paging {
    /// `unless_said` is what a page has if nobody says.
    fn limit(&self, unless_said: usize) -> Result<usize, Problem> {
        let Some(text) = &self.limit else { return Ok(unless_said) };
        text.parse().ok().filter(|limit| (1..=MOST_PER_PAGE).contains(limit)).ok_or_else(|| {
            let shown: String = text.chars().take(20).collect();
            Problem::new(Code::BadRequest, format!("query limit: {shown:?}: expected 1 to {MOST_PER_PAGE}"))
        })
    }
}

async fn index() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({
        "cluster": "/v1/cluster",
        "nodes": "/v1/nodes",
        "rooms": "/v1/rooms",
        "explain": "/v1/explain",
        "rebalance": "/v1/rebalance",
        "metrics": "/metrics",
        "health": "/healthz",
        "readiness": "/readyz",
        "api": "/openapi.json",
    }))
}

/// The cluster at a glance.
#[utoipa::path(get, path = "/v1/cluster", responses((status = 200, description = "as this scheduler sees it", body = ClusterView)))]
pub(super) async fn cluster(scheduler: web::Data<Scheduler>) -> HttpResponse {
    HttpResponse::Ok().json(scheduler.cluster().await)
}

/// Lets the brake go: rooms of nodes that fell silent may go elsewhere from here on.
///
/// Of this scheduler alone: each brakes by what it hears itself, so every one is to be asked.
#[utoipa::path(delete, path = "/v1/cluster/brake", responses((status = 200, description = "the cluster after it", body = ClusterView)))]
pub(super) async fn release_brake(request: HttpRequest, scheduler: web::Data<Scheduler>) -> HttpResponse {
    scheduler.release_brake();
    acted::note(&scheduler, &request, "release_brake", &scheduler.entry.id, "");
    cluster(scheduler).await
}

/// The nodes, by name.
#[utoipa::path(
    get,
    path = "/v1/nodes",
    params(Paging),
    responses(
        (status = 200, description = "a page of nodes", body = Page<NodeView>),
        (status = 400, description = "what is wrong with the query", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn nodes(
    paging: web::Query<Paging>,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    let after = paging.cursor.as_deref().map(NodeId::new).transpose()?;
    Ok(HttpResponse::Ok().json(scheduler.nodes(after.as_ref(), paging.limit(PAGE)?)))
}

/// One node.
#[utoipa::path(
    get,
    path = "/v1/nodes/{id}",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "the node", body = NodeView),
        (status = 400, description = "no node id", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "no such node", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "nodes have yet to report", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn node(id: web::Path<String>, scheduler: web::Data<Scheduler>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(scheduler.node(&NodeId::new(id.as_str())?)?))
}

/// The rooms, by namespace and name; of one namespace or node if asked for.
#[utoipa::path(
    get,
    path = "/v1/rooms",
    params(Paging, RoomQuery),
    responses(
        (status = 200, description = "a page of rooms", body = Page<RoomView>),
        (status = 400, description = "what is wrong with the query", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rooms(
    paging: web::Query<Paging>,
    query: web::Query<RoomQuery>,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    let filter = RoomFilter {
        namespace: query.namespace.as_deref().map(NamespaceId::new).transpose()?,
        node: query.node.as_deref().map(NodeId::new).transpose()?,
    };
    Ok(HttpResponse::Ok().json(scheduler.rooms(&filter, paging.cursor.as_deref(), paging.limit(PAGE)?)?))
}

/// What a lookup would give, how the nodes rank for it, and why others cannot take the room. Changes nothing.
///
/// What the body says of the client is believed. One that is not described is nowhere in particular.
#[utoipa::path(
    post,
    path = "/v1/explain",
    params(Paging),
    request_body = ExplainRequest,
    responses(
        (status = 200, description = "the dry run, with a page of nodes: those that can take the room first", body = ExplainReply),
        (status = "4XX", description = "what is wrong with the request", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn explain(
    JsonBody(body): JsonBody<Box<RawValue>>,
    paging: web::Query<Paging>,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    // Read as two, not as an `ExplainRequest`: so errors name their field.
    let Room { namespace, room } = problem::parse(body.get().as_bytes())?;
    let mut lookup: LookupRequest = problem::parse(body.get().as_bytes())?;
    if let Some(id) = lookup.request_id.take() {
        request_id::replace(id);
    }
    let cut = Cut::new(paging.cursor.as_deref(), paging.limit(MOST_PER_PAGE)?)?;
    let client = client::spoken_of(&mut lookup, &scheduler)?;
    let asked = limits::checked(RoomKey { namespace, room }, lookup, client)?;
    Ok(HttpResponse::Ok().json(scheduler.explain(asked, cut).await?))
}
