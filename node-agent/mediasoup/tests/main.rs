//! The real process with a real mediasoup worker, spoken to as an agent speaks to it.

mod agent;
mod faults;
mod invalid;
mod rooms;
mod streams;
