//! What waits to be sent to one participant: bounded, so that one who reads slowly costs himself only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use roost_proto::error::{CloseReason, Code, Problem};
use roost_proto::signaling::{Frame, Refusal};
use roost_server::socket;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};

/// How many frames may wait.
const FRAMES_WAITING: usize = 1_024;

/// How many bytes may wait.
const BYTES_WAITING: usize = 4 * 1024 * 1024;

/// A frame that several participants may share.
pub(super) type Text = Arc<str>;

/// The sending side of one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Text>,
    bytes: AtomicUsize,
    ending: OnceLock<Ending>,
    ended: Notify,
    next: AtomicU32,
    /// Requests that the participant has not answered.
    asked: Mutex<HashMap<u32, oneshot::Sender<Result<Value, Refusal>>>>,
    /// There may be producers that the participant does not consume.
    pub(super) wanting: Notify,
}

/// How a connection is closed: a last frame, a pause, a close code and its reason.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub(super) last: Option<Text>,
    pub(super) pause: Duration,
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

impl Ending {
    /// Tells a problem, as `facts/protoo.md` wants it.
    pub(super) fn problem(problem: &Problem) -> Self {
        let (last, code, pause) = socket::protoo_farewell(problem);
        Self { last: Some(last.into()), pause, code, reason: problem.code.as_str() }
    }

    /// The media worker went down: who comes back finds another one, or the same one started again.
    pub(super) fn worker_down() -> Self {
        let problem = Problem::new(Code::NodeLeaving, "the room's media worker ended; join the room again");
        let mut ending = Self::problem(&problem);
        // A fourth of the usual spread: nothing has to be waited for but the worker's start.
        ending.pause = SHORTEST_PAUSE + ending.pause.saturating_sub(SHORTEST_PAUSE) / 4;
        ending
    }

    /// The node lost its right to the room while the participant came in (rule 5).
    pub(super) fn not_held() -> Self {
        let detail = "the node lost its right to the room while the participant came in";
        Self::problem(&Problem::new(Code::StoreUnavailable, detail))
    }

    /// Ends for good.
    pub(super) fn closed(reason: CloseReason) -> Self {
        Self { last: None, pause: Duration::ZERO, code: socket::FINAL, reason: reason.as_str() }
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

impl Outbox {
    /// An outbox, and what the connection sends from it.
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<Text>) {
        let (queue, frames) = mpsc::channel(FRAMES_WAITING);
        let outbox = Self {
            queue,
            bytes: AtomicUsize::new(0),
            ending: OnceLock::new(),
            ended: Notify::new(),
            next: AtomicU32::new(1),
            asked: Mutex::new(HashMap::new()),
            wanting: Notify::new(),
        };
        (Arc::new(outbox), frames)
    }

    /// Sends a frame, in order. A participant whose outbox is full is closed.
    pub(super) fn tell(&self, text: Text) {
        if self.ending.get().is_some() {
            return;
        }
        let length = text.len();
        let waiting = self.bytes.fetch_add(length, Ordering::Relaxed).saturating_add(length);
        if waiting > BYTES_WAITING || self.queue.try_send(text).is_err() {
            self.end(Ending::problem(&Problem::new(Code::RateLimited, "the connection reads too slowly")));
        }
    }

    /// A frame has left the queue.
    pub(super) fn sent(&self, text: &Text) {
        self.bytes.fetch_sub(text.len(), Ordering::Relaxed);
    }

    /// Asks the participant; what comes out is its answer, or an error when the connection ends.
    pub(super) fn ask(self: &Arc<Self>, method: &str, data: Value) -> Asked {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.asked().insert(id, answer);
        self.tell(Frame::Request { id, method: method.to_owned(), data }.to_text().into());
        Asked { outbox: self.clone(), id, answered }
    }

    /// The participant has answered; what nobody asked is ignored.
    pub(super) fn answer(&self, id: u32, result: Result<Value, Refusal>) {
        let asked = self.asked().remove(&id);
        if let Some(asked) = asked {
            // Fails when nobody waits any more.
            let _ = asked.send(result);
        }
    }

    /// Ends the connection after what waits already; only the first ending counts.
    pub(super) fn end(&self, ending: Ending) {
        if self.ending.set(ending).is_ok() {
            self.ended.notify_one();
            self.asked().clear();
        }
    }

    /// Waits for the connection's end. For one waiter.
    pub(super) async fn ended(&self) -> Ending {
        loop {
            if let Some(ending) = self.ending.get() {
                return ending.clone();
            }
            self.ended.notified().await;
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, HashMap<u32, oneshot::Sender<Result<Value, Refusal>>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request to the participant that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    outbox: Arc<Outbox>,
    id: u32,
    answered: oneshot::Receiver<Result<Value, Refusal>>,
}

impl Asked {
    /// The answer; a refusal with 504 when none comes in time.
    pub(super) async fn answer(mut self, limit: Duration) -> Result<Value, Refusal> {
        match tokio::time::timeout(limit, &mut self.answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Refusal { code: 504, reason: "the connection has ended".to_owned() }),
            Err(_) => Err(Refusal { code: 504, reason: "no answer in time".to_owned() }),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.outbox.asked().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_reads_nothing_is_closed_and_holds_no_more_than_its_share() {
        let (outbox, mut frames) = Outbox::new();
        for _ in 0..FRAMES_WAITING + 10 {
            outbox.tell("x".into());
        }
        assert_eq!(outbox.ended().await.code, 4429);
        assert_eq!(frames.len(), FRAMES_WAITING);
        let (outbox, frames_of_few) = Outbox::new();
        let long = Text::from("x".repeat(BYTES_WAITING / 2));
        for _ in 0..3 {
            outbox.tell(long.clone());
        }
        assert_eq!(outbox.ended().await.code, 4429);
        assert_eq!(frames_of_few.len(), 2);
        outbox.sent(&long);
        while frames.try_recv().is_ok() {}
    }

    #[tokio::test]
    async fn an_answer_reaches_who_asked_and_silence_has_a_limit() {
        let (outbox, _frames) = Outbox::new();
        let (one, other) = (outbox.ask("a", Value::Null), outbox.ask("b", Value::Null));
        outbox.answer(one.id, Ok(Value::Bool(true)));
        outbox.answer(77, Ok(Value::Null));
        assert_eq!(one.answer(Duration::from_secs(5)).await, Ok(Value::Bool(true)));
        assert_eq!(other.answer(Duration::from_millis(1)).await.expect_err("silent").code, 504);
        assert!(outbox.asked().is_empty());
    }

    #[test]
    fn only_the_first_ending_counts_and_a_down_worker_does_not_keep_anyone_long() {
        let ending = Ending::worker_down();
        assert_eq!((ending.code, ending.reason), (4503, "node_leaving"));
        assert!((1_000..=1_500).contains(&ending.pause.as_millis()), "{:?}", ending.pause);
        let (outbox, _frames) = Outbox::new();
        outbox.end(Ending::closed(CloseReason::Replaced));
        outbox.end(ending);
        assert_eq!(outbox.ending.get().map(|ending| (ending.code, ending.reason)), Some((4000, "replaced")));
    }
}
