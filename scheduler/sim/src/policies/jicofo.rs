//! Jicofo's corrected stress (`Bridge.getStress`, `RegionBasedBridgeSelectionStrategy`, `reference.conf`).
//!
//! Stress is what the bridge last reported, and 0.01 (`average-participant-stress`) for each endpoint that this process
//! sent there in the last 20 s (`participant-rampup-interval`). The least stressed bridge takes the conference. Nothing
//! is known of what other processes sent. The threshold of 0.8 only matters where a conference may use several bridges.

use std::collections::VecDeque;

use roost_proto::report::{Mode, Report};
use roost_proto::time::Millis;

use super::{NewRoom, Selector};
use crate::plan::{Plan, millis};

/// One Jicofo process.
#[derive(Debug)]
pub(super) struct Jicofo {
    bridges: Vec<Bridge>,
    stress_permille: f64,
    within_ms: u64,
}

#[derive(Debug, Clone, Default)]
struct Bridge {
    is_serving: bool,
    reported_permille: f64,
    /// When participants were sent there.
    sent: VecDeque<Millis>,
}

impl Jicofo {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            bridges: vec![Bridge::default(); plan.nodes.len()],
            stress_permille: plan.jicofo.stress_permille,
            within_ms: millis(plan.jicofo.within_s).0,
        }
    }
}

impl Selector for Jicofo {
    fn hear(&mut self, node: usize, report: &Report) {
        let bridge = &mut self.bridges[node];
        let most = report.description.capacity.participants;
        let by_count = if most == 0 { 0.0 } else { f64::from(report.participants) * 1_000.0 / f64::from(most) };
        bridge.reported_permille = by_count.max(report.host.cpu_permille.into());
        bridge.is_serving = report.mode == Mode::Serving;
    }

    fn choose(&mut self, _room: &NewRoom<'_>, now: Millis) -> Option<usize> {
        for bridge in &mut self.bridges {
            while bridge.sent.front().is_some_and(|sent| now.since(*sent) > self.within_ms) {
                bridge.sent.pop_front();
            }
        }
        let stress = |bridge: &Bridge| bridge.reported_permille + bridge.sent.len() as f64 * self.stress_permille;
        let serving = self.bridges.iter().enumerate().filter(|(_, bridge)| bridge.is_serving);
        serving.min_by(|(_, a), (_, b)| stress(a).total_cmp(&stress(b))).map(|(node, _)| node)
    }

    fn sent(&mut self, node: usize, now: Millis) {
        self.bridges[node].sent.push_back(now);
    }
}
