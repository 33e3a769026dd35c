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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use proptest::prelude::*;

    use super::*;

    const NOW_MS: u64 = 1_790_000_000_500;

    #[test]
    fn a_ticket_says_what_was_signed_until_it_expires() {
        let keys = ClusterKeys::dev();
        let ticket = ticket("standup");
        let token = keys.sign_ticket(&ticket);
        let read = keys.check_ticket(&token, NOW_MS).expect("it is fresh");
        assert_eq!(read, Ticket { expires_store_ms: 1_790_000_601_000, ..ticket });
        assert!(keys.check_ticket(&token, 1_790_000_600_999).is_ok());
        assert_eq!(keys.check_ticket(&token, 1_790_000_601_000), Err(Code::TicketExpired));
    }

    #[test]
    fn the_local_clock_does_not_count() {
        let keys = ClusterKeys::dev();
        let token = keys.sign_ticket(&Ticket { expires_store_ms: 5_000, ..ticket("standup") });
        assert!(keys.check_ticket(&token, 4_999).is_ok());
    }

    #[test]
    fn a_proof_is_no_ticket_and_a_ticket_no_proof() {
        let keys = ClusterKeys::dev();
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(NOW_MS);
        assert_eq!(keys.check_ticket(&keys.proof(now), NOW_MS), Err(Code::TicketInvalid));
        assert!(keys.check_proof(&keys.sign_ticket(&ticket("standup")), now).is_err());
    }

    #[test]
    fn claims_that_are_no_ticket_are_invalid() {
        let keys = ClusterKeys::dev();
        let whole = serde_json::json!({
            "aud": "roost-node", "ns": "default", "room": "standup", "node": "fra-1", "inc": 1, "epoch": 2,
            "store": "s", "exp": 2_000_000_000_u64, "jti": "x",
        });
        assert!(keys.check_ticket(&keys.sign(Kind::Ticket, &whole), NOW_MS).is_ok());
        for (key, value) in [("ns", "NO".into()), ("room", "".into()), ("inc", "one".into()), ("exp", (-1).into())] {
            let mut broken = whole.clone();
            broken[key] = value;
            let token = keys.sign(Kind::Ticket, &broken);
            assert_eq!(keys.check_ticket(&token, NOW_MS), Err(Code::TicketInvalid), "{key}");
        }
    }

    proptest! {
        #[test]
        fn any_room_comes_back_as_it_was(room in "[^\\p{Cc}]{1,60}", epoch in any::<u64>(), incarnation in any::<u64>()) {
            let keys = ClusterKeys::dev();
            let ticket = Ticket {
                epoch: Epoch(epoch), incarnation: Incarnation(incarnation), expires_store_ms: NOW_MS + 500, ..ticket(&room)
            };
            prop_assert_eq!(keys.check_ticket(&keys.sign_ticket(&ticket), NOW_MS), Ok(ticket));
        }

        #[test]
        fn no_token_makes_the_check_panic(token in "[A-Za-z0-9_.-]{0,200}") {
            prop_assert_eq!(ClusterKeys::dev().check_ticket(&token, NOW_MS), Err(Code::TicketInvalid));
        }
    }

    /// `cargo test --release -p roost-server -- --ignored --nocapture the_cost` prints nanoseconds.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn the_cost_of_signing_and_checking() {
        let (keys, ticket) = (ClusterKeys::dev(), ticket("standup"));
        let token = keys.sign_ticket(&ticket);
        let mut lines = String::new();
        let mut measure = |name: &str, work: &dyn Fn()| {
            const ROUNDS: u32 = 100_000;
            let start = Instant::now();
            (0..ROUNDS).for_each(|_| work());
            lines.push_str(&format!("{name}: {} ns\n", (start.elapsed() / ROUNDS).as_nanos()));
        };
        measure("sign", &|| drop(std::hint::black_box(keys.sign_ticket(&ticket))));
        measure("check", &|| drop(std::hint::black_box(keys.check_ticket(&token, NOW_MS))));
        measure("request id", &|| drop(std::hint::black_box(crate::request_id::new())));
        std::io::Write::write_all(&mut std::io::stderr(), lines.as_bytes()).expect("standard error is open");
    }

    fn ticket(room: &str) -> Ticket {
        Ticket {
            namespace: NamespaceId::new("default").expect("valid"),
            room: RoomName::new(room).expect("valid"),
            node: NodeId::new("fra-1").expect("valid"),
            incarnation: Incarnation(1_790_000_000_001),
            epoch: Epoch(1_790_000_000_007),
            store: "4f3c2b1a-embedded".to_owned(),
            expires_store_ms: NOW_MS + TICKET_LIFE_MS,
            id: "0123456789abcdef-2a".to_owned(),
        }
    }
}
