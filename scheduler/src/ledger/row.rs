//! What the ledger's tables hold, and how what several schedulers heard of one thing becomes one row.

use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};

/// One generation of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomRow {
    pub home: Option<(NodeId, Incarnation)>,
    pub granted_ms: Option<u64>,
    pub opened_ms: Option<u64>,
    pub released_ms: Option<u64>,
    pub moved_ms: Option<u64>,
    pub peak_participants: u32,
    pub heard_ms: u64,
}

/// A room's home changed. Of the homes before, the latest that was heard of counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MoveRow {
    pub from_epoch: Epoch,
    pub from: (NodeId, Incarnation),
    pub to: (NodeId, Incarnation),
    pub why: Why,
    pub heard_ms: u64,
}

/// Why a room has another home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// What became of the earlier home was not heard: the store or the scheduler was away.
    NotHeard,
    /// Its node was lost: its lease over (rule 12), or its process dead (rule 13).
    TakenOver,
    /// Its node handed it over (rule 23): an operator, a drain or a plan wanted that, or the node stopped.
    Moved,
    /// Nobody had come to the earlier home yet (rule 3).
    GrantedAnew,
    /// Its node asserted it under its next incarnation (rule 9).
    AssertedAnew,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    /// Tells it from all others; begins with the request's id.
    pub id: String,
    /// Who: as the caller is known.
    pub actor: String,
    /// What: `set_mode`, `drain`, `move_room`.
    pub action: &'static str,
    /// To whom: a node, or `namespace/room`.
    pub subject: String,
    /// With what: the request's body.
    pub detail: String,
    pub heard_ms: u64,
}

/// One row, with its natural key: who writes it twice, or from two schedulers, changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Row {
    Room(RoomKey, Epoch, RoomRow),
    Move(RoomKey, Epoch, MoveRow),
    Action(Action),
}

impl RoomRow {
    /// Of which nothing is known but that it was heard of.
    pub(crate) fn heard(heard_ms: u64) -> Self {
        Self {
            home: None,
            granted_ms: None,
            opened_ms: None,
            released_ms: None,
            moved_ms: None,
            peak_participants: 0,
            heard_ms,
        }
    }

    /// Takes in what else was heard: in any order, any number of times. The database does the same.
    pub(crate) fn merge(&mut self, other: Self) {
        self.home = self.home.take().or(other.home);
        for (mine, others) in [
            (&mut self.granted_ms, other.granted_ms),
            (&mut self.opened_ms, other.opened_ms),
            (&mut self.released_ms, other.released_ms),
            (&mut self.moved_ms, other.moved_ms),
        ] {
            *mine = mine.iter().copied().chain(others).min();
        }
        self.peak_participants = self.peak_participants.max(other.peak_participants);
        self.heard_ms = self.heard_ms.max(other.heard_ms);
    }
}

impl MoveRow {
    /// As [`RoomRow::merge`].
    pub(crate) fn merge(&mut self, other: Self) {
        let heard_ms = self.heard_ms.min(other.heard_ms);
        if (other.from_epoch, other.why) > (self.from_epoch, self.why) {
            *self = other;
        }
        self.heard_ms = heard_ms;
    }
}

impl Why {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NotHeard => "not_heard",
            Self::TakenOver => "taken_over",
            Self::Moved => "moved",
            Self::GrantedAnew => "granted_anew",
            Self::AssertedAnew => "asserted_anew",
        }
    }
}
