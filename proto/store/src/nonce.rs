//! Names that no other process and no later start makes: of runs, and of a store's data.

use std::hash::{BuildHasher, RandomState};

use roost_proto::room::Run;

/// 16 hexadecimal digits, from the random keys that the standard library takes from the system.
pub(crate) fn text() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// A run that never was.
pub(crate) fn run() -> Run {
    Run(text().into())
}
