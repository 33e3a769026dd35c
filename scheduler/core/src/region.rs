//! How near nodes are to clients: which rung of a ladder a node is on, and where on the map a client is.

use roost_proto::id::{Carrier, Region};
use roost_proto::policy::Rung;
use roost_proto::report::Description;

use crate::request::Request;

/// How many of the labels of the client's region the node's region lacks; 0 where the client's region is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegionMatch(pub u8);

impl RegionMatch {
    /// How well a node in `node` suits a client in `client`.
    #[must_use]
    pub fn of(client: Option<&Region>, node: &Region) -> Self {
        let missing = client.map_or(0, |client| client.depth() - client.common_depth(node));
        Self(missing.min(usize::from(u8::MAX)) as u8)
    }
}

/// Whether the node is on the client's carrier: it serves all, or the client's is not known, or is one of its own.
#[must_use]
pub fn serves_carrier(client: Option<&Carrier>, node: &Description) -> bool {
    node.carriers.is_empty() || client.is_none_or(|carrier| node.carriers.contains(carrier))
}

/// Whether the rung's region holds the node. Of a client whose region is not known all regions are as good; a client in
/// a region at the top has no parent.
#[must_use]
pub fn is_in_reach(rung: Rung, client: Option<&Region>, node: &Region) -> bool {
    let missing = usize::from(RegionMatch::of(client, node).0);
    match rung {
        Rung::RegionCarrier | Rung::Region => missing == 0,
        Rung::ParentCarrier | Rung::Parent => missing == 0 || missing == 1 && client.is_some_and(|r| r.depth() > 1),
        Rung::Anywhere => true,
    }
}

/// The first rung of the request's ladder that the node is on, with its place there.
#[must_use]
pub fn rung(request: &Request<'_>, node: &Description) -> Option<(u8, Rung)> {
    let serves = serves_carrier(request.carrier, node);
    let on = |rung: Rung| is_in_reach(rung, request.region, &node.region) && (serves || !rung.wants_carrier());
    let found = request.policy.ladder.rungs().iter().zip(0_u8..).find(|(rung, _)| on(**rung));
    found.map(|(rung, place)| (place, *rung))
}
