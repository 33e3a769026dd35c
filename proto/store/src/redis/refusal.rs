//! Whether a refused connection proves that the store is down (rule 14).
//!
//! It does where the address that refuses is the server's own. A proxy, a Kubernetes Service or a name may stand for a
//! server that runs elsewhere; so only an address that the URL spells out counts, and only after the server has said
//! of a connection that it was made to exactly that one.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use redis::{ConnectionAddr, RedisError};

use super::session::unavailable;
use crate::error::StoreError;

/// The address that is dialled, and what is known of it.
#[derive(Debug, Default)]
pub(super) struct Dialled {
    /// None where the URL has a name or a path.
    address: Option<SocketAddr>,
    is_servers_own: AtomicBool,
}

impl Dialled {
    pub(super) fn of(address: &ConnectionAddr) -> Self {
        let address = match address {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip.to_canonical(), *port))
            }
            _ => None,
        };
        Self { address, is_servers_own: AtomicBool::new(false) }
    }

    /// Whether its refusal could ever prove anything.
    pub(super) fn is_literal(&self) -> bool {
        self.address.is_some()
    }

    /// Takes in what the server says of a new connection (`CLIENT INFO`); nothing, if it did not tell.
    pub(super) fn learn(&self, told: Option<&str>) {
        let own = told.and_then(|line| line.split(' ').find_map(|word| word.strip_prefix("laddr=")));
        let own = own.and_then(|text| text.parse::<SocketAddr>().ok());
        let own = own.map(|own| SocketAddr::new(own.ip().to_canonical(), own.port()));
        self.is_servers_own.store(own.is_some() && own == self.address, Ordering::Release);
    }

    /// What it means that a connection could not be made.
    pub(super) fn failed(&self, error: &RedisError) -> StoreError {
        if self.is_servers_own.load(Ordering::Acquire) && error.is_connection_refusal() {
            return StoreError::Refused { reason: error.to_string() };
        }
        unavailable(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_address_can_refuse_for_it() {
        let refusal = || RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        let of = |host: &str| Dialled::of(&ConnectionAddr::Tcp(host.to_owned(), 6379));
        for (host, told, counts) in [
            ("10.0.0.1", Some("id=3 addr=10.0.0.9:50000 laddr=10.0.0.1:6379 fd=8"), true),
            ("10.0.0.1", Some("id=3 addr=10.0.0.9:50000 laddr=::ffff:10.0.0.1:6379 fd=8"), false),
            ("10.0.0.1", Some("id=3 addr=10.0.0.9:50000 laddr=[::ffff:10.0.0.1]:6379 fd=8"), true),
            ("::1", Some("laddr=[::1]:6379"), true),
            ("10.0.0.1", Some("laddr=10.0.0.2:6379"), false),
            ("10.0.0.1", Some("laddr=10.0.0.1:6380"), false),
            ("10.0.0.1", Some("id=3"), false),
            ("10.0.0.1", None, false),
            ("redis.example", Some("laddr=10.0.0.1:6379"), false),
        ] {
            let dialled = of(host);
            assert!(matches!(dialled.failed(&refusal()), StoreError::Unavailable { .. }), "never connected");
            dialled.learn(told);
            assert_eq!(matches!(dialled.failed(&refusal()), StoreError::Refused { .. }), counts, "{host} {told:?}");
            let reset = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
            assert!(matches!(dialled.failed(&reset), StoreError::Unavailable { .. }), "a reset is no refusal");
        }
        let moved = of("10.0.0.1");
        moved.learn(Some("laddr=10.0.0.1:6379"));
        moved.learn(Some("laddr=10.0.0.7:6379"));
        assert!(matches!(moved.failed(&refusal()), StoreError::Unavailable { .. }), "the last connection counts");
    }
}
