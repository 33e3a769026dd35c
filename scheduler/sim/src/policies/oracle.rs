//! The bound: knows how large each room gets, hears of every placement at once, and takes the node that will be emptiest.

use roost_proto::report::Report;
use roost_proto::time::Millis;

use super::{NewRoom, Selector};

/// All schedulers as one that knows the future of rooms that have begun, and nothing of those to come.
#[derive(Debug)]
pub(super) struct Oracle;

impl Selector for Oracle {
    fn hear(&mut self, _node: usize, _report: &Report) {}

    fn choose(&mut self, room: &NewRoom<'_>, _now: Millis) -> Option<usize> {
        let nodes = room.promised.iter().enumerate();
        nodes.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(node, _)| node)
    }
}
