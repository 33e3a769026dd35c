//! The public listener: lookups and rooms over HTTP. The same lookup stands on the cluster listener, for agents.

use std::time::Instant;

use actix_cors::Cors;
use actix_web::guard::{GuardContext, fn_guard};
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use actix_web::{FromRequest as _, HttpRequest, HttpResponse, web};
use roost_proto::error::Problem;
use roost_proto::id::RoomKey;
use roost_proto::lookup::{LookupReply, LookupRequest};
use roost_proto::room::RoomView;
use roost_server::problem::other_methods;
use roost_server::{AllowedOrigins, ApiError, JsonBody, request_id};

use super::{api, client, limits, room_in_path, signaling};
use crate::app::Scheduler;
use crate::app::lookup::Found;

/// For how long a browser may remember what it was told about another origin, in seconds.
const CORS_MAX_AGE_S: usize = 600;

/// Mounts the public listener's paths.
pub(crate) fn configure(config: &mut web::ServiceConfig, scheduler: &web::Data<Scheduler>) {
    config.service(hot_path());
    super::basics(config, scheduler);
    signaling::routes(config);
    config
        .service(
            web::resource("/v1/namespaces/{namespace}/rooms/{room}/lookup")
                .route(web::post().to(lookup))
                .default_service(other_methods("POST")),
        )
        .service(
            web::resource("/v1/namespaces/{namespace}/rooms/{room}")
                .route(web::get().to(room))
                .default_service(other_methods("GET")),
        )
        .service(openapi("/openapi.json", api::of_public()));
}

/// Lookups, found without a pattern: matching their path costs more than answering them. Everything else, such as a
/// lookup's path with another method, goes on to the resources after it.
fn hot_path() -> actix_web::Scope {
    let is_lookup =
        |context: &GuardContext<'_>| context.head().method == Method::POST && names_a_lookup(context.head().uri.path());
    web::scope("/v1/namespaces").guard(fn_guard(is_lookup)).default_service(web::to(lookup))
}

/// Whether the path is `/v1/namespaces/{namespace}/rooms/{room}/lookup`, as it was sent.
fn names_a_lookup(path: &str) -> bool {
    let named = || {
        let (namespace, rest) = path.strip_prefix("/v1/namespaces/")?.strip_suffix("/lookup")?.split_once('/')?;
        let room = rest.strip_prefix("rooms/")?;
        Some(!namespace.is_empty() && !room.is_empty() && !room.contains('/'))
    };
    named().unwrap_or(false)
}

/// Serves an API's description.
pub(super) fn openapi(path: &str, document: String) -> actix_web::Resource {
    let document = web::Bytes::from(document);
    let answer = move || {
        let document = document.clone();
        async move { HttpResponse::Ok().content_type("application/json").body(document) }
    };
    web::resource(path).route(web::get().to(answer)).default_service(other_methods("GET"))
}

/// Lets pages of the allowed origins call.
pub(crate) fn cors(origins: &AllowedOrigins) -> Cors {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::POST])
        .allowed_headers([AUTHORIZATION, CONTENT_TYPE, request_id::HEADER])
        .expose_headers([RETRY_AFTER, request_id::HEADER])
        .max_age(CORS_MAX_AGE_S);
    if origins.is_any() {
        cors.allow_any_origin().send_wildcard()
    } else {
        origins.iter().fold(cors, Cors::allowed_origin)
    }
}

/// Finds the node of a room, or gives the room one.
#[utoipa::path(
    post,
    path = "/v1/namespaces/{namespace}/rooms/{room}/lookup",
    params(("namespace" = String, Path), ("room" = String, Path, description = "percent-encoded")),
    request_body(content = Option<LookupRequest>, description = "may be absent"),
    responses(
        (status = 200, description = "where the room lives", body = LookupReply),
        (status = "4XX", description = "the request cannot be served as it is", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now; Retry-After says when", body = Problem, content_type = "application/problem+json"),
    ),
    security((), ("api_key" = []))
)]
pub(super) async fn lookup(
    request: HttpRequest,
    payload: web::Payload,
    scheduler: web::Data<Scheduler>,
) -> Result<HttpResponse, ApiError> {
    let believed = |scheduler: &Scheduler, key: &RoomKey| client::is_believed(&request, &key.namespace, scheduler);
    answer(&request, payload, &scheduler, believed).await
}

/// Answers a lookup; `believed` says whether the caller may speak for its client.
pub(super) async fn answer(
    request: &HttpRequest,
    payload: web::Payload,
    scheduler: &Scheduler,
    believed: impl FnOnce(&Scheduler, &RoomKey) -> bool,
) -> Result<HttpResponse, ApiError> {
    let started = Instant::now();
    let answered = async {
        let body = JsonBody::<LookupRequest>::from_request(request, &mut payload.into_inner());
        let JsonBody(body) = body.await.map_err(|ApiError(problem)| problem)?;
        reply(request, body, scheduler, believed).await
    };
    match answered.await {
        Ok(reply) => {
            scheduler.metrics.looked_up(reply.outcome, started.elapsed());
            let body = serde_json::to_vec(&reply).expect("a reply has string keys only");
            Ok(HttpResponse::Ok().content_type("application/json").body(body))
        }
        Err(problem) => {
            scheduler.metrics.refused(problem.code, &problem.rejection_counts, started.elapsed());
            Err(problem.into())
        }
    }
}

async fn reply(
    request: &HttpRequest,
    mut body: LookupRequest,
    scheduler: &Scheduler,
    believed: impl FnOnce(&Scheduler, &RoomKey) -> bool,
) -> Result<LookupReply, Problem> {
    if let Some(id) = body.request_id.take() {
        request_id::replace(id);
    }
    let key = room_in_path(request)?;
    let believed = believed(scheduler, &key);
    let client = client::described(request, &mut body, believed, scheduler)?;
    let asked = limits::checked(key, body, client)?;
    let Found { outcome, home, .. } = scheduler.look_up(&asked).await?;
    let ticket = scheduler.ticket(&asked.key, &home);
    Ok(LookupReply {
        namespace: asked.key.namespace,
        room: asked.key.room,
        outcome,
        node: home.node,
        epoch: home.epoch,
        ticket,
        ttl_ms: home.ttl_ms,
        client: asked.client,
        alternatives: home.alternatives,
    })
}

/// Reads what is known of a room; changes nothing.
#[utoipa::path(
    get,
    path = "/v1/namespaces/{namespace}/rooms/{room}",
    params(("namespace" = String, Path), ("room" = String, Path, description = "percent-encoded")),
    responses(
        (status = 200, description = "the room", body = RoomView),
        (status = "4XX", description = "the request cannot be served as it is", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "not now; Retry-After says when", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn room(request: HttpRequest, scheduler: web::Data<Scheduler>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(scheduler.read_room(&room_in_path(&request)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_is_known_by_its_path() {
        for (path, is_lookup) in [
            ("/v1/namespaces/default/rooms/a/lookup", true),
            ("/v1/namespaces/default/rooms/a%2Fb/lookup", true),
            ("/v1/namespaces/default/rooms/rooms/lookup", true),
            ("/v1/namespaces/default/rooms/lookup", false),
            ("/v1/namespaces/default/rooms//lookup", false),
            ("/v1/namespaces//rooms/a/lookup", false),
            ("/v1/namespaces/default/rooms/a/b/lookup", false),
            ("/v1/namespaces/a/default/rooms/b/lookup", false),
            ("/v1/namespaces/default/rooms/a", false),
            ("/v1/namespaces/lookup", false),
        ] {
            assert_eq!(names_a_lookup(path), is_lookup, "{path}");
        }
    }
}
