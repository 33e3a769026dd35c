//! What can go wrong between us and the shared state.

/// Why an operation on the store gave no answer.
///
/// That another holds a room, or that a lease is over, is no error but an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It was certainly not done: the store was not reached, or refused before it wrote.
    #[error("the store cannot be reached: {reason}")]
    Unavailable { reason: String },
    /// It was certainly not done: the one server of the store refused the connection, at an address of its own to which
    /// we were connected before. Nobody can write to the store while that is so (rule 14). Never said of Sentinel or
    /// Cluster, where another server may have taken over.
    #[error("the store refuses connections: {reason}")]
    Refused { reason: String },
    /// It may have been done: the connection broke, or time ran out, after it was sent.
    #[error("the store did not answer, what was asked may have been done: {reason}")]
    Unknown { reason: String },
    /// A record that cannot be read.
    #[error("the store holds a broken record at {key}: {reason}")]
    Corrupt { key: String, reason: String },
}
