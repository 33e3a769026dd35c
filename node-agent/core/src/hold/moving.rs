//! Rooms that are handed over to another node (rule 23): stop, then compare-and-set, and never admit again unless it is
//! certain that it was not done.

#[cfg(test)]
mod tests;

use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};

use super::{Held, Hold, Holdings, State};
use crate::lease::Lease;

/// Where a room is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// Where participants connect there.
    pub signaling_url: String,
    /// How long the grant there waits for the first of them.
    pub ttl_ms: u64,
}

/// A room that is to be handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub held: Held,
    pub to: Target,
    /// How many are inside.
    pub guests: u32,
}

/// The move of one room, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moving {
    to: Target,
    /// Requests to the store that may have been done, or may yet be.
    attempts: u32,
}

/// A room that may be another node's, which the store cannot say any more: its participants go where a lookup says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubtful {
    pub room: RoomKey,
    pub hold: Hold,
}

impl Holdings {
    /// Begins to hand `room` over: nobody is admitted from here on. False, and nothing is changed, unless it is open here
    /// in this generation, under the incarnation that the node has. A command that comes late or twice so does nothing.
    pub fn begin_move(&mut self, room: &RoomKey, epoch: Epoch, to: Target, lease: &Lease) -> bool {
        let Some(hold) = self.rooms.get_mut(room) else { return false };
        let is_ours = lease.incarnation() == Some(hold.incarnation);
        if hold.state != State::Open || hold.epoch != epoch || !is_ours {
            return false;
        }
        hold.state = State::Moving;
        hold.moving = Some(Moving { to, attempts: 0 });
        true
    }

    /// The rooms to hand over.
    #[must_use]
    pub fn moves(&self) -> Vec<Move> {
        let moving = self.rooms.iter().filter(|(_, hold)| hold.state == State::Moving);
        let moves = moving.filter_map(|(room, hold)| {
            Some(Move { held: hold.held(room), to: hold.moving.as_ref()?.to.clone(), guests: hold.guests })
        });
        moves.collect()
    }

    /// The store is about to be asked to hand `held` over. False if that is over.
    pub fn ask_move(&mut self, held: &Held) -> bool {
        match self.moving_as(held).and_then(|hold| hold.moving.as_mut()) {
            Some(moving) => {
                moving.attempts += 1;
                true
            }
            None => false,
        }
    }

    /// The store has handed `held` over, in the generation `epoch`. Gives the hold that was: its epoch is ended (rule 10).
    pub fn moved(&mut self, held: &Held, epoch: Epoch) -> Option<Hold> {
        self.note_epoch(&held.room, epoch);
        self.move_refused(held)
    }

    /// The store says that `held` was not this node's any more. Gives the hold that was lost.
    pub fn move_refused(&mut self, held: &Held) -> Option<Hold> {
        self.moving_as(held)?;
        self.drop_room(&held.room)
    }

    /// The last attempt to hand `held` over was certainly not done. The room goes on here, unless an earlier one may have
    /// been, or may yet be.
    pub fn move_not_done(&mut self, held: &Held) {
        let Some(hold) = self.moving_as(held) else { return };
        let Some(moving) = &mut hold.moving else { return };
        moving.attempts = moving.attempts.saturating_sub(1);
        if moving.attempts == 0 {
            (hold.state, hold.moving) = (State::Open, None);
        }
    }

    /// The rooms of which a new run of the store has made it impossible to know whether they were handed over.
    pub fn take_doubtful(&mut self) -> Vec<Doubtful> {
        std::mem::take(&mut self.doubtful)
    }

    /// How many of these there are to take.
    #[must_use]
    pub fn doubtful_len(&self) -> usize {
        self.doubtful.len()
    }

    /// In a new run of the bucket what the old one answered is void, and whoever was given a room there may assert it under
    /// the later epoch (rule 17). So a room that may have been handed over is not asserted.
    pub(super) fn doubt(&mut self, bucket: u8) {
        let is_doubtful = |hold: &Hold| hold.moving.as_ref().is_some_and(|moving| moving.attempts > 0);
        let concerned = self.rooms.iter().filter(|(room, hold)| room.bucket() == bucket && is_doubtful(hold));
        let rooms: Vec<RoomKey> = concerned.map(|(room, _)| room.clone()).collect();
        for room in rooms {
            if let Some(hold) = self.drop_room(&room) {
                self.doubtful.push(Doubtful { room, hold });
            }
        }
    }

    fn moving_as(&mut self, held: &Held) -> Option<&mut Hold> {
        let is_it = |hold: &&mut Hold| {
            hold.state == State::Moving && hold.epoch == held.epoch && hold.incarnation == held.incarnation
        };
        self.rooms.get_mut(&held.room).filter(is_it)
    }
}
