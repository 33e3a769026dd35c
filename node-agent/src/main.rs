//! `roost-agent`: stands beside a node's media workers, reports what they do, and holds the node's right to its rooms.

mod door;
mod media;
mod signaling;

fn main() {}
