//! What an operator wants of a node: its mode, and a drain. Kept in the store and carried by the node's reports, so that
//! it outlives a restart of either.

use serde::{Deserialize, Serialize};

use crate::id::NUMBER_LIMIT;
use crate::report::{Mode, Report};

/// One plan for a node. Of two the one with the higher number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steering {
    /// Grows with each change, by compare-and-set in the store; at least the store's time in ms when it was made.
    pub plan: u64,
    pub mode: Mode,
    /// The last drain, also when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// A node is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// On the store's clock, in ms: what is still there then is moved.
    pub deadline_store_ms: u64,
    /// Rooms are moved at once, not only at the deadline.
    #[serde(rename = "move", default)]
    pub move_rooms: bool,
    /// The mode to which the node returns when the drain is taken back.
    pub before: Mode,
    pub state: DrainState,
    /// It was finished because the node was lost, not by its own word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    Running,
    /// The node has no room, by its own word or because it was lost; its mode is maintenance.
    Finished,
    /// Taken back by an operator.
    Cancelled,
}

impl Steering {
    /// The number of a plan; 0 where there is none.
    #[must_use]
    pub fn plan_of(steering: Option<Self>) -> u64 {
        steering.map_or(0, |steering| steering.plan)
    }

    /// Whether its numbers can be ones of ours.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.plan < NUMBER_LIMIT && self.drain.is_none_or(|drain| drain.deadline_store_ms < NUMBER_LIMIT)
    }

    /// The drain that runs.
    #[must_use]
    pub fn running(&self) -> Option<&Drain> {
        self.drain.as_ref().filter(|drain| drain.state == DrainState::Running)
    }
}

impl Report {
    /// The number of the plan by which the node acts; 0 where it has none.
    #[must_use]
    pub fn plan(&self) -> u64 {
        Steering::plan_of(self.steering)
    }

    /// Reads the report as if its node had heard of this plan already. A node that leaves stays so.
    pub fn steer(&mut self, steering: Steering) {
        let planned = self.steering.map_or(Mode::Serving, |known| known.mode);
        let leaves = self.mode == Mode::Draining && planned != Mode::Draining;
        if !leaves {
            self.mode = steering.mode;
        }
        self.steering = Some(steering);
    }

    /// Reads it so if the store has a later plan for the node than the report does.
    pub fn steer_by_later(&mut self, stored: Option<Steering>) {
        if let Some(steering) = stored.filter(|stored| stored.plan > self.plan()) {
            self.steer(steering);
        }
    }
}
