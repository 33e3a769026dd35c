//! One synthetic worker: rooms, transports, producers and consumers as a real one would keep them, without packets.

use std::collections::BTreeMap;

use roost_proto::id::RoomKey;
use roost_proto::media::{
    MediaError, MediaErrorCode, MediaEvent, MediaLoad, MediaReply, MediaRequest, Object, RoomLoad, StreamKind,
};
use serde_json::{Value, json};

use super::parameters;

/// What a worker holds. Requests change it and tell what follows from them.
#[derive(Debug, Default)]
pub(super) struct World {
    worker: u16,
    /// Capabilities by room.
    rooms: BTreeMap<RoomKey, Value>,
    transports: BTreeMap<String, Transport>,
    producers: BTreeMap<String, Producer>,
    consumers: BTreeMap<String, Consumer>,
    data_producers: BTreeMap<String, DataProducer>,
    /// Transport and data producer by data consumer.
    data_consumers: BTreeMap<String, (String, String)>,
    events: Vec<MediaEvent>,
}

#[derive(Debug)]
struct Transport {
    room: RoomKey,
    connected: bool,
}

#[derive(Debug)]
struct Producer {
    transport: String,
    kind: StreamKind,
    rtp_parameters: Value,
    producer_type: &'static str,
    paused: bool,
}

#[derive(Debug)]
struct Consumer {
    transport: String,
    producer: String,
    layered: bool,
}

#[derive(Debug)]
struct DataProducer {
    transport: String,
    stream: Value,
    label: String,
    protocol: String,
}

type Answer = Result<MediaReply, MediaError>;

impl World {
    pub(super) fn new(worker: u16) -> Self {
        Self { worker, ..Self::default() }
    }

    /// What happened since it was asked last, oldest first.
    pub(super) fn take_events(&mut self) -> Vec<MediaEvent> {
        std::mem::take(&mut self.events)
    }

    /// Carries out one request; `new_id` names what it makes, 36 characters at least.
    pub(super) fn handle(&mut self, request: MediaRequest, new_id: String) -> Answer {
        match request {
            MediaRequest::OpenRoom { room, codecs } => self.open_room(room, &codecs),
            MediaRequest::CloseRoom { room } => self.close_room(&room),
            MediaRequest::CreateTransport { room, force_tcp, .. } => self.create_transport(room, force_tcp, new_id),
            MediaRequest::ConnectTransport { transport, dtls_parameters } => {
                self.connect_transport(&transport, &dtls_parameters)
            }
            MediaRequest::RestartIce { transport } => {
                self.transport(&transport)?;
                Ok(MediaReply::Parameters(parameters::ice_parameters(&new_id)))
            }
            MediaRequest::CloseTransport { transport } => self.close(&Object::Transport(transport)),
            MediaRequest::Produce { transport, kind, rtp_parameters, paused } => {
                self.transport(&transport)?;
                let producer_type = parameters::producer_type(kind, &rtp_parameters)?;
                let producer = Producer { transport, kind, rtp_parameters, producer_type, paused };
                Ok(self.produce(producer, new_id))
            }
            MediaRequest::Consume { transport, producer, rtp_capabilities } => {
                self.consume(transport, producer, &rtp_capabilities, new_id)
            }
            MediaRequest::ProduceData { transport, sctp_stream_parameters, label, protocol } => {
                self.transport(&transport)?;
                let producer = DataProducer { transport, stream: sctp_stream_parameters, label, protocol };
                self.data_producers.insert(new_id.clone(), producer);
                Ok(MediaReply::DataProduced { id: new_id })
            }
            MediaRequest::ConsumeData { transport, data_producer } => {
                self.consume_data(transport, data_producer, new_id)
            }
            MediaRequest::Close { what } => self.close(&what),
            MediaRequest::Pause { what } => self.set_paused(&what, true),
            MediaRequest::Resume { what } => self.set_paused(&what, false),
            MediaRequest::SetPreferredLayers { consumer, spatial_layer, temporal_layer } => {
                let layers = json!({"spatialLayer": spatial_layer, "temporalLayer": temporal_layer.unwrap_or(0)});
                self.set_layers(&consumer, layers)
            }
            MediaRequest::SetPriority { consumer, .. } | MediaRequest::RequestKeyFrame { consumer } => {
                self.exists(&Object::Consumer(consumer)).map(|()| MediaReply::Done)
            }
            MediaRequest::GetStats { what } => self.stats(&what),
            MediaRequest::Describe => Ok(MediaReply::Described(self.describe())),
        }
    }

    fn open_room(&mut self, room: RoomKey, codecs: &Value) -> Answer {
        let rtp_capabilities = parameters::router_capabilities(codecs)?;
        let rtp_capabilities = self.rooms.entry(room).or_insert(rtp_capabilities).clone();
        Ok(MediaReply::Room { rtp_capabilities })
    }

    fn close_room(&mut self, room: &RoomKey) -> Answer {
        self.rooms.remove(room).ok_or_else(|| not_found("room"))?;
        let transports: Vec<_> =
            self.transports.iter().filter(|(_, made)| made.room == *room).map(|(id, _)| id.clone()).collect();
        for transport in transports {
            self.close(&Object::Transport(transport))?;
        }
        // Who was in the room is gone with it.
        self.events.clear();
        Ok(MediaReply::Done)
    }

    fn create_transport(&mut self, room: RoomKey, force_tcp: bool, id: String) -> Answer {
        if !self.rooms.contains_key(&room) {
            return Err(not_found("room"));
        }
        self.transports.insert(id.clone(), Transport { room, connected: false });
        Ok(MediaReply::Transport {
            ice_parameters: parameters::ice_parameters(&id),
            ice_candidates: parameters::ice_candidates(self.worker, force_tcp),
            dtls_parameters: parameters::dtls_parameters(&id),
            sctp_parameters: parameters::sctp_parameters(),
            id,
        })
    }

    fn connect_transport(&mut self, id: &str, dtls_parameters: &Value) -> Answer {
        let transport = self.transports.get_mut(id).ok_or_else(|| not_found("transport"))?;
        if !dtls_parameters["fingerprints"].is_array() {
            return Err(parameters::invalid("dtlsParameters fingerprints: expected a list"));
        }
        if std::mem::replace(&mut transport.connected, true) {
            return Err(parameters::invalid("the transport is connected already"));
        }
        Ok(MediaReply::Done)
    }

    fn produce(&mut self, producer: Producer, id: String) -> MediaReply {
        let producer_type = producer.producer_type.to_owned();
        self.producers.insert(id.clone(), producer);
        MediaReply::Produced { id, producer_type }
    }

    fn consume(&mut self, transport: String, producer: String, capabilities: &Value, id: String) -> Answer {
        let room = self.transport(&transport)?.room.clone();
        let source = self.producers.get(&producer).ok_or_else(|| not_found("producer"))?;
        if self.transport(&source.transport)?.room != room {
            return Err(not_found("producer"));
        }
        let rtp_parameters = parameters::consumer_parameters(&source.rtp_parameters, capabilities)?;
        let reply = MediaReply::Consumed {
            id: id.clone(),
            kind: source.kind,
            rtp_parameters,
            consumer_type: source.producer_type.to_owned(),
            producer_paused: source.paused,
            score: json!({"score": 10, "producerScore": 10, "producerScores": [10]}),
        };
        let layered = source.producer_type != "simple";
        self.consumers.insert(id, Consumer { transport, producer, layered });
        Ok(reply)
    }

    fn consume_data(&mut self, transport: String, producer: String, id: String) -> Answer {
        let room = self.transport(&transport)?.room.clone();
        let source = self.data_producers.get(&producer).ok_or_else(|| not_found("data producer"))?;
        if self.transport(&source.transport)?.room != room {
            return Err(not_found("data producer"));
        }
        let reply = MediaReply::DataConsumed {
            id: id.clone(),
            sctp_stream_parameters: source.stream.clone(),
            label: source.label.clone(),
            protocol: source.protocol.clone(),
        };
        self.data_consumers.insert(id, (transport, producer));
        Ok(reply)
    }

    /// Closes an object with all that hangs on it; consumers of a closed producer tell that they are gone.
    fn close(&mut self, what: &Object) -> Answer {
        self.exists(what)?;
        match what {
            Object::Transport(id) => self.close_transport(id),
            Object::Producer(id) => self.close_producer(id),
            Object::Consumer(id) => drop(self.consumers.remove(id)),
            Object::DataProducer(id) => self.close_data_producer(id),
            Object::DataConsumer(id) => drop(self.data_consumers.remove(id)),
        }
        Ok(MediaReply::Done)
    }

    fn close_transport(&mut self, id: &str) {
        self.transports.remove(id);
        self.consumers.retain(|_, consumer| consumer.transport != id);
        self.data_consumers.retain(|_, (transport, _)| transport != id);
        let producers: Vec<_> =
            self.producers.iter().filter(|(_, made)| made.transport == id).map(|(id, _)| id.clone()).collect();
        for producer in producers {
            self.close_producer(&producer);
        }
        let producers: Vec<_> =
            self.data_producers.iter().filter(|(_, made)| made.transport == id).map(|(id, _)| id.clone()).collect();
        for producer in producers {
            self.close_data_producer(&producer);
        }
    }

    fn close_producer(&mut self, id: &str) {
        self.producers.remove(id);
        let gone = self.consumers.extract_if(.., |_, consumer| consumer.producer == id);
        self.events.extend(gone.map(|(consumer, _)| MediaEvent::ConsumerClosed { consumer }));
    }

    fn close_data_producer(&mut self, id: &str) {
        self.data_producers.remove(id);
        let gone = self.data_consumers.extract_if(.., |_, (_, producer)| producer == id);
        self.events.extend(gone.map(|(data_consumer, _)| MediaEvent::DataConsumerClosed { data_consumer }));
    }

    fn set_paused(&mut self, what: &Object, paused: bool) -> Answer {
        self.exists(what)?;
        match what {
            Object::Producer(id) => {
                let before = self.producers.get_mut(id).map(|producer| std::mem::replace(&mut producer.paused, paused));
                let followers = self.consumers.iter().filter(|(_, consumer)| consumer.producer == *id);
                let told = followers.map(|(consumer, _)| consumer.clone()).map(|consumer| {
                    if paused {
                        MediaEvent::ConsumerPaused { consumer }
                    } else {
                        MediaEvent::ConsumerResumed { consumer }
                    }
                });
                if before != Some(paused) {
                    self.events.extend(told);
                }
            }
            Object::Consumer(id) if !paused => self.flow(id)?,
            Object::Consumer(_) => {}
            Object::Transport(_) | Object::DataProducer(_) | Object::DataConsumer(_) => {
                return Err(MediaError::new(MediaErrorCode::Unsupported, "this cannot be paused"));
            }
        }
        Ok(MediaReply::Done)
    }

    /// As if packets came from here on.
    fn flow(&mut self, consumer: &str) -> Result<(), MediaError> {
        if let Some(made) = self.consumers.get(consumer) {
            let producer = made.producer.clone();
            let score = json!([{"encodingIdx": 0, "ssrc": 100_000_001, "score": 10}]);
            self.events.push(MediaEvent::ProducerScore { producer, score });
            let score = json!({"score": 10, "producerScore": 10, "producerScores": [10]});
            self.events.push(MediaEvent::ConsumerScore { consumer: consumer.to_owned(), score });
        }
        self.set_layers(consumer, json!({"spatialLayer": 2, "temporalLayer": 2})).map(|_| ())
    }

    fn set_layers(&mut self, id: &str, layers: Value) -> Answer {
        let consumer = self.consumers.get(id).ok_or_else(|| not_found("consumer"))?;
        if consumer.layered {
            self.events.push(MediaEvent::ConsumerLayers { consumer: id.to_owned(), layers });
        }
        Ok(MediaReply::Done)
    }

    fn stats(&self, what: &Object) -> Answer {
        self.exists(what)?;
        let (kind, id) = match what {
            Object::Transport(id) => ("webrtc-transport", id),
            Object::Producer(id) => ("inbound-rtp", id),
            Object::Consumer(id) => ("outbound-rtp", id),
            Object::DataProducer(id) => ("data-producer", id),
            Object::DataConsumer(id) => ("data-consumer", id),
        };
        Ok(MediaReply::Stats(json!([{
            "type": kind, "synthetic": true, "id": id, "timestamp": 0, "bitrate": 0, "packetCount": 0, "byteCount": 0,
        }])))
    }

    pub(super) fn describe(&self) -> MediaLoad {
        let empty = |room: &RoomKey| RoomLoad { room: room.clone(), transports: 0, producers: 0, consumers: 0 };
        let mut rooms: BTreeMap<_, _> = self.rooms.keys().map(|room| (room, empty(room))).collect();
        for transport in self.transports.values() {
            rooms.entry(&transport.room).and_modify(|load| load.transports += 1);
        }
        let room = |transport: &String| self.transports.get(transport).map(|transport| &transport.room);
        for room in self.producers.values().filter_map(|producer| room(&producer.transport)) {
            rooms.entry(room).and_modify(|load| load.producers += 1);
        }
        for room in self.consumers.values().filter_map(|consumer| room(&consumer.transport)) {
            rooms.entry(room).and_modify(|load| load.consumers += 1);
        }
        MediaLoad { cpu_ms: 0, memory_bytes: 0, rooms: rooms.into_values().collect() }
    }

    fn transport(&self, id: &str) -> Result<&Transport, MediaError> {
        self.transports.get(id).ok_or_else(|| not_found("transport"))
    }

    fn exists(&self, what: &Object) -> Result<(), MediaError> {
        let (there, name) = match what {
            Object::Transport(id) => (self.transports.contains_key(id), "transport"),
            Object::Producer(id) => (self.producers.contains_key(id), "producer"),
            Object::Consumer(id) => (self.consumers.contains_key(id), "consumer"),
            Object::DataProducer(id) => (self.data_producers.contains_key(id), "data producer"),
            Object::DataConsumer(id) => (self.data_consumers.contains_key(id), "data consumer"),
        };
        if there { Ok(()) } else { Err(not_found(name)) }
    }
}

fn not_found(what: &str) -> MediaError {
    MediaError::new(MediaErrorCode::NotFound, format!("no such {what}"))
}
