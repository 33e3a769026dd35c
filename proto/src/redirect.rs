//! How a client is sent to the right node: the location it connects to, and the words of the two dialects.

use form_urlencoded::Serializer;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Problem};
use crate::id::{Epoch, InvalidId, NamespaceId, NodeId, PeerId, RoomKey, RoomName};

/// After so many redirects the answer is `too_many_redirects`.
pub const MAX_REDIRECTS: u8 = 3;

/// The namespace of clients that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What a signaling URL's query says. Keys that are not listed are ignored, such as stock clients'
/// `consumerReplicas=undefined`; the words `undefined` and `null` count as absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignalingQuery {
    pub room_id: Option<String>,
    pub peer_id: Option<String>,
    pub namespace: Option<String>,
    pub ticket: Option<String>,
    /// The client understands `redirect`, whatever the namespace's policy for those that don't.
    pub redirect: bool,
    /// How often it was redirected already.
    pub redirects: u8,
    /// The key of a value that is not UTF-8; such a query names no room and no peer.
    pub broken: Option<String>,
}

impl SignalingQuery {
    /// Reads a query, without its `?`.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(value) = decoded(value) else {
                parsed.broken = Some(key.chars().take(64).collect());
                continue;
            };
            if matches!(&*value, "" | "undefined" | "null") {
                continue;
            }
            match key {
                "roomId" => parsed.room_id = Some(value),
                "peerId" => parsed.peer_id = Some(value),
                "namespace" => parsed.namespace = Some(value),
                "ticket" => parsed.ticket = Some(value),
                "redirect" => parsed.redirect = &*value == "true",
                "redirects" => parsed.redirects = value.parse().unwrap_or(MAX_REDIRECTS),
                _ => {}
            }
        }
        parsed
    }

    /// The room that the query names.
    pub fn room(&self) -> Result<RoomKey, Problem> {
        self.check()?;
        let room = self.room_id.as_deref().ok_or_else(|| missing("roomId"))?;
        let namespace = self.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        Ok(RoomKey { namespace: NamespaceId::new(namespace)?, room: RoomName::new(room)? })
    }

    /// The peer that the query names.
    pub fn peer(&self) -> Result<PeerId, Problem> {
        self.check()?;
        Ok(PeerId::new(self.peer_id.as_deref().ok_or_else(|| missing("peerId"))?)?)
    }

    fn check(&self) -> Result<(), Problem> {
        match &self.broken {
            Some(key) => Err(Problem::new(Code::BadId, format!("query {key}: expected UTF-8, percent-encoded"))),
            None => Ok(()),
        }
    }
}

/// A value of a query as a browser writes it: `+` is a space. None if it is not UTF-8.
fn decoded(value: &str) -> Option<String> {
    let value = value.replace('+', " ");
    percent_encoding::percent_decode_str(&value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn missing(key: &str) -> Problem {
    Problem::new(Code::BadRequest, format!("query {key}: expected a value, got none"))
}

impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self::new(Code::BadId, error.to_string())
    }
}

/// A complete location: the node's signaling URL with room, peer, namespace, ticket and the count of redirects.
///
/// A client just connects there. A query that the URL has already is kept.
#[must_use]
pub fn location(signaling_url: &str, key: &RoomKey, peer: Option<&PeerId>, ticket: &str, redirects: u8) -> String {
    let mut query = Serializer::new(String::with_capacity(256));
    query.append_pair("roomId", key.room.as_str());
    if let Some(peer) = peer {
        query.append_pair("peerId", peer.as_str());
    }
    query.append_pair("namespace", key.namespace.as_str());
    if !ticket.is_empty() {
        query.append_pair("ticket", ticket);
    }
    query.append_pair("redirects", redirects.to_string().as_str());
    let separator = if signaling_url.contains('?') { '&' } else { '?' };
    format!("{signaling_url}{separator}{}", query.finish())
}

/// The data of the protoo notification `redirect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    pub location: String,
    pub node: NodeId,
    pub epoch: Epoch,
    pub ticket: String,
}

/// What a Sora-style client says first. Other fields are its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SoraClient {
    Connect {
        channel_id: String,
        /// The client comes from a redirect.
        #[serde(default)]
        redirect: bool,
    },
}

/// What a Sora-style client is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SoraServer {
    Redirect { location: String },
    Error { problem: Problem },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_clients_query_is_understood() {
        let query = SignalingQuery::parse("roomId=a%20b&peerId=p1&consumerReplicas=undefined&namespace=undefined");
        assert_eq!(query.room().expect("valid"), RoomKey::new("default", "a b").expect("valid"));
        assert_eq!(query.peer().expect("valid").as_str(), "p1");
        assert_eq!(query.redirects, 0);
    }

    #[test]
    fn a_location_says_all_that_the_next_node_needs() {
        let key = RoomKey::new("acme", "a&b ü").expect("valid");
        let peer = PeerId::new("p=1").expect("valid");
        let url = location("wss://fra-1.example/signaling", &key, Some(&peer), "t.t.t", 2);
        let query = SignalingQuery::parse(url.split_once('?').expect("a query").1);
        assert_eq!(query.room().expect("valid"), key);
        assert_eq!(query.peer().expect("valid"), peer);
        assert_eq!((query.ticket.as_deref(), query.redirects), (Some("t.t.t"), 2));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let query = SignalingQuery::parse("roomId=a&peerId=b%00&namespace=No");
        assert!(query.room().expect_err("bad namespace").detail.contains("namespace \"No\""));
        assert!(query.peer().expect_err("bad peer").detail.contains("peer"));
        let broken = SignalingQuery::parse("roomId=%ff&peerId=p");
        assert!(broken.room().expect_err("not UTF-8").detail.contains("roomId"));
        assert!(broken.peer().is_err(), "nothing of a broken query is believed");
        assert!(SignalingQuery::parse("").room().expect_err("none").detail.contains("roomId"));
    }
}
