//! What a scheduler is measured against: a bare actix-web server that parses and serialises the same bodies, and one
//! that runs the same claim script with made-up arguments.

use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::json;

use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::lookup::{Client, LookupReply, LookupRequest, NodeAddress, Outcome};
use roost_proto::room::{Expected, Run};
use roost_store::Store;
use roost_store::operation::{Grant, Granted};
use roost_tests::Trouble;

/// As long as a real one, so that the same number of bytes is written.
const TICKET_BYTES: usize = 330;

struct State {
    store: Arc<dyn Store>,
    runs: Vec<Run>,
    reply: LookupReply,
}

/// Serves `/bare/{room}` and `/claim/{room}` until it is killed; prints a ready line.
#[expect(clippy::print_stdout, reason = "the ready line")]
pub(crate) async fn serve(redis: &str) -> Result<(), Trouble> {
    let store = crate::store::open(redis, "bare")?;
    let state = web::Data::new(State { runs: store.runs().await?, store, reply: reply()? });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .route("/bare/{room}", web::post().to(bare))
            .route("/claim/{room}", web::post().to(claim))
    })
    .bind("127.0.0.1:0")?;
    println!("{}", json!({"ready": true, "listeners": {"public": server.addrs()[0].to_string()}}));
    Ok(server.run().await?)
}

async fn bare(state: web::Data<State>, room: web::Path<String>, request: web::Json<LookupRequest>) -> HttpResponse {
    let mut reply = state.reply.clone();
    reply.client.ip = request.client_ip;
    debug_assert!(!room.is_empty(), "the path has a room");
    HttpResponse::Ok().json(reply)
}

async fn claim(state: web::Data<State>, room: web::Path<String>, request: web::Json<LookupRequest>) -> HttpResponse {
    let Ok(key) = RoomKey::new("default", room.as_str()) else { return HttpResponse::BadRequest().finish() };
    let grant = Grant {
        run: state.runs[usize::from(key.bucket())].clone(),
        room: key,
        seen: None,
        node: state.reply.node.id.clone(),
        incarnation: Incarnation(1_790_000_000_000),
        ttl_ms: 30_000,
        expected: Expected::default(),
    };
    match state.store.grant(grant).await {
        Ok(Granted::Yes { epoch, .. }) => {
            let mut reply = state.reply.clone();
            reply.epoch = epoch;
            reply.client.ip = request.client_ip;
            HttpResponse::Ok().json(reply)
        }
        other => HttpResponse::InternalServerError().body(format!("{other:?}")),
    }
}

fn reply() -> Result<LookupReply, Trouble> {
    let key = RoomKey::new("default", "bench-0000000")?;
    Ok(LookupReply {
        namespace: key.namespace,
        room: key.room,
        outcome: Outcome::Existing,
        node: NodeAddress {
            id: NodeId::new("bench-0")?,
            region: "eu/central".parse()?,
            signaling_url: "ws://127.0.0.1:44444/signaling".to_owned(),
        },
        epoch: Epoch(1_790_000_000_007),
        ticket: "t".repeat(TICKET_BYTES),
        ttl_ms: 30_000,
        client: Client { ip: None, region: Some("eu/central".parse()?), carrier: Some("AS64500".parse()?) },
        alternatives: Vec::new(),
    })
}
