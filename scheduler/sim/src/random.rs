//! Where chance comes from: one stream for each purpose, so that more of one thing changes nothing of another.

use rand::SeedableRng as _;
use rand_pcg::Pcg64;
use roost_proto::hash::stable_hash;

/// The stream of a seed for one purpose.
#[must_use]
pub fn stream(seed: u64, purpose: &str) -> Pcg64 {
    Pcg64::seed_from_u64(stable_hash(&[purpose.as_bytes(), &seed.to_be_bytes()]))
}
