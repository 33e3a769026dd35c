//! All rooms of the worker: each is a task of its own, and a request goes to the room that its object lives in.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roost_proto::id::RoomKey;
use roost_proto::media::{MediaError, MediaErrorCode, MediaLoad, MediaReply, MediaRequest, Object, RoomLoad, ToMedia};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::event::Outbox;
use crate::load;
use crate::parameter::not_found;
use crate::room;
use crate::worker::MediaWorker;

/// Requests that may wait in one room.
const ROOM_QUEUE: usize = 1024;
/// Rooms on one worker; keeps the answer to `describe` below the longest line.
const MAX_ROOMS: usize = 2048;
/// Transports, producers and consumers of all rooms together.
const MAX_OBJECTS: usize = 200_000;

/// A request on its way to its room.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) request: MediaRequest,
}

/// All rooms.
#[derive(Debug)]
pub(crate) struct Rooms {
    worker: Arc<MediaWorker>,
    outbox: Outbox,
    open: BTreeMap<RoomKey, Handle>,
    directory: Directory,
}

/// A room as seen from here.
#[derive(Debug)]
struct Handle {
    requests: mpsc::Sender<Request>,
    size: Arc<Size>,
    task: JoinHandle<()>,
}

/// What a room carries; it keeps this up to date.
#[derive(Debug, Default)]
pub(crate) struct Size {
    pub(crate) transports: AtomicU32,
    pub(crate) producers: AtomicU32,
    pub(crate) consumers: AtomicU32,
}

/// Which room an object lives in, by the object's id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<HashMap<String, mpsc::Sender<Request>>>>);

impl Rooms {
    /// No rooms yet.
    pub(crate) fn new(worker: Arc<MediaWorker>, outbox: Outbox) -> Self {
        Self { worker, outbox, open: BTreeMap::new(), directory: Directory::default() }
    }

    /// Hands a request to its room, which answers it.
    pub(crate) async fn take(&mut self, message: ToMedia) {
        let ToMedia { id, request, .. } = message;
        match &request {
            MediaRequest::Describe => {
                let load = self.describe();
                self.outbox.reply(id, Ok(MediaReply::Described(load))).await;
            }
            MediaRequest::OpenRoom { room, .. } => {
                let room = room.clone();
                match self.room(room) {
                    Ok(requests) => _ = self.send(&requests, Request { id, request }).await,
                    Err(error) => self.refuse(id, error).await,
                }
            }
            MediaRequest::CloseRoom { room } => {
                let room = room.clone();
                match self.open.get(&room).map(|handle| handle.requests.clone()) {
                    Some(requests) => {
                        if self.send(&requests, Request { id, request }).await {
                            // From here on the name is free; the room answers when it is closed.
                            self.open.remove(&room);
                        }
                    }
                    None => self.refuse(id, not_found("room", &room.to_string())).await,
                }
            }
            MediaRequest::CreateTransport { room, .. } => {
                match self.open.get(room).map(|handle| handle.requests.clone()) {
                    Some(requests) => _ = self.send(&requests, Request { id, request }).await,
                    None => self.refuse(id, not_found("room", &room.to_string())).await,
                }
            }
            _ => {
                let (what, name) = object_of(&request);
                match self.directory.find(name) {
                    Some(requests) => _ = self.send(&requests, Request { id, request }).await,
                    None => self.refuse(id, not_found(what, name)).await,
                }
            }
        }
    }

    /// Answers request `id` with an error.
    pub(crate) async fn refuse(&self, id: u64, error: MediaError) {
        self.outbox.reply(id, Err(error)).await;
    }

    /// Closes all rooms and waits for them.
    pub(crate) async fn close_all(self) {
        for handle in self.open.values() {
            handle.task.abort();
        }
        for handle in self.open.into_values() {
            // Aborted, so always an error.
            let _ = handle.task.await;
        }
    }

    /// The room of this name, started if there is none.
    fn room(&mut self, key: RoomKey) -> Result<mpsc::Sender<Request>, MediaError> {
        self.forget_ended();
        if let Some(handle) = self.open.get(&key) {
            return Ok(handle.requests.clone());
        }
        if self.open.len() >= MAX_ROOMS || self.directory.len() >= MAX_OBJECTS {
            return Err(MediaError::new(MediaErrorCode::Failed, "the worker has as many rooms as it can take"));
        }
        let (requests, received) = mpsc::channel(ROOM_QUEUE);
        let size = Arc::new(Size::default());
        let settings = room::Settings {
            key: key.clone(),
            worker: Arc::clone(&self.worker),
            outbox: self.outbox.clone(),
            size: Arc::clone(&size),
            names: Names::new(self.directory.clone(), requests.clone()),
        };
        let task = tokio::spawn(room::run(settings, received));
        self.open.insert(key, Handle { requests: requests.clone(), size, task });
        Ok(requests)
    }

    /// Whether the room took the request; if not, it is refused here.
    async fn send(&self, requests: &mpsc::Sender<Request>, request: Request) -> bool {
        let (request, error) = match requests.try_send(request) {
            Ok(()) => return true,
            Err(mpsc::error::TrySendError::Full(request)) => {
                (request, MediaError::new(MediaErrorCode::Failed, "too many requests wait in this room"))
            }
            Err(mpsc::error::TrySendError::Closed(request)) => (request, room::closed()),
        };
        self.refuse(request.id, error).await;
        false
    }

    fn describe(&mut self) -> MediaLoad {
        self.forget_ended();
        let rooms = self.open.iter().map(|(room, handle)| RoomLoad {
            room: room.clone(),
            transports: handle.size.transports.load(Ordering::Relaxed),
            producers: handle.size.producers.load(Ordering::Relaxed),
            consumers: handle.size.consumers.load(Ordering::Relaxed),
        });
        MediaLoad { cpu_ms: self.worker.cpu_ms(), memory_bytes: load::memory_bytes(), rooms: rooms.collect() }
    }

    /// Rooms that could not be opened, or ended by themselves.
    fn forget_ended(&mut self) {
        self.open.retain(|_, handle| !handle.requests.is_closed());
    }
}

impl Directory {
    fn find(&self, name: &str) -> Option<mpsc::Sender<Request>> {
        self.lock().get(name).cloned()
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Request>>> {
        // Nothing that holds it can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one room has entered in the directory.
#[derive(Debug)]
pub(crate) struct Names {
    directory: Directory,
    room: mpsc::Sender<Request>,
}

impl Names {
    fn new(directory: Directory, room: mpsc::Sender<Request>) -> Self {
        Self { directory, room }
    }

    /// For a room that nobody asks.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self::new(Directory::default(), mpsc::channel(1).0)
    }

    /// Whether one more object may be made.
    pub(crate) fn check_space(&self) -> Result<(), MediaError> {
        if self.directory.len() < MAX_OBJECTS {
            Ok(())
        } else {
            Err(MediaError::new(MediaErrorCode::Failed, "the worker has as many objects as it can take"))
        }
    }

    pub(crate) fn enter(&self, name: String) {
        self.directory.lock().insert(name, self.room.clone());
    }

    pub(crate) fn strike(&self, name: &str) {
        self.directory.lock().remove(name);
    }
}

/// The object that tells which room a request is for: what it is, and its id.
fn object_of(request: &MediaRequest) -> (&'static str, &str) {
    match request {
        MediaRequest::OpenRoom { room, .. }
        | MediaRequest::CloseRoom { room }
        | MediaRequest::CreateTransport { room, .. } => ("room", room.room.as_str()),
        MediaRequest::Describe => ("worker", ""),
        MediaRequest::ConnectTransport { transport, .. }
        | MediaRequest::RestartIce { transport }
        | MediaRequest::CloseTransport { transport }
        | MediaRequest::Produce { transport, .. }
        | MediaRequest::Consume { transport, .. }
        | MediaRequest::ProduceData { transport, .. }
        | MediaRequest::ConsumeData { transport, .. } => ("transport", transport),
        MediaRequest::SetPreferredLayers { consumer, .. }
        | MediaRequest::SetPriority { consumer, .. }
        | MediaRequest::RequestKeyFrame { consumer } => ("consumer", consumer),
        MediaRequest::Close { what }
        | MediaRequest::Pause { what }
        | MediaRequest::Resume { what }
        | MediaRequest::GetStats { what } => match what {
            Object::Transport(id) => ("transport", id),
            Object::Producer(id) => ("producer", id),
            Object::Consumer(id) => ("consumer", id),
            Object::DataProducer(id) => ("data_producer", id),
            Object::DataConsumer(id) => ("data_consumer", id),
        },
    }
}
