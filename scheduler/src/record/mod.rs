//! `--record`: what the scheduler hears and how it answers, as a trace for `roost-scheduler replay`.
//!
//! Whoever notes something never waits: a thread of its own writes. What it cannot keep up with is dropped and counted.

mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use roost_proto::error::Problem;
use roost_proto::event::Event;
use roost_proto::id::NodeId;
use roost_proto::policy::Policies;
use roost_proto::report::Report;
use roost_proto::time::Millis;
use roost_scheduler_core::request::Request;
use roost_server::ClusterKeys;
use roost_sim::trace::{EndedLine, GoneLine, Line, LookupLine, NodeLine, RoomLine};

use crate::app::lookup::Found;
use crate::config::Settings;

/// How many lines may wait to be written: some full reports' worth.
const MOST_WAITING: usize = 65_536;
/// What is left to write when the process ends gets this long.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// Why no trace can be written.
#[derive(Debug, thiserror::Error)]
#[error("record {}: expected a file that can be written", path.display())]
pub(crate) struct RecordError {
    path: PathBuf,
    source: io::Error,
}

/// Takes what is to be written.
#[derive(Debug)]
pub(crate) struct Recorder {
    lines: SyncSender<Line>,
    /// No further lines are wanted: the process ends, the trace is as large as it may be, or the disk is full.
    is_over: Arc<AtomicBool>,
    dropped: AtomicU64,
    /// Gives an error when the writer has ended.
    written: Mutex<mpsc::Receiver<()>>,
}

impl Recorder {
    /// Begins a trace, if one is asked for. One that is there already is kept beside it, as `FILE.1`.
    pub(crate) fn start(
        settings: &Settings,
        keys: &ClusterKeys,
        policies: &Policies,
    ) -> Result<Option<Self>, RecordError> {
        let Some(path) = &settings.record else { return Ok(None) };
        let unwritable = |source| RecordError { path: path.clone(), source };
        keep_earlier(path).map_err(unwritable)?;
        let names = (!settings.record_names).then(|| keys.clone());
        let most_bytes = settings.record_max_mb.saturating_mul(1_000_000);
        let writer = writer::Writer::begin(path, most_bytes, names, policies).map_err(unwritable)?;
        let (lines, waiting) = mpsc::sync_channel(MOST_WAITING);
        let (writing, written) = mpsc::sync_channel(1);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let work = move || {
            let _writing: SyncSender<()> = writing;
            writer.write_all(&waiting, &over);
        };
        thread::Builder::new().name("record".to_owned()).spawn(work).map_err(unwritable)?;
        tracing::info!(file = %path.display(), "recording");
        Ok(Some(Self { lines, is_over, dropped: AtomicU64::new(0), written: Mutex::new(written) }))
    }

    /// The store told of something.
    pub(crate) fn heard(&self, event: &Event, now: Millis) {
        let at_ms = now.0;
        match event {
            Event::Reported(report) => self.reported(report, at_ms),
            Event::Left { node, .. } | Event::Purged { node } => self.gone(node, now),
            Event::Released { key, .. } => {
                let (namespace, room) = (key.namespace.clone(), key.room.clone());
                self.note(Line::Ended(EndedLine { at_ms, namespace, room }));
            }
            // The lookup that granted it is in its scheduler's trace, the open room in its node's next report.
            Event::Claimed { .. } => {}
            // The node's next report says the same.
            Event::Steered { .. } => {}
        }
    }

    /// The node is lost. May be said again and again.
    pub(crate) fn gone(&self, node: &NodeId, now: Millis) {
        self.note(Line::Gone(GoneLine { at_ms: now.0, node: node.clone() }));
    }

    /// A lookup was answered.
    pub(crate) fn answered(&self, request: &Request<'_>, found: &Result<Found, Problem>, now: Millis) {
        let (answer, refusal) = (found.as_ref().ok(), found.as_ref().err());
        self.note(Line::Lookup(Box::new(LookupLine {
            at_ms: now.0,
            namespace: request.key.namespace.clone(),
            room: request.key.room.clone(),
            region: request.region.cloned(),
            carrier: request.carrier.cloned(),
            expected_participants: request.hint,
            avoid: request.avoid.to_vec(),
            outcome: answer.map(|found| found.outcome),
            node: answer.map(|found| found.home.node.id.clone()),
            rung: answer.and_then(|found| found.placed).map(|placed| placed.rung),
            code: refusal.map(|problem| problem.code),
            rejection_counts: refusal.map(|problem| problem.rejection_counts.clone()).unwrap_or_default(),
        })));
    }

    /// How many lines were dropped since this was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Writes what is left.
    pub(crate) fn finish(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: it ends when the writer does, or when it takes too long.
        let _ = written.recv_timeout(FINISH_WITHIN);
    }

    fn reported(&self, report: &Report, at_ms: u64) {
        let Report { node, description, mode, host, participants, streams, .. } = report;
        self.note(Line::Node(Box::new(NodeLine {
            at_ms,
            node: node.clone(),
            description: description.clone(),
            mode: *mode,
            host: *host,
            participants: *participants,
            streams: *streams,
        })));
        for room in &report.changed {
            self.note(Line::Room(RoomLine {
                at_ms,
                namespace: room.key.namespace.clone(),
                room: room.key.room.clone(),
                node: node.clone(),
                participants: room.participants,
            }));
        }
    }

    fn note(&self, line: Line) {
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A device or a pipe is no earlier trace.
fn keep_earlier(path: &Path) -> io::Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let mut earlier = path.as_os_str().to_owned();
    earlier.push(".1");
    std::fs::rename(path, earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_writer_cannot_keep_up_with_is_dropped_and_counted() {
        let (lines, waiting) = mpsc::sync_channel(2);
        let (writing, written) = mpsc::sync_channel(1);
        let (is_over, dropped) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
        let recorder = Recorder { lines, is_over, dropped, written: Mutex::new(written) };
        let node = NodeId::new("a").unwrap();
        for _ in 0..5 {
            recorder.gone(&node, Millis(1));
        }
        assert_eq!((recorder.take_dropped(), recorder.take_dropped()), (3, 0));
        drop((waiting, writing));
        recorder.gone(&node, Millis(1));
        recorder.finish();
        recorder.gone(&node, Millis(1));
        assert_eq!(recorder.take_dropped(), 0, "what comes after the end is not missed");
    }
}
