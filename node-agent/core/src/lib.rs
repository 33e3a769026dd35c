//! What the agent decides, without doing it: when its lease holds, which rooms it may admit to, what it reports, which
//! commands it obeys.
//!
//! Pure: no clock, no socket, no randomness, no log. `now` is the process's own clock, one that counts suspend, and the
//! last argument everywhere. "Rule N" is a rule of the ownership protocol in ARCHITECTURE.md.

pub mod cadence;
pub mod hold;
pub mod inbox;
pub mod lease;
pub mod runs;
pub mod sample;
