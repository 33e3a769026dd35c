//! Whose request this is: the peer's address, or what trusted proxies say in one header.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The one header that is believed when it comes from a trusted proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum TrustedHeader {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// Finds out the client's address. Without trusted proxies it is always the peer's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientAddress {
    /// The proxies whose word counts.
    pub trusted: Vec<IpNet>,
    pub header: TrustedHeader,
}

impl ClientAddress {
    /// The first untrusted hop, read from the right; an IPv4 address in IPv6 dress (`::ffff:a.b.c.d`) is IPv4.
    ///
    /// What cannot be read ends the walk: then the last hop that could be is the client, at worst the peer itself.
    #[must_use]
    pub fn resolve(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        let mut client = peer;
        let mut walk = |hop: Option<IpAddr>| match hop {
            None => false,
            Some(hop) => {
                client = hop;
                self.trusts(hop)
            }
        };
        match self.header {
            TrustedHeader::XForwardedFor => {
                let name = HeaderName::from_static("x-forwarded-for");
                let lines: Vec<&HeaderValue> = headers.get_all(name).collect();
                for_each_from_the_right(&lines, |hop| walk(address(hop)));
            }
            TrustedHeader::Forwarded => {
                let lines: Vec<&HeaderValue> = headers.get_all(FORWARDED).collect();
                for_each_from_the_right(&lines, |hop| walk(forwarded_for(hop)));
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }
}

impl FromStr for TrustedHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("x-forwarded-for") {
            Ok(Self::XForwardedFor)
        } else if text.eq_ignore_ascii_case("forwarded") {
            Ok(Self::Forwarded)
        } else {
            Err(format!("{text:?}: expected X-Forwarded-For or Forwarded"))
        }
    }
}

impl TryFrom<String> for TrustedHeader {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TrustedHeader> for &'static str {
    fn from(header: TrustedHeader) -> Self {
        match header {
            TrustedHeader::XForwardedFor => "X-Forwarded-For",
            TrustedHeader::Forwarded => "Forwarded",
        }
    }
}

impl fmt::Display for TrustedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((*self).into())
    }
}

/// Calls `visit` with each comma-separated element of the header's lines, the last one first, until it answers false.
/// A comma inside quotes separates nothing.
fn for_each_from_the_right(lines: &[&HeaderValue], mut visit: impl FnMut(&str) -> bool) {
    for line in lines.iter().rev() {
        let Ok(mut rest) = line.to_str() else { return };
        loop {
            let (head, last) = match last_comma(rest) {
                Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
                None => (None, rest),
            };
            if !visit(last.trim()) {
                return;
            }
            let Some(head) = head else { break };
            rest = head;
        }
    }
}

fn last_comma(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.bytes().enumerate().rev().find_map(|(at, byte)| {
        quoted ^= byte == b'"';
        (byte == b',' && !quoted).then_some(at)
    })
}

/// The `for` of one RFC 7239 element; none if it is absent, `unknown`, obfuscated or broken.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    })?;
    match value.strip_prefix('"') {
        Some(rest) => address(rest.strip_suffix('"')?),
        None => address(value),
    }
}

/// An address as proxies write it: bare, in brackets, with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()
        .map(|address| address.to_canonical())
}
