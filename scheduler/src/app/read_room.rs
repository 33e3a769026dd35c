//! Reads what is known of a room; changes nothing.

use roost_proto::error::Problem;
use roost_proto::id::RoomKey;
use roost_proto::room::RoomView;

use super::Scheduler;
use crate::error::{room_not_found, starting, store_unavailable};

impl Scheduler {
    /// The room, if it is granted or open, for whoever may look it up.
    pub(crate) fn read_room(&self, key: &RoomKey) -> Result<RoomView, Problem> {
        self.rules.check_namespace(&key.namespace)?;
        self.room(key)
    }

    /// The same for an operator: a room outlives the configuration of its namespace, and must not outlive it for ever.
    pub(super) fn room(&self, key: &RoomKey) -> Result<RoomView, Problem> {
        let now = self.clock.now();
        let view = self.view();
        match view.room(key, now) {
            Some(room) => Ok(room.view(key)),
            None if view.grace.run(key.bucket()).is_none() => Err(store_unavailable()),
            None if view.grace_left_ms(key.bucket(), now) > 0 => Err(starting()),
            None => Err(room_not_found(key)),
        }
    }
}
