//! The scheduler's decisions: what is known of nodes and rooms, where a room goes, what a lookup is answered.
//!
//! Pure: no clock, no I/O, no randomness, no order that differs from run to run. `now` is always the caller's own
//! monotonic clock. The README beside this package states the placement problem; the rules named in comments are those
//! of the ownership protocol in ARCHITECTURE.md.

pub mod balance;
pub mod brake;
pub mod close;
pub mod comings;
pub mod drain;
pub mod duty;
pub mod explain;
pub mod filter;
pub mod geography;
pub mod grace;
pub mod index;
pub mod join;
pub mod liveness;
pub mod load;
pub mod node;
pub mod nodes;
pub mod place;
mod record;
pub mod region;
pub mod relocation;
pub mod request;
pub mod reserve;
pub mod room;
#[cfg(test)]
mod sample;
pub mod score;
pub mod size;
pub mod stuck;
pub mod time;
pub mod trust;
pub mod urging;
pub mod view;
pub mod watch;
