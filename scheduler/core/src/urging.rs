//! Tells a node something, again and again, until it is seen to be done or that takes too long.

use roost_proto::time::Millis;

/// How long what is told may take. A node that asks the store again needs some seconds.
const DONE_WITHIN_MS: u64 = 8_000;
/// A command may be lost; twice it does no harm.
const TOLD_AGAIN_MS: u64 = 1_000;

/// When it began, and when the node was told last.
#[derive(Debug)]
pub struct Urging {
    began: Millis,
    told: Option<Millis>,
}

impl Urging {
    /// Nothing was told yet.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self { began: now, told: None }
    }

    /// Whether it has taken too long.
    #[must_use]
    pub fn is_late(&self, now: Millis) -> bool {
        now.since(self.began) >= DONE_WITHIN_MS
    }

    /// Whether the node is to be told; it counts as told then.
    pub fn is_due(&mut self, now: Millis) -> bool {
        let is_due = self.told.is_none_or(|told| now.since(told) >= TOLD_AGAIN_MS);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }

    /// There is something else to tell.
    pub fn turn(&mut self) {
        self.told = None;
    }
}
