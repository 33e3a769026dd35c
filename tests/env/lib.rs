//! Starts what a test needs and ends it again: our own binaries, Redis, clients. Free ports, folders of their own,
//! loopback only; processes are ended by their id.

pub mod binaries;
pub mod browsers;
pub mod cluster;
pub mod connection;
pub mod namespace;
pub mod participant;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod wait;

/// Whatever went wrong, in words; tests and the demo print it and stop.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;
