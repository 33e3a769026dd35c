//! The one hash that all processes must compute alike: which bucket a room or node is in, how equal nodes are spread.

/// How many buckets the shared state is divided into. Each has one hash tag, one epoch counter and one run.
///
/// It is part of the wire format: all processes of a cluster must agree on it.
pub const BUCKETS: u8 = 16;

/// A 64-bit hash of `parts`, the same on every machine and in every version.
///
/// FNV-1a (Fowler, Noll, Vo) over the parts, each closed by a byte that no identifier contains, then [`mix`], without which
/// FNV's high bits are far from even.
#[must_use]
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for &byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
    mix(hash)
}

/// The finaliser of MurmurHash3 (Appleby): each bit of `hash` bears on every bit of what it gives.
#[must_use]
pub const fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The bucket of a thing that is named by `parts`.
#[must_use]
pub fn bucket(parts: &[&[u8]]) -> u8 {
    (stable_hash(parts) % u64::from(BUCKETS)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_for_ever() {
        assert_eq!(stable_hash(&[b"default", b"standup"]), 0x5d05_c281_e33a_9e9c);
        assert_ne!(stable_hash(&[b"ab", b"c"]), stable_hash(&[b"a", b"bc"]));
    }

    #[test]
    fn buckets_fill_evenly() {
        let mut counts = [0u32; BUCKETS as usize];
        for i in 0..16_000 {
            counts[usize::from(bucket(&[b"default", format!("room-{i}").as_bytes()]))] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
