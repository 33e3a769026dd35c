//! What a scheduler's connections to agents tell of their processes: that one lives, or is dead (rule 13).

use std::collections::BTreeMap;

use roost_proto::id::{Incarnation, NodeId};

/// How often an incarnation may be proven dead and report after all. One report may have been on its way when the process
/// died; whoever sends another one lives, and its host refuses for a reason of its own.
const PROOFS: u32 = 2;

/// What the connection to one agent has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watched {
    /// Which the agent named last.
    incarnation: Incarnation,
    state: State,
    /// How often this incarnation was proven dead and reported after all.
    taken_back: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The connection is there.
    Lives,
    /// It broke. That alone proves nothing.
    Broke,
    /// It broke, and the host refused the next one: this incarnation, and any before it, is over.
    Dead,
}

/// What the connections to all agents have told.
#[derive(Debug, Clone, Default)]
pub struct Watches(BTreeMap<NodeId, Watched>);

impl Watches {
    /// On a living connection the agent says which incarnation it acts under.
    pub fn named(&mut self, node: &NodeId, incarnation: Incarnation) {
        let before = self.0.get(node).filter(|before| before.incarnation >= incarnation);
        let taken_back = before.map_or(0, |before| before.taken_back);
        self.0.insert(node.clone(), Watched { incarnation, state: State::Lives, taken_back });
    }

    /// The connection broke.
    pub fn broke(&mut self, node: &NodeId) {
        if let Some(watched) = self.0.get_mut(node)
            && watched.state == State::Lives
        {
            watched.state = State::Broke;
        }
    }

    /// After the connection broke the agent's host refused another one at the same address. Gives the incarnation that is
    /// proven over by that, if any was named before (rule 13). None for one that goes on reporting whenever it is proven
    /// dead: others may be connected to it, and only its silence counts.
    pub fn refused(&mut self, node: &NodeId) -> Option<Incarnation> {
        let watched = self.0.get_mut(node)?;
        if watched.state != State::Broke || watched.taken_back >= PROOFS {
            return None;
        }
        watched.state = State::Dead;
        Some(watched.incarnation)
    }

    /// A report of the incarnation has come: either it was late, or the host refused for another reason than that the
    /// process is dead. A refusal after that proves it once more, but only a few times.
    pub fn reported(&mut self, node: &NodeId, incarnation: Incarnation) {
        if let Some(watched) = self.0.get_mut(node)
            && watched.state == State::Dead
            && incarnation >= watched.incarnation
        {
            watched.state = State::Broke;
            watched.taken_back += 1;
        }
    }

    /// Whether this incarnation of the node is proven over.
    #[must_use]
    pub fn is_dead(&self, node: &NodeId, incarnation: Incarnation) -> bool {
        self.0.get(node).is_some_and(|watched| watched.state == State::Dead && incarnation <= watched.incarnation)
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

    #[test]
    fn an_incarnation_that_goes_on_reporting_is_not_proven_dead_by_refusals() {
        let mut watches = Watches::default();
        [named, broke].iter().for_each(|tell| tell(&mut watches));
        for _ in 0..PROOFS {
            assert_eq!(watches.refused(&node("a")), Some(Incarnation(7)));
            watches.reported(&node("a"), Incarnation(7));
        }
        for _ in 0..2 {
            assert_eq!(watches.refused(&node("a")), None);
            assert!(!watches.is_dead(&node("a"), Incarnation(7)));
            [named, broke].iter().for_each(|tell| tell(&mut watches));
        }
        watches.named(&node("a"), Incarnation(8));
        watches.broke(&node("a"));
        assert_eq!(watches.refused(&node("a")), Some(Incarnation(8)), "the next one has not reported since");
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
