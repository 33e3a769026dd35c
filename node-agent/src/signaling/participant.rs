//! One participant in a room, from its admission to its leaving: what it asks, one thing after the other, and the
//! answers.

use std::sync::Arc;

use roost_proto::id::PeerId;
use roost_proto::media::{MediaReply, MediaRequest, Object};
use roost_proto::signaling::{Frame, Refusal};
use serde_json::{Value, json};

use super::answer;
use super::outbox::{Ending, Outbox};
use super::request::{Ask, NewDataProducer, NewProducer, NewTransport, parse};
use super::room::Room;
use super::rooms::Rooms;
use super::state::{ConnectionId, DataProducer, Producer};
use crate::door::Admission;

/// A participant. Dropping it makes it leave the room.
#[derive(Debug)]
pub(super) struct Participant {
    pub(super) rooms: Arc<Rooms>,
    pub(super) room: Arc<Room>,
    pub(super) id: ConnectionId,
    pub(super) peer: PeerId,
    pub(super) outbox: Arc<Outbox>,
    pub(super) admission: Admission,
}

/// What a participant sent: a request, or a notification if it has no id.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: Option<u32>,
    pub(super) method: String,
    pub(super) data: Value,
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.room.leave(self.id);
    }
}

impl Participant {
    /// Carries out what was asked, and answers it, if it was a request.
    pub(super) async fn serve(&self, message: Message) {
        let Message { id, method, data } = message;
        let result = match parse(&method, data) {
            Ok(Ask::Join(profile)) => match self.room.join(self.id, *profile, id) {
                Ok(()) => {
                    tracing::info!(room = %self.room.key, peer = %self.peer, "peer joined");
                    return;
                }
                Err(refusal) => Err(refusal),
            },
            Ok(ask) => self.carry_out(ask).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &result {
            tracing::debug!(room = %self.room.key, peer = %self.peer, method, %refusal, "refused");
        }
        if let Some(id) = id {
            self.outbox.tell(Frame::Response { id, result }.to_text().into());
        }
    }

    async fn carry_out(&self, ask: Ask) -> Result<Value, Refusal> {
        match ask {
            Ask::RtcStatsUrl => {
                self.room.read(|state| state.mark_second_generation(self.id));
                Ok(json!({}))
            }
            Ask::RouterCapabilities => {
                let router = self.room.router().ok_or_else(unavailable)?;
                Ok(answer::router_capabilities(&router.rtp_capabilities))
            }
            Ask::CreateTransport(new) => self.create_transport(new).await,
            Ask::ConnectTransport { transport, dtls_parameters } => {
                self.owns(&Object::Transport(transport.clone()))?;
                self.done(MediaRequest::ConnectTransport { transport, dtls_parameters }).await
            }
            Ask::RestartIce { transport } => {
                self.owns(&Object::Transport(transport.clone()))?;
                match self.room.ask(MediaRequest::RestartIce { transport }).await? {
                    MediaReply::Parameters(parameters) => Ok(answer::ice_parameters(parameters)),
                    _ => Err(misunderstood()),
                }
            }
            // Answered where the room is locked.
            Ask::Join(_) => Err(misunderstood()),
            Ask::Produce(new) => self.produce(*new).await,
            Ask::ProduceData(new) => self.produce_data(*new).await,
            Ask::CloseProducer { producer } => {
                self.room.change(|state| Ok(((), state.close_producer(self.id, &producer)?)))?;
                Ok(json!({}))
            }
            Ask::PauseProducer { producer, paused } => self.pause_producer(producer, paused).await,
            Ask::PauseConsumer { consumer, paused } => {
                self.room.read(|state| state.set_declined(self.id, &consumer, paused))?;
                let what = Object::Consumer(consumer);
                self.done(if paused { MediaRequest::Pause { what } } else { MediaRequest::Resume { what } }).await
            }
            Ask::SetPreferredLayers { consumer, spatial_layer, temporal_layer } => {
                self.owns(&Object::Consumer(consumer.clone()))?;
                self.done(MediaRequest::SetPreferredLayers { consumer, spatial_layer, temporal_layer }).await
            }
            Ask::SetPriority { consumer, priority } => {
                self.owns(&Object::Consumer(consumer.clone()))?;
                self.done(MediaRequest::SetPriority { consumer, priority }).await
            }
            Ask::RequestKeyFrame { consumer } => {
                self.owns(&Object::Consumer(consumer.clone()))?;
                self.done(MediaRequest::RequestKeyFrame { consumer }).await
            }
            Ask::ChangeDisplayName { display_name } => {
                self.room.change(|state| Ok(((), state.rename(self.id, display_name)?)))?;
                Ok(json!({}))
            }
            Ask::Stats(what) => {
                self.owns(&what)?;
                let second_generation = self.room.read(|state| state.is_second_generation(self.id));
                match self.room.ask(MediaRequest::GetStats { what }).await? {
                    MediaReply::Stats(stats) => Ok(answer::stats(second_generation, stats)),
                    _ => Err(misunderstood()),
                }
            }
        }
    }

    async fn create_transport(&self, new: NewTransport) -> Result<Value, Refusal> {
        let NewTransport { force_tcp, producing, consuming, second_generation } = new;
        self.room.read(|state| state.may_make_transport(self.id))?;
        if second_generation {
            self.room.read(|state| state.mark_second_generation(self.id));
        }
        let room = self.room.key.clone();
        let request = MediaRequest::CreateTransport { room, force_tcp, producing, consuming };
        let MediaReply::Transport { id, ice_parameters, ice_candidates, dtls_parameters, sctp_parameters } =
            self.room.ask(request).await?
        else {
            return Err(misunderstood());
        };
        // Rule 5: the node may have lost the room while the transport was being made. One more for somebody who is inside
        // admits nobody, and a running session ends for no reason of the store's (invariant 5).
        if !self.room.read(|state| state.has_arrived(self.id)) && !self.admission.still_holds() {
            self.room.close_media(vec![Object::Transport(id)]);
            self.outbox.end(Ending::not_held());
            return Err(unavailable());
        }
        self.room.book((Object::Transport, &id), |state| state.transport_made(self.id, &id, consuming))?;
        let mut data = answer::made("transportId", &id);
        data["iceParameters"] = ice_parameters;
        data["iceCandidates"] = ice_candidates;
        data["dtlsParameters"] = dtls_parameters;
        data["sctpParameters"] = sctp_parameters;
        let ice_servers = &self.rooms.settings.ice_servers;
        if !ice_servers.is_empty() {
            data["iceServers"] = json!(ice_servers);
        }
        Ok(data)
    }

    async fn produce(&self, new: NewProducer) -> Result<Value, Refusal> {
        let NewProducer { transport, kind, rtp_parameters, app_data, paused } = new;
        self.room.read(|state| state.may_produce(self.id, &transport))?;
        let request = MediaRequest::Produce { transport: transport.clone(), kind, rtp_parameters, paused };
        let MediaReply::Produced { id, .. } = self.room.ask(request).await? else { return Err(misunderstood()) };
        let consumers = std::collections::BTreeMap::new();
        let producer = Producer { owner: self.id, transport, kind, app_data, paused, consumers };
        self.room.book((Object::Producer, &id), |state| state.produced(&id, producer))?;
        Ok(answer::made("producerId", &id))
    }

    async fn produce_data(&self, new: NewDataProducer) -> Result<Value, Refusal> {
        let NewDataProducer { transport, sctp_stream_parameters, label, protocol, app_data } = new;
        self.room.read(|state| state.may_produce_data(self.id, &transport))?;
        let request = MediaRequest::ProduceData {
            transport: transport.clone(),
            sctp_stream_parameters,
            label: label.clone(),
            protocol,
        };
        let MediaReply::DataProduced { id } = self.room.ask(request).await? else { return Err(misunderstood()) };
        let consumers = std::collections::BTreeMap::new();
        let producer = DataProducer { owner: self.id, transport, label, app_data, consumers };
        self.room.book((Object::DataProducer, &id), |state| state.data_produced(&id, producer))?;
        Ok(answer::made("dataProducerId", &id))
    }

    /// The bookkeeping changes first: a consumer that is made meanwhile is then offered as what it is.
    async fn pause_producer(&self, producer: String, paused: bool) -> Result<Value, Refusal> {
        let change =
            |paused| self.room.change(|state| Ok(((), state.set_producer_paused(self.id, &producer, paused)?)));
        change(paused)?;
        let what = Object::Producer(producer.clone());
        let request = if paused { MediaRequest::Pause { what } } else { MediaRequest::Resume { what } };
        let done = self.done(request).await;
        if done.is_err() {
            // The producer may be gone by now.
            let _ = change(!paused);
        }
        done
    }

    fn owns(&self, what: &Object) -> Result<(), Refusal> {
        self.room.read(|state| state.owns(self.id, what))
    }

    async fn done(&self, request: MediaRequest) -> Result<Value, Refusal> {
        self.room.ask(request).await.map(|_| json!({}))
    }
}

fn unavailable() -> Refusal {
    Refusal { code: 503, reason: "the room is not open here any more".to_owned() }
}

fn misunderstood() -> Refusal {
    Refusal { code: 500, reason: "the media server answered something else".to_owned() }
}
