//! Participants: their WebSocket, the rooms they are in, and what they ask of the media server.

mod answer;
mod farewell;
mod fragments;
mod index;
mod outbox;
mod participant;
mod request;
mod room;
mod rooms;
mod socket;
mod sora;
mod state;
mod subscriber;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use roost_proto::redirect::SignalingQuery;
use roost_proto::signaling::{MAX_FRAME_BYTES, SUBPROTOCOL};
use roost_server::socket::accept_limited;
use roost_server::{AllowedOrigins, ApiError, ClientAddress, request_id};

pub(crate) use self::farewell::{Farewell, NewHome};
pub(crate) use self::rooms::{Limits, RoomSettings, Rooms};
use crate::door::Knock;

/// What the signaling listener needs to know.
#[derive(Debug)]
pub(crate) struct Signaling {
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) origins: AllowedOrigins,
    pub(crate) client_address: ClientAddress,
}

/// Mounts `/` and `/signaling`.
pub(crate) fn configure(config: &mut web::ServiceConfig, signaling: web::Data<Signaling>) {
    config.app_data(signaling);
    for path in ["/", "/signaling"] {
        config.route(path, web::get().to(connect));
    }
}

async fn connect(
    request: HttpRequest,
    body: web::Payload,
    signaling: web::Data<Signaling>,
) -> Result<HttpResponse, ApiError> {
    let asked = |header| request.headers().get_all(header).any(|value| value.to_str().is_ok_and(asks_for_protoo));
    let protoo = asked(actix_web::http::header::SEC_WEBSOCKET_PROTOCOL);
    let request_id = request_id::current().unwrap_or_else(request_id::new);
    let peer_address = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    let client = signaling.client_address.resolve(peer_address, request.headers());
    let query = SignalingQuery::parse(request.query_string());

    let (response, socket) = accept_limited(&request, body, &[SUBPROTOCOL], MAX_FRAME_BYTES)?;
    let allowed = signaling.origins.check(request.headers());
    let rooms = signaling.rooms.clone();
    let id = request_id.clone();
    actix_web::rt::spawn(request_id::within(id, async move {
        if protoo {
            let named = allowed.and_then(|()| Ok((query.room()?, query.peer()?)));
            match named {
                Ok((room, peer)) => {
                    let (ticket, redirects) = (query.ticket, query.redirects);
                    let knock = Knock { room, peer, ticket, client, redirects, request_id };
                    socket::serve(socket, rooms, knock).await;
                }
                Err(problem) => socket::say_goodbye(socket, outbox::Ending::problem(&problem)).await,
            }
        } else {
            match allowed {
                Ok(()) => sora::serve(socket, rooms, query, client, request_id).await,
                Err(problem) => socket::say_goodbye(socket, sora::refused(&problem)).await,
            }
        }
    }));
    Ok(response)
}

fn asks_for_protoo(list: &str) -> bool {
    list.split(',').any(|protocol| protocol.trim() == SUBPROTOCOL)
}
