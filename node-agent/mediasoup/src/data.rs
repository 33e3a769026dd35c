//! Data channels of a room: what participants send and receive as messages.

use std::collections::HashSet;

use mediasoup::prelude::*;
use roost_proto::media::{MediaError, MediaErrorCode, MediaEvent, MediaReply};
use serde_json::Value;

use crate::parameter::{self, invalid, not_found, refused, write};
use crate::producer::MAX_PRODUCERS;
use crate::room::Room;

/// A data producer, the transport it lives on, and who lives from it.
#[derive(Debug)]
pub(crate) struct RoomDataProducer {
    pub(crate) handle: DataProducer,
    pub(crate) transport: String,
    pub(crate) data_consumers: HashSet<String>,
}

/// A data consumer, the transport it lives on, and the data producer it lives from.
#[derive(Debug)]
pub(crate) struct RoomDataConsumer {
    pub(crate) handle: DataConsumer,
    pub(crate) transport: String,
    pub(crate) data_producer: String,
}

impl Room {
    pub(crate) async fn produce_data(
        &mut self,
        transport: &str,
        sctp_stream_parameters: Value,
        label: String,
        protocol: String,
    ) -> Result<MediaReply, MediaError> {
        let on = self.transport(transport)?;
        if on.data_producers.len() >= MAX_PRODUCERS {
            return Err(invalid("transport", format!("it has {MAX_PRODUCERS} data producers already")));
        }
        self.settings.names.check_space()?;
        let mut options = DataProducerOptions::new_sctp(parameter::sctp_stream_parameters(sctp_stream_parameters)?);
        options.label = label;
        options.protocol = protocol;
        let handle = on.handle.produce_data(options).await.map_err(|error| match error {
            ProduceDataError::Request(error) => refused("sctp_stream_parameters", error),
            error => invalid("sctp_stream_parameters", error),
        })?;
        let id = handle.id().to_string();
        if let Some(on) = self.transports.get_mut(transport) {
            on.data_producers.insert(id.clone());
        }
        self.settings.names.enter(id.clone());
        let transport = transport.to_owned();
        self.data_producers.insert(id.clone(), RoomDataProducer { handle, transport, data_consumers: HashSet::new() });
        Ok(MediaReply::DataProduced { id })
    }

    pub(crate) async fn consume_data(&mut self, transport: &str, producer: &str) -> Result<MediaReply, MediaError> {
        let on = self.transport(transport)?;
        let from = self.data_producer(producer)?;
        self.settings.names.check_space()?;
        let options = DataConsumerOptions::new_sctp(from.handle.id());
        let handle = on.handle.consume_data(options).await.map_err(|error| match error {
            ConsumeDataError::DataProducerNotFound(id) => not_found("data_producer", &id.to_string()),
            ConsumeDataError::NoSctpStreamId => MediaError::new(MediaErrorCode::CannotConsume, error.to_string()),
            ConsumeDataError::Request(error) => refused("data_producer", error),
        })?;
        let id = handle.id().to_string();
        let reply = MediaReply::DataConsumed {
            id: id.clone(),
            sctp_stream_parameters: write(handle.sctp_stream_parameters())?,
            label: handle.label().clone(),
            protocol: handle.protocol().clone(),
        };
        if let Some(on) = self.transports.get_mut(transport) {
            on.data_consumers.insert(id.clone());
        }
        if let Some(from) = self.data_producers.get_mut(producer) {
            from.data_consumers.insert(id.clone());
        }
        self.settings.names.enter(id.clone());
        let (transport, data_producer) = (transport.to_owned(), producer.to_owned());
        self.data_consumers.insert(id, RoomDataConsumer { handle, transport, data_producer });
        Ok(reply)
    }

    /// Closes a data producer and its consumers, who are told. False if there is none.
    pub(crate) async fn close_data_producer(&mut self, id: &str) -> bool {
        let Some(producer) = self.data_producers.get_mut(id) else { return false };
        for data_consumer in std::mem::take(&mut producer.data_consumers) {
            if self.close_data_consumer(&data_consumer) {
                self.settings.outbox.tell(MediaEvent::DataConsumerClosed { data_consumer }).await;
            }
        }
        if let Some(producer) = self.data_producers.remove(id)
            && let Some(transport) = self.transports.get_mut(&producer.transport)
        {
            transport.data_producers.remove(id);
        }
        self.settings.names.strike(id);
        true
    }

    /// False if there is none.
    pub(crate) fn close_data_consumer(&mut self, id: &str) -> bool {
        let Some(consumer) = self.data_consumers.remove(id) else { return false };
        if let Some(transport) = self.transports.get_mut(&consumer.transport) {
            transport.data_consumers.remove(id);
        }
        if let Some(producer) = self.data_producers.get_mut(&consumer.data_producer) {
            producer.data_consumers.remove(id);
        }
        self.settings.names.strike(id);
        true
    }

    pub(crate) fn data_producer(&self, id: &str) -> Result<&RoomDataProducer, MediaError> {
        self.data_producers.get(id).ok_or_else(|| not_found("data_producer", id))
    }

    pub(crate) fn data_consumer(&self, id: &str) -> Result<&RoomDataConsumer, MediaError> {
        self.data_consumers.get(id).ok_or_else(|| not_found("data_consumer", id))
    }
}
