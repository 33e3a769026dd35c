//! The scheduler as a process, with agents that speak the uplink protocol but carry no media.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod admin;
mod agent;
mod bad_input;
mod closing;
mod decision_log;
mod door;
mod explain;
mod failover;
mod geo;
mod lookup;
mod moves;
mod process;
mod record;
mod redirect;
mod redis;
mod replay;
mod reports;
mod simulate;
mod uplink;
mod wait;
mod watch;
