//! Which scheduler does what one must do: the one that a rendezvous hash picks among the living.

use roost_proto::hash::stable_hash;

/// Whether the duty falls to the scheduler `own`, of `all` that live. Two may think so for a moment.
#[must_use]
pub fn falls_to<'a>(own: &str, duty: &[u8], all: impl IntoIterator<Item = &'a str>) -> bool {
    let weight = |id: &'a str| (stable_hash(&[id.as_bytes(), duty]), id);
    let ours = (stable_hash(&[own.as_bytes(), duty]), own);
    all.into_iter().all(|other| weight(other) <= ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duty_falls_to_one_of_those_that_live_and_duties_are_shared_out() {
        let all = ["s1", "s2", "s3"];
        let mut of_each = [0; 3];
        for duty in 0..300_u32 {
            let whose: Vec<usize> = (0..3).filter(|own| falls_to(all[*own], &duty.to_be_bytes(), all)).collect();
            assert_eq!(whose.len(), 1, "{duty}: {whose:?}");
            of_each[whose[0]] += 1;
        }
        assert!(of_each.iter().all(|duties| *duties > 50), "{of_each:?}");
    }
}
