//! Connections to Redis, and the runs that were read when each was made (rule 1).
//!
//! A connection that breaks is never mended under a call: the call says that its outcome is unknown, and the next one
//! makes a new connection, on which the runs are begun or read first. So no call ever reaches another run than it names.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, PushInfo, PushKind, RedisError, ServerErrorKind, Value};
use tokio::time::{sleep_until, timeout};

use roost_proto::hash::BUCKETS;
use roost_proto::room::Run;

use super::eviction;
use super::keys::Keys;
use super::refusal::Dialled;
use super::script::SCRIPTS;
use crate::dropped::DroppedReports;
use crate::error::StoreError;
use crate::nonce;

/// After a refusal, which costs little and is to be known soon (rule 14), it stays at the first.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(2);

/// A connection on which the runs were read.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: MultiplexedConnection,
    /// Set when the connection ends, also while nobody calls.
    gone: Arc<AtomicBool>,
}

/// The runs and the identity of the data, as last read.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) runs: Vec<Run>,
    pub(super) identity: String,
}

/// A few connections. Each thread of the process uses one of them: that costs least where threads are few.
#[derive(Debug)]
pub(super) struct Sessions {
    client: Client,
    dialled: Dialled,
    is_warned_of_eviction: AtomicBool,
    pub(super) keys: Keys,
    pub(super) dropped: DroppedReports,
    timeout: Duration,
    slots: Vec<Slot>,
    life: Mutex<Option<Life>>,
}

#[derive(Debug, Default)]
struct Slot {
    live: Mutex<Option<Arc<Session>>>,
    attempt: tokio::sync::Mutex<Attempt>,
}

/// What is known of attempts to connect that failed.
#[derive(Debug, Default)]
struct Attempt {
    failures: u32,
    last: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    sent: Instant,
    next: Instant,
    error: StoreError,
}

impl Sessions {
    pub(super) fn new(client: Client, keys: Keys, timeout: Duration, connections: usize) -> Self {
        let slots = (0..connections.max(1)).map(|_| Slot::default()).collect();
        let dialled = Dialled::of(client.get_connection_info().addr());
        let (dropped, is_warned_of_eviction, life) = Default::default();
        Self { client, dialled, is_warned_of_eviction, keys, dropped, timeout, slots, life }
    }

    /// Runs and identity as last read, over a connection that is there (it may have to be made).
    pub(super) async fn life(&self) -> Result<Life, StoreError> {
        let session = self.session().await?;
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match life {
            Some(life) => Ok(life),
            None => self.begin(&session).await,
        }
    }

    /// Sends one command and waits for its answer.
    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, StoreError> {
        let session = self.session().await?;
        match session.send(command).await {
            Ok(value) => Ok(value),
            // Nothing was done: the server has lost its scripts (SCRIPT FLUSH).
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                session.load().await?;
                session.send(command).await.map_err(|error| self.failed(&session, &error))
            }
            Err(error) => Err(self.failed(&session, &error)),
        }
    }

    /// Reads all runs anew, after an answer that a bucket is in another one.
    pub(super) async fn renewed_run(&self, bucket: u8) -> Result<Run, StoreError> {
        let session = self.session().await?;
        let life = self.begin(&session).await?;
        Ok(life.runs[usize::from(bucket % BUCKETS)].clone())
    }

    /// A connection apart from the others, on which a command may wait for `patience` before it is answered.
    pub(super) async fn separate(&self, patience: Duration) -> Result<(Session, Life), StoreError> {
        let session = self.connect(self.timeout + patience).await?;
        let life = self.begin(&session).await?;
        Ok((session, life))
    }

    /// Names the runs that are, and begins those that are not yet (rules 1 and 2).
    pub(super) async fn begin(&self, session: &Session) -> Result<Life, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(&self.keys.identity).arg(nonce::text()).arg("NX").ignore();
        pipeline.cmd("GET").arg(&self.keys.identity);
        for bucket in self.keys.buckets() {
            let mut begin = SCRIPTS.begin.call(&[&bucket.meta, &bucket.claims]);
            begin.arg(&*nonce::run().0);
            pipeline.add_command(begin);
        }
        let mut connection = session.connection.clone();
        // What it writes is the same whoever does it and how often, so that no answer is as good as not done.
        let mut texts: Vec<String> = pipeline.query_async(&mut connection).await.map_err(|error| {
            self.failed(session, &error);
            unavailable(&error)
        })?;
        let runs = texts.split_off(1).into_iter().map(|run| Run(run.into())).collect();
        let life = Life { runs, identity: texts.swap_remove(0) };
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = Some(life.clone());
        Ok(life)
    }

    /// This thread's connection, made now if there is none.
    async fn session(&self) -> Result<Arc<Session>, StoreError> {
        let slot = &self.slots[thread_number() % self.slots.len()];
        if let Some(session) = slot.live() {
            return Ok(session);
        }
        let asked = Instant::now();
        let mut attempt = slot.attempt.lock().await;
        if let Some(session) = slot.live() {
            return Ok(session);
        }
        match &attempt.last {
            // Others asked at the same time; it was sent after they did.
            Some(last) if last.sent >= asked => return Err(last.error.clone()),
            // That it was refused before says nothing of this call: it counts from when it is sent (rule 14).
            Some(Failure { next, error: StoreError::Refused { .. }, .. }) => sleep_until((*next).into()).await,
            Some(last) if Instant::now() < last.next => {
                return Err(StoreError::Unavailable { reason: last.error.to_string() });
            }
            _ => {}
        }
        let sent = Instant::now();
        let late = |_| StoreError::Unavailable { reason: "no connection in time".to_owned() };
        match timeout(self.timeout, self.prepare()).await.map_err(late).flatten() {
            Ok(session) => {
                let session = Arc::new(session);
                *attempt = Attempt::default();
                *slot.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
                Ok(session)
            }
            Err(error) => {
                let is_refused = matches!(error, StoreError::Refused { .. });
                let doubled = if is_refused { 0 } else { attempt.failures.min(10) };
                let next = Instant::now() + BACKOFF_LAST.min(BACKOFF_FIRST * 2u32.saturating_pow(doubled));
                attempt.failures += 1;
                attempt.last = Some(Failure { sent, next, error: error.clone() });
                Err(error)
            }
        }
    }

    async fn prepare(&self) -> Result<Session, StoreError> {
        let session = self.connect(self.timeout).await?;
        self.begin(&session).await?;
        Ok(session)
    }

    async fn connect(&self, patience: Duration) -> Result<Session, StoreError> {
        let gone = Arc::new(AtomicBool::new(false));
        let ended = gone.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(patience))
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    ended.store(true, Ordering::Release);
                }
                Ok::<(), SendError>(())
            });
        let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let session = Session { connection: connected.map_err(|error| self.dialled.failed(&error))?, gone };
        let (loaded, memory, told) = tokio::join!(session.load(), session.info("memory"), self.about(&session));
        loaded?;
        eviction::check(&memory?, &self.is_warned_of_eviction)?;
        self.dialled.learn(told.as_deref());
        Ok(session)
    }

    /// What the server says of a new connection. A user who may not ask only does without rule 14.
    async fn about(&self, session: &Session) -> Option<String> {
        let mut about = redis::cmd("CLIENT");
        about.arg("INFO");
        if self.dialled.is_literal() { about.query_async(&mut session.connection.clone()).await.ok() } else { None }
    }

    /// What a failed call is, and the end of its connection if that is to blame.
    fn failed(&self, session: &Session, error: &RedisError) -> StoreError {
        if is_refusal(error) {
            return unavailable(error);
        }
        if !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
            for slot in &self.slots {
                let mut live = slot.live.lock().unwrap_or_else(PoisonError::into_inner);
                if live.as_ref().is_some_and(|other| std::ptr::eq(&**other, session)) {
                    *live = None;
                }
            }
        }
        StoreError::Unknown { reason: error.to_string() }
    }
}

impl Session {
    async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        self.connection.clone().send_packed_command(command).await.and_then(Value::extract_error)
    }

    async fn info(&self, section: &str) -> Result<String, StoreError> {
        let mut info = redis::cmd("INFO");
        info.arg(section);
        info.query_async(&mut self.connection.clone()).await.map_err(|error| unavailable(&error))
    }

    async fn load(&self) -> Result<(), StoreError> {
        SCRIPTS.load().query_async(&mut self.connection.clone()).await.map_err(|error| unavailable(&error))
    }
}

impl Slot {
    fn live(&self) -> Option<Arc<Session>> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.as_ref().filter(|session| !session.gone.load(Ordering::Acquire)).cloned()
    }
}

/// Whether the server refused before it wrote anything. In a script these come at its first write at the latest.
fn is_refusal(error: &RedisError) -> bool {
    const BEFORE_ANY_WRITE: [&str; 15] = [
        "ASK",
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "MOVED",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
        "NOSCRIPT",
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "WRONGPASS",
    ];
    error.code().is_some_and(|code| BEFORE_ANY_WRITE.contains(&code))
}

pub(super) fn unavailable(error: &RedisError) -> StoreError {
    StoreError::Unavailable { reason: error.to_string() }
}

/// Numbers the threads in the order in which they first call.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
