//! One connection to a media server: requests out, answers matched to them by id, events handed on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use roost_proto::WIRE_VERSION;
use roost_proto::media::{FromMedia, MAX_LINE_BYTES, MediaError, MediaErrorCode, MediaReply, MediaRequest, ToMedia};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::media::Notice;
use crate::media::line::read_line;

/// How long a request may take, with its time in the queue.
const REQUEST_MS: u64 = 5_000;

/// How many requests may wait to be written.
const REQUESTS_WAITING: usize = 1024;

type Answer = Result<MediaReply, MediaError>;

#[derive(Debug)]
pub(super) struct Link {
    lines: mpsc::Sender<String>,
    next: AtomicU64,
    /// None when the connection is over.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
    writing: AbortHandle,
}

impl Link {
    pub(super) fn start(writer: OwnedWriteHalf) -> Self {
        let (lines, queue) = mpsc::channel(REQUESTS_WAITING);
        let writing = tokio::spawn(write(writer, queue)).abort_handle();
        Self { lines, next: AtomicU64::new(1), pending: Mutex::new(Some(HashMap::new())), writing }
    }

    pub(super) async fn request(&self, request: MediaRequest) -> Answer {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut line = serde_json::to_string(&ToMedia { v: WIRE_VERSION, id, request })
            .map_err(|error| MediaError::new(MediaErrorCode::Invalid, error.to_string()))?;
        if line.len() >= MAX_LINE_BYTES {
            return Err(MediaError::new(MediaErrorCode::Invalid, "the parameters are too long"));
        }
        line.push('\n');
        let (answer, answered) = oneshot::channel();
        match self.pending().as_mut() {
            Some(pending) => pending.insert(id, answer),
            None => return Err(down()),
        };
        // Forgets the request also when its caller goes away.
        let _forget = Forget { link: self, id };
        let wait = async {
            self.lines.send(line).await.map_err(|_| down())?;
            answered.await.unwrap_or_else(|_| Err(down()))
        };
        let late = || MediaError::new(MediaErrorCode::Failed, format!("no answer within {REQUEST_MS} ms"));
        timeout(Duration::from_millis(REQUEST_MS), wait).await.unwrap_or_else(|_| Err(late()))
    }

    /// Reads until the connection ends; the error says what the media server did wrong.
    pub(super) async fn read<R>(
        &self,
        reader: &mut R,
        worker: u16,
        notices: &mpsc::Sender<(u16, Notice)>,
    ) -> Result<(), String>
    where
        R: tokio::io::AsyncBufRead + Unpin + Send,
    {
        let mut line = Vec::new();
        loop {
            match read_line(reader, &mut line, MAX_LINE_BYTES).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
            match parse(&line)? {
                Some(FromMedia::Hello(_)) => return Err("said hello twice".to_owned()),
                Some(FromMedia::Reply { id, result }) => self.answer(id, result),
                Some(FromMedia::Event(event)) => {
                    // Nobody listens when the agent ends, and then this task ends too.
                    let _ = notices.send((worker, Notice::Event(event))).await;
                }
                None => {}
            }
        }
    }

    /// Ends the connection; whoever waits for an answer learns that the worker is down.
    pub(super) fn close(&self) {
        self.writing.abort();
        self.pending().take();
    }

    fn answer(&self, id: u64, result: Answer) {
        let waiting = self.pending().as_mut().and_then(|pending| pending.remove(&id));
        match waiting {
            // The caller may have gone away.
            Some(waiting) => drop(waiting.send(result)),
            None => tracing::debug!(id, "answer to a media request that nobody waits for"),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Forget<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(pending) = self.link.pending().as_mut() {
            pending.remove(&self.id);
        }
    }
}

fn down() -> MediaError {
    MediaError::new(MediaErrorCode::Failed, "the media worker went down")
}

/// None: an event of a later version.
pub(super) fn parse(line: &[u8]) -> Result<Option<FromMedia>, String> {
    match serde_json::from_slice(line) {
        Ok(message) => Ok(Some(message)),
        Err(error) => {
            let value = serde_json::from_slice::<serde_json::Value>(line).unwrap_or_default();
            let event = value.get("event").and_then(serde_json::Value::as_str);
            match event.filter(|_| value["type"] == "event") {
                Some(event) => {
                    tracing::warn!(event, %error, "media event that is not understood");
                    Ok(None)
                }
                None => Err(format!("a line that is no message: {error}")),
            }
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut lines: mpsc::Receiver<String>) {
    while let Some(line) = lines.recv().await {
        if let Err(error) = writer.write_all(line.as_bytes()).await {
            tracing::debug!(%error, "media request could not be written");
            return;
        }
    }
}
