//! Whether a room that an operator closes is over.

use roost_proto::id::{Epoch, Incarnation, NodeId};
use roost_proto::room::ClaimState;

use crate::room::Room;

/// A room in one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    pub state: ClaimState,
}

/// What has become of a room that is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is over, though another of the same name may have begun.
    Over,
    Same,
    /// It goes on, or may go on, in another generation.
    Goes,
}

impl Generation {
    /// The room as it is known.
    #[must_use]
    pub fn of(room: &Room<'_>) -> Self {
        Self { node: room.node.clone(), incarnation: room.incarnation, epoch: room.epoch, state: room.state }
    }

    /// What has become of the room by what is there of its name.
    #[must_use]
    pub fn fate(&self, current: Option<&Self>) -> Fate {
        let Some(current) = current else { return Fate::Over };
        let is_there = (&current.node, current.incarnation) == (&self.node, self.incarnation);
        match current.state {
            _ if current.epoch <= self.epoch => Fate::Same,
            // Nobody grants a room to whoever has it (rule 3): it was given up.
            ClaimState::Granted if is_there => Fate::Over,
            // Handed over, taken over or begun anew; asserted anew (rules 9 and 18).
            ClaimState::Granted | ClaimState::Open => Fate::Goes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ClaimState::{Granted, Open};

    #[test]
    fn a_room_is_over_only_when_nobody_can_be_in_it_any_more() {
        for (current, fate) in [
            (None, Fate::Over),
            (Some(("a", 1, 7, Open)), Fate::Same),
            (Some(("a", 1, 8, Granted)), Fate::Over),
            (Some(("a", 1, 8, Open)), Fate::Goes),
            (Some(("a", 2, 8, Open)), Fate::Goes),
            (Some(("a", 2, 8, Granted)), Fate::Goes),
            (Some(("b", 1, 8, Granted)), Fate::Goes),
            (Some(("b", 1, 8, Open)), Fate::Goes),
        ] {
            let now = current.map(generation);
            assert_eq!(generation(("a", 1, 7, Open)).fate(now.as_ref()), fate, "{current:?}");
        }
    }

    fn generation((node, incarnation, epoch, state): (&str, u64, u64, ClaimState)) -> Generation {
        let node = NodeId::new(node).unwrap();
        Generation { node, incarnation: Incarnation(incarnation), epoch: Epoch(epoch), state }
    }
}
