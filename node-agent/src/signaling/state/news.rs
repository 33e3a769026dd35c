//! What the media server tells of itself, and who in the room is to hear it.

use roost_proto::media::{MediaEvent, Volume};

use super::*;

impl State {
    /// An event of this room's worker; what is not this room's changes nothing.
    pub(in crate::signaling) fn hear(&mut self, event: MediaEvent) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            MediaEvent::ProducerScore { producer, score } => {
                if let Some(made) = self.producers.get(&producer) {
                    let data = json!({ "producerId": producer, "score": score });
                    effects.push(tell(made.owner, "producerScore", data));
                }
            }
            MediaEvent::ConsumerScore { consumer, score } => {
                if let Some(made) = self.consumers.get_mut(&consumer) {
                    made.score = score.clone();
                    let data = json!({ "consumerId": consumer, "score": score });
                    effects.push(tell(made.owner, "consumerScore", data));
                }
            }
            MediaEvent::ConsumerLayers { consumer, layers } => {
                if let Some(made) = self.consumers.get(&consumer) {
                    effects.push(tell(made.owner, "consumerLayersChanged", answer::layers(&consumer, &layers)));
                }
            }
            MediaEvent::ConsumerPaused { consumer } => self.tell_paused(&consumer, true, &mut effects),
            MediaEvent::ConsumerResumed { consumer } => self.tell_paused(&consumer, false, &mut effects),
            MediaEvent::ConsumerClosed { consumer } => {
                if let Some(owner) = self.consumers.get(&consumer).map(|made| made.owner) {
                    self.drop_consumer(&consumer, &mut effects);
                    effects.push(tell(owner, "consumerClosed", json!({ "consumerId": consumer })));
                }
            }
            MediaEvent::DataConsumerClosed { data_consumer } => {
                if let Some(owner) = self.data_consumers.get(&data_consumer).map(|made| made.owner) {
                    self.drop_data_consumer(&data_consumer, &mut effects);
                    effects.push(tell(owner, "dataConsumerClosed", json!({ "dataConsumerId": data_consumer })));
                }
            }
            MediaEvent::Volumes { volumes, .. } => self.volumes(&volumes, &mut effects),
            MediaEvent::ActiveSpeaker { producer, .. } => self.active_speaker(producer.as_deref(), &mut effects),
            MediaEvent::DownlinkBwe {
                transport,
                available_bitrate_bps,
                desired_bitrate_bps,
                effective_desired_bitrate_bps,
            } => {
                if let Some(&owner) = self.transports.get(&transport) {
                    let data = json!({
                        "desiredBitrate": desired_bitrate_bps, "availableBitrate": available_bitrate_bps,
                        "effectiveDesiredBitrate": effective_desired_bitrate_bps,
                    });
                    effects.push(tell(owner, "downlinkBwe", data));
                }
            }
            MediaEvent::TransportClosed { transport } => self.drop_transport(&transport, &mut effects),
            // The room ends as a whole, which is not for its bookkeeping to do.
            MediaEvent::RoomClosed { .. } => {}
        }
        effects
    }

    fn volumes(&mut self, volumes: &[Volume], effects: &mut Vec<Effect>) {
        let speaking = volumes.iter().filter_map(|speaking| Some((self.sender(&speaking.producer)?, speaking.volume)));
        let speaking: Vec<_> = speaking.collect();
        let told: Vec<_> = speaking.iter().map(|(peer, volume)| json!({ "peerId": peer, "volume": volume })).collect();
        let loudest = told.first().cloned().unwrap_or_else(|| json!({ "peerId": null }));
        let silent = told.is_empty();
        self.tell_joined(NOBODY, "speakingPeers", json!({ "peerVolumes": told }), effects);
        // Where the media server finds the dominant speaker itself, the loudest is not told to be it.
        if silent || !self.names_speaker {
            self.tell_joined(NOBODY, "activeSpeaker", loudest, effects);
        }
    }

    fn active_speaker(&mut self, producer: Option<&str>, effects: &mut Vec<Effect>) {
        self.names_speaker = true;
        let peer = producer.and_then(|producer| self.sender(producer));
        if producer.is_none() || peer.is_some() {
            self.tell_joined(NOBODY, "activeSpeaker", json!({ "peerId": peer }), effects);
        }
    }

    /// The peer that sends this.
    fn sender(&self, producer: &str) -> Option<PeerId> {
        let owner = self.producers.get(producer)?.owner;
        self.peers.get(&owner).map(|peer| peer.id.clone())
    }
}

/// Connections are counted from 1.
const NOBODY: ConnectionId = 0;
