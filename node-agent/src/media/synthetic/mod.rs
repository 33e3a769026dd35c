//! Made-up media in this process: the same answers and events as a real media server, without a packet. Participants
//! are simulated with a WebSocket alone. Named `synthetic` in every output.

mod parameters;
#[cfg(test)]
mod tests;
mod world;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use roost_proto::media::{MediaError, MediaErrorCode, MediaReply, MediaRequest};
use roost_proto::report::{Worker, WorkerState};
use tokio::sync::mpsc;

use self::world::World;
use super::{MediaServer, NOTICES_WAITING, Notice, Taken};

/// Synthetic workers; all are up from the start.
#[derive(Debug)]
pub(crate) struct Synthetic {
    workers: Vec<Mutex<SyntheticWorker>>,
    notices: mpsc::Sender<(u16, Notice)>,
    events: Taken,
    made: AtomicU64,
    random: [RandomState; 2],
}

#[derive(Debug)]
struct SyntheticWorker {
    /// None while it is down.
    world: Option<World>,
    restarts: u32,
}

impl Synthetic {
    /// Workers `0..workers`.
    pub(crate) fn new(workers: u16) -> Self {
        let (notices, events) = mpsc::channel(NOTICES_WAITING);
        let made = |index| Mutex::new(SyntheticWorker { world: Some(World::new(index)), restarts: 0 });
        Self {
            workers: (0..workers).map(made).collect(),
            notices,
            events: Taken::new(events),
            made: AtomicU64::new(0),
            random: [RandomState::new(), RandomState::new()],
        }
    }

    fn lock(&self, worker: u16) -> Option<MutexGuard<'_, SyntheticWorker>> {
        self.workers.get(usize::from(worker)).map(|worker| worker.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// In the form of a random UUID.
    fn new_id(&self) -> String {
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        let [high, low] = [self.random[0].hash_one(count), self.random[1].hash_one(count)];
        let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xfff);
        format!("{a:08x}-{b:04x}-4{c:03x}-a{:03x}-{:012x}", low >> 52, low & 0xffff_ffff_ffff)
    }
}

#[cfg(test)]
impl Synthetic {
    /// Ends a worker as a crash would.
    pub(crate) async fn crash(&self, worker: u16) {
        self.lock(worker).expect("a worker of this index").world = None;
        self.tell(worker, Notice::Down).await;
    }

    /// Starts a worker again.
    pub(crate) async fn restart(&self, worker: u16) {
        {
            let mut lock = self.lock(worker).expect("a worker of this index");
            lock.world = Some(World::new(worker));
            lock.restarts += 1;
        }
        self.tell(worker, Notice::Up).await;
    }

    /// Lets a worker tell something.
    pub(crate) async fn tell(&self, worker: u16, notice: Notice) {
        self.notices.send((worker, notice)).await.expect("somebody listens");
    }
}

#[async_trait]
impl MediaServer for Synthetic {
    fn version(&self) -> String {
        "synthetic".to_owned()
    }

    fn workers(&self) -> Vec<Worker> {
        let workers = (0..).zip(&self.workers).map(|(index, worker)| {
            let worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
            let load = worker.world.as_ref().map(World::describe).unwrap_or_default();
            Worker {
                index,
                state: if worker.world.is_some() { WorkerState::Up } else { WorkerState::Down },
                restarts: worker.restarts,
                cpu_permille: 0,
                memory_bytes: 0,
                rooms: u32::try_from(load.rooms.len()).unwrap_or(u32::MAX),
                participants: 0,
                producers: load.rooms.iter().map(|room| room.producers).fold(0, u32::saturating_add),
                consumers: load.rooms.iter().map(|room| room.consumers).fold(0, u32::saturating_add),
            }
        });
        workers.collect()
    }

    async fn request(&self, worker: u16, request: MediaRequest) -> Result<MediaReply, MediaError> {
        let (answer, events) = {
            let down = || MediaError::new(MediaErrorCode::Failed, format!("media worker {worker} is down"));
            let mut lock = self.lock(worker).ok_or_else(down)?;
            let world = lock.world.as_mut().ok_or_else(down)?;
            (world.handle(request, self.new_id()), world.take_events())
        };
        for event in events {
            // Nobody listens when the agent ends.
            let _ = self.notices.send((worker, Notice::Event(event))).await;
        }
        answer
    }

    fn events(&self) -> mpsc::Receiver<(u16, Notice)> {
        self.events.take()
    }
}
