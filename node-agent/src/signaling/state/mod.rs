//! The bookkeeping of one room, without I/O: who is there, who sends what, who receives it, and who is told what, in
//! which order. Every change gives its effects, oldest first; they must be carried out in that order.

mod news;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roost_proto::id::PeerId;
use roost_proto::media::{Object, StreamKind};
use roost_proto::signaling::Refusal;
use serde_json::{Map, Value, json};

pub(super) use self::streams::{DataProducer, MadeConsumer, MadeDataConsumer, Plan, Producer};
use super::answer;
use super::request::Profile;

/// One WebSocket of one participant; unlike any other of this process.
pub(super) type ConnectionId = u64;

/// How many transports a peer may have.
pub(super) const TRANSPORTS: usize = 8;
/// How many producers, and how many data producers, a peer may have.
pub(super) const PRODUCERS: usize = 32;

/// What follows from a change.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// A notification to these participants.
    Tell { to: Vec<ConnectionId>, method: &'static str, data: Value },
    /// There may be more for it to consume: [`State::next_want`].
    Wake(ConnectionId),
    /// The same peer came again; close the connection that it had.
    Replaced(ConnectionId),
    /// Nothing more will be heard of an object of this id.
    Forget(String),
    /// The media server still has it.
    Close(Object),
}

/// A room as its participants make it.
#[derive(Debug, Default)]
pub(super) struct State {
    peers: BTreeMap<ConnectionId, Peer>,
    names: BTreeMap<PeerId, ConnectionId>,
    transports: BTreeMap<String, ConnectionId>,
    producers: BTreeMap<String, Producer>,
    data_producers: BTreeMap<String, DataProducer>,
    consumers: BTreeMap<String, Consumer>,
    data_consumers: BTreeMap<String, DataConsumer>,
    /// How many of the peers have joined.
    joined: usize,
    /// The media server names a dominant speaker itself.
    names_speaker: bool,
}

#[derive(Debug)]
struct Peer {
    id: PeerId,
    second_generation: bool,
    joined: Option<Profile>,
    transports: BTreeSet<String>,
    /// A transport was made for it, which may be gone by now.
    arrived: bool,
    /// The transport that receives.
    consuming: Option<String>,
    producers: BTreeSet<String>,
    data_producers: BTreeSet<String>,
    consumers: BTreeSet<String>,
    data_consumers: BTreeSet<String>,
    wants: VecDeque<Want>,
}

/// A producer that a peer is still to consume.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    Media(String),
    Data(String),
}

#[derive(Debug)]
struct Consumer {
    owner: ConnectionId,
    transport: String,
    producer: String,
    /// Whether it was paused when it was offered.
    offered_paused: bool,
    /// What its participant was told last.
    told_paused: bool,
    /// Its participant does not want it for now.
    declined: bool,
    score: Value,
}

#[derive(Debug)]
struct DataConsumer {
    owner: ConnectionId,
    transport: String,
    producer: String,
}

impl State {
    /// Whether the peer is here with a later connection already. Connections are numbered in the order in which they came,
    /// but one may be at the door for longer than the next.
    pub(super) fn is_outdated(&self, connection: ConnectionId, id: &PeerId) -> bool {
        self.names.get(id).is_some_and(|&there| there > connection)
    }

    /// A participant connects. One that has the same peer id is gone first.
    pub(super) fn enter(&mut self, connection: ConnectionId, id: PeerId) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(&before) = self.names.get(&id) {
            effects.push(Effect::Replaced(before));
            effects.extend(self.leave(before));
        }
        self.names.insert(id.clone(), connection);
        let peer = Peer {
            id,
            second_generation: false,
            joined: None,
            transports: BTreeSet::new(),
            arrived: false,
            consuming: None,
            producers: BTreeSet::new(),
            data_producers: BTreeSet::new(),
            consumers: BTreeSet::new(),
            data_consumers: BTreeSet::new(),
            wants: VecDeque::new(),
        };
        self.peers.insert(connection, peer);
        effects
    }

    /// A participant goes, with all it has. Nothing follows if it is gone already.
    pub(super) fn leave(&mut self, connection: ConnectionId) -> Vec<Effect> {
        let Some(peer) = self.peers.get(&connection) else { return Vec::new() };
        let mut effects = Vec::new();
        for transport in peer.transports.clone() {
            self.drop_transport(&transport, &mut effects);
            effects.push(Effect::Close(Object::Transport(transport)));
        }
        let Some(peer) = self.peers.remove(&connection) else { return effects };
        self.names.remove(&peer.id);
        if peer.joined.is_some() {
            self.joined -= 1;
            self.tell_joined(connection, "peerClosed", json!({ "peerId": peer.id }), &mut effects);
        }
        effects
    }

    /// Forgets everybody and everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many peers have joined, and how many producers and consumers of media they have.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.joined, self.producers.len(), self.consumers.len())
    }

    pub(super) fn has_joined(&self, connection: ConnectionId) -> bool {
        self.peers.get(&connection).is_some_and(|peer| peer.joined.is_some())
    }

    /// The participant speaks the newer generation.
    pub(super) fn mark_second_generation(&mut self, connection: ConnectionId) {
        if let Some(peer) = self.peers.get_mut(&connection) {
            peer.second_generation = true;
        }
    }

    pub(super) fn is_second_generation(&self, connection: ConnectionId) -> bool {
        self.peers.get(&connection).is_some_and(|peer| peer.second_generation)
    }

    /// Whether there is room for one more transport.
    pub(super) fn may_make_transport(&self, connection: ConnectionId) -> Result<(), Refusal> {
        let count = self.peer(connection)?.transports.len();
        if count < TRANSPORTS { Ok(()) } else { Err(limit("transports", TRANSPORTS)) }
    }

    /// Whether the participant is inside: it got a transport while the node held the room (rule 5). Whoever is inside is
    /// admitted no more, so that its session goes on whatever becomes of the node's lease.
    pub(super) fn has_arrived(&self, connection: ConnectionId) -> bool {
        self.peers.get(&connection).is_some_and(|peer| peer.arrived)
    }

    /// The media server made a transport.
    pub(super) fn transport_made(
        &mut self,
        connection: ConnectionId,
        id: &str,
        consuming: bool,
    ) -> Result<Vec<Effect>, Refusal> {
        self.may_make_transport(connection)?;
        let peer = self.peer_mut(connection)?;
        peer.transports.insert(id.to_owned());
        peer.arrived = true;
        let first = consuming && peer.consuming.is_none();
        if first {
            peer.consuming = Some(id.to_owned());
        }
        self.transports.insert(id.to_owned(), connection);
        let mut effects = Vec::new();
        if first {
            self.want_all(connection, &mut effects);
        }
        Ok(effects)
    }

    /// The participant joins: the others hear of it, it hears of them, and then consumes what they produce.
    /// The value is the answer, which goes out before the effects.
    pub(super) fn join(&mut self, connection: ConnectionId, profile: Profile) -> Result<(Value, Vec<Effect>), Refusal> {
        let peer = self.peer(connection)?;
        if peer.joined.is_some() {
            return Err(Refusal { code: 400, reason: "the peer has joined already".to_owned() });
        }
        let there = self.peers.values().filter_map(|other| Some(answer::peer(&other.id, other.joined.as_ref()?)));
        let data = json!({ "peers": there.collect::<Vec<_>>() });
        let mut effects = Vec::new();
        self.tell_joined(connection, "newPeer", answer::new_peer(&peer.id, &profile), &mut effects);
        self.peer_mut(connection)?.joined = Some(profile);
        self.joined += 1;
        self.want_all(connection, &mut effects);
        Ok((data, effects))
    }

    /// The peer is called otherwise from here on.
    pub(super) fn rename(&mut self, connection: ConnectionId, name: String) -> Result<Vec<Effect>, Refusal> {
        let peer = self.peer_mut(connection)?;
        let profile = peer.joined.as_mut().ok_or_else(not_joined)?;
        let before = std::mem::replace(&mut profile.display_name, name.clone());
        let data = json!({ "peerId": peer.id, "displayName": name, "oldDisplayName": before });
        let mut effects = Vec::new();
        self.tell_joined(connection, "peerDisplayNameChanged", data, &mut effects);
        Ok(effects)
    }

    /// Whether the object is the participant's own: 403 for another's, 404 for one that does not exist.
    pub(super) fn owns(&self, connection: ConnectionId, what: &Object) -> Result<(), Refusal> {
        let (owner, name) = match what {
            Object::Transport(id) => (self.transports.get(id).copied(), "transport"),
            Object::Producer(id) => (self.producers.get(id).map(|made| made.owner), "producer"),
            Object::DataProducer(id) => (self.data_producers.get(id).map(|made| made.owner), "data producer"),
            Object::Consumer(id) => (self.consumers.get(id).map(|made| made.owner), "consumer"),
            Object::DataConsumer(id) => (self.data_consumers.get(id).map(|made| made.owner), "data consumer"),
        };
        match owner {
            Some(owner) if owner == connection => Ok(()),
            Some(_) => Err(Refusal { code: 403, reason: format!("the {name} is another peer's") }),
            None => Err(Refusal { code: 404, reason: format!("no such {name}") }),
        }
    }

    /// A transport is gone, with all that was on it.
    fn drop_transport(&mut self, id: &str, effects: &mut Vec<Effect>) {
        let Some(connection) = self.transports.remove(id) else { return };
        effects.push(Effect::Forget(id.to_owned()));
        let Some(peer) = self.peers.get_mut(&connection) else { return };
        peer.transports.remove(id);
        if peer.consuming.as_deref() == Some(id) {
            peer.consuming = None;
        }
        let (consumers, data_consumers) = (peer.consumers.clone(), peer.data_consumers.clone());
        let (producers, data_producers) = (peer.producers.clone(), peer.data_producers.clone());
        for consumer in consumers {
            if self.consumers.get(&consumer).is_some_and(|made| made.transport == id) {
                self.drop_consumer(&consumer, effects);
            }
        }
        for consumer in data_consumers {
            if self.data_consumers.get(&consumer).is_some_and(|made| made.transport == id) {
                self.drop_data_consumer(&consumer, effects);
            }
        }
        for producer in producers {
            if self.producers.get(&producer).is_some_and(|made| made.transport == id) {
                self.drop_producer(&producer, effects);
            }
        }
        for producer in data_producers {
            if self.data_producers.get(&producer).is_some_and(|made| made.transport == id) {
                self.drop_data_producer(&producer, effects);
            }
        }
    }

    /// Tells all who have joined, but for one.
    fn tell_joined(&self, but: ConnectionId, method: &'static str, data: Value, effects: &mut Vec<Effect>) {
        let joined = self.peers.iter().filter(|(connection, peer)| **connection != but && peer.joined.is_some());
        let to: Vec<_> = joined.map(|(connection, _)| *connection).collect();
        if !to.is_empty() {
            effects.push(Effect::Tell { to, method, data });
        }
    }

    fn peer(&self, connection: ConnectionId) -> Result<&Peer, Refusal> {
        self.peers.get(&connection).ok_or_else(gone)
    }

    fn peer_mut(&mut self, connection: ConnectionId) -> Result<&mut Peer, Refusal> {
        self.peers.get_mut(&connection).ok_or_else(gone)
    }
}

fn gone() -> Refusal {
    Refusal { code: 410, reason: "the participant is no longer in the room".to_owned() }
}

fn not_joined() -> Refusal {
    Refusal { code: 403, reason: "the peer has not joined".to_owned() }
}

fn limit(what: &str, most: usize) -> Refusal {
    Refusal { code: 429, reason: format!("{what}: at most {most} for a peer") }
}

fn tell(to: ConnectionId, method: &'static str, data: Value) -> Effect {
    Effect::Tell { to: vec![to], method, data }
}
