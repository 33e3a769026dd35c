//! How a file looks from outside: what tells that it has changed, without reading it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How often files that may change are looked at, at most.
pub const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Modification time, length and inode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(SystemTime, u64, u64);

impl Stamp {
    /// None if the file cannot be looked at.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let look = || -> io::Result<_> {
            let found = std::fs::metadata(path)?;
            Ok(Self(found.modified()?, found.len(), found.ino()))
        };
        look().ok()
    }
}
