//! All rooms that are open on this node: which there are, on which worker, and when they end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use roost_proto::error::{CloseReason, Code, Problem};
use roost_proto::id::{Epoch, NodeId, PeerId, Region, RoomKey};
use roost_proto::media::{MediaEvent, MediaReply, MediaRequest};
use roost_proto::report::{RoomReport, Worker, WorkerState};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::farewell::Farewell;
use super::index::Index;
use super::outbox::{Ending, Outbox};
use super::participant::Participant;
use super::room::{Room, Router, Shared};
use super::state::ConnectionId;
use crate::door::{Admission, Door};
use crate::media::{MediaServer, Notice};

/// How long a room waits for a worker that is up.
const WORKER_WAIT_MS: u64 = 3_000;

/// How long a room waits until the one of the same name is closed.
const CLOSING_WAIT_MS: u64 = 6_000;

/// How often is looked whether something waited for is so.
const POLL_MS: u64 = 10;

/// How long [`Rooms::close_all`] waits for the sockets to close.
const CLOSE_ALL_MS: u64 = 5_000;

/// How rooms are kept.
#[derive(Debug, Clone)]
pub(crate) struct RoomSettings {
    /// A room that was empty for so long ends.
    pub(crate) empty_room_ms: u64,
    /// The routers' codecs, as mediasoup writes its `RtpCodecCapability`.
    pub(crate) codecs: Value,
    /// What clients get as `iceServers`; none: nothing.
    pub(crate) ice_servers: Vec<Value>,
    /// What participants are told of where they are.
    pub(crate) node: NodeId,
    pub(crate) region: Region,
    pub(crate) limits: Limits,
}

/// How patient the node is with a participant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) ping_ms: u64,
    /// Nothing was heard for so long: gone.
    pub(crate) silence_ms: u64,
    /// Not joined for so long: closed.
    pub(crate) join_ms: u64,
    /// `newConsumer` was not answered for so long: the consumer is closed.
    pub(crate) answer_ms: u64,
    /// One frame could not be written for so long: closed.
    pub(crate) write_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ping_ms: 5_000, silence_ms: 15_000, join_ms: 10_000, answer_ms: 15_000, write_ms: 10_000 }
    }
}

/// All rooms that have participants, or wait to be empty long enough.
#[derive(Debug)]
pub(crate) struct Rooms {
    pub(super) door: Arc<dyn Door>,
    pub(super) settings: RoomSettings,
    shared: Arc<Shared>,
    rooms: Mutex<Open>,
    ended: mpsc::Sender<(RoomKey, Epoch)>,
    next: AtomicU64,
    /// Participants whose sockets are not closed yet.
    sockets: AtomicUsize,
    /// How often a worker went down, all workers together.
    downs: AtomicU64,
}

impl Rooms {
    /// Takes the media server's events, and begins to watch. To be called inside of a tokio runtime, which must live as
    /// long as the rooms.
    ///
    /// `ended` gets each room that is over, once for each generation: it was empty for `empty_room_ms`, or was closed.
    /// Somebody may have been admitted since; so whoever reads it releases the claim only if no [`Admission`] to that
    /// generation lives at that moment. If one does, the room is open again, and will be told again.
    pub(crate) fn new(
        media: Arc<dyn MediaServer>,
        door: Arc<dyn Door>,
        settings: RoomSettings,
        ended: mpsc::Sender<(RoomKey, Epoch)>,
    ) -> Arc<Self> {
        let events = media.events();
        let runtime = tokio::runtime::Handle::current();
        let rooms = Arc::new(Self {
            door,
            settings,
            shared: Arc::new(Shared { media, index: Index::default(), runtime }),
            rooms: Mutex::new(Open::default()),
            ended,
            next: AtomicU64::new(1),
            sockets: AtomicUsize::new(0),
            downs: AtomicU64::new(0),
        });
        tokio::spawn(listen(Arc::downgrade(&rooms), events));
        tokio::spawn(sweep(Arc::downgrade(&rooms), rooms.settings.empty_room_ms));
        rooms
    }

    /// Every open room, for the report.
    pub(crate) fn snapshot(&self) -> Vec<RoomReport> {
        self.lock().open.values().map(|room| room.report()).collect()
    }

    /// Peers that have joined, in all rooms.
    pub(crate) fn participants(&self) -> usize {
        self.lock().open.values().map(|room| room.participants() as usize).sum()
    }

    /// The media server's workers, with what this node's rooms have on each.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        let mut workers = self.shared.media.workers();
        for worker in &mut workers {
            (worker.rooms, worker.participants, worker.producers, worker.consumers) = (0, 0, 0, 0);
        }
        for report in self.snapshot() {
            if let Some(worker) = workers.iter_mut().find(|worker| worker.index == report.worker) {
                worker.rooms += 1;
                worker.participants += report.participants;
                worker.producers += report.producers;
                worker.consumers += report.consumers;
            }
        }
        workers
    }

    /// Ends a room of this generation, and tells `ended`. Nothing happens if it is not here.
    pub(crate) fn close_room(self: &Arc<Self>, key: &RoomKey, epoch: Epoch, farewell: &Farewell) {
        let room = self.lock().take(key, |room| room.epoch == epoch);
        if let Some(room) = room {
            self.end(room, farewell);
        }
    }

    /// Ends all rooms, and waits until the participants' sockets are closed, a few seconds at most.
    pub(crate) async fn close_all(self: &Arc<Self>, farewell: &Farewell) {
        let rooms = self.lock().take_all(|_| true);
        for room in rooms {
            self.end(room, farewell);
        }
        let deadline = Instant::now() + Duration::from_millis(CLOSE_ALL_MS);
        while self.sockets.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
    }

    /// Numbers a connection; later ones have greater numbers.
    pub(super) fn number(&self) -> ConnectionId {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets an admitted participant into its room. Whoever was admitted must enter, also when its socket is gone by
    /// then: only a room that was entered is told to be over.
    pub(super) fn enter(
        self: &Arc<Self>,
        key: &RoomKey,
        peer: &PeerId,
        id: ConnectionId,
        admission: Admission,
        outbox: Arc<Outbox>,
    ) -> Result<Participant, Ending> {
        let epoch = admission.epoch;
        let (room, stale) = {
            let mut rooms = self.lock();
            if rooms.open.get(key).is_some_and(|room| room.epoch > epoch) {
                let anew = Problem::new(Code::NodeLeaving, "the room has been opened anew meanwhile");
                return Err(Ending::problem(&anew));
            }
            let stale = rooms.take(key, |room| room.epoch < epoch);
            let new = || Arc::new(Room::new(key.clone(), epoch, self.shared.clone()));
            let room = rooms.open.entry(key.clone()).or_insert_with(new).clone();
            // With the rooms still locked, so that the room cannot end as an empty one.
            if !room.enter(id, peer.clone(), outbox.clone()) {
                return Err(Ending::closed(CloseReason::Replaced));
            }
            (room, stale)
        };
        if let Some(stale) = stale {
            self.end(stale, &Farewell::Problem(Code::NodeLeaving));
        }
        Ok(Participant { rooms: self.clone(), room, id, peer: peer.clone(), outbox, admission })
    }

    /// Runs work that its caller may stop waiting for.
    pub(super) fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.shared.runtime.spawn(work)
    }

    /// What carries the media, for example `mediasoup 0.33.1`.
    pub(super) fn media_version(&self) -> String {
        self.shared.media.version()
    }

    /// A participant's socket is open for as long as the answer lives.
    pub(super) fn open_socket(self: &Arc<Self>) -> OpenSocket {
        self.sockets.fetch_add(1, Ordering::Relaxed);
        OpenSocket(self.clone())
    }

    /// Has the room's router made, on the least loaded worker that is up.
    pub(super) async fn open(&self, room: &Arc<Room>) -> Result<Router, Problem> {
        let _one = room.opening.lock().await;
        if let Some(router) = room.router() {
            return Ok(router);
        }
        self.wait_for_closing(room).await?;
        let downs = self.downs.load(Ordering::SeqCst);
        let worker = self.wait_for_worker(room).await.ok_or_else(|| unopened("no media worker is up"))?;
        let request = MediaRequest::OpenRoom { room: room.key.clone(), codecs: self.settings.codecs.clone() };
        match self.shared.media.request(worker, request).await {
            Ok(MediaReply::Room { rtp_capabilities }) => {
                let router = Router { worker, rtp_capabilities: Arc::new(rtp_capabilities) };
                // A worker that went down meanwhile has taken the router with it, and is not told again.
                let valid = || self.downs.load(Ordering::SeqCst) == downs;
                if room.set_router(router.clone(), valid) {
                    return Ok(router);
                }
                if room.router().is_none() {
                    // It may have been another worker.
                    self.close_at(worker, &room.key).await;
                }
                Err(unopened("a worker ended"))
            }
            Ok(_) => Err(unopened("the media server answered something else")),
            Err(error) => Err(unopened(&error.message)),
        }
    }

    /// The media server knows rooms by name: the one before must be closed before another is opened.
    async fn wait_for_closing(&self, room: &Room) -> Result<(), Problem> {
        let deadline = Instant::now() + Duration::from_millis(CLOSING_WAIT_MS);
        while self.lock().closing.contains_key(&room.key) {
            if Instant::now() >= deadline {
                return Err(unopened("the one before it is still being closed"));
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
        Ok(())
    }

    async fn wait_for_worker(&self, room: &Room) -> Option<u16> {
        let deadline = Instant::now() + Duration::from_millis(WORKER_WAIT_MS);
        loop {
            if let Some(worker) = self.choose_worker(room) {
                return Some(worker);
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
    }

    fn choose_worker(&self, room: &Room) -> Option<u16> {
        let workers = self.shared.media.workers();
        let mut loads: Vec<_> = workers
            .iter()
            .filter(|worker| worker.state == WorkerState::Up)
            .map(|worker| WorkerLoad {
                cpu_band: worker.cpu_permille / CPU_BAND_PERMILLE,
                connections: 0,
                rooms: 0,
                index: worker.index,
            })
            .collect();
        // With the rooms locked, so that two that open at once see each other.
        let rooms = self.lock();
        for other in rooms.open.values() {
            let load = loads.iter_mut().find(|load| Some(load.index) == other.worker());
            if let Some(load) = load.filter(|_| other.key != room.key) {
                load.connections += other.connections();
                load.rooms += 1;
            }
        }
        let best = loads.into_iter().min()?.index;
        room.choose_worker(best);
        Some(best)
    }

    /// Ends a room that was taken out of the open ones.
    fn end(self: &Arc<Self>, room: Arc<Room>, farewell: &Farewell) {
        room.end(farewell);
        let rooms = self.clone();
        self.shared.runtime.spawn(async move {
            let over = rooms.ended.send((room.key.clone(), room.epoch));
            let close = async {
                rooms.close(&room).await;
                rooms.lock().closed(&room.key);
            };
            // Nobody listens when the agent ends.
            let _ = tokio::join!(over, close);
        });
    }

    async fn close(&self, room: &Arc<Room>) {
        // Whoever has its router made at this moment is first.
        let _one = room.opening.lock().await;
        let Some(router) = room.take_router() else { return };
        self.shared.index.remove_room(router.worker, room);
        self.close_at(router.worker, &room.key).await;
    }

    async fn close_at(&self, worker: u16, key: &RoomKey) {
        let request = MediaRequest::CloseRoom { room: key.clone() };
        if let Err(error) = self.shared.media.request(worker, request).await {
            tracing::debug!(room = %key, %error, "room that the media server could not close");
        }
    }

    fn hear(&self, worker: u16, notice: Notice) {
        match notice {
            Notice::Up => {}
            Notice::Down => {
                self.downs.fetch_add(1, Ordering::SeqCst);
                self.shared.index.remove_worker(worker);
                let rooms: Vec<_> = self.lock().open.values().cloned().collect();
                for room in rooms {
                    room.lose_worker(worker);
                }
            }
            Notice::Event(MediaEvent::RoomClosed { room }) => {
                let room = self.lock().open.get(&room).filter(|room| room.worker() == Some(worker)).cloned();
                if let Some(room) = room {
                    self.shared.index.remove_room(worker, &room);
                    room.lose_worker(worker);
                }
            }
            Notice::Event(event) => {
                let room = match about(&event) {
                    About::Room(key) => self.lock().open.get(key).filter(|room| room.worker() == Some(worker)).cloned(),
                    About::Object(id) => self.shared.index.room(worker, id),
                };
                if let Some(room) = room {
                    room.hear(event);
                }
            }
        }
    }

    /// Ends the rooms that were empty long enough.
    fn end_empty(self: &Arc<Self>) {
        let long = Duration::from_millis(self.settings.empty_room_ms);
        let over = self.lock().take_all(|room| room.was_empty_for(long));
        for room in over {
            self.end(room, &Farewell::Closed);
        }
    }

    /// How many objects of workers belong to a room.
    #[cfg(test)]
    pub(super) fn objects(&self) -> usize {
        self.shared.index.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rooms by name.
#[derive(Debug, Default)]
struct Open {
    open: HashMap<RoomKey, Arc<Room>>,
    /// How many of this name are being closed.
    closing: HashMap<RoomKey, u32>,
}

impl Open {
    /// Takes a room out, to be ended.
    fn take(&mut self, key: &RoomKey, fits: impl Fn(&Room) -> bool) -> Option<Arc<Room>> {
        if !self.open.get(key).is_some_and(|room| fits(room)) {
            return None;
        }
        let room = self.open.remove(key)?;
        *self.closing.entry(key.clone()).or_default() += 1;
        Some(room)
    }

    fn take_all(&mut self, fits: impl Fn(&Room) -> bool) -> Vec<Arc<Room>> {
        let taken: Vec<_> = self.open.extract_if(|_, room| fits(room)).map(|(_, room)| room).collect();
        for room in &taken {
            *self.closing.entry(room.key.clone()).or_default() += 1;
        }
        taken
    }

    fn closed(&mut self, key: &RoomKey) {
        if let Some(count) = self.closing.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.closing.remove(key);
            }
        }
    }
}

/// Counts a socket until it is closed.
#[derive(Debug)]
pub(super) struct OpenSocket(Arc<Rooms>);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ranks a worker for a new room; the smallest wins.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WorkerLoad {
    /// Also what others do on that core counts, but only if it is much.
    cpu_band: u32,
    connections: u32,
    rooms: u32,
    index: u16,
}

const CPU_BAND_PERMILLE: u32 = 250;

/// Whom an event is about.
enum About<'a> {
    Room(&'a RoomKey),
    Object(&'a str),
}

fn about(event: &MediaEvent) -> About<'_> {
    match event {
        MediaEvent::ProducerScore { producer: id, .. }
        | MediaEvent::ConsumerScore { consumer: id, .. }
        | MediaEvent::ConsumerLayers { consumer: id, .. }
        | MediaEvent::ConsumerPaused { consumer: id }
        | MediaEvent::ConsumerResumed { consumer: id }
        | MediaEvent::ConsumerClosed { consumer: id }
        | MediaEvent::DataConsumerClosed { data_consumer: id }
        | MediaEvent::DownlinkBwe { transport: id, .. }
        | MediaEvent::TransportClosed { transport: id } => About::Object(id),
        MediaEvent::Volumes { room, .. } | MediaEvent::ActiveSpeaker { room, .. } | MediaEvent::RoomClosed { room } => {
            About::Room(room)
        }
    }
}

fn unopened(why: &str) -> Problem {
    Problem::new(Code::NodeLeaving, format!("the room's media could not be opened: {why}"))
}

async fn listen(rooms: Weak<Rooms>, mut events: mpsc::Receiver<(u16, Notice)>) {
    while let Some((worker, notice)) = events.recv().await {
        let Some(rooms) = rooms.upgrade() else { return };
        rooms.hear(worker, notice);
    }
}

async fn sweep(rooms: Weak<Rooms>, empty_room_ms: u64) {
    let every = Duration::from_millis((empty_room_ms / 10).clamp(10, 1_000));
    loop {
        tokio::time::sleep(every).await;
        let Some(rooms) = rooms.upgrade() else { return };
        rooms.end_empty();
    }
}
