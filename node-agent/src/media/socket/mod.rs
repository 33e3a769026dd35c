//! The agent's side of the media protocol: a Unix socket that media servers connect to, one connection per worker.
//!
//! A media server that breaks the protocol loses its connection, and nothing else is touched by it.

mod link;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use roost_proto::media::{Hello, MAX_LINE_BYTES, MediaError, MediaErrorCode, MediaLoad, MediaReply, MediaRequest};
use roost_proto::report::{MediaKind, Worker, WorkerState};
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use self::link::Link;
use super::line::read_line;
use super::{MediaServer, MediaStartError, NOTICES_WAITING, Notice, Taken};

/// How long a new connection may take to say hello.
const HELLO_MS: u64 = 5_000;

/// How often a worker is asked what it carries.
const DESCRIBE_MS: u64 = 1_000;

/// Media servers that connect to a Unix socket.
#[derive(Debug)]
pub(crate) struct MediaSocket {
    slots: Arc<Slots>,
    events: Taken,
    path: PathBuf,
    accepting: AbortHandle,
}

impl MediaSocket {
    /// Listens on `path` for workers `0..workers` of this kind. What a dead agent left at `path` is replaced.
    pub(crate) fn listen(path: &Path, kind: MediaKind, workers: u16) -> Result<Self, MediaStartError> {
        let failed = |source| MediaStartError::Socket { path: path.to_owned(), source };
        let listener = bind(path).map_err(failed)?;
        let (notices, events) = mpsc::channel(NOTICES_WAITING);
        let slots = Arc::new(Slots::new(kind, workers, notices));
        let accepting = tokio::spawn(accept(listener, slots.clone())).abort_handle();
        Ok(Self { slots, events: Taken::new(events), path: path.to_owned(), accepting })
    }

    /// Counts one more start of a worker.
    pub(super) fn count_restart(&self, worker: u16) {
        self.slots.with(worker, |slot| slot.restarts = slot.restarts.saturating_add(1));
    }
}

impl Drop for MediaSocket {
    fn drop(&mut self) {
        self.accepting.abort();
        self.slots.close();
        // A socket file that is left behind is replaced by the next agent.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[async_trait]
impl MediaServer for MediaSocket {
    fn version(&self) -> String {
        let said = self.slots.lock().iter().find_map(|slot| slot.version.clone());
        said.unwrap_or_else(|| "unknown".to_owned())
    }

    fn workers(&self) -> Vec<Worker> {
        self.slots.lock().iter().enumerate().map(|(index, slot)| slot.worker(index)).collect()
    }

    async fn request(&self, worker: u16, request: MediaRequest) -> Result<MediaReply, MediaError> {
        let link = self.slots.with(worker, |slot| slot.link.clone()).flatten();
        let down = || MediaError::new(MediaErrorCode::Failed, format!("media worker {worker} is down"));
        link.ok_or_else(down)?.request(request).await
    }

    fn events(&self) -> mpsc::Receiver<(u16, Notice)> {
        self.events.take()
    }
}

/// One worker's place.
#[derive(Debug, Default)]
struct Slot {
    link: Option<Arc<Link>>,
    restarts: u32,
    /// As the last hello had it.
    version: Option<String>,
    /// Was up before.
    seen: bool,
    /// Did not say in time what it carries: it takes no new rooms until it does.
    silent: bool,
    load: MediaLoad,
    cpu_permille: u32,
    described: Option<Instant>,
}

impl Slot {
    fn worker(&self, index: usize) -> Worker {
        let state = match (&self.link, self.seen) {
            (Some(_), _) if self.silent => WorkerState::Down,
            (Some(_), _) => WorkerState::Up,
            (None, false) => WorkerState::Starting,
            (None, true) => WorkerState::Down,
        };
        let sum = |count: fn(&roost_proto::media::RoomLoad) -> u32| {
            self.load.rooms.iter().map(count).fold(0, u32::saturating_add)
        };
        Worker {
            index: u16::try_from(index).unwrap_or(u16::MAX),
            state,
            restarts: self.restarts,
            cpu_permille: self.cpu_permille,
            memory_bytes: self.load.memory_bytes,
            rooms: u32::try_from(self.load.rooms.len()).unwrap_or(u32::MAX),
            participants: 0,
            producers: sum(|room| room.producers),
            consumers: sum(|room| room.consumers),
        }
    }

    fn describe(&mut self, load: MediaLoad, now: Instant) {
        if let Some(before) = self.described {
            let wall_ms = now.duration_since(before).as_millis().max(1);
            let cpu_ms = u128::from(load.cpu_ms.saturating_sub(self.load.cpu_ms));
            self.cpu_permille = u32::try_from(cpu_ms * 1000 / wall_ms).unwrap_or(u32::MAX);
        }
        self.load = load;
        self.described = Some(now);
        self.silent = false;
    }
}

#[derive(Debug)]
struct Slots {
    kind: MediaKind,
    slots: Mutex<Vec<Slot>>,
    notices: mpsc::Sender<(u16, Notice)>,
}

impl Slots {
    fn new(kind: MediaKind, workers: u16, notices: mpsc::Sender<(u16, Notice)>) -> Self {
        let slots = Mutex::new((0..workers).map(|_| Slot::default()).collect());
        Self { kind, slots, notices }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, worker: u16, act: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        self.lock().get_mut(usize::from(worker)).map(act)
    }

    /// Gives the worker's place to `link`, or says why not.
    fn attach(&self, hello: &Hello, link: &Arc<Link>) -> Result<(), String> {
        if hello.media != self.kind {
            return Err(format!("media {:?}: expected {:?}", hello.media, self.kind));
        }
        let taken = self.with(hello.worker, |slot| {
            if slot.link.is_some() {
                return Err(format!("worker {} is connected already", hello.worker));
            }
            let (link, version) = (Some(link.clone()), Some(hello.version.clone()));
            *slot = Slot { link, version, restarts: slot.restarts, seen: true, ..Slot::default() };
            Ok(())
        });
        taken.unwrap_or_else(|| Err(format!("worker {}: expected a smaller number", hello.worker)))
    }

    /// Frees the worker's place, and tells that it is down.
    async fn detach(&self, worker: u16, link: &Link) {
        link.close();
        // Nobody listens when the agent ends.
        let down = self.notices.reserve().await.ok();
        // At once: the next process must not be up before this one is down.
        self.with(worker, |slot| {
            *slot = Slot { restarts: slot.restarts, version: slot.version.take(), seen: true, ..Slot::default() };
            if let Some(down) = down {
                down.send((worker, Notice::Down));
            }
        });
    }

    fn close(&self) {
        for slot in self.lock().iter_mut() {
            if let Some(link) = slot.link.take() {
                link.close();
            }
        }
    }
}

/// Takes the socket file over from an agent that is gone, but not from one that lives.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if path.exists() {
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            _ => return Err(std::io::ErrorKind::AddrInUse.into()),
        }
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, slots: Arc<Slots>) {
    // As many connections as there are workers, and a few that are just being refused.
    let room = Arc::new(tokio::sync::Semaphore::new(slots.lock().len() + 8));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let slots = slots.clone();
                tokio::spawn(async move {
                    if let Err(reason) = serve(stream, &slots).await {
                        tracing::warn!(%reason, "media server's connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "media socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection from its hello to its end; the error says what the other side did wrong.
async fn serve(stream: UnixStream, slots: &Arc<Slots>) -> Result<(), String> {
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let hello = hello(&mut reader).await?;
    let link = Arc::new(Link::start(writer));
    let worker = hello.worker;
    if let Err(reason) = slots.attach(&hello, &link) {
        link.close();
        return Err(reason);
    }
    tracing::info!(worker, pid = hello.pid, port = hello.media_port, version = %hello.version, "media worker is up");
    let describing = tokio::spawn(describe(slots.clone(), link.clone(), worker));
    let mut ended = Ok(());
    if slots.notices.send((worker, Notice::Up)).await.is_ok() {
        ended = link.read(&mut reader, worker, &slots.notices).await;
    }
    describing.abort();
    slots.detach(worker, &link).await;
    tracing::warn!(worker, "media worker is down");
    ended
}

async fn hello<R>(reader: &mut R) -> Result<Hello, String>
where
    R: tokio::io::AsyncBufRead + Unpin + Send,
{
    let mut line = Vec::new();
    let read = timeout(Duration::from_millis(HELLO_MS), read_line(reader, &mut line, MAX_LINE_BYTES)).await;
    match read {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return Err("closed before its hello".to_owned()),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no hello within {HELLO_MS} ms")),
    }
    match serde_json::from_slice(&line) {
        Ok(roost_proto::media::FromMedia::Hello(hello)) => Ok(hello),
        Ok(_) => Err("its first line: expected hello".to_owned()),
        Err(error) => Err(format!("its first line: expected hello: {error}")),
    }
}

/// Asks the worker again and again what it carries.
async fn describe(slots: Arc<Slots>, link: Arc<Link>, worker: u16) {
    let mut ticks = tokio::time::interval(Duration::from_millis(DESCRIBE_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match link.request(MediaRequest::Describe).await {
            Ok(MediaReply::Described(load)) => {
                slots.with(worker, |slot| slot.describe(load, Instant::now()));
            }
            Ok(_) => tracing::warn!(worker, "media worker answered describe with something else"),
            Err(error) => {
                let was_silent = slots.with(worker, |slot| std::mem::replace(&mut slot.silent, true));
                if was_silent == Some(false) {
                    tracing::warn!(worker, %error, "media worker does not answer: it takes no new rooms until it does");
                }
            }
        }
    }
}
