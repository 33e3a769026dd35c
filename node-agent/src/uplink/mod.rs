//! The way to the shared state: straight to Redis, through a scheduler, or in memory; and what goes that way.

pub(crate) mod assertion;
pub(crate) mod commands;
pub(crate) mod lost;
pub(crate) mod moving;
pub(crate) mod pace;
mod parts;
pub(crate) mod redis;
pub(crate) mod release;
pub(crate) mod renewal;
pub(crate) mod scheduler;
#[cfg(test)]
mod tests;
