//! The way out: replies, and events told without being asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roost_proto::media::{FromMedia, MediaError, MediaEvent, MediaReply};
use tokio::sync::mpsc;

/// Replies, and events that must arrive; rooms wait when the agent reads too slowly.
const LETTERS: usize = 4096;
/// Events that the next one replaces anyway (scores, layers, volumes, bitrates); dropped when the agent reads too slowly.
const NEWS: usize = 4096;

/// Sends to the agent.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    letters: mpsc::Sender<FromMedia>,
    news: mpsc::Sender<FromMedia>,
    dropped: Arc<AtomicU64>,
}

/// The other end of an [`Outbox`], for the socket's writer.
#[derive(Debug)]
pub(crate) struct Letters {
    letters: mpsc::Receiver<FromMedia>,
    news: mpsc::Receiver<FromMedia>,
    dropped: Arc<AtomicU64>,
}

impl Outbox {
    /// An outbox and the end that is read.
    pub(crate) fn new() -> (Self, Letters) {
        let (letters, letters_out) = mpsc::channel(LETTERS);
        let (news, news_out) = mpsc::channel(NEWS);
        let dropped = Arc::new(AtomicU64::new(0));
        let outbox = Self { letters, news, dropped: Arc::clone(&dropped) };
        (outbox, Letters { letters: letters_out, news: news_out, dropped })
    }

    /// Answers request `id`; waits for room.
    pub(crate) async fn reply(&self, id: u64, result: Result<MediaReply, MediaError>) {
        // Fails only when the socket is gone, and then the process is ending.
        let _ = self.letters.send(FromMedia::Reply { id, result }).await;
    }

    /// Tells an event that must arrive; waits for room.
    pub(crate) async fn tell(&self, event: MediaEvent) {
        let _ = self.letters.send(FromMedia::Event(event)).await;
    }

    /// Tells an event from a callback of the worker's thread: never waits, and drops it when there is no room.
    pub(crate) fn tell_now(&self, event: MediaEvent) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.news.try_send(FromMedia::Event(event)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Letters {
    /// The next message, letters before news; none when all outboxes are gone.
    pub(crate) async fn next(&mut self) -> Option<FromMedia> {
        tokio::select! {
            biased;
            Some(letter) = self.letters.recv() => Some(letter),
            Some(news) = self.news.recv() => Some(news),
            else => None,
        }
    }

    /// A message that waits already.
    pub(crate) fn waiting(&mut self) -> Option<FromMedia> {
        self.letters.try_recv().or_else(|_| self.news.try_recv()).ok()
    }

    /// How many events were dropped since the last call.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_give_way_to_letters_and_are_dropped_when_nobody_reads() {
        let (outbox, mut letters) = Outbox::new();
        for _ in 0..NEWS + 5 {
            outbox.tell_now(closed("news"));
        }
        outbox.tell(closed("letter")).await;
        assert_eq!(letters.next().await, Some(FromMedia::Event(closed("letter"))));
        assert_eq!(letters.next().await, Some(FromMedia::Event(closed("news"))));
        assert_eq!(letters.dropped(), 5);
        assert_eq!(letters.dropped(), 0);
    }

    fn closed(consumer: &str) -> MediaEvent {
        MediaEvent::ConsumerClosed { consumer: consumer.to_owned() }
    }
}
