//! Who asks: the client's address, and what callers may say about the client on whose behalf they ask.

use std::net::IpAddr;

use actix_web::HttpRequest;
use roost_proto::error::{Code, Problem};
use roost_proto::geography::carrier_meant;
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

/// The client: what the caller says if it is believed, and for what is not said, where the request came from.
pub(super) fn described(
    request: &HttpRequest,
    body: &mut LookupRequest,
    believed: bool,
    scheduler: &Scheduler,
) -> Result<Client, Problem> {
    let said = if believed { said(body, scheduler)? } else { Client::default() };
    let ip = said.ip.or_else(|| address(request, scheduler));
    Ok(scheduler.geo.complete(Client { ip, ..said }, &scheduler.metrics))
}

/// The client of a request that says nothing of it.
pub(super) fn at_the_door(request: &HttpRequest, scheduler: &Scheduler) -> Client {
    let client = Client { ip: address(request, scheduler), ..Client::default() };
    scheduler.geo.complete(client, &scheduler.metrics)
}

/// The client that an operator speaks of, who is somewhere else.
pub(super) fn spoken_of(body: &mut LookupRequest, scheduler: &Scheduler) -> Result<Client, Problem> {
    Ok(scheduler.geo.complete(said(body, scheduler)?, &scheduler.metrics))
}

fn said(body: &mut LookupRequest, scheduler: &Scheduler) -> Result<Client, Problem> {
    let carriers = &scheduler.rules.shared.carriers;
    let carrier = body.carrier.take().map(|carrier| carrier_meant("body carrier", carrier, carriers)).transpose();
    let carrier = carrier.map_err(|error| Problem::new(Code::BadRequest, error.to_string()))?;
    Ok(Client { ip: body.client_ip.map(|ip| ip.to_canonical()), region: body.region.take(), carrier })
}
