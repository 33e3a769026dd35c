//! The OpenAPI documents of the public and the admin listener, made from the code that serves them.

use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{admin, closing, moves, public, steering};

/// The public listener's document, as JSON.
pub(super) fn of_public() -> String {
    written(&PublicApi::openapi())
}

/// The admin listener's document, as JSON.
pub(super) fn of_admin() -> String {
    written(&AdminApi::openapi())
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Roost scheduler, public", description = "Where does a room live, for this client?"),
    paths(public::lookup, public::room, healthz, readyz),
    modifiers(&ApiKey)
)]
struct PublicApi;

#[derive(OpenApi)]
#[openapi(
    info(title = "Roost scheduler, admin", description = "Nodes, rooms and the cluster as this scheduler knows them."),
    paths(
        admin::cluster,
        admin::release_brake,
        admin::nodes,
        admin::node,
        admin::rooms,
        admin::explain,
        moves::move_room,
        moves::rebalance,
        closing::close_room,
        steering::set_mode,
        steering::drain,
        steering::drain_of,
        steering::cancel_drain,
        steering::purge,
        metrics,
        healthz,
        readyz
    )
)]
struct AdminApi;

/// How a caller proves that it may speak for its clients.
struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("a key of [api_keys.*]"));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(bearer.build()));
    }
}

fn written(document: &Document) -> String {
    document.to_json().expect("a document of strings and numbers always serialises")
}

/// Whether the process runs.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "it runs", content_type = "application/json")))]
#[expect(dead_code, reason = "describes what roost-server serves")]
fn healthz() {}

/// Whether lookups can be answered.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "they can; details in the body", content_type = "application/json"),
        (status = 503, description = "not yet; why is in the body", content_type = "application/json"),
    )
)]
#[expect(dead_code, reason = "describes what roost-server serves")]
fn readyz() {}

/// What Prometheus reads.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "text exposition", content_type = "text/plain")))]
#[expect(dead_code, reason = "describes what roost-server serves")]
fn metrics() {}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_answer_is_described_and_lists_differ_in_what_they_hold() {
        for document in [of_public(), of_admin()] {
            let document: Value = serde_json::from_str(&document).unwrap();
            let paths = document["paths"].as_object().unwrap();
            for (path, operations) in paths {
                for (method, operation) in operations.as_object().unwrap() {
                    for (status, response) in operation["responses"].as_object().unwrap() {
                        assert!(response["description"].is_string(), "{method} {path} {status} is not described");
                    }
                }
            }
            assert!(paths.contains_key("/healthz") && paths.contains_key("/readyz"));
        }
        let admin: Value = serde_json::from_str(&of_admin()).unwrap();
        let schema =
            |path: &str| admin["paths"][path]["get"]["responses"]["200"]["content"]["application/json"].clone();
        assert_ne!(schema("/v1/nodes"), schema("/v1/rooms"));
    }
}
