//! Keeps the ledger: takes what is heard at once, and writes it when the database takes it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use roost_proto::time::Millis;
use roost_server::telemetry::causes;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::batch::{Backoff, Batch, MOST_ROWS};
use super::database::{Database, is_refusal};
use super::history::{Fact, History};
use super::row::Row;
use crate::metrics::LedgerMetrics;

/// An answer that takes longer is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What is left when the process ends gets this long.
pub(super) const FINISH_WITHIN: Duration = Duration::from_secs(2);
/// Whether rows are due is looked at this often.
const LOOK_AGAIN_MS: u64 = 50;
/// A database that nothing is written to is asked this often whether it is there.
const PING_MS: u64 = 2_000;
/// Old rows are looked for this often; when there were many, again after the shorter pause.
const PRUNE_MS: u64 = 60_000;
const PRUNE_MORE_MS: u64 = 500;
/// How often what is over is forgotten.
const SWEEP_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
/// How many facts are taken between two looks at the database.
const FACTS_AT_ONCE: usize = 64;

/// Keeps one ledger, on a thread of its own.
#[derive(Debug)]
pub(super) struct Keeper {
    address: Address,
    /// None: for ever.
    retention_ms: Option<u64>,
    metrics: LedgerMetrics,
    started: Instant,
    batch: RefCell<Batch>,
    /// The store's time, and ours when it was heard.
    store_time: Cell<Option<(u64, Millis)>>,
}

/// When what is done now and then was done last.
#[derive(Debug, Default)]
struct Rounds {
    answered: Millis,
    prune: Millis,
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("no answer in {ANSWER_WITHIN:?}")]
    Silent,
    #[error(transparent)]
    Failed(#[from] sqlx::Error),
}

impl Keeper {
    pub(super) fn new(address: Address, retention_days: u32, metrics: LedgerMetrics) -> Self {
        Self {
            address,
            retention_ms: (retention_days > 0).then(|| u64::from(retention_days) * DAY_MS),
            metrics,
            started: Instant::now(),
            batch: RefCell::default(),
            store_time: Cell::new(None),
        }
    }

    /// Until it is told to stop; then writes what is left, if the database takes it.
    pub(super) async fn keep(&self, mut facts: mpsc::Receiver<Fact>, stop: watch::Receiver<bool>) {
        let mut history = History::default();
        let mut swept = Millis(0);
        let mut heard = Vec::with_capacity(FACTS_AT_ONCE);
        let database = {
            let mut writing = pin!(self.write_until(stop));
            loop {
                tokio::select! {
                    _ = facts.recv_many(&mut heard, FACTS_AT_ONCE) => {
                        heard.drain(..).for_each(|fact| self.fold(&mut history, fact));
                        if let Some(store_ms) = self.store_now_ms() && self.now().since(swept) > SWEEP_MS {
                            history.sweep(store_ms);
                            swept = self.now();
                        }
                    }
                    database = &mut writing => break database,
                }
            }
        };
        while let Ok(fact) = facts.try_recv() {
            self.fold(&mut history, fact);
        }
        if let Some(mut database) = database {
            // What is left over is counted below.
            let _ = timeout(FINISH_WITHIN, self.write_waiting(&mut database)).await;
        }
        let lost = self.batch.borrow().len();
        if lost > 0 {
            tracing::warn!(rows = lost, "the ledger's database has not taken all rows: they are lost");
        }
    }

    fn fold(&self, history: &mut History, fact: Fact) {
        let now = self.now();
        self.store_time.set(Some((fact.at_ms, now)));
        let mut batch = self.batch.borrow_mut();
        for row in history.fold(fact) {
            if !batch.add(row, now) {
                self.metrics.dropped.inc();
            }
        }
    }

    /// Writes what is due, again and again; gives the connection back, if there is one.
    async fn write_until(&self, mut stop: watch::Receiver<bool>) -> Option<Database> {
        let mut database = None;
        let mut rounds = Rounds::default();
        let mut backoff = Backoff::default();
        let mut is_new = true;
        loop {
            let pause_ms = match self.round(&mut database, &mut rounds).await {
                Ok(()) => {
                    if is_new || backoff.is_failing() {
                        tracing::info!(ledger = %self.address, "the ledger is kept");
                    }
                    is_new = false;
                    backoff.succeeded();
                    self.metrics.up.set(1);
                    LOOK_AGAIN_MS
                }
                Err(trouble) => {
                    if !backoff.is_failing() {
                        let (ledger, error) = (&self.address, causes(&trouble));
                        tracing::warn!(%ledger, error, most = MOST_ROWS, "no ledger is kept: rows wait; trying again");
                    }
                    database = None;
                    self.metrics.up.set(0);
                    backoff.failed()
                }
            };
            // Stopping is also when whoever could say so is gone.
            tokio::select! {
                () = sleep(Duration::from_millis(pause_ms)) => {}
                _ = stop.wait_for(|stop| *stop) => return database,
            }
        }
    }

    /// Connects if need be, and does what is due.
    async fn round(&self, database: &mut Option<Database>, rounds: &mut Rounds) -> Result<(), Trouble> {
        let database = match database {
            Some(database) => database,
            None => {
                let connected = answered(Database::connect(&self.address)).await?;
                rounds.answered = self.now();
                database.insert(connected)
            }
        };
        if self.is_due() {
            while self.is_due() {
                self.write_some(database).await?;
            }
            rounds.answered = self.now();
        }
        if let Some(before_ms) = self.prune_before_ms().filter(|_| self.now() >= rounds.prune) {
            let more = answered(database.prune(before_ms)).await?;
            rounds.answered = self.now();
            rounds.prune = self.now().plus(if more { PRUNE_MORE_MS } else { PRUNE_MS });
        } else if self.now().since(rounds.answered) > PING_MS {
            answered(database.ping()).await?;
            rounds.answered = self.now();
        }
        Ok(())
    }

    async fn write_waiting(&self, database: &mut Database) -> Result<(), Trouble> {
        while self.batch.borrow().len() > 0 {
            self.write_some(database).await?;
        }
        Ok(())
    }

    /// Takes rows and writes them, or puts them back.
    async fn write_some(&self, database: &mut Database) -> Result<(), Trouble> {
        let rows = self.batch.borrow_mut().take();
        let written = match answered(database.write(&rows)).await {
            Err(Trouble::Failed(error)) if is_refusal(&error) => self.write_each(database, &rows).await,
            other => other,
        };
        match written {
            Ok(()) => self.batch.borrow_mut().written(),
            // It may have been written: then it is once more, which changes nothing.
            Err(_) => self.batch.borrow_mut().put_back(rows, self.now()),
        }
        written
    }

    /// One of the rows is refused: it alone is left out, so that it does not hold up the others for ever.
    async fn write_each(&self, database: &mut Database, rows: &[Row]) -> Result<(), Trouble> {
        for row in rows {
            match answered(database.write(std::slice::from_ref(row))).await {
                Err(Trouble::Failed(error)) if is_refusal(&error) => {
                    self.metrics.dropped.inc();
                    tracing::warn!(error = causes(&error), "the ledger's database refuses a row: it is left out");
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.batch.borrow().poll_timeout().is_some_and(|due| due <= self.now())
    }

    fn prune_before_ms(&self) -> Option<u64> {
        Some(self.store_now_ms()?.saturating_sub(self.retention_ms?))
    }

    fn store_now_ms(&self) -> Option<u64> {
        self.store_time.get().map(|(store_ms, heard)| store_ms.saturating_add(self.now().since(heard)))
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

async fn answered<T>(question: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Trouble> {
    timeout(ANSWER_WITHIN, question).await.map_err(|_| Trouble::Silent)?.map_err(Trouble::Failed)
}
