//! Producers of a room: what participants send.

use std::collections::HashSet;

use mediasoup::prelude::*;
use roost_proto::media::{MediaError, MediaEvent, MediaReply, StreamKind};
use serde_json::Value;

use crate::event::Outbox;
use crate::parameter::{self, failed, invalid, not_found, refused, write};
use crate::room::Room;

/// Producers on one transport, of media and of data each.
pub(crate) const MAX_PRODUCERS: usize = 256;

/// A producer, the transport it lives on, and who lives from it.
#[derive(Debug)]
pub(crate) struct RoomProducer {
    pub(crate) handle: Producer,
    pub(crate) transport: String,
    pub(crate) consumers: HashSet<String>,
}

impl Room {
    pub(crate) async fn produce(
        &mut self,
        transport: &str,
        kind: StreamKind,
        rtp_parameters: Value,
        paused: bool,
    ) -> Result<MediaReply, MediaError> {
        let on = self.transport(transport)?;
        if on.producers.len() >= MAX_PRODUCERS {
            return Err(invalid("transport", format!("it has {MAX_PRODUCERS} producers already")));
        }
        self.settings.names.check_space()?;
        let media_kind = match kind {
            StreamKind::Audio => MediaKind::Audio,
            StreamKind::Video => MediaKind::Video,
        };
        let mut options = ProducerOptions::new(media_kind, parameter::rtp_parameters(kind, rtp_parameters)?);
        options.paused = paused;
        let handle = on.handle.produce(options).await.map_err(|error| match error {
            ProduceError::Request(error) => refused("rtp_parameters", error),
            error => invalid("rtp_parameters", error),
        })?;
        let id = handle.id().to_string();
        tell_scores(&handle, self.settings.outbox.clone());
        if media_kind == MediaKind::Audio {
            let watched = || RtpObserverAddProducerOptions::new(handle.id());
            self.volumes.add_producer(watched()).await.map_err(failed)?;
            self.speaker.add_producer(watched()).await.map_err(failed)?;
        }

        let producer_type = write(handle.r#type())?.as_str().unwrap_or_default().to_owned();
        if let Some(on) = self.transports.get_mut(transport) {
            on.producers.insert(id.clone());
        }
        self.settings.names.enter(id.clone());
        let transport = transport.to_owned();
        self.producers.insert(id.clone(), RoomProducer { handle, transport, consumers: HashSet::new() });
        Ok(MediaReply::Produced { id, producer_type })
    }

    /// Closes a producer and its consumers, who are told. False if there is none.
    pub(crate) async fn close_producer(&mut self, id: &str) -> bool {
        let Some(producer) = self.producers.get_mut(id) else { return false };
        for consumer in std::mem::take(&mut producer.consumers) {
            if self.close_consumer(&consumer) {
                self.settings.outbox.tell(MediaEvent::ConsumerClosed { consumer }).await;
            }
        }
        let Some(producer) = self.producers.get(id) else { return false };
        if producer.handle.kind() == MediaKind::Audio {
            // The observers' callbacks hold producers for a moment on the worker's thread. When these are answered, that
            // is over for this one, and it can be dropped here. They fail only when the worker is gone.
            let producer = producer.handle.id();
            let _ = self.volumes.remove_producer(producer).await;
            let _ = self.speaker.remove_producer(producer).await;
        }
        if let Some(producer) = self.producers.remove(id)
            && let Some(transport) = self.transports.get_mut(&producer.transport)
        {
            transport.producers.remove(id);
        }
        self.settings.names.strike(id);
        true
    }

    pub(crate) async fn pause_producer(&self, id: &str) -> Result<MediaReply, MediaError> {
        let producer = self.producer(id)?;
        let was_paused = producer.handle.paused();
        producer.handle.pause().await.map_err(failed)?;
        if !was_paused {
            for consumer in producer.consumers.iter().cloned() {
                self.settings.outbox.tell(MediaEvent::ConsumerPaused { consumer }).await;
            }
        }
        Ok(MediaReply::Done)
    }

    pub(crate) async fn resume_producer(&self, id: &str) -> Result<MediaReply, MediaError> {
        let producer = self.producer(id)?;
        let was_paused = producer.handle.paused();
        producer.handle.resume().await.map_err(failed)?;
        if was_paused {
            for consumer in producer.consumers.iter().cloned() {
                self.settings.outbox.tell(MediaEvent::ConsumerResumed { consumer }).await;
            }
        }
        Ok(MediaReply::Done)
    }

    pub(crate) fn producer(&self, id: &str) -> Result<&RoomProducer, MediaError> {
        self.producers.get(id).ok_or_else(|| not_found("producer", id))
    }
}

fn tell_scores(producer: &Producer, outbox: Outbox) {
    let id = producer.id().to_string();
    producer
        .on_score(move |scores| {
            if let Ok(score) = write(scores) {
                outbox.tell_now(MediaEvent::ProducerScore { producer: id.clone(), score });
            }
        })
        .detach();
}
