//! What the scheduler says to others.

pub(crate) mod commands;
pub(crate) mod store;
pub(crate) mod watch;
