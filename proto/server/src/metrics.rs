//! The process's metrics and their text exposition.

use actix_web::{HttpResponse, web};
use prometheus::core::Collector;
use prometheus::{Encoder as _, IntGauge, Opts, Registry, TEXT_FORMAT, TextEncoder};

use crate::problem::{ApiError, other_methods};

/// All metrics of one process, `roost_build_info` among them. Clones share one registry.
#[derive(Debug, Clone)]
pub struct Metrics(Registry);

impl Metrics {
    /// With `roost_build_info{version}` only.
    #[must_use]
    pub fn new(version: &str) -> Self {
        let info = IntGauge::with_opts(
            Opts::new("roost_build_info", "The version that runs; always 1.").const_label("version", version),
        )
        .expect("name and label are valid");
        info.set(1);
        let metrics = Self(Registry::new());
        metrics.register(info);
        metrics
    }

    /// Adds a metric and gives it back.
    ///
    /// # Panics
    /// If its name is taken: metrics are declared once, in one file.
    pub fn register<M: Collector + Clone + 'static>(&self, metric: M) -> M {
        self.0.register(Box::new(metric.clone())).expect("each metric is declared once");
        metric
    }

    /// The registry itself.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0
    }

    /// The text exposition.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.gather(), &mut text)?;
        Ok(text)
    }

    /// Mounts `/metrics`: `App::new().configure(|config| metrics.routes(config))`.
    pub fn routes(&self, config: &mut web::ServiceConfig) {
        let metrics = self.clone();
        let handler = move || {
            let answer = metrics.answer();
            async move { answer }
        };
        config.service(web::resource("/metrics").route(web::get().to(handler)).default_service(other_methods("GET")));
    }

    fn answer(&self) -> Result<HttpResponse, ApiError> {
        let text = self.text().map_err(|error| {
            tracing::error!(%error, "metrics cannot be written");
            ApiError::from(roost_proto::error::Code::Internal)
        })?;
        Ok(HttpResponse::Ok().content_type(TEXT_FORMAT).body(text))
    }
}
