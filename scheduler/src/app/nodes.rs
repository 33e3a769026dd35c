//! The nodes, as a list and one by one.

use roost_proto::admin::{NodeView, Page};
use roost_proto::error::Problem;
use roost_proto::id::NodeId;

use super::Scheduler;
use crate::error::unknown_node;

impl Scheduler {
    /// `limit` nodes by name, those after `after`.
    pub(crate) fn nodes(&self, after: Option<&NodeId>, limit: usize) -> Page<NodeView> {
        let (store_ms, now) = (self.clock.store_now_ms(), self.clock.now());
        let view = self.view();
        let mut nodes = view.nodes(after);
        let items: Vec<NodeView> =
            nodes.by_ref().take(limit).map(|(_, node)| view.node_view(node, store_ms, now)).collect();
        let more = nodes.next().is_some();
        let next_cursor = items.last().filter(|_| more).map(|last| last.id.as_str().to_owned());
        Page { items, next_cursor }
    }

    /// One node.
    pub(crate) fn node(&self, id: &NodeId) -> Result<NodeView, Problem> {
        let (view, now) = (self.view(), self.clock.now());
        match view.node(id) {
            Some(node) => Ok(view.node_view(node, self.clock.store_now_ms(), now)),
            None => Err(unknown_node(id, &view, now)),
        }
    }
}
