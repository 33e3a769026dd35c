//! LiveKit's node selectors (livekit-server 1.13, `pkg/routing/selector/utils.go`: `SelectSortedNode`).
//!
//! `sort_by: random` is the default. `lowest` sorts the serving nodes by what they last reported and takes the first;
//! `twochoice` draws two different nodes and takes the lower. What was given out since the last report does not count.
//! Of equal nodes chance decides here, which is kind: a sort takes the first each time.

use rand::RngExt as _;
use rand_pcg::Pcg64;
use roost_proto::report::{Mode, Report};
use roost_proto::time::Millis;

use super::{NewRoom, Selector};
use crate::plan::Plan;
use crate::random::stream;

/// One of the selectors.
#[derive(Debug)]
pub(super) struct LiveKit {
    way: Way,
    sort: Sort,
    nodes: Vec<Heard>,
    random: Pcg64,
}

/// `algorithm`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Random,
    TwoChoice,
    Lowest,
}

/// `sort_by`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sort {
    Rooms,
    Cpu,
}

/// What a node last reported.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    is_serving: bool,
    rooms: u32,
    cpu_permille: u32,
}

impl LiveKit {
    pub(super) fn new(plan: &Plan, way: Way, sort: Sort, (seed, scheduler): (u64, usize)) -> Self {
        let nodes = vec![Heard::default(); plan.nodes.len()];
        Self { way, sort, nodes, random: stream(seed, &format!("livekit {scheduler}")) }
    }

    /// What nodes are sorted by.
    fn load(&self, node: usize) -> u32 {
        match self.sort {
            Sort::Rooms => self.nodes[node].rooms,
            Sort::Cpu => self.nodes[node].cpu_permille,
        }
    }

    fn lowest(&mut self, nodes: Vec<usize>) -> Option<usize> {
        let least = nodes.iter().map(|node| self.load(*node)).min()?;
        let equal: Vec<usize> = nodes.into_iter().filter(|node| self.load(*node) == least).collect();
        Some(equal[self.random.random_range(0..equal.len())])
    }
}

impl Selector for LiveKit {
    fn hear(&mut self, node: usize, report: &Report) {
        let Report { mode, rooms, host, .. } = report;
        self.nodes[node] = Heard { is_serving: *mode == Mode::Serving, rooms: *rooms, cpu_permille: host.cpu_permille };
    }

    fn choose(&mut self, _room: &NewRoom<'_>, _now: Millis) -> Option<usize> {
        let serving: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_serving).collect();
        let count = serving.len();
        match self.way {
            _ if count == 0 => None,
            Way::Random => Some(serving[self.random.random_range(0..count)]),
            Way::TwoChoice if count > 2 => {
                let first = self.random.random_range(0..count);
                let second = (first + self.random.random_range(1..count)) % count;
                self.lowest(vec![serving[first], serving[second]])
            }
            Way::TwoChoice | Way::Lowest => self.lowest(serving),
        }
    }
}
