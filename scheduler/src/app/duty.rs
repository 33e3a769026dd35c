//! Which scheduler does what one must do: the one that a rendezvous hash picks among the living.

use roost_scheduler_core::duty;
use roost_store::operation::SchedulerEntry;

use super::Scheduler;

impl Scheduler {
    /// The living schedulers; none if the store does not say.
    pub(super) async fn schedulers(&self) -> Option<Vec<SchedulerEntry>> {
        let schedulers = self.store.schedulers().await;
        self.metrics.store_called("schedulers", &schedulers);
        schedulers.ok()
    }

    /// Whether the duty falls to this scheduler, of all that live. Two may think so for a moment.
    pub(super) fn is_ours(&self, duty: &[u8], schedulers: &[SchedulerEntry]) -> bool {
        duty::falls_to(&self.entry.id, duty, schedulers.iter().map(|other| other.id.as_str()))
    }
}
