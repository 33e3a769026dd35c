//! One room: its router, the two observers of its audio, and all that lives in it.
//!
//! A room is one task that takes its requests in turn, so nothing in it is locked. It knows itself what closes with
//! what, and tells so; callbacks of the worker's thread only send a message. No handle may be dropped on that thread
//! (the crate hangs then, for good), and none is: callbacks keep none, and an observer forgets a producer before the
//! producer goes.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use mediasoup::prelude::*;
use mediasoup::worker::CreateRouterError;
use roost_proto::id::RoomKey;
use roost_proto::media::{MediaError, MediaErrorCode, MediaEvent, MediaReply, MediaRequest, Object, Volume};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::consumer::RoomConsumer;
use crate::data::{RoomDataConsumer, RoomDataProducer};
use crate::event::Outbox;
use crate::parameter::{self, failed, invalid, not_found};
use crate::producer::RoomProducer;
use crate::rooms::{Names, Request, Size};
use crate::transport::RoomTransport;
use crate::worker::MediaWorker;

/// Speakers that are told at once, the loudest first.
const VOLUME_ENTRIES: NonZeroU16 = NonZeroU16::new(8).expect("8 is not 0");
/// What is quieter is silence, in dBov.
const VOLUME_THRESHOLD: i8 = -80;
const VOLUME_INTERVAL_MS: u16 = 800;
/// How often transports are looked at for having ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A request takes a fraction of a millisecond; a worker that needs longer than this is hung.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// What a room is made with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) key: RoomKey,
    pub(crate) worker: Arc<MediaWorker>,
    pub(crate) outbox: Outbox,
    pub(crate) size: Arc<Size>,
    pub(crate) names: Names,
}

/// An open room. Fields are dropped in this order, and it matters: observers first, so that no callback of theirs
/// holds a producer; then from the leaves to the router.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) volumes: AudioLevelObserver,
    pub(crate) speaker: ActiveSpeakerObserver,
    pub(crate) consumers: HashMap<String, RoomConsumer>,
    pub(crate) data_consumers: HashMap<String, RoomDataConsumer>,
    pub(crate) producers: HashMap<String, RoomProducer>,
    pub(crate) data_producers: HashMap<String, RoomDataProducer>,
    pub(crate) transports: HashMap<String, RoomTransport>,
    pub(crate) router: Router,
    pub(crate) settings: Settings,
}

/// Takes the room's requests until it is closed. The first one opens it.
pub(crate) async fn run(settings: Settings, mut requests: mpsc::Receiver<Request>) {
    let outbox = settings.outbox.clone();
    if let Some(mut room) = first(settings, &mut requests).await {
        room.serve(&mut requests).await;
    }
    requests.close();
    while let Some(request) = requests.recv().await {
        outbox.reply(request.id, Err(closed())).await;
    }
}

/// The room that a request was for has ended in the meantime.
pub(crate) fn closed() -> MediaError {
    MediaError::new(MediaErrorCode::NotFound, "the room is closed")
}

async fn first(settings: Settings, requests: &mut mpsc::Receiver<Request>) -> Option<Room> {
    let Request { id, request } = requests.recv().await?;
    let outbox = settings.outbox.clone();
    let opened = match request {
        MediaRequest::OpenRoom { codecs, .. } => Room::open(settings, codecs).await,
        _ => Err(closed()),
    };
    match opened.and_then(|room| Ok((room.capabilities()?, room))) {
        Ok((capabilities, room)) => {
            outbox.reply(id, Ok(capabilities)).await;
            Some(room)
        }
        Err(error) => {
            outbox.reply(id, Err(error)).await;
            None
        }
    }
}

impl Room {
    async fn open(settings: Settings, codecs: Value) -> Result<Self, MediaError> {
        let codecs = parameter::codecs(codecs)?;
        let router = match settings.worker.worker().create_router(RouterOptions::new(codecs)).await {
            Ok(router) => router,
            Err(CreateRouterError::FailedRtpCapabilitiesGeneration(error)) => return Err(invalid("codecs", error)),
            Err(CreateRouterError::Request(error)) => return Err(failed(error)),
        };
        let mut options = AudioLevelObserverOptions::default();
        options.max_entries = VOLUME_ENTRIES;
        options.threshold = VOLUME_THRESHOLD;
        options.interval = VOLUME_INTERVAL_MS;
        let volumes = router.create_audio_level_observer(options).await.map_err(failed)?;
        let speaker =
            router.create_active_speaker_observer(ActiveSpeakerObserverOptions::default()).await.map_err(failed)?;
        listen(&volumes, &speaker, &settings);
        Ok(Self {
            volumes,
            speaker,
            consumers: HashMap::new(),
            data_consumers: HashMap::new(),
            producers: HashMap::new(),
            data_producers: HashMap::new(),
            transports: HashMap::new(),
            router,
            settings,
        })
    }

    fn capabilities(&self) -> Result<MediaReply, MediaError> {
        Ok(MediaReply::Room { rtp_capabilities: parameter::write(self.router.rtp_capabilities())? })
    }

    /// Returns when the room is closed.
    async fn serve(&mut self, requests: &mut mpsc::Receiver<Request>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                request = requests.recv() => {
                    let Some(Request { id, request }) = request else { return };
                    if matches!(request, MediaRequest::CloseRoom { .. }) {
                        self.settings.outbox.reply(id, Ok(MediaReply::Done)).await;
                        return;
                    }
                    let result = self.answer(request).await;
                    self.count();
                    self.settings.outbox.reply(id, result).await;
                }
                _ = look.tick() => {
                    if self.router.closed() {
                        let room = self.settings.key.clone();
                        self.settings.outbox.tell(MediaEvent::RoomClosed { room }).await;
                        return;
                    }
                    self.close_ended_transports(Instant::now()).await;
                    self.count();
                }
            }
        }
    }

    /// The answer to one request; a panic of the crate costs this request only.
    async fn answer(&mut self, request: MediaRequest) -> Result<MediaReply, MediaError> {
        let handling = AssertUnwindSafe(self.handle(request)).catch_unwind();
        match tokio::time::timeout(REQUEST_LIMIT, handling).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(MediaError::new(MediaErrorCode::Failed, "the media library failed on this request")),
            Err(_) => Err(MediaError::new(MediaErrorCode::Failed, "the worker does not answer")),
        }
    }

    async fn handle(&mut self, request: MediaRequest) -> Result<MediaReply, MediaError> {
        use MediaRequest as Ask;
        match request {
            Ask::OpenRoom { .. } => self.capabilities(),
            // Handled before they get here.
            Ask::CloseRoom { .. } | Ask::Describe => Err(closed()),
            Ask::CreateTransport { force_tcp, producing, consuming, .. } => {
                self.create_transport(force_tcp, producing, consuming).await
            }
            Ask::ConnectTransport { transport, dtls_parameters } => {
                self.connect_transport(&transport, dtls_parameters).await
            }
            Ask::RestartIce { transport } => self.restart_ice(&transport).await,
            Ask::CloseTransport { transport } => self.close(&Object::Transport(transport)).await,
            Ask::Produce { transport, kind, rtp_parameters, paused } => {
                self.produce(&transport, kind, rtp_parameters, paused).await
            }
            Ask::Consume { transport, producer, rtp_capabilities } => {
                self.consume(&transport, &producer, rtp_capabilities).await
            }
            Ask::ProduceData { transport, sctp_stream_parameters, label, protocol } => {
                self.produce_data(&transport, sctp_stream_parameters, label, protocol).await
            }
            Ask::ConsumeData { transport, data_producer } => self.consume_data(&transport, &data_producer).await,
            Ask::Close { what } => self.close(&what).await,
            Ask::Pause { what } => self.pause(&what).await,
            Ask::Resume { what } => self.resume(&what).await,
            Ask::SetPreferredLayers { consumer, spatial_layer, temporal_layer } => {
                self.set_preferred_layers(&consumer, ConsumerLayers { spatial_layer, temporal_layer }).await
            }
            Ask::SetPriority { consumer, priority } => self.set_priority(&consumer, priority).await,
            Ask::RequestKeyFrame { consumer } => self.request_key_frame(&consumer).await,
            Ask::GetStats { what } => self.stats(&what).await,
        }
    }

    async fn close(&mut self, what: &Object) -> Result<MediaReply, MediaError> {
        let found = match what {
            Object::Transport(id) => self.close_transport(id).await,
            Object::Producer(id) => self.close_producer(id).await,
            Object::Consumer(id) => self.close_consumer(id),
            Object::DataProducer(id) => self.close_data_producer(id).await,
            Object::DataConsumer(id) => self.close_data_consumer(id),
        };
        if found { Ok(MediaReply::Done) } else { Err(unknown(what)) }
    }

    async fn pause(&mut self, what: &Object) -> Result<MediaReply, MediaError> {
        match what {
            Object::Transport(_) => return Err(unpausable()),
            Object::Producer(id) => return self.pause_producer(id).await,
            Object::Consumer(id) => self.consumer(id)?.handle.pause().await,
            Object::DataProducer(id) => self.data_producer(id)?.handle.pause().await,
            Object::DataConsumer(id) => self.data_consumer(id)?.handle.pause().await,
        }
        .map_err(failed)?;
        Ok(MediaReply::Done)
    }

    async fn resume(&mut self, what: &Object) -> Result<MediaReply, MediaError> {
        match what {
            Object::Transport(_) => return Err(unpausable()),
            Object::Producer(id) => return self.resume_producer(id).await,
            Object::Consumer(id) => self.consumer(id)?.handle.resume().await,
            Object::DataProducer(id) => self.data_producer(id)?.handle.resume().await,
            Object::DataConsumer(id) => self.data_consumer(id)?.handle.resume().await,
        }
        .map_err(failed)?;
        Ok(MediaReply::Done)
    }

    fn count(&self) {
        let whole = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let size = &self.settings.size;
        size.transports.store(whole(self.transports.len()), Ordering::Relaxed);
        size.producers.store(whole(self.producers.len()), Ordering::Relaxed);
        size.consumers.store(whole(self.consumers.len()), Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let names = self.transports.keys().chain(self.producers.keys()).chain(self.consumers.keys());
        for name in names.chain(self.data_producers.keys()).chain(self.data_consumers.keys()) {
            self.settings.names.strike(name);
        }
    }
}

/// The room has no such object.
pub(crate) fn unknown(what: &Object) -> MediaError {
    match what {
        Object::Transport(id) => not_found("transport", id),
        Object::Producer(id) => not_found("producer", id),
        Object::Consumer(id) => not_found("consumer", id),
        Object::DataProducer(id) => not_found("data_producer", id),
        Object::DataConsumer(id) => not_found("data_consumer", id),
    }
}

fn unpausable() -> MediaError {
    MediaError::new(MediaErrorCode::Unsupported, "a transport can't be paused")
}

fn listen(volumes: &AudioLevelObserver, speaker: &ActiveSpeakerObserver, settings: &Settings) {
    let told = |levels: &[AudioLevelObserverVolume]| {
        levels
            .iter()
            .map(|level| Volume { producer: level.producer.id().to_string(), volume: level.volume })
            .collect::<Vec<_>>()
    };
    let (outbox, room) = (settings.outbox.clone(), settings.key.clone());
    volumes
        .on_volumes(move |levels| outbox.tell_now(MediaEvent::Volumes { room: room.clone(), volumes: told(levels) }))
        .detach();
    let (outbox, room) = (settings.outbox.clone(), settings.key.clone());
    volumes
        .on_silence(move || outbox.tell_now(MediaEvent::Volumes { room: room.clone(), volumes: Vec::new() }))
        .detach();
    let (outbox, room) = (settings.outbox.clone(), settings.key.clone());
    speaker
        .on_dominant_speaker(move |dominant| {
            let producer = Some(dominant.producer.id().to_string());
            outbox.tell_now(MediaEvent::ActiveSpeaker { room: room.clone(), producer });
        })
        .detach();
}

#[cfg(test)]
mod tests;
