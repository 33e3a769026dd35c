//! The control listener: health, metrics, and the node as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::{HttpResponse, ResponseError, web};
use serde::Serialize;

use roost_agent_core::hold::{Hold, State as HoldState};
use roost_agent_core::lease::Standing;
use roost_proto::error::Code;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::report::{Description, Host, Mode, RoomReport, Worker};
use roost_server::problem::other_methods;
use roost_server::{ApiError, Readiness, problem};

use crate::inside::Inside;
use crate::metrics::AgentMetrics;
use crate::node::{Node, State};

/// What the control listener shows.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) node: Arc<Node>,
    pub(crate) description: Description,
    pub(crate) inside: Arc<dyn Inside>,
    pub(crate) metrics: Arc<AgentMetrics>,
    pub(crate) readiness: Readiness,
}

/// `GET /v1/node`.
#[derive(Debug, Serialize)]
struct NodeDocument {
    id: NodeId,
    #[serde(flatten)]
    description: Description,
    mode: Mode,
    leaving: bool,
    lease: LeaseDocument,
    /// Participants who were admitted and are not gone, joined or not.
    guests: u32,
    participants: u32,
    streams: u32,
    workers: Vec<Worker>,
    host: Host,
    rooms: Vec<RoomDocument>,
    /// Ended rooms whose release the store has not answered.
    releases_pending: usize,
}

#[derive(Debug, Serialize)]
struct LeaseDocument {
    /// `none`, `held` or `fenced`.
    state: &'static str,
    incarnation: Option<Incarnation>,
    lease_ms: u64,
    /// Until the node stops admitting, unless it renews.
    left_ms: u64,
}

#[derive(Debug, Serialize)]
struct RoomDocument {
    #[serde(flatten)]
    key: RoomKey,
    /// `opening`, `open`, or `wanted`: to be asserted again.
    state: &'static str,
    epoch: Epoch,
    worker: Option<u16>,
    guests: u32,
    participants: u32,
    producers: u32,
    consumers: u32,
}

impl Control {
    /// Mounts `/healthz`, `/readyz`, `/metrics` and `/v1/node`.
    pub(crate) fn routes(&self, config: &mut web::ServiceConfig) {
        problem::configure(config);
        self.readiness.routes(config);
        let (metrics, node) = (self.clone(), self.clone());
        let metrics = move || {
            metrics.metrics.observe_node(&metrics.node);
            let answer = metrics.metrics.exposition.text();
            async move { answer.map_or_else(|error| unreadable(&error), exposition) }
        };
        let node = move || {
            let document = node.document();
            async move { web::Json(document) }
        };
        config
            .service(web::resource("/metrics").route(web::get().to(metrics)).default_service(other_methods("GET")))
            .service(web::resource("/v1/node").route(web::get().to(node)).default_service(other_methods("GET")));
    }

    fn document(&self) -> NodeDocument {
        let (rooms, workers) = (self.inside.rooms(), self.inside.workers());
        let sum = |count: fn(&RoomReport) -> u32| rooms.iter().map(count).sum::<u32>();
        self.node.with(|state, now| NodeDocument {
            id: self.node.id.clone(),
            description: self.description.clone(),
            mode: state.mode(),
            leaving: state.leaving,
            lease: LeaseDocument {
                state: match state.lease.standing(now) {
                    Standing::None => "none",
                    Standing::Held => "held",
                    Standing::Fenced => "fenced",
                },
                incarnation: state.lease.incarnation(),
                lease_ms: state.lease.lease_ms(),
                left_ms: state.lease.deadline().map_or(0, |deadline| deadline.since(now)),
            },
            guests: state.guests,
            participants: sum(|room| room.participants),
            streams: sum(RoomReport::streams),
            host: state.host,
            rooms: room_documents(state, &rooms),
            workers,
            releases_pending: state.holdings.releases_len(),
        })
    }
}

fn exposition(text: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok().content_type(prometheus::TEXT_FORMAT).body(text)
}

fn unreadable(error: &prometheus::Error) -> HttpResponse {
    tracing::error!(%error, "metrics cannot be written");
    ApiError::from(Code::Internal).error_response()
}

fn room_documents(state: &State, inside: &[RoomReport]) -> Vec<RoomDocument> {
    let inside: BTreeMap<&RoomKey, &RoomReport> = inside.iter().map(|report| (&report.key, report)).collect();
    let document = |(key, hold): (&RoomKey, &Hold)| {
        let report = inside.get(key).filter(|report| report.epoch == hold.opened_as);
        RoomDocument {
            key: key.clone(),
            state: match hold.state {
                HoldState::Opening => "opening",
                HoldState::Open => "open",
                HoldState::Moving => "moving",
                HoldState::Wanted { .. } => "wanted",
                HoldState::Provisional => "provisional",
            },
            epoch: hold.epoch,
            worker: report.map(|report| report.worker),
            guests: hold.guests,
            participants: report.map_or(0, |report| report.participants),
            producers: report.map_or(0, |report| report.producers),
            consumers: report.map_or(0, |report| report.consumers),
        }
    };
    state.holdings.iter().map(document).collect()
}
