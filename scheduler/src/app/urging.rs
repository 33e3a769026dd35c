//! Tells a node something, again and again, until it is seen to be done or that takes too long.

use std::time::Duration;

use roost_proto::time::Millis;

/// How long what is told may take. A node that asks the store again needs some seconds.
const DONE_WITHIN_MS: u64 = 8_000;
/// A command may be lost; twice it does no harm.
const TOLD_AGAIN_MS: u64 = 1_000;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// When it began, and when the node was told last.
#[derive(Debug)]
pub(super) struct Urging {
    began: Millis,
    told: Option<Millis>,
}

impl Urging {
    pub(super) fn new(now: Millis) -> Self {
        Self { began: now, told: None }
    }

    /// Whether it has taken too long.
    pub(super) fn is_late(&self, now: Millis) -> bool {
        now.since(self.began) >= DONE_WITHIN_MS
    }

    /// Whether the node is to be told; it counts as told then.
    pub(super) fn is_due(&mut self, now: Millis) -> bool {
        let is_due = self.told.is_none_or(|told| now.since(told) >= TOLD_AGAIN_MS);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }

    /// There is something else to tell.
    pub(super) fn turn(&mut self) {
        self.told = None;
    }

    /// Until the next look at what has come of it.
    pub(super) async fn pause() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
