//! Who asks: the client's address, and what callers may say about the client on whose behalf they ask.

use std::net::IpAddr;

use actix_web::HttpRequest;
use roost_proto::id::NamespaceId;
use roost_proto::lookup::{Client, LookupRequest};
use roost_server::bearer;

use crate::app::Scheduler;

/// The address that the request comes from.
pub(super) fn address(request: &HttpRequest, scheduler: &Scheduler) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    Some(scheduler.rules.client_address.resolve(peer, request.headers()))
}

/// Whether the caller holds an API key for the namespace, or all callers are believed.
pub(super) fn is_believed(request: &HttpRequest, namespace: &NamespaceId, scheduler: &Scheduler) -> bool {
    let rules = &scheduler.rules;
    rules.dev
        || bearer::token(request.headers())
            .and_then(|token| rules.shared.api_key(token))
            .is_some_and(|(_, key)| key.allows(namespace))
}

/// The client: what the caller says if it is believed, else only where the request came from.
pub(super) fn described(
    request: &HttpRequest,
    body: &mut LookupRequest,
    believed: bool,
    scheduler: &Scheduler,
) -> Client {
    let from = || address(request, scheduler);
    if believed {
        let ip = body.client_ip.map(|ip| ip.to_canonical()).or_else(from);
        Client { ip, region: body.region.take(), carrier: body.carrier.take() }
    } else {
        Client { ip: from(), region: None, carrier: None }
    }
}

/// The client that an operator speaks of: nothing but what is said of it.
pub(super) fn spoken_of(body: &mut LookupRequest) -> Client {
    Client { ip: body.client_ip.map(|ip| ip.to_canonical()), region: body.region.take(), carrier: body.carrier.take() }
}
