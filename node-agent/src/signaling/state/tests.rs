//! Who is told what, and in which order, as tables.

use proptest::prelude::*;

use super::*;
use crate::signaling::request::Profile;

#[test]
fn a_peer_is_announced_before_its_streams_and_told_of_those_that_are_there() {
    let mut room = Room::default();
    room.enter(1, "ann");
    room.enter(2, "bob");
    assert_eq!(room.join(1), (json!({"peers": []}), vec![]));
    assert_eq!(room.produce(1, "p1"), Vec::<String>::new(), "nobody receives yet");
    let (answer, told) = room.join(2);
    assert_eq!(answer["peers"][0]["id"], "ann");
    assert_eq!(told, ["1 newPeer"], "no transport receives yet");
    assert_eq!(room.receive(2, "t2"), ["wake 2"]);
    assert_eq!(room.wants(2), ["p1"]);
    room.receive(1, "t1");
    assert_eq!(room.produce(2, "p2"), ["wake 1"]);
    assert_eq!(room.wants(1), ["p2"]);
    assert_eq!(room.wants(2), Vec::<String>::new(), "its own is not for it");
}

#[test]
fn leaving_tells_the_others_everything_once_and_forgets_all() {
    let mut room = Room::with_two();
    room.produce(1, "p1");
    room.consume(2, "t2", "p1", "c1");
    let left = room.state.leave(1);
    let told: Vec<_> = left.iter().map(text).collect();
    let expected =
        ["forget t1", "forget p1", "forget c1", "2 consumerClosed", "close Transport(\"t1\")", "2 peerClosed"];
    assert_eq!(told, expected);
    assert_eq!(room.state.leave(1), vec![]);
    assert_eq!(room.state.counts(), (1, 0, 0));
    room.state.leave(2);
    assert_eq!(format!("{:?}", room.state), format!("{:?}", State::default()));
}

#[test]
fn the_same_peer_again_is_gone_before_it_is_there() {
    let mut room = Room::with_two();
    room.produce(1, "p1");
    let told: Vec<_> = room.state.enter(3, PeerId::new("ann").expect("valid")).iter().map(text).collect();
    assert_eq!(told, ["replaced 1", "forget t1", "forget p1", "close Transport(\"t1\")", "2 peerClosed"]);
    assert!(room.state.may_produce(1, "t1").is_err(), "the connection before it can do nothing any more");
    assert_eq!(room.state.leave(1), vec![], "and its end changes nothing");
    assert_eq!(room.join(3).1, ["2 newPeer"]);
}

#[test]
fn what_happens_to_a_consumer_while_it_is_offered_is_told_again() {
    let mut room = Room::with_two();
    room.produce(1, "p1");
    room.consume(2, "t2", "p1", "c1");
    room.state.set_producer_paused(1, "p1", true).expect("is its own");
    let (there, effects) = room.state.consumer_accepted(2, "c1");
    assert!(there);
    assert_eq!(effects.iter().map(text).collect::<Vec<_>>(), ["2 consumerScore", "2 consumerPaused"]);
    room.state.close_producer(1, "p1").expect("is its own");
    let (there, effects) = room.state.consumer_accepted(2, "c1");
    assert!(!there);
    assert_eq!(effects.iter().map(text).collect::<Vec<_>>(), ["2 consumerClosed"]);
}

#[test]
fn what_the_media_server_made_too_late_is_not_offered() {
    let mut room = Room::with_two();
    room.produce(1, "p1");
    assert!(room.consume(2, "t2", "p1", "c1").is_some());
    assert!(room.consume(2, "t2", "p1", "c2").is_none(), "it has one already");
    assert!(room.consume(2, "t9", "p1", "c3").is_none(), "on a transport that is gone");
    room.state.close_producer(1, "p1").expect("is its own");
    assert!(room.consume(2, "t2", "p1", "c4").is_none(), "of a producer that is gone");
    room.produce(1, "p5");
    room.state.leave(2);
    assert!(room.consume(2, "t2", "p5", "c5").is_none(), "for a peer that is gone");
}

#[test]
fn who_has_no_capabilities_consumes_data_only() {
    let mut room = Room::default();
    room.enter(1, "ann");
    room.enter(2, "bob");
    room.join(1);
    room.receive(1, "t1");
    let profile = Profile { display_name: String::new(), device: json!({}), rtp_capabilities: None };
    room.state.join(2, profile).expect("not joined");
    room.receive(2, "t2");
    room.produce(1, "p1");
    let data = |label: &str| DataProducer {
        owner: 1,
        transport: "t1".to_owned(),
        label: label.to_owned(),
        app_data: Map::new(),
        consumers: BTreeMap::new(),
    };
    room.state.data_produced("chat", data("chat")).expect("may");
    room.state.data_produced("bot", data("bot")).expect("may");
    assert_eq!(room.wants(2), ["chat"]);
}

proptest! {
    #[test]
    fn whatever_participants_do_nothing_is_left_when_all_are_gone(steps in proptest::collection::vec(step(), 0..80)) {
        let mut room = Room::default();
        let mut forgotten = BTreeSet::new();
        let mut known = BTreeSet::new();
        for (count, (what, connection, other)) in steps.into_iter().enumerate() {
            let id = format!("{what}{count}");
            let effects = room.random(what, connection, other, &id, &mut known);
            forgotten.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::Forget(id) => Some(id),
                _ => None,
            }));
        }
        for connection in 0..8 {
            forgotten.extend(room.state.leave(connection).into_iter().filter_map(|effect| match effect {
                Effect::Forget(id) => Some(id),
                _ => None,
            }));
        }
        prop_assert_eq!(format!("{:?}", room.state), format!("{:?}", State::default()));
        prop_assert_eq!(known, forgotten, "everything that was made is forgotten");
    }
}

fn step() -> impl Strategy<Value = (u8, ConnectionId, ConnectionId)> {
    (0_u8..9, 0_u64..8, 0_u64..8)
}

/// A room that is driven without checking what follows.
#[derive(Default)]
struct Room {
    state: State,
}

impl Room {
    /// Two who joined and receive on `t1` and `t2`.
    fn with_two() -> Self {
        let mut room = Self::default();
        for (connection, peer) in [(1, "ann"), (2, "bob")] {
            room.enter(connection, peer);
            room.join(connection);
            room.receive(connection, &format!("t{connection}"));
        }
        room
    }

    fn enter(&mut self, connection: ConnectionId, peer: &str) {
        assert_eq!(self.state.enter(connection, PeerId::new(peer).expect("valid")), vec![]);
    }

    fn join(&mut self, connection: ConnectionId) -> (Value, Vec<String>) {
        let (answer, effects) = self.state.join(connection, profile()).expect("not joined");
        (answer, effects.iter().map(text).collect())
    }

    fn receive(&mut self, connection: ConnectionId, transport: &str) -> Vec<String> {
        let effects = self.state.transport_made(connection, transport, true).expect("there is room for it");
        effects.iter().map(text).collect()
    }

    fn produce(&mut self, connection: ConnectionId, id: &str) -> Vec<String> {
        let transport = format!("t{connection}");
        if self.state.owns(connection, &Object::Transport(transport.clone())).is_err() {
            self.state.transport_made(connection, &transport, false).expect("there is room for it");
        }
        let effects = self.state.produced(id, producer(connection, transport)).expect("may");
        effects.iter().map(text).collect()
    }

    fn consume(&mut self, connection: ConnectionId, transport: &str, producer: &str, id: &str) -> Option<Value> {
        self.state.consumer_made(connection, made(transport, producer, id))
    }

    fn wants(&mut self, connection: ConnectionId) -> Vec<String> {
        let plans = std::iter::from_fn(|| self.state.next_want(connection));
        plans
            .map(|plan| match plan {
                Plan::Media { producer, .. } | Plan::Data { producer, .. } => producer,
            })
            .collect()
    }

    /// Does one thing, whether it is allowed or not.
    fn random(
        &mut self,
        what: u8,
        connection: ConnectionId,
        other: ConnectionId,
        id: &str,
        known: &mut BTreeSet<String>,
    ) -> Vec<Effect> {
        let transport = self.state.transports.iter().find(|(_, owner)| **owner == connection).map(|(id, _)| id.clone());
        let produced =
            self.state.producers.keys().nth(usize::try_from(other).unwrap_or(0)).cloned().unwrap_or_default();
        let done = match what {
            // A connection enters once.
            0 | 1 if self.state.peers.contains_key(&connection) => Ok(vec![]),
            0 | 1 => Ok(self.state.enter(connection, PeerId::new(format!("peer{other}")).expect("valid"))),
            2 => self.state.join(connection, profile()).map(|(_, effects)| effects),
            3 => self
                .state
                .transport_made(connection, id, other.is_multiple_of(2))
                .inspect(|_| known.extend([id.to_owned()])),
            4 => self
                .state
                .produced(id, producer(connection, transport.unwrap_or_default()))
                .inspect(|_| known.extend([id.to_owned()])),
            5 => {
                if self.consume(connection, &transport.unwrap_or_default(), &produced, id).is_some() {
                    known.insert(id.to_owned());
                }
                Ok(vec![])
            }
            6 => self.state.close_producer(connection, &produced),
            7 => Ok(self
                .state
                .hear(roost_proto::media::MediaEvent::TransportClosed { transport: transport.unwrap_or_default() })),
            _ => Ok(self.state.leave(connection)),
        };
        done.unwrap_or_default()
    }
}

fn profile() -> Profile {
    let rtp_capabilities = Some(std::sync::Arc::new(json!({})));
    Profile { display_name: "name".to_owned(), device: json!({}), rtp_capabilities }
}

fn producer(owner: ConnectionId, transport: String) -> Producer {
    let (kind, app_data, consumers) = (StreamKind::Audio, Map::new(), BTreeMap::new());
    Producer { owner, transport, kind, app_data, paused: false, consumers }
}

fn made(transport: &str, producer: &str, id: &str) -> MadeConsumer {
    MadeConsumer {
        id: id.to_owned(),
        transport: transport.to_owned(),
        producer: producer.to_owned(),
        kind: StreamKind::Audio,
        rtp_parameters: json!({}),
        consumer_type: "simple".to_owned(),
        score: json!({}),
    }
}

fn text(effect: &Effect) -> String {
    match effect {
        Effect::Tell { to, method, .. } => {
            let to: Vec<_> = to.iter().map(ToString::to_string).collect();
            format!("{} {method}", to.join("+"))
        }
        Effect::Wake(connection) => format!("wake {connection}"),
        Effect::Replaced(connection) => format!("replaced {connection}"),
        Effect::Forget(id) => format!("forget {id}"),
        Effect::Close(object) => format!("close {object:?}"),
    }
}
