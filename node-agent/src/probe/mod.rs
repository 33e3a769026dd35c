//! What the machine is doing, for the report. What the media workers do, they say themselves.

pub(crate) mod host;
