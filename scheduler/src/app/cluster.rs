//! The cluster at a glance.

use roost_proto::admin::{ClusterView, SchedulerView, StoreView};

use super::Scheduler;

impl Scheduler {
    /// Lets the brake go.
    pub(crate) fn release_brake(&self) {
        let held = {
            let mut view = self.view_mut();
            let held = view.brake().holds();
            view.release_brake();
            held
        };
        if held {
            tracing::warn!("the brake is released by the operator: rooms of silent nodes may go elsewhere");
        }
    }

    /// What this scheduler knows of the cluster. The list of schedulers is the store's, or, without it, only this one.
    pub(crate) async fn cluster(&self) -> ClusterView {
        let schedulers = self.schedulers().await.unwrap_or_else(|| vec![self.entry.clone()]);
        let now = self.clock.now();
        let view = self.view();
        let totals = view.totals();
        let grace_left_ms = view.longest_grace_left_ms(now);
        ClusterView {
            scheduler: self.entry.id.clone(),
            version: self.entry.version.clone(),
            ready: self.readiness.is_ready(),
            schedulers: schedulers
                .into_iter()
                .map(|entry| SchedulerView { id: entry.id, cluster_url: entry.cluster_url, version: entry.version })
                .collect(),
            store: StoreView { kind: self.store.kind().to_owned(), reachable: view.is_listening() },
            nodes: totals.nodes,
            rooms: u32::try_from(view.rooms.len()).unwrap_or(u32::MAX),
            participants: totals.participants,
            grace_left_ms: (grace_left_ms > 0).then_some(grace_left_ms),
            brake_left_ms: view.brake().left_ms(now),
        }
    }
}
