//! The ticket: proves at a node's door that a lookup sent the client there.

use std::borrow::Cow;

use roost_proto::error::Code;
use roost_proto::id::{Epoch, Incarnation, NamespaceId, NodeId, RoomName};
use serde::{Deserialize, Serialize};

use crate::keys::{ClusterKeys, Kind};

/// How long a ticket holds, while its claim lives.
pub const TICKET_LIFE_MS: u64 = 600_000;

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    pub namespace: NamespaceId,
    pub room: RoomName,
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    /// Which store the claim is in.
    pub store: String,
    /// On the store's clock. A signed ticket tells whole seconds, rounded up.
    pub expires_store_ms: u64,
    pub id: String,
}

/// The ticket in its JWT, under the registered names where there are any.
#[derive(Debug, Serialize, Deserialize)]
struct Claims<'a> {
    aud: Cow<'a, str>,
    ns: Cow<'a, str>,
    room: Cow<'a, str>,
    node: Cow<'a, str>,
    inc: Incarnation,
    epoch: Epoch,
    store: Cow<'a, str>,
    exp: u64,
    jti: Cow<'a, str>,
}

impl ClusterKeys {
    /// The ticket as a JWT, signed with the current key.
    #[must_use]
    pub fn sign_ticket(&self, ticket: &Ticket) -> String {
        let claims = Claims {
            aud: Kind::Ticket.audience().into(),
            ns: ticket.namespace.as_str().into(),
            room: ticket.room.as_str().into(),
            node: ticket.node.as_str().into(),
            inc: ticket.incarnation,
            epoch: ticket.epoch,
            store: ticket.store.as_str().into(),
            exp: ticket.expires_store_ms.div_ceil(1_000),
            jti: ticket.id.as_str().into(),
        };
        self.sign(Kind::Ticket, &claims)
    }

    /// The ticket that `token` is, `now_store_ms` being the store's time; else `ticket_invalid` or `ticket_expired`.
    ///
    /// Whether it is for this node, room and claim is the caller's to check.
    pub fn check_ticket(&self, token: &str, now_store_ms: u64) -> Result<Ticket, Code> {
        let claims: Claims<'static> = self.open(Kind::Ticket, token).ok_or(Code::TicketInvalid)?;
        let ticket = claims.into_ticket().ok_or(Code::TicketInvalid)?;
        if ticket.expires_store_ms <= now_store_ms { Err(Code::TicketExpired) } else { Ok(ticket) }
    }
}

impl Claims<'_> {
    fn into_ticket(self) -> Option<Ticket> {
        Some(Ticket {
            namespace: NamespaceId::new(self.ns).ok()?,
            room: RoomName::new(self.room).ok()?,
            node: NodeId::new(self.node).ok()?,
            incarnation: self.inc,
            epoch: self.epoch,
            store: self.store.into_owned(),
            expires_store_ms: self.exp.saturating_mul(1_000),
            id: self.jti.into_owned(),
        })
    }
}
