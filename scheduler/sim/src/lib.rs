//! Simulated nodes, clients and time around the real placement: what would happen, without a cluster.

pub mod trace;
