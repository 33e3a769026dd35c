//! What a scheduler's connections to agents tell of their processes: that one lives, or is dead (rule 13).

use std::collections::BTreeMap;

use roost_proto::id::{Incarnation, NodeId};

/// What the connection to one agent has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// It is there, and the agent named this incarnation on it.
    Lives(Incarnation),
    /// It broke. That alone proves nothing.
    Broke(Incarnation),
    /// It broke, and the host refused the next one: this incarnation, and any before it, is over.
    Dead(Incarnation),
}

/// What the connections to all agents have told.
#[derive(Debug, Clone, Default)]
pub struct Watches(BTreeMap<NodeId, Watched>);

impl Watches {
    /// On a living connection the agent says which incarnation it acts under.
    pub fn named(&mut self, node: &NodeId, incarnation: Incarnation) {
        self.0.insert(node.clone(), Watched::Lives(incarnation));
    }

    /// The connection broke.
    pub fn broke(&mut self, node: &NodeId) {
        if let Some(watched) = self.0.get_mut(node)
            && let Watched::Lives(incarnation) = *watched
        {
            *watched = Watched::Broke(incarnation);
        }
    }

    /// After the connection broke the agent's host refused another one at the same address. Gives the incarnation that is
    /// proven over by that, if any was named before (rule 13).
    pub fn refused(&mut self, node: &NodeId) -> Option<Incarnation> {
        let watched = self.0.get_mut(node)?;
        let Watched::Broke(incarnation) = *watched else { return None };
        *watched = Watched::Dead(incarnation);
        Some(incarnation)
    }

    /// A report of the incarnation has come: either it was late, or the host refused for another reason than that the
    /// process is dead. The next refusal proves it once more.
    pub fn reported(&mut self, node: &NodeId, incarnation: Incarnation) {
        if let Some(watched) = self.0.get_mut(node)
            && let Watched::Dead(dead) = *watched
            && incarnation >= dead
        {
            *watched = Watched::Broke(dead);
        }
    }

    /// Whether this incarnation of the node is proven over.
    #[must_use]
    pub fn is_dead(&self, node: &NodeId, incarnation: Incarnation) -> bool {
        matches!(self.0.get(node), Some(Watched::Dead(dead)) if incarnation <= *dead)
    }

    /// The node is watched no more.
    pub fn forget(&mut self, node: &NodeId) {
        self.0.remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::node;

    type Told = fn(&mut Watches);

    #[test]
    fn only_a_refusal_after_a_connection_that_broke_is_a_proof() {
        let rows: [(&[Told], Option<u64>); 7] = [
            (&[refused], None),
            (&[named, refused], None),
            (&[broke, refused], None),
            (&[named, broke], None),
            (&[named, broke, refused], Some(7)),
            (&[named, broke, named, refused], None),
            (&[named, broke, refused, named], None),
        ];
        for (row, (told, dead)) in rows.into_iter().enumerate() {
            let mut watches = Watches::default();
            told.iter().for_each(|tell| tell(&mut watches));
            for incarnation in 6..9 {
                let expected = dead.is_some_and(|dead| incarnation <= dead);
                assert_eq!(watches.is_dead(&node("a"), Incarnation(incarnation)), expected, "{row} {incarnation}");
            }
        }
    }

    #[test]
    fn a_report_takes_the_proof_back_until_the_next_refusal() {
        let mut watches = Watches::default();
        [named, broke, refused].iter().for_each(|tell| tell(&mut watches));
        watches.reported(&node("a"), Incarnation(6));
        assert!(watches.is_dead(&node("a"), Incarnation(7)), "an older one that reports is another process");
        watches.reported(&node("a"), Incarnation(7));
        assert!(!watches.is_dead(&node("a"), Incarnation(7)));
        assert_eq!(watches.refused(&node("a")), Some(Incarnation(7)));
    }

    fn named(watches: &mut Watches) {
        watches.named(&node("a"), Incarnation(7));
    }

    fn broke(watches: &mut Watches) {
        watches.broke(&node("a"));
    }

    fn refused(watches: &mut Watches) {
        watches.refused(&node("a"));
    }
}
