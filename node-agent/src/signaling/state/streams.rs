//! Producers and consumers: who sends, who receives it, and the order in which that is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;

/// A stream that a participant sends.
#[derive(Debug)]
pub(in crate::signaling) struct Producer {
    pub(in crate::signaling) owner: ConnectionId,
    pub(in crate::signaling) transport: String,
    pub(in crate::signaling) kind: StreamKind,
    pub(in crate::signaling) app_data: Map<String, Value>,
    pub(in crate::signaling) paused: bool,
    /// Its consumers, by who has them.
    pub(in crate::signaling) consumers: BTreeMap<ConnectionId, String>,
}

/// A data channel that a participant sends.
#[derive(Debug)]
pub(in crate::signaling) struct DataProducer {
    pub(in crate::signaling) owner: ConnectionId,
    pub(in crate::signaling) transport: String,
    pub(in crate::signaling) label: String,
    pub(in crate::signaling) app_data: Map<String, Value>,
    pub(in crate::signaling) consumers: BTreeMap<ConnectionId, String>,
}

/// What to ask the media server for next, for one participant.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::signaling) enum Plan {
    Media { transport: String, producer: String, rtp_capabilities: Arc<Value> },
    Data { transport: String, producer: String },
}

/// What the media server made for a [`Plan::Media`].
#[derive(Debug)]
pub(in crate::signaling) struct MadeConsumer {
    pub(in crate::signaling) id: String,
    pub(in crate::signaling) transport: String,
    pub(in crate::signaling) producer: String,
    pub(in crate::signaling) kind: StreamKind,
    pub(in crate::signaling) rtp_parameters: Value,
    pub(in crate::signaling) consumer_type: String,
    pub(in crate::signaling) score: Value,
}

/// What the media server made for a [`Plan::Data`].
#[derive(Debug)]
pub(in crate::signaling) struct MadeDataConsumer {
    pub(in crate::signaling) id: String,
    pub(in crate::signaling) transport: String,
    pub(in crate::signaling) producer: String,
    pub(in crate::signaling) sctp_stream_parameters: Value,
    pub(in crate::signaling) label: String,
    pub(in crate::signaling) protocol: String,
}

impl State {
    /// Whether the participant may produce on this transport.
    pub(in crate::signaling) fn may_produce(&self, connection: ConnectionId, transport: &str) -> Result<(), Refusal> {
        let peer = self.producing_peer(connection, transport)?;
        if peer.producers.len() < PRODUCERS { Ok(()) } else { Err(limit("producers", PRODUCERS)) }
    }

    /// Whether the participant may produce data on this transport.
    pub(in crate::signaling) fn may_produce_data(
        &self,
        connection: ConnectionId,
        transport: &str,
    ) -> Result<(), Refusal> {
        let peer = self.producing_peer(connection, transport)?;
        if peer.data_producers.len() < PRODUCERS { Ok(()) } else { Err(limit("data producers", PRODUCERS)) }
    }

    /// The media server made a producer: the others are to consume it.
    pub(in crate::signaling) fn produced(&mut self, id: &str, producer: Producer) -> Result<Vec<Effect>, Refusal> {
        let owner = producer.owner;
        self.may_produce(owner, &producer.transport)?;
        self.peer_mut(owner)?.producers.insert(id.to_owned());
        self.producers.insert(id.to_owned(), producer);
        Ok(self.want(owner, &Want::Media(id.to_owned())))
    }

    /// The media server made a data producer: the others are to consume it, unless it is meant for a bot.
    pub(in crate::signaling) fn data_produced(
        &mut self,
        id: &str,
        producer: DataProducer,
    ) -> Result<Vec<Effect>, Refusal> {
        let owner = producer.owner;
        self.may_produce_data(owner, &producer.transport)?;
        self.peer_mut(owner)?.data_producers.insert(id.to_owned());
        let for_bot = producer.is_for_bot();
        self.data_producers.insert(id.to_owned(), producer);
        Ok(if for_bot { Vec::new() } else { self.want(owner, &Want::Data(id.to_owned())) })
    }

    /// The participant closes one of its producers; its consumers are told.
    pub(in crate::signaling) fn close_producer(
        &mut self,
        connection: ConnectionId,
        id: &str,
    ) -> Result<Vec<Effect>, Refusal> {
        self.owns(connection, &Object::Producer(id.to_owned()))?;
        let mut effects = Vec::new();
        self.drop_producer(id, &mut effects);
        effects.push(Effect::Close(Object::Producer(id.to_owned())));
        Ok(effects)
    }

    /// The participant pauses or resumes one of its producers; its consumers are told.
    pub(in crate::signaling) fn set_producer_paused(
        &mut self,
        connection: ConnectionId,
        id: &str,
        paused: bool,
    ) -> Result<Vec<Effect>, Refusal> {
        self.owns(connection, &Object::Producer(id.to_owned()))?;
        let mut effects = Vec::new();
        if let Some(producer) = self.producers.get_mut(id) {
            producer.paused = paused;
            for consumer in producer.consumers.values().cloned().collect::<Vec<_>>() {
                self.tell_paused(&consumer, paused, &mut effects);
            }
        }
        Ok(effects)
    }

    /// What the participant is to consume next; none when it has all, or cannot receive.
    pub(in crate::signaling) fn next_want(&mut self, connection: ConnectionId) -> Option<Plan> {
        let peer = self.peers.get_mut(&connection)?;
        let transport = peer.consuming.clone()?;
        while let Some(want) = peer.wants.pop_front() {
            let capabilities = peer.joined.as_ref()?.rtp_capabilities.clone();
            match (want, capabilities) {
                (Want::Media(producer), Some(rtp_capabilities)) => {
                    return Some(Plan::Media { transport, producer, rtp_capabilities });
                }
                (Want::Data(producer), _) => return Some(Plan::Data { transport, producer }),
                (Want::Media(_), None) => {}
            }
        }
        None
    }

    /// The media server made a consumer: what `newConsumer` says of it. None if it is not wanted any more.
    pub(in crate::signaling) fn consumer_made(
        &mut self,
        connection: ConnectionId,
        made: MadeConsumer,
    ) -> Option<Value> {
        let producer = self.producers.get_mut(&made.producer)?;
        let sender = self.peers.get(&producer.owner)?.id.clone();
        let peer = self.peers.get_mut(&connection).filter(|peer| peer.transports.contains(&made.transport))?;
        if producer.consumers.contains_key(&connection) {
            return None;
        }
        let data = json!({
            "peerId": sender, "producerId": made.producer, "id": made.id, "consumerId": made.id,
            "transportId": made.transport, "kind": made.kind, "rtpParameters": made.rtp_parameters,
            "type": made.consumer_type, "producerPaused": producer.paused, "consumerScore": made.score,
            "appData": answer::consumer_app_data(&sender, producer.kind, &producer.app_data),
        });
        producer.consumers.insert(connection, made.id.clone());
        peer.consumers.insert(made.id.clone());
        let consumer = Consumer {
            owner: connection,
            transport: made.transport,
            producer: made.producer,
            offered_paused: producer.paused,
            told_paused: producer.paused,
            declined: false,
            score: made.score,
        };
        self.consumers.insert(made.id, consumer);
        Some(data)
    }

    /// The media server made a data consumer: what `newDataConsumer` says of it. None if it is not wanted any more.
    pub(in crate::signaling) fn data_consumer_made(
        &mut self,
        connection: ConnectionId,
        made: MadeDataConsumer,
    ) -> Option<Value> {
        let producer = self.data_producers.get_mut(&made.producer)?;
        let sender = self.peers.get(&producer.owner)?.id.clone();
        let peer = self.peers.get_mut(&connection).filter(|peer| peer.transports.contains(&made.transport))?;
        if producer.consumers.contains_key(&connection) {
            return None;
        }
        let data = json!({
            "peerId": sender, "dataProducerId": made.producer, "id": made.id, "dataConsumerId": made.id,
            "transportId": made.transport, "sctpStreamParameters": made.sctp_stream_parameters,
            "label": made.label, "protocol": made.protocol,
            "appData": answer::data_consumer_app_data(&sender, &producer.label, &producer.app_data),
        });
        producer.consumers.insert(connection, made.id.clone());
        peer.data_consumers.insert(made.id.clone());
        let consumer = DataConsumer { owner: connection, transport: made.transport, producer: made.producer };
        self.data_consumers.insert(made.id, consumer);
        Some(data)
    }

    /// The participant has taken a consumer. What happened to it while it was being offered is told again: a client
    /// ignores what it hears of a consumer that it doesn't have yet. False if the consumer is gone.
    pub(in crate::signaling) fn consumer_accepted(&mut self, owner: ConnectionId, id: &str) -> (bool, Vec<Effect>) {
        let Some(consumer) = self.consumers.get(id) else {
            return (false, vec![tell(owner, "consumerClosed", json!({ "consumerId": id }))]);
        };
        let mut effects = vec![tell(owner, "consumerScore", json!({ "consumerId": id, "score": consumer.score }))];
        if consumer.told_paused != consumer.offered_paused {
            effects.push(tell(owner, paused_method(consumer.told_paused), json!({ "consumerId": id })));
        }
        (true, effects)
    }

    /// The participant pauses or resumes one of its consumers.
    pub(in crate::signaling) fn set_declined(
        &mut self,
        connection: ConnectionId,
        id: &str,
        declined: bool,
    ) -> Result<(), Refusal> {
        self.owns(connection, &Object::Consumer(id.to_owned()))?;
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.declined = declined;
        }
        Ok(())
    }

    /// Whether the participant has paused a consumer, which may happen before it flows.
    pub(in crate::signaling) fn is_declined(&self, id: &str) -> bool {
        self.consumers.get(id).is_some_and(|consumer| consumer.declined)
    }

    /// As [`Self::consumer_accepted`], for a data consumer.
    pub(in crate::signaling) fn data_consumer_accepted(&mut self, owner: ConnectionId, id: &str) -> Vec<Effect> {
        if self.data_consumers.contains_key(id) {
            return Vec::new();
        }
        vec![tell(owner, "dataConsumerClosed", json!({ "dataConsumerId": id }))]
    }

    /// The participant did not take what it was offered.
    pub(in crate::signaling) fn offer_refused(&mut self, what: &Object) -> Vec<Effect> {
        let mut effects = Vec::new();
        match what {
            Object::Consumer(id) => self.drop_consumer(id, &mut effects),
            Object::DataConsumer(id) => self.drop_data_consumer(id, &mut effects),
            Object::Transport(_) | Object::Producer(_) | Object::DataProducer(_) => {}
        }
        if !effects.is_empty() {
            effects.push(Effect::Close(what.clone()));
        }
        effects
    }

    /// Everything in the room that the participant does not consume.
    pub(super) fn want_all(&mut self, connection: ConnectionId, effects: &mut Vec<Effect>) {
        let Some(peer) = self.peers.get_mut(&connection) else { return };
        if !peer.receives() {
            return;
        }
        let media = self.producers.iter().filter(|(_, made)| made.is_new_to(connection));
        let data = self.data_producers.iter().filter(|(_, made)| made.is_new_to(connection));
        let wants = media.map(|(id, _)| Want::Media(id.clone())).chain(data.map(|(id, _)| Want::Data(id.clone())));
        peer.wants = wants.collect();
        if !peer.wants.is_empty() {
            effects.push(Effect::Wake(connection));
        }
    }

    pub(super) fn drop_producer(&mut self, id: &str, effects: &mut Vec<Effect>) {
        let Some(producer) = self.producers.remove(id) else { return };
        effects.push(Effect::Forget(id.to_owned()));
        if let Some(peer) = self.peers.get_mut(&producer.owner) {
            peer.producers.remove(id);
        }
        self.unwant(&Want::Media(id.to_owned()));
        for (owner, consumer) in producer.consumers {
            self.drop_consumer(&consumer, effects);
            effects.push(tell(owner, "consumerClosed", json!({ "consumerId": consumer })));
        }
    }

    pub(super) fn drop_data_producer(&mut self, id: &str, effects: &mut Vec<Effect>) {
        let Some(producer) = self.data_producers.remove(id) else { return };
        effects.push(Effect::Forget(id.to_owned()));
        if let Some(peer) = self.peers.get_mut(&producer.owner) {
            peer.data_producers.remove(id);
        }
        self.unwant(&Want::Data(id.to_owned()));
        for (owner, consumer) in producer.consumers {
            self.drop_data_consumer(&consumer, effects);
            effects.push(tell(owner, "dataConsumerClosed", json!({ "dataConsumerId": consumer })));
        }
    }

    /// Without telling its owner.
    pub(super) fn drop_consumer(&mut self, id: &str, effects: &mut Vec<Effect>) {
        let Some(consumer) = self.consumers.remove(id) else { return };
        effects.push(Effect::Forget(id.to_owned()));
        if let Some(producer) = self.producers.get_mut(&consumer.producer) {
            producer.consumers.remove(&consumer.owner);
        }
        if let Some(peer) = self.peers.get_mut(&consumer.owner) {
            peer.consumers.remove(id);
        }
    }

    /// Without telling its owner.
    pub(super) fn drop_data_consumer(&mut self, id: &str, effects: &mut Vec<Effect>) {
        let Some(consumer) = self.data_consumers.remove(id) else { return };
        effects.push(Effect::Forget(id.to_owned()));
        if let Some(producer) = self.data_producers.get_mut(&consumer.producer) {
            producer.consumers.remove(&consumer.owner);
        }
        if let Some(peer) = self.peers.get_mut(&consumer.owner) {
            peer.data_consumers.remove(id);
        }
    }

    /// Tells a consumer's owner that its producer was paused or resumed, unless it knows.
    pub(super) fn tell_paused(&mut self, id: &str, paused: bool, effects: &mut Vec<Effect>) {
        let Some(consumer) = self.consumers.get_mut(id).filter(|consumer| consumer.told_paused != paused) else {
            return;
        };
        consumer.told_paused = paused;
        effects.push(tell(consumer.owner, paused_method(paused), json!({ "consumerId": id })));
    }

    /// All who receive, but for the sender, are to consume something new.
    fn want(&mut self, sender: ConnectionId, want: &Want) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (&connection, peer) in &mut self.peers {
            if connection != sender && peer.receives() {
                peer.wants.push_back(want.clone());
                effects.push(Effect::Wake(connection));
            }
        }
        effects
    }

    fn unwant(&mut self, gone: &Want) {
        for peer in self.peers.values_mut() {
            peer.wants.retain(|want| want != gone);
        }
    }

    fn producing_peer(&self, connection: ConnectionId, transport: &str) -> Result<&Peer, Refusal> {
        let peer = self.peer(connection)?;
        if peer.joined.is_none() {
            return Err(not_joined());
        }
        self.owns(connection, &Object::Transport(transport.to_owned()))?;
        Ok(peer)
    }
}

fn paused_method(paused: bool) -> &'static str {
    if paused { "consumerPaused" } else { "consumerResumed" }
}

impl Peer {
    fn receives(&self) -> bool {
        self.joined.is_some() && self.consuming.is_some()
    }
}

impl Producer {
    fn is_new_to(&self, connection: ConnectionId) -> bool {
        self.owner != connection && !self.consumers.contains_key(&connection)
    }
}

impl DataProducer {
    fn is_new_to(&self, connection: ConnectionId) -> bool {
        self.owner != connection && !self.consumers.contains_key(&connection) && !self.is_for_bot()
    }

    /// A bot on the server is the only one who would listen.
    fn is_for_bot(&self) -> bool {
        self.label == "bot" || self.app_data.get("channel").and_then(Value::as_str) == Some("bot")
    }
}
