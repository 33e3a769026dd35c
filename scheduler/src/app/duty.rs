//! Which scheduler does what one must do: the one that a rendezvous hash picks among the living.

use roost_store::operation::SchedulerEntry;

use roost_proto::hash::stable_hash;

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
        let weight = |id: &str| (stable_hash(&[id.as_bytes(), duty]), id.to_owned());
        let own = weight(&self.entry.id);
        schedulers.iter().all(|other| weight(&other.id) <= own)
    }
}
