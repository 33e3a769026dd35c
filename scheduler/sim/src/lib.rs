//! Simulated nodes, clients and time around the real placement: what would happen, without a cluster.

pub mod goals;
mod network;
mod node;
pub mod picture;
pub mod plan;
pub mod policies;
pub mod progress;
pub mod queue;
pub mod random;
pub mod replay;
pub mod runner;
pub mod scenario;
mod scheduler;
mod store;
pub mod table;
pub mod trace;
pub mod world;
