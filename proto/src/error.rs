//! The one table of error codes: code, HTTP status, whether to try again, meaning; and the problem that carries them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{NodeId, RequestId};

macro_rules! codes {
    ($($variant:ident $text:literal $status:literal $retryable:literal $meaning:literal;)*) => {
        /// What went wrong, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code { $(#[doc = $meaning] $variant,)* }

        impl Code {
            /// Every code, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it is written on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status; a WebSocket is closed with 4000 more.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether the same call may succeed later without a change.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// What the code means, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" 400 false "the request cannot be understood";
    BadId "bad_id" 400 false "an identifier has wrong characters or a wrong length";
    TicketRequired "ticket_required" 401 false "this node takes participants with a ticket from a lookup only";
    TicketInvalid "ticket_invalid" 401 false "the ticket is no ticket of this cluster";
    TicketExpired "ticket_expired" 401 false "the ticket is too old; look the room up again";
    TicketWrongNode "ticket_wrong_node" 401 false "the ticket is for another node";
    TicketWrongRoom "ticket_wrong_room" 401 false "the ticket is for another room";
    TicketStale "ticket_stale" 401 false "the room has moved or ended since the lookup; look it up again";
    ClusterKeyInvalid "cluster_key_invalid" 401 false "the caller does not prove the cluster key";
    NamespaceNotAllowed "namespace_not_allowed" 403 false "the namespace is not configured";
    OriginNotAllowed "origin_not_allowed" 403 false "the page's origin is not on the list of allowed origins";
    RoomNotFound "room_not_found" 404 false "no node holds the room";
    NodeNotFound "node_not_found" 404 false "no node of this name is known";
    DrainNotFound "drain_not_found" 404 false "the node has no drain";
    NotFound "not_found" 404 false "nothing is served at this path";
    MethodNotAllowed "method_not_allowed" 405 false "the path is not served with this method";
    TooManyRedirects "too_many_redirects" 409 false "the client was redirected three times without arriving";
    NodeIdTaken "node_id_taken" 409 false "another process holds the lease of this node id";
    SecondScheduler "second_scheduler" 409 false "another scheduler that keeps its state in memory has this node: a cluster has one, or Redis";
    NodeNotLost "node_not_lost" 409 false "only a lost node can be purged: this one has a lease, or may have one as far as the scheduler has heard";
    BodyTooLarge "body_too_large" 413 false "the body is over the limit";
    RateLimited "rate_limited" 429 true "too many requests";
    Internal "internal" 500 false "a bug: the request could not be served";
    NotImplemented "not_implemented" 501 false "this is not served yet";
    NoNode "no_node" 503 true "no node can take the room; the reasons are with the answer";
    RoomFull "room_full" 503 true "the room has as many participants as its namespace allows";
    Starting "starting" 503 true "the scheduler waits until living nodes have said which rooms they hold";
    StoreUnavailable "store_unavailable" 503 true "the shared store does not answer";
    Unfinished "unfinished" 503 true "what was asked for has begun, and is not known to be done";
    NodeLeaving "node_leaving" 503 true "the node is stopping, or its media worker ended; look the room up again";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a node cannot take a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    WrongNamespace,
    OutsideFence,
    BeyondLadder,
    WrongCarrier,
    Mode,
    NotAlive,
    Avoided,
    FullParticipants,
    FullRooms,
    FullStreams,
    FullBandwidth,
    FullCpu,
    FullMemory,
    LinkBudget,
    Version,
}

impl Reason {
    /// Every reason, in the order in which they are checked.
    pub const ALL: [Self; 15] = [
        Self::WrongNamespace,
        Self::OutsideFence,
        Self::BeyondLadder,
        Self::WrongCarrier,
        Self::Mode,
        Self::NotAlive,
        Self::Avoided,
        Self::FullParticipants,
        Self::FullRooms,
        Self::FullStreams,
        Self::FullBandwidth,
        Self::FullCpu,
        Self::FullMemory,
        Self::LinkBudget,
        Self::Version,
    ];

    /// The reason as it is written on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrongNamespace => "wrong_namespace",
            Self::OutsideFence => "outside_fence",
            Self::BeyondLadder => "beyond_ladder",
            Self::WrongCarrier => "wrong_carrier",
            Self::Mode => "mode",
            Self::NotAlive => "not_alive",
            Self::Avoided => "avoided",
            Self::FullParticipants => "full_participants",
            Self::FullRooms => "full_rooms",
            Self::FullStreams => "full_streams",
            Self::FullBandwidth => "full_bandwidth",
            Self::FullCpu => "full_cpu",
            Self::FullMemory => "full_memory",
            Self::LinkBudget => "link_budget",
            Self::Version => "version",
        }
    }
}

/// One node's refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rejection {
    pub node: NodeId,
    pub reason: Reason,
}

/// How many rejections a problem lists; the counts by reason are always complete.
pub const REJECTIONS_LISTED: usize = 20;

/// How many nodes were refused for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonCount {
    pub reason: Reason,
    pub count: u32,
}

/// An error answer, as RFC 9457 `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the title is the status.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    pub code: Code,
    /// What exactly: field, value, what was expected.
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Whether the same call may succeed later without a change.
    pub retryable: bool,
    /// The nodes that refused, 20 at most; only with `no_node`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejections: Vec<Rejection>,
    /// How many nodes refused, by reason; only with `no_node`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejection_counts: Vec<ReasonCount>,
}

impl Problem {
    /// A problem of this code; `detail` says what exactly.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: code.meaning().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            request_id: None,
            retryable: code.retryable(),
            rejections: Vec::new(),
            rejection_counts: Vec::new(),
        }
    }
}

/// Why a WebSocket is closed with 4000 although nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The `redirect` notification before it says where to go.
    Redirect,
    /// The same peer id came again.
    Replaced,
    RoomClosed,
}

impl CloseReason {
    /// The reason as it is written in the close frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Replaced => "replaced",
            Self::RoomClosed => "room_closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_in_json_as_it_calls_itself() {
        for &code in Code::ALL {
            assert_eq!(serde_json::to_string(&code).expect("a string"), format!("\"{code}\""));
        }
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_string(&reason).expect("a string"), format!("\"{}\"", reason.as_str()));
        }
    }

    #[test]
    fn only_what_may_pass_by_itself_is_retryable() {
        for &code in Code::ALL {
            assert_eq!(code.retryable(), matches!(code.status(), 429 | 503), "{code}");
        }
    }
}
