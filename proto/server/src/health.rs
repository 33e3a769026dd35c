//! `/healthz`: the process runs. `/readyz`: it can do its work, and how things are in detail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::{HttpResponse, guard, web};
use serde::Serialize;
use serde_json::Value;

use crate::problem::other_methods;

/// Whether a process is ready, and named details for whoever wants to know why. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Clone, Default, Serialize)]
struct State {
    ready: bool,
    details: BTreeMap<&'static str, Value>,
}

impl Readiness {
    /// Not ready, no details.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the process can do its work. Trouble that living rooms don't feel belongs into a detail instead:
    /// a load balancer must not take the whole cluster out for it.
    pub fn set_ready(&self, ready: bool) {
        self.state().ready = ready;
    }

    /// Sets one detail.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        self.state().details.insert(name, value.into());
    }

    /// Whether the process is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state().ready
    }

    /// Mounts `/healthz` and `/readyz`: `App::new().configure(|config| readiness.routes(config))`.
    pub fn routes(&self, config: &mut web::ServiceConfig) {
        let readiness = self.clone();
        let readyz = move || {
            let answer = readiness.answer();
            async move { answer }
        };
        let reading = || guard::Any(guard::Get()).or(guard::Head());
        config
            .service(
                web::resource("/healthz")
                    .route(web::route().guard(reading()).to(healthz))
                    .default_service(other_methods("GET, HEAD")),
            )
            .service(
                web::resource("/readyz")
                    .route(web::route().guard(reading()).to(readyz))
                    .default_service(other_methods("GET, HEAD")),
            );
    }

    fn answer(&self) -> HttpResponse {
        let state = self.state().clone();
        let mut response = if state.ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
        response.insert_header(("cache-control", "no-store")).json(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked; and if something did, the state would still be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(serde_json::json!({ "healthy": true }))
}
