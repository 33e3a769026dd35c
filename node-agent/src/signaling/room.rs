//! One room that is open here: its bookkeeping behind a lock that is never held while anything is waited for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use roost_proto::id::{Epoch, PeerId, RoomKey};
use roost_proto::media::{MediaError, MediaErrorCode, MediaEvent, MediaReply, MediaRequest, Object};
use roost_proto::report::RoomReport;
use roost_proto::signaling::{Frame, Refusal};
use serde_json::Value;
use tokio::time::Instant;

use super::farewell::Farewell;
use super::index::Index;
use super::outbox::{Asked, Ending, Outbox, Text};
use super::request::Profile;
use super::state::{ConnectionId, Effect, State};
use crate::media::MediaServer;

/// What all rooms of this node share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) media: Arc<dyn MediaServer>,
    pub(super) index: Index,
    /// Where work is left that nobody waits for.
    pub(super) runtime: tokio::runtime::Handle,
}

/// A room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) key: RoomKey,
    pub(super) epoch: Epoch,
    pub(super) shared: Arc<Shared>,
    inside: Mutex<Inside>,
    /// Held while the media server makes the room's router.
    pub(super) opening: tokio::sync::Mutex<()>,
    counts: Counts,
}

#[derive(Debug)]
struct Inside {
    state: State,
    connections: BTreeMap<ConnectionId, (PeerId, Arc<Outbox>)>,
    /// None until a participant needs it, and when its worker went down.
    router: Option<Router>,
    /// None while somebody is connected.
    empty_since: Option<Instant>,
    /// The room is not open any more: its media is about to be closed.
    over: bool,
}

/// Where the room's media is.
#[derive(Debug, Clone)]
pub(super) struct Router {
    pub(super) worker: u16,
    pub(super) rtp_capabilities: Arc<Value>,
}

/// What reports and the choice of a worker read without the lock.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU32,
    participants: AtomicU32,
    producers: AtomicU32,
    consumers: AtomicU32,
    /// The worker that has the room or is about to, and 1 more; 0: none.
    worker: AtomicU32,
}

impl Room {
    pub(super) fn new(key: RoomKey, epoch: Epoch, shared: Arc<Shared>) -> Self {
        let inside = Inside {
            state: State::default(),
            connections: BTreeMap::new(),
            router: None,
            empty_since: Some(Instant::now()),
            over: false,
        };
        let (inside, opening) = (Mutex::new(inside), tokio::sync::Mutex::new(()));
        Self { key, epoch, shared, inside, opening, counts: Counts::default() }
    }

    /// A participant connects; one of the same name is closed first. False if that one came later than this one: it is
    /// this one then that is closed.
    pub(super) fn enter(&self, connection: ConnectionId, peer: PeerId, outbox: Arc<Outbox>) -> bool {
        let mut inside = self.lock();
        if inside.state.is_outdated(connection, &peer) {
            return false;
        }
        let effects = inside.state.enter(connection, peer.clone());
        self.carry_out(&mut inside, effects);
        inside.connections.insert(connection, (peer, outbox));
        inside.empty_since = None;
        self.count(&inside);
        true
    }

    /// A participant is gone.
    pub(super) fn leave(&self, connection: ConnectionId) {
        let mut inside = self.lock();
        inside.connections.remove(&connection);
        let effects = inside.state.leave(connection);
        self.carry_out(&mut inside, effects);
        if inside.connections.is_empty() && inside.empty_since.is_none() {
            inside.empty_since = Some(Instant::now());
        }
        self.count(&inside);
    }

    /// Reads or changes the bookkeeping, and carries out what follows before anybody else changes it.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<(T, Vec<Effect>), Refusal>,
    ) -> Result<T, Refusal> {
        let mut inside = self.lock();
        let (value, effects) = change(&mut inside.state)?;
        self.carry_out(&mut inside, effects);
        self.count(&inside);
        Ok(value)
    }

    /// Reads the bookkeeping.
    pub(super) fn read<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.lock().state)
    }

    /// Joins, and answers request `id` before the peer is told anything else.
    pub(super) fn join(&self, connection: ConnectionId, profile: Profile, id: Option<u32>) -> Result<(), Refusal> {
        let mut inside = self.lock();
        let (data, effects) = inside.state.join(connection, profile)?;
        if let (Some((_, outbox)), Some(id)) = (inside.connections.get(&connection), id) {
            outbox.tell(Frame::Response { id, result: Ok(data) }.to_text().into());
        }
        self.carry_out(&mut inside, effects);
        self.count(&inside);
        Ok(())
    }

    /// Offers a participant what the media server made for it. None if it is not wanted any more.
    pub(super) fn offer(
        self: &Arc<Self>,
        connection: ConnectionId,
        (method, id): (&str, &str),
        make: impl FnOnce(&mut State) -> Option<Value>,
    ) -> Option<Asked> {
        let mut inside = self.lock();
        let outbox = inside.connections.get(&connection)?.1.clone();
        let data = make(&mut inside.state)?;
        self.know(&inside, id);
        self.count(&inside);
        // Under the lock: what the others do next comes after it.
        Some(outbox.ask(method, data))
    }

    /// Books what the media server made, and hears of what happens to it from here on. What cannot be booked is closed.
    pub(super) fn book(
        self: &Arc<Self>,
        (made, id): (fn(String) -> Object, &str),
        book: impl FnOnce(&mut State) -> Result<Vec<Effect>, Refusal>,
    ) -> Result<(), Refusal> {
        let mut inside = self.lock();
        match book(&mut inside.state) {
            Ok(effects) => {
                self.know(&inside, id);
                self.carry_out(&mut inside, effects);
                self.count(&inside);
                Ok(())
            }
            Err(refusal) => {
                drop(inside);
                self.close_media(vec![made(id.to_owned())]);
                Err(refusal)
            }
        }
    }

    fn know(self: &Arc<Self>, inside: &Inside, id: &str) {
        if let Some(router) = &inside.router {
            self.shared.index.insert(router.worker, id, self);
        }
    }

    /// An event of the room's worker.
    pub(super) fn hear(&self, event: MediaEvent) {
        let mut inside = self.lock();
        let effects = inside.state.hear(event);
        self.carry_out(&mut inside, effects);
        self.count(&inside);
    }

    /// Asks the room's worker.
    pub(super) async fn ask(&self, request: MediaRequest) -> Result<MediaReply, Refusal> {
        let worker = self.router().map(|router| router.worker);
        let worker = worker.ok_or_else(|| Refusal { code: 503, reason: "the media worker ended".to_owned() })?;
        self.shared.media.request(worker, request).await.map_err(|error| refusal(&error))
    }

    /// Lets the media server close objects, without waiting for it.
    pub(super) fn close_media(&self, objects: Vec<Object>) {
        let Some(Router { worker, .. }) = self.router() else { return };
        self.close_media_at(worker, objects);
    }

    fn close_media_at(&self, worker: u16, objects: Vec<Object>) {
        let media = self.shared.media.clone();
        self.shared.runtime.spawn(async move {
            for what in objects {
                let request = match what {
                    Object::Transport(transport) => MediaRequest::CloseTransport { transport },
                    what => MediaRequest::Close { what },
                };
                if let Err(error) = media.request(worker, request).await {
                    tracing::debug!(worker, %error, "media that could not be closed");
                }
            }
        });
    }

    pub(super) fn router(&self) -> Option<Router> {
        self.lock().router.clone()
    }

    /// The room's media is at this worker. False if it isn't valid by then, or the room is over.
    pub(super) fn set_router(&self, router: Router, valid: impl FnOnce() -> bool) -> bool {
        let mut inside = self.lock();
        let valid = valid();
        if valid {
            inside.router = Some(router);
        }
        valid && !inside.over
    }

    pub(super) fn take_router(&self) -> Option<Router> {
        self.lock().router.take()
    }

    /// The worker that has the room, or is about to.
    pub(super) fn worker(&self) -> Option<u16> {
        self.counts.worker.load(Ordering::Relaxed).checked_sub(1).and_then(|worker| u16::try_from(worker).ok())
    }

    pub(super) fn choose_worker(&self, worker: u16) {
        self.counts.worker.store(u32::from(worker) + 1, Ordering::Relaxed);
    }

    /// If the room's media is at this worker it is gone, and all participants with it; they may come back at once.
    pub(super) fn lose_worker(&self, worker: u16) {
        let mut inside = self.lock();
        if inside.router.as_ref().is_some_and(|router| router.worker == worker) {
            inside.router = None;
            self.counts.worker.store(0, Ordering::Relaxed);
            self.dismiss(&mut inside, |_| Ending::worker_down());
        }
    }

    /// Sends everybody away, for good.
    pub(super) fn end(&self, farewell: &Farewell) {
        let mut inside = self.lock();
        inside.over = true;
        self.dismiss(&mut inside, |peer| farewell.ending(&self.key, peer));
    }

    fn dismiss(&self, inside: &mut Inside, ending: impl Fn(&PeerId) -> Ending) {
        inside.state.clear();
        for (peer, outbox) in std::mem::take(&mut inside.connections).into_values() {
            outbox.end(ending(&peer));
        }
        inside.empty_since = Some(Instant::now());
        self.count(inside);
    }

    /// Whether nobody was connected for so long.
    pub(super) fn was_empty_for(&self, long: Duration) -> bool {
        self.lock().empty_since.is_some_and(|since| since.elapsed() >= long)
    }

    pub(super) fn report(&self) -> RoomReport {
        RoomReport {
            key: self.key.clone(),
            epoch: self.epoch,
            worker: self.worker().unwrap_or(0),
            participants: self.participants(),
            producers: self.counts.producers.load(Ordering::Relaxed),
            consumers: self.counts.consumers.load(Ordering::Relaxed),
        }
    }

    pub(super) fn participants(&self) -> u32 {
        self.counts.participants.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> u32 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    fn carry_out(&self, inside: &mut Inside, effects: Vec<Effect>) {
        let mut closing = Vec::new();
        for effect in effects {
            match effect {
                Effect::Tell { to, method, data } => {
                    let text: Text = Frame::notification(method, data).to_text().into();
                    for (_, outbox) in to.iter().filter_map(|to| inside.connections.get(to)) {
                        outbox.tell(text.clone());
                    }
                }
                Effect::Wake(connection) => {
                    if let Some((_, outbox)) = inside.connections.get(&connection) {
                        outbox.wanting.notify_one();
                    }
                }
                Effect::Replaced(connection) => {
                    if let Some((_, outbox)) = inside.connections.remove(&connection) {
                        outbox.end(Ending::closed(roost_proto::error::CloseReason::Replaced));
                    }
                }
                Effect::Forget(id) => {
                    if let Some(router) = &inside.router {
                        self.shared.index.remove(router.worker, &id);
                    }
                }
                Effect::Close(object) => closing.push(object),
            }
        }
        if let Some(router) = inside.router.as_ref().filter(|_| !closing.is_empty()) {
            self.close_media_at(router.worker, closing);
        }
    }

    fn count(&self, inside: &Inside) {
        let (participants, producers, consumers) = inside.state.counts();
        let store =
            |to: &AtomicU32, count: usize| to.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
        store(&self.counts.connections, inside.connections.len());
        store(&self.counts.participants, participants);
        store(&self.counts.producers, producers);
        store(&self.counts.consumers, consumers);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(error: &MediaError) -> Refusal {
    let code = match error.code {
        MediaErrorCode::NotFound => 404,
        MediaErrorCode::Invalid | MediaErrorCode::CannotConsume => 400,
        MediaErrorCode::Unsupported => 501,
        MediaErrorCode::Failed => 503,
    };
    Refusal { code, reason: error.message.clone() }
}
