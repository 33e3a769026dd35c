//! Consumers of a room: what participants receive.

use mediasoup::prelude::*;
use mediasoup::transport::ConsumerRtpParametersError;
use roost_proto::media::{MediaError, MediaErrorCode, MediaEvent, MediaReply, StreamKind};
use serde_json::Value;

use crate::event::Outbox;
use crate::parameter::{self, failed, invalid, not_found, refused, write};
use crate::room::Room;

/// A consumer, the transport it lives on, and the producer it lives from.
#[derive(Debug)]
pub(crate) struct RoomConsumer {
    pub(crate) handle: Consumer,
    pub(crate) transport: String,
    pub(crate) producer: String,
}

impl Room {
    /// Makes a consumer, paused: its receiver must be ready for the first packet.
    pub(crate) async fn consume(
        &mut self,
        transport: &str,
        producer: &str,
        rtp_capabilities: Value,
    ) -> Result<MediaReply, MediaError> {
        let on = self.transport(transport)?;
        let from = self.producer(producer)?;
        self.settings.names.check_space()?;
        let capabilities = parameter::rtp_capabilities(rtp_capabilities)?;
        let mut options = ConsumerOptions::new(from.handle.id(), capabilities);
        options.paused = true;
        // As mediasoup-demo has it: NACK for Opus too, and no packets of silence.
        options.enable_rtx = Some(true);
        options.ignore_dtx = true;
        let handle = on.handle.consume(options).await.map_err(refusal)?;
        let id = handle.id().to_string();
        tell_changes(&handle, self.settings.outbox.clone());

        let reply = MediaReply::Consumed {
            id: id.clone(),
            kind: match handle.kind() {
                MediaKind::Audio => StreamKind::Audio,
                MediaKind::Video => StreamKind::Video,
            },
            rtp_parameters: write(handle.rtp_parameters())?,
            consumer_type: write(handle.r#type())?.as_str().unwrap_or_default().to_owned(),
            producer_paused: handle.producer_paused(),
            score: write(handle.score())?,
        };
        if let Some(on) = self.transports.get_mut(transport) {
            on.consumers.insert(id.clone());
        }
        if let Some(from) = self.producers.get_mut(producer) {
            from.consumers.insert(id.clone());
        }
        self.settings.names.enter(id.clone());
        let (transport, producer) = (transport.to_owned(), producer.to_owned());
        self.consumers.insert(id, RoomConsumer { handle, transport, producer });
        Ok(reply)
    }

    /// False if there is none.
    pub(crate) fn close_consumer(&mut self, id: &str) -> bool {
        let Some(consumer) = self.consumers.remove(id) else { return false };
        if let Some(transport) = self.transports.get_mut(&consumer.transport) {
            transport.consumers.remove(id);
        }
        if let Some(producer) = self.producers.get_mut(&consumer.producer) {
            producer.consumers.remove(id);
        }
        self.settings.names.strike(id);
        true
    }

    pub(crate) async fn set_preferred_layers(
        &self,
        id: &str,
        layers: ConsumerLayers,
    ) -> Result<MediaReply, MediaError> {
        let consumer = self.consumer(id)?;
        consumer.handle.set_preferred_layers(layers).await.map_err(|error| refused("spatial_layer", error))?;
        Ok(MediaReply::Done)
    }

    pub(crate) async fn set_priority(&self, id: &str, priority: u8) -> Result<MediaReply, MediaError> {
        let consumer = self.consumer(id)?;
        consumer.handle.set_priority(priority).await.map_err(|error| refused("priority", error))?;
        Ok(MediaReply::Done)
    }

    pub(crate) async fn request_key_frame(&self, id: &str) -> Result<MediaReply, MediaError> {
        self.consumer(id)?.handle.request_key_frame().await.map_err(failed)?;
        Ok(MediaReply::Done)
    }

    pub(crate) fn consumer(&self, id: &str) -> Result<&RoomConsumer, MediaError> {
        self.consumers.get(id).ok_or_else(|| not_found("consumer", id))
    }
}

fn refusal(error: ConsumeError) -> MediaError {
    match error {
        ConsumeError::ProducerNotFound(id) => not_found("producer", &id.to_string()),
        ConsumeError::BadConsumerRtpParameters(ConsumerRtpParametersError::NoCompatibleMediaCodecs) => {
            MediaError::new(MediaErrorCode::CannotConsume, error.to_string())
        }
        ConsumeError::Request(error) => refused("rtp_capabilities", error),
        error => invalid("rtp_capabilities", error),
    }
}

fn tell_changes(consumer: &Consumer, outbox: Outbox) {
    let (id, out) = (consumer.id().to_string(), outbox.clone());
    consumer
        .on_score(move |score| {
            if let Ok(score) = write(score) {
                out.tell_now(MediaEvent::ConsumerScore { consumer: id.clone(), score });
            }
        })
        .detach();
    let id = consumer.id().to_string();
    consumer
        .on_layers_change(move |layers| {
            if let Ok(layers) = write(layers) {
                outbox.tell_now(MediaEvent::ConsumerLayers { consumer: id.clone(), layers });
            }
        })
        .detach();
}
