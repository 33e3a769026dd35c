//! Whose request this is: the peer's address, or what trusted proxies say in one header.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use actix_web::http::header::{FORWARDED, HeaderMap, X_FORWARDED_FOR};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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
        let name = match self.header {
            TrustedHeader::XForwardedFor => X_FORWARDED_FOR,
            TrustedHeader::Forwarded => FORWARDED,
        };
        let lines: Vec<_> = headers.get_all(name).map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        for hop in lines.iter().rev().flat_map(|line| rev_split(line, b',')).filter(|hop| !hop.is_empty()) {
            let hop = match self.header {
                TrustedHeader::XForwardedFor => address(hop),
                TrustedHeader::Forwarded => forwarded_for(hop),
            };
            let Some(hop) = hop else { break };
            client = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }
}

/// Reads a list of networks for serde; a single address counts as a network of one, and IPv4 in IPv6 dress as IPv4, since
/// addresses are compared so.
pub fn networks<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: String| {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(undressed)
            .map_err(|_| serde::de::Error::custom(format!("{text:?}: expected an address or network, like 10.0.0.0/8")))
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().map(network).collect()
}

fn undressed(network: IpNet) -> IpNet {
    let undressed = |network: Ipv6Net| {
        let length = network.prefix_len().checked_sub(96)?;
        Ipv4Net::new(network.addr().to_ipv4_mapped()?, length).ok()
    };
    match network {
        IpNet::V6(dressed) => undressed(dressed).map_or(network, IpNet::V4),
        IpNet::V4(_) => network,
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

/// The parts between `separator`s, trimmed, the last one first. A separator inside quotes separates nothing.
///
/// Read from the right, because only the right end was written by someone we trust: a quote that a client left open
/// further left must not swallow it.
fn rev_split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let all = rest?;
        let (head, last) = match last_outside_quotes(all.as_bytes(), separator) {
            Some(at) => (Some(&all[..at]), &all[at + 1..]),
            None => (None, all),
        };
        rest = head;
        Some(last.trim())
    })
}

fn last_outside_quotes(text: &[u8], wanted: u8) -> Option<usize> {
    let mut quoted = false;
    (0..text.len()).rev().find(|&at| {
        if text[at] == b'"' {
            let backslashes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            quoted ^= backslashes % 2 == 0;
        }
        text[at] == wanted && !quoted
    })
}

/// The `for` of one RFC 7239 element; none if it is absent, there twice, `unknown`, obfuscated or broken.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut values = rev_split(element, b';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    match value.strip_prefix('"') {
        Some(rest) => address(rest.strip_suffix('"')?),
        None => address(value),
    }
}

/// An address as proxies write it: bare, in brackets, with a port, which may be obfuscated too.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            (after.is_empty() || after.starts_with(':')).then_some(inside)?
        }
        None => match text.split_once(':') {
            Some((before, after)) if !after.contains(':') => before,
            _ => text,
        },
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    #[test]
    fn without_a_trusted_proxy_the_peer_is_the_client() {
        let nobody = ClientAddress::default();
        assert_eq!(resolve(&nobody, "203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(resolve(&trusting(TrustedHeader::XForwardedFor), "203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(resolve(&nobody, "::ffff:203.0.113.9", &[]), "203.0.113.9");
    }

    #[test]
    fn the_first_untrusted_hop_from_the_right_is_the_client() {
        let rows: &[(&[&str], &str)] = &[
            (&["203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            (&["203.0.113.9", "10.0.0.3, 10.0.0.2"], "203.0.113.9"),
            (&["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
            (&["6.6.6.6", "203.0.113.9,10.0.0.2"], "203.0.113.9"),
            (&["6.6.6.6, 10.0.0.2, 203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["2001:db8::9"], "2001:db8::9"),
            (&["[2001:db8::9]:4711"], "2001:db8::9"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
            (&["203.0.113.9,, 10.0.0.2 ,"], "203.0.113.9"),
            (&["10.0.0.4, 10.0.0.2"], "10.0.0.4"),
            (&["nonsense, 203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9, nonsense, 10.0.0.2"], "10.0.0.2"),
            (&["nonsense"], PROXY),
            (&["1.2.3.4.5"], PROXY),
            (&["\" , 203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9, [::ffff:10.0.0.2]:443"], "203.0.113.9"),
            (&["[2001:db8::9]:4711, 10.0.0.2:80"], "2001:db8::9"),
            (&["[2001:db8::9]"], "2001:db8::9"),
            (&["[2001:db8::9]4711"], PROXY),
            (&["[2001:db8::9"], PROXY),
            (&["fe80::1%eth0"], PROXY),
            (&["203.0.113.9:47:11"], PROXY),
            (&["010.0.0.1"], PROXY),
            (&["for=203.0.113.9"], PROXY),
            (&["6.6.6.6, unknown"], PROXY),
            (&[""], PROXY),
            (&[], PROXY),
        ];
        let proxies = trusting(TrustedHeader::XForwardedFor);
        for (lines, client) in rows {
            assert_eq!(resolve(&proxies, PROXY, lines), *client, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        let rows: &[(&[&str], &str)] = &[
            (&["for=203.0.113.9"], "203.0.113.9"),
            (&["For=\"203.0.113.9:4711\";proto=https;by=10.0.0.1"], "203.0.113.9"),
            (&["proto=https; for=\"[2001:db8::9]\""], "2001:db8::9"),
            (&["for=\"[2001:db8::9]:_port\""], "2001:db8::9"),
            (&["for=6.6.6.6, for=203.0.113.9;host=a, for=10.0.0.2"], "203.0.113.9"),
            (&["for=6.6.6.6", "for=203.0.113.9"], "203.0.113.9"),
            (&["for=203.0.113.9, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
            (&["for=203.0.113.9, for=unknown"], PROXY),
            (&["for=203.0.113.9, proto=https"], PROXY),
            (&["for=203.0.113.9;host=\"x, for=6.6.6.6\""], "203.0.113.9"),
            (&["host=\"x;for=6.6.6.6\";for=203.0.113.9"], "203.0.113.9"),
            (&[r#"for=203.0.113.9;host="x\", for=6.6.6.6, \"""#], "203.0.113.9"),
            (&["for=\"evil, for=203.0.113.9"], "203.0.113.9"),
            (&["for=\"203.0.113.9"], PROXY),
            (&["for=203.0.113.9;for=6.6.6.6"], PROXY),
            (&["for=6.6.6.6;host=a;For=203.0.113.9"], PROXY),
            (&["for=6.6.6.6;for=7.7.7.7, for=203.0.113.9"], "203.0.113.9"),
            (&["for=\"[::ffff:203.0.113.9]:80\""], "203.0.113.9"),
            (&["for=\"_gazonk\""], PROXY),
            (&["fort=6.6.6.6;for=203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9"], PROXY),
        ];
        let proxies = trusting(TrustedHeader::Forwarded);
        for (lines, client) in rows {
            assert_eq!(resolve(&proxies, PROXY, lines), *client, "{lines:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_spoil_their_own_hop_only() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"\xff\xfe, 203.0.113.9").expect("opaque bytes are allowed");
        headers.append(X_FORWARDED_FOR, value);
        let peer = PROXY.parse().expect("an address");
        let client = trusting(TrustedHeader::XForwardedFor).resolve(peer, &headers);
        assert_eq!(client.to_string(), "203.0.113.9");
    }

    #[test]
    fn the_header_is_configured_by_its_name() {
        for header in [TrustedHeader::XForwardedFor, TrustedHeader::Forwarded] {
            assert_eq!(header.to_string().to_lowercase().parse(), Ok(header));
        }
        assert!("X-Real-IP".parse::<TrustedHeader>().is_err());
    }

    proptest! {
        #[test]
        fn without_a_trusted_proxy_no_header_changes_the_address(
            lines in vec("[^\\p{Cc}]{0,80}", 0..4),
            hops in vec(hop(), 0..4),
            forwarded in any::<bool>(),
            peer in any::<IpAddr>(),
        ) {
            let mut proxies = trusting(if forwarded { TrustedHeader::Forwarded } else { TrustedHeader::XForwardedFor });
            proxies.trusted.retain(|network| !network.contains(&peer.to_canonical()));
            let mut headers = HeaderMap::new();
            for line in lines.into_iter().chain([hops.join(", ")]) {
                for name in [X_FORWARDED_FOR, FORWARDED] {
                    headers.append(name, HeaderValue::from_bytes(line.as_bytes()).expect("no control characters"));
                }
            }
            prop_assert_eq!(proxies.resolve(peer, &headers), peer.to_canonical());
        }

        /// Whatever a client sends, each proxy adds whom it heard it from.
        #[test]
        fn what_a_client_sends_never_counts_before_its_own_address(
            heads in vec("[^\\p{Cc}]{0,60}", 0..3),
            hops in vec((0..5_usize, any::<bool>()), 0..4),
            dress in 0..5_usize,
            forwarded in any::<bool>(),
        ) {
            let header = if forwarded { TrustedHeader::Forwarded } else { TrustedHeader::XForwardedFor };
            let written = |address: &str, dress| if forwarded { element(address, dress) } else { dressed(address, dress) };
            let mut lines = heads;
            // The first proxy adds to the client's last line, as the others do, or begins a line of its own.
            let proxies = (1..).zip(&hops).map(|(number, (dress, apart))| (format!("10.0.0.{number}"), *dress, *apart));
            let chain = [("203.0.113.9".to_owned(), dress, lines.is_empty())].into_iter().chain(proxies);
            for (address, dress, apart) in chain {
                let own = written(&address, dress);
                match lines.last_mut() {
                    Some(line) if !apart => *line = format!("{line}, {own}"),
                    _ => lines.push(own),
                }
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(resolve(&trusting(header), PROXY, &lines), "203.0.113.9", "{:?}", lines);
        }

        #[test]
        fn no_header_makes_it_panic(line in "[^\\p{Cc}]{0,80}", forwarded in any::<bool>()) {
            let header = if forwarded { TrustedHeader::Forwarded } else { TrustedHeader::XForwardedFor };
            resolve(&trusting(header), PROXY, &[&line]);
        }

        #[test]
        fn a_name_in_quotes_cannot_pose_as_a_hop(name in "[ -~]{0,60}") {
            let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
            let line = format!("host=\"{quoted}\";for=203.0.113.9");
            prop_assert_eq!(resolve(&trusting(TrustedHeader::Forwarded), PROXY, &[&line]), "203.0.113.9");
        }
    }

    #[test]
    fn a_proxy_in_ipv6_dress_is_trusted_as_what_it_is() {
        let read = |text: &str| {
            networks(serde::de::value::SeqDeserializer::<_, serde::de::value::Error>::new([text].into_iter()))
        };
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(read(text).expect("a network")[0].to_string(), expected);
        }
        assert!(read("10.0.0.0/33").is_err() && read("proxy.example").is_err());
    }

    /// An address as proxies write it, for an address of IPv4.
    fn dressed(address: &str, dress: usize) -> String {
        match dress {
            0 => address.to_owned(),
            1 => format!("{address}:4711"),
            2 => format!("::ffff:{address}"),
            3 => format!("[::ffff:{address}]"),
            _ => format!("[::ffff:{address}]:4711"),
        }
    }

    /// An element of RFC 7239.
    fn element(address: &str, dress: usize) -> String {
        match dress {
            0 => format!("for={address}"),
            1 => format!("FOR=\"{}\"; proto=https", dressed(address, 1)),
            2 => format!("by=10.0.0.1;for=\"{}\"", dressed(address, 3)),
            3 => format!("host=\"a, for=6.6.6.6;\\\"b\\\"\";for=\"{}\"", dressed(address, 4)),
            _ => format!("for=\"{}\";host=\"for=6.6.6.6, \"", dressed(address, 4)),
        }
    }

    /// A hop of either header.
    fn hop() -> impl Strategy<Value = String> {
        (any::<IpAddr>(), any::<bool>())
            .prop_map(|(ip, is_pair)| if is_pair { format!("for=\"{ip}\"") } else { ip.to_string() })
    }

    fn trusting(header: TrustedHeader) -> ClientAddress {
        ClientAddress { trusted: vec!["10.0.0.0/8".parse().expect("a network")], header }
    }

    fn resolve(addresses: &ClientAddress, peer: &str, lines: &[&str]) -> String {
        let name = if addresses.header == TrustedHeader::Forwarded { FORWARDED } else { X_FORWARDED_FOR };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_bytes(line.as_bytes()).expect("no control characters"));
        }
        addresses.resolve(peer.parse().expect("an address"), &headers).to_string()
    }
}
