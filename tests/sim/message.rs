//! What the processes say to each other.

use roost_agent_core::hold::Offer;
use roost_proto::command::Command;
use roost_proto::event::Event;
use roost_proto::id::{Incarnation, NodeId, RoomKey};
use roost_proto::room::Run;
use roost_proto::room::{Claim, Expected};
use roost_store::operation::{Grant, Granted, Lease, NodeAnswer, NodeOperation, Prolonged, Purged, Steer, Steered};

/// What is in a message.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Ask(Ask),
    /// `life` numbers the store's processes: on the connection to a later one nothing of an earlier one is read.
    Said {
        life: u64,
        /// By its clock.
        store_ms: u64,
        said: Said,
    },
    /// The host is there, and nobody listens: certainly not done.
    Refused,
    /// Of the subscription that has the message's number.
    Told(Box<Event>),
    /// The subscription is over.
    Hangup,
    /// A scheduler connects to an agent, and asks on the connection whether it lives.
    Dial,
    Ping,
    /// It was accepted, and it lives.
    Pong,
    /// The agent acts under this incarnation from here on.
    Acting(Incarnation),
    Command {
        node: NodeId,
        command: Command,
    },
    /// With a node that the client would rather not be sent to.
    Lookup(RoomKey, Option<NodeId>),
    /// Where the room is: the ticket. None: nowhere at the moment.
    Found(Option<Ticket>),
    Knock(Ticket),
    /// Whether the door let somebody in.
    Knocked(bool),
}

/// What a lookup is answered with, and what it proves at the door.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) room: RoomKey,
    pub(crate) node: NodeId,
    pub(crate) offer: Offer,
}

/// What the store is asked.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Node(NodeOperation),
    Read(RoomKey),
    Grant(Grant),
    Prolong {
        room: RoomKey,
        claim: Claim,
        ttl_ms: u64,
    },
    Leases(NodeId),
    Steer(Steer),
    Purge(NodeId, Run),
    /// Those that live.
    Schedulers,
    Watch,
}

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Node(NodeAnswer),
    Read(Option<Claim>),
    Granted(Granted, Expected),
    Prolonged(Prolonged),
    Leases(Vec<Lease>),
    Steered(Steered),
    Purged(Purged),
    Schedulers(Vec<String>),
    /// All that is there; changes follow under the request's number.
    Watching(Vec<Event>),
}
