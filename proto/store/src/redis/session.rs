//! Connections to Redis, and the runs that were read when each was made (rule 1).
//!
//! A connection that breaks is never mended under a call: the call says that its outcome is unknown, and the next one
//! makes a new connection, on which the runs are begun or read first. So no call ever reaches another run than it names.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, PushInfo, PushKind, RedisError, ServerErrorKind, Value};
use tokio::time::timeout;

use roost_proto::hash::BUCKETS;
use roost_proto::room::Run;

use super::eviction;
use super::keys::Keys;
use super::script::SCRIPTS;
use super::shard::{Place, Shard, Shards};
use super::takeover::Bound;
use crate::dropped::DroppedReports;
use crate::error::StoreError;
use crate::nonce;

/// How long a server of a cluster is waited for that is asked whether its runs go on. A renewal waits with it.
const GOES_ON_WITHIN: Duration = Duration::from_millis(500);

/// A connection on which the runs were read.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: MultiplexedConnection,
    /// The buckets that it is for.
    pub(super) buckets: Vec<u8>,
    /// Set when the connection ends, also while nobody calls, and when it is to be used no longer.
    gone: Arc<AtomicBool>,
}

/// The runs and the identity of the data, as last read.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) runs: Vec<Run>,
    pub(super) identity: String,
}

/// The same, as far as it was read.
#[derive(Debug)]
struct Known {
    runs: Vec<Option<Run>>,
    identity: Option<String>,
}

/// Connections to all servers of the store.
#[derive(Debug)]
pub(super) struct Sessions {
    place: Place,
    /// Where there is no cluster.
    one: Arc<Shards>,
    connections: usize,
    timeout: Duration,
    is_warned_of_eviction: AtomicBool,
    replaced_ms: AtomicU64,
    known: Mutex<Known>,
    pub(super) keys: Keys,
    pub(super) dropped: DroppedReports,
}

impl Sessions {
    pub(super) fn new(place: Place, keys: Keys, timeout: Duration, connections: usize) -> Self {
        let client = if let Place::Server(client) = &place { Some(client.clone()) } else { None };
        let one = Shards::one(client, connections);
        let known = Mutex::new(Known { runs: vec![None; usize::from(BUCKETS)], identity: None });
        let (is_warned_of_eviction, replaced_ms, dropped) = Default::default();
        Self { place, one, connections, timeout, is_warned_of_eviction, replaced_ms, known, keys, dropped }
    }

    /// How long a server that was replaced may go on answering; 0 where none is.
    pub(super) fn replaced_ms(&self) -> u64 {
        match &self.place {
            Place::Server(_) => 0,
            Place::Sentinels(_) | Place::Cluster(_) => self.replaced_ms.load(Ordering::Relaxed),
        }
    }

    /// All servers of the store.
    pub(super) async fn shards(&self) -> Result<Arc<Shards>, StoreError> {
        match &self.place {
            Place::Server(_) | Place::Sentinels(_) => Ok(self.one.clone()),
            Place::Cluster(cluster) => {
                cluster.shards(|bucket| self.keys.bucket(bucket).meta.clone(), self.connections, self.timeout).await
            }
        }
    }

    /// Runs and identity as last read, over connections that are there (they may have to be made). While a part of a
    /// cluster is away, its runs are those that were read last.
    pub(super) async fn life(&self) -> Result<Life, StoreError> {
        let shards = self.shards().await?;
        let mut trouble = None;
        let mut is_reached = false;
        for shard in &shards.all {
            match self.session(shard).await {
                Ok(_) => is_reached = true,
                Err(error) => trouble = Some(error),
            }
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let runs: Option<Vec<Run>> = known.runs.iter().cloned().collect();
        match (runs, known.identity.clone()) {
            (Some(runs), Some(identity)) if is_reached => Ok(Life { runs, identity }),
            _ => Err(trouble.unwrap_or(StoreError::Unavailable { reason: "no server has all buckets".to_owned() })),
        }
    }

    /// Sends one command about a bucket and waits for its answer.
    pub(super) async fn call(&self, bucket: u8, command: &Cmd) -> Result<Value, StoreError> {
        let shards = self.shards().await?;
        let session = self.session(shards.of(bucket)?).await?;
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
        let shards = self.shards().await?;
        for shard in &shards.all {
            // Another server may be away; the bucket's own has just answered.
            if let Ok(session) = self.session(shard).await {
                let _told_by_its_next_call = self.begin(&session).await;
            }
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let run = known.runs[usize::from(bucket % BUCKETS)].clone();
        run.ok_or_else(|| StoreError::Unavailable { reason: format!("the run of bucket {bucket} is not known") })
    }

    /// A connection apart from the others, on which a command may wait for `patience` before it is answered, and the
    /// runs of its buckets.
    pub(super) async fn separate(
        &self,
        shard: &Shard,
        buckets: Vec<u8>,
        patience: Duration,
    ) -> Result<(Session, Vec<Run>), StoreError> {
        let session = self.connect(shard, buckets, self.timeout + patience).await?;
        let runs = self.begin(&session).await?;
        Ok((session, runs))
    }

    /// The buckets of a shard whose streams one command can follow: in a cluster, one slot's.
    pub(super) fn together(&self, shard: &Shard) -> Vec<Vec<u8>> {
        match self.place {
            Place::Cluster(_) => shard.buckets.iter().map(|bucket| vec![*bucket]).collect(),
            Place::Server(_) | Place::Sentinels(_) => vec![shard.buckets.clone()],
        }
    }

    /// The runs of these buckets, as their servers say them at this moment: in a cluster a part of the buckets may begin a
    /// new run while the others go on. None where one server has all: its answer to anything is one for all buckets, for
    /// another server is another connection, and a wipe begins all runs anew.
    pub(super) async fn going_on(&self, buckets: &[u8]) -> Option<Vec<(u8, Run)>> {
        let Place::Cluster(_) = self.place else { return None };
        let wanted = |shard: &Arc<Shard>| -> Vec<u8> {
            buckets.iter().copied().filter(|bucket| shard.buckets.contains(bucket)).collect()
        };
        let ask = async |shard: Arc<Shard>, buckets: Vec<u8>| {
            let session = self.session(&shard).await.ok()?;
            // Each by itself: one whose slot is on its way to another server is an error, and says nothing of the others.
            let one = async |bucket: u8| Some((bucket, self.begin_some(&session, &[bucket]).await.ok()?.pop()?));
            Some(join_all(buckets.into_iter().map(one)).await.into_iter().flatten().collect::<Vec<_>>())
        };
        let shards = self.shards().await.ok();
        let all = shards.iter().flat_map(|shards| &shards.all);
        let asked = all.map(|shard| (shard.clone(), wanted(shard))).filter(|(_, buckets)| !buckets.is_empty());
        // One that is silent must not hold up what the others say.
        let asked = asked.map(|(shard, buckets)| timeout(GOES_ON_WITHIN, ask(shard, buckets)));
        Some(join_all(asked).await.into_iter().flatten().flatten().flatten().collect())
    }

    /// The runs of these buckets, as last read.
    pub(super) fn known(&self, buckets: &[u8]) -> Vec<(u8, Run)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let run = |bucket: &u8| Some((*bucket, known.runs.get(usize::from(*bucket))?.clone()?));
        buckets.iter().filter_map(run).collect()
    }

    /// Names the runs of the session's buckets, and begins those that are not yet (rules 1 and 2).
    pub(super) async fn begin(&self, session: &Session) -> Result<Vec<Run>, StoreError> {
        self.begin_some(session, &session.buckets).await
    }

    async fn begin_some(&self, session: &Session, buckets: &[u8]) -> Result<Vec<Run>, StoreError> {
        let has_identity = buckets.contains(&0);
        let mut pipeline = redis::pipe();
        if has_identity {
            pipeline.cmd("SET").arg(&self.keys.identity).arg(nonce::text()).arg("NX").ignore();
            pipeline.cmd("GET").arg(&self.keys.identity);
        }
        for bucket in buckets {
            let bucket = self.keys.bucket(*bucket);
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
        let runs = texts.split_off(usize::from(has_identity)).into_iter().map(|run| Run(run.into()));
        let runs: Vec<Run> = runs.collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (bucket, run) in buckets.iter().zip(&runs) {
            known.runs[usize::from(*bucket)] = Some(run.clone());
        }
        known.identity = texts.pop().or(known.identity.take());
        Ok(runs)
    }

    /// This thread's connection to the shard, made now if there is none.
    pub(super) async fn session(&self, shard: &Shard) -> Result<Arc<Session>, StoreError> {
        let slot = shard.slot();
        if let Some(session) = slot.live() {
            return Ok(session);
        }
        let late = |_| StoreError::Unavailable { reason: "no connection in time".to_owned() };
        let attempt = async || {
            let prepared = timeout(self.timeout, self.prepare_or_again(shard)).await.map_err(late).flatten();
            let session = Arc::new(prepared.inspect_err(|_| self.look_again())?);
            slot.set(session.clone());
            Ok(session)
        };
        slot.attempts.until(|| slot.live(), attempt).await
    }

    /// A connection that breaks before anything was asked on it says little of the server: it is made once more, in the
    /// same time, before all who wait for it are told.
    async fn prepare_or_again(&self, shard: &Shard) -> Result<Session, StoreError> {
        match self.prepare(shard).await {
            Err(StoreError::Unavailable { .. }) => self.prepare(shard).await,
            prepared => prepared,
        }
    }

    async fn prepare(&self, shard: &Shard) -> Result<Session, StoreError> {
        let session = self.connect(shard, shard.buckets.clone(), self.timeout).await?;
        self.begin(&session).await?;
        Ok(session)
    }

    async fn connect(&self, shard: &Shard, buckets: Vec<u8>, patience: Duration) -> Result<Session, StoreError> {
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
        let client = self.client(shard).await?;
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        let connection = connected.map_err(|error| shard.dialled.failed(&error))?;
        let session = Session { connection, buckets, gone };
        let (loaded, memory, ()) =
            tokio::join!(session.load(), session.info("memory"), self.learn(shard, &session.connection));
        loaded?;
        eviction::check(&memory?, &self.is_warned_of_eviction)?;
        Ok(session)
    }

    async fn client(&self, shard: &Shard) -> Result<Client, StoreError> {
        match (&shard.client, &self.place) {
            (Some(client), _) | (None, Place::Server(client)) => Ok(client.clone()),
            (None, Place::Sentinels(sentinels)) => sentinels.master().await,
            (None, Place::Cluster(_)) => Err(StoreError::Unavailable { reason: "no master is known".to_owned() }),
        }
    }

    /// Takes in what the server says of itself and of a new connection. A user who may not ask does without rule 14.
    async fn learn(&self, shard: &Shard, connection: &MultiplexedConnection) {
        let bound = match &self.place {
            Place::Server(_) if shard.dialled.is_literal() => {
                let mut about = redis::cmd("CLIENT");
                about.arg("INFO");
                let told: Option<String> = about.query_async(&mut connection.clone()).await.ok();
                return shard.dialled.learn(told.as_deref());
            }
            Place::Server(_) => return,
            Place::Sentinels(_) => Bound::Lag,
            Place::Cluster(_) => Bound::NodeTimeout,
        };
        let read = bound.read(connection).await;
        let is_warned = self.replaced_ms.load(Ordering::Relaxed) != 0;
        self.replaced_ms.fetch_max(bound.or_assumed(read, is_warned), Ordering::Relaxed);
    }

    /// What a failed call is, and the end of its connection if that is to blame.
    fn failed(&self, session: &Session, error: &RedisError) -> StoreError {
        const ANOTHER_SERVER: [&str; 6] = ["ASK", "CLUSTERDOWN", "MOVED", "NOREPLICAS", "READONLY", "TRYAGAIN"];
        let is_elsewhere = error.code().is_some_and(|code| ANOTHER_SERVER.contains(&code));
        let may_move = !matches!(self.place, Place::Server(_));
        if !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) || is_elsewhere && may_move {
            session.gone.store(true, Ordering::Release);
        }
        if is_elsewhere {
            self.look_again();
        }
        if is_refusal(error) {
            return unavailable(error);
        }
        StoreError::Unknown { reason: error.to_string() }
    }

    fn look_again(&self) {
        if let Place::Cluster(cluster) = &self.place {
            cluster.is_no_longer();
        }
    }
}

impl Session {
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

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
