//! The state that schedulers and agents share: claims, leases, reports, commands.
//!
//! [`claim`] is the specification of ownership; [`embedded`] runs it in memory, [`redis`] runs it as Lua in Redis. Both
//! stand behind [`NodeStore`] (what an agent does) and [`Store`] (what a scheduler does besides), and one suite of
//! tests holds all three together. The rules are those of the ownership protocol in ARCHITECTURE.md.

pub mod claim;
pub mod contract;
pub mod dropped;
pub mod embedded;
pub mod error;
pub mod lease;
mod nonce;
pub mod open;
pub mod operation;
pub mod redis;
mod steer;

pub use contract::{NodeStore, Store};
pub use dropped::DroppedReports;
pub use embedded::EmbeddedStore;
pub use error::StoreError;
pub use open::open_store;
pub use redis::{InvalidSetting, RedisSettings, RedisStore};
