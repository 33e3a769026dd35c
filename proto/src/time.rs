//! Points in time and lengths of it, as the cores see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Milliseconds on some clock; which one, the name of the field or argument says.
///
/// In the cores `now` is a process's own monotonic clock. Times of two clocks are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This instant, `length_ms` later.
    #[must_use]
    pub const fn plus(self, length_ms: u64) -> Self {
        Self(self.0.saturating_add(length_ms))
    }

    /// This instant, `length_ms` earlier; never before zero.
    #[must_use]
    pub const fn minus(self, length_ms: u64) -> Self {
        Self(self.0.saturating_sub(length_ms))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
