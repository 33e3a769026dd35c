//! The ledger: the durable history of rooms, of their moves and of what operators did, in SQLite or PostgreSQL.
//!
//! It hears what the store tells all schedulers, and is never in the way of that: what does not fit into its queue is
//! dropped and counted. Each scheduler writes what it hears; the rows' keys make one row of it.

mod address;
mod batch;
mod database;
mod history;
mod keeper;
mod row;

use std::io;
use std::sync::{Mutex, PoisonError, mpsc as std_mpsc};
use std::thread;

use roost_proto::event::Event;
use roost_proto::report::Report;
use tokio::sync::{mpsc, watch};

pub(crate) use self::address::{Address, EXPECTED};
pub(crate) use self::row::Action;

use self::history::{Fact, What};
use self::keeper::{FINISH_WITHIN, Keeper};
use crate::metrics::LedgerMetrics;

/// How many facts may wait until they are looked at; a report is one.
const MOST_WAITING: usize = 16_384;

/// Why no ledger can be kept.
#[derive(Debug, thiserror::Error)]
#[error("ledger {address}: expected a file that can be written, and is empty or a ledger")]
pub(crate) struct LedgerError {
    address: Address,
    source: io::Error,
}

/// Takes what is to be kept.
#[derive(Debug)]
pub(crate) struct Ledger {
    facts: mpsc::Sender<Fact>,
    pub metrics: LedgerMetrics,
    stop: watch::Sender<bool>,
    /// Gives an error when the keeper has ended.
    kept: Mutex<std_mpsc::Receiver<()>>,
}

impl Ledger {
    /// Begins to keep one. A server that is away is no reason not to; a file that can be none is.
    pub(crate) fn start(address: Address, retention_days: u32) -> Result<Self, LedgerError> {
        let unusable = |source| LedgerError { address: address.clone(), source };
        address.check().map_err(unusable)?;
        let metrics = LedgerMetrics::new();
        let keeper = Keeper::new(address.clone(), retention_days, metrics.clone());
        let (facts, heard) = mpsc::channel(MOST_WAITING);
        let (stop, stopping) = watch::channel(false);
        let (keeping, kept) = std_mpsc::sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unusable)?;
        let work = move || {
            let _keeping: std_mpsc::SyncSender<()> = keeping;
            runtime.block_on(keeper.keep(heard, stopping));
        };
        thread::Builder::new().name("ledger".to_owned()).spawn(work).map_err(unusable)?;
        Ok(Self { facts, metrics, stop, kept: Mutex::new(kept) })
    }

    /// A watch of the store begins at `at_ms` of its time.
    pub(crate) fn watching(&self, at_ms: u64) {
        self.note(at_ms, What::Watching);
    }

    /// The store told of something at `at_ms` of its time.
    pub(crate) fn heard(&self, event: &Event, at_ms: u64) {
        let what = match event {
            Event::Claimed { key, claim, ttl_ms, handed_over, .. } => {
                let (key, claim) = (key.clone(), claim.clone());
                What::Claimed { key, claim, ttl_ms: *ttl_ms, handed_over: *handed_over }
            }
            Event::Released { key, epoch } => What::Released { key: key.clone(), epoch: *epoch },
            Event::Reported(report) => match reported(report) {
                Some(what) => what,
                None => return,
            },
            Event::Left { .. } | Event::Steered { .. } | Event::Purged { .. } => return,
        };
        self.note(at_ms, what);
    }

    /// An operator did something.
    pub(crate) fn acted(&self, action: Action) {
        self.note(action.heard_ms, What::Acted(action));
    }

    /// Writes what is left.
    pub(crate) fn finish(&self) {
        // It has ended already if nobody hears this.
        let _ = self.stop.send(true);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: it ends when the keeper does, or when it takes too long.
        let _ = kept.recv_timeout(2 * FINISH_WITHIN);
    }

    fn note(&self, at_ms: u64, what: What) {
        if self.facts.try_send(Fact { at_ms, what }).is_err() {
            self.metrics.dropped.inc();
        }
    }
}

/// What of a report the ledger keeps; most say nothing about rooms.
fn reported(report: &Report) -> Option<What> {
    let rooms: Vec<_> = report
        .changed
        .iter()
        .filter(|room| room.participants > 0)
        .map(|room| (room.key.clone(), room.epoch, room.participants))
        .collect();
    let ended: Vec<_> = report.ended.iter().map(|room| (room.key.clone(), room.epoch)).collect();
    let is_news = !rooms.is_empty() || !ended.is_empty();
    is_news.then(|| What::Reported { home: (report.node.clone(), report.incarnation), rooms, ended })
}
