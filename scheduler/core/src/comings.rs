//! What a node's comings say of it: one that has just come is given rooms slowly, one that comes and goes is given them last.
//! Both only rank it; nothing is refused because of them.
//!
//! Flap damping is that of routes in BGP (RFC 2439): each return adds to a penalty, which halves in a fixed time. Beyond one
//! threshold the node counts as unsteady, until the penalty has fallen below another. Slow start is that of load
//! balancers (Envoy's `slow_start_config`): a share of the node that grows with its age, here of what is promised to it.

use roost_proto::time::Millis;

/// What one return adds.
const RETURN_PENALTY: f64 = 1_000.0;
/// A penalty halves in this time.
const HALF_LIFE_MS: u64 = 60_000;
/// From here on a node is unsteady: the third return within some twenty seconds, the fourth within a minute.
const UNSTEADY_FROM: f64 = 2_500.0;
/// Below this it is steady again.
const STEADY_BELOW: f64 = 750.0;
/// No penalty is higher, so that nobody is unsteady for longer than three half-lives.
const MOST_PENALTY: f64 = 6_000.0;

/// A node that has come counts in full after this long.
pub const SLOW_START_MS: u64 = 60_000;
/// What is promised to a node that has just come weighs as if it were on so small a part of the node.
const LEAST_SHARE_PERMILLE: u64 = 100;
const FULL_SHARE_PERMILLE: u64 = 1_000;

const _: () = assert!(RETURN_PENALTY * 2.0 < UNSTEADY_FROM, "who is started again twice is not unsteady");
const _: () = assert!(STEADY_BELOW < UNSTEADY_FROM && UNSTEADY_FROM < MOST_PENALTY);

/// When a node came, and how often it has come back.
#[derive(Debug, Clone, Copy, Default)]
pub struct Comings {
    /// It came with nothing, then.
    came: Option<Millis>,
    /// As of `penalized`.
    penalty: f64,
    penalized: Millis,
    unsteady: bool,
}

impl Comings {
    /// The node has come with nothing on it.
    pub fn began(&mut self, now: Millis) {
        self.came = Some(now);
    }

    /// The node was gone, or has taken a new incarnation, and is back.
    pub fn came_back(&mut self, now: Millis) {
        self.penalty = (self.penalty_at(now) + RETURN_PENALTY).min(MOST_PENALTY);
        self.penalized = now;
        self.unsteady |= self.penalty >= UNSTEADY_FROM;
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Millis) {
        self.came = self.came.filter(|came| now.since(*came) < SLOW_START_MS);
        self.unsteady &= self.penalty_at(now) >= STEADY_BELOW;
    }

    /// Whether it has come back too often of late, as of the last tick.
    #[must_use]
    pub fn is_unsteady(&self) -> bool {
        self.unsteady
    }

    /// What is reserved on the node, as it counts for its rank: a node that has just come fills before it is promised more.
    #[must_use]
    pub fn weigh(&self, reserved_permille: u32, now: Millis) -> u32 {
        let share_permille = self.came.map_or(FULL_SHARE_PERMILLE, |came| {
            (now.since(came) * FULL_SHARE_PERMILLE / SLOW_START_MS).clamp(LEAST_SHARE_PERMILLE, FULL_SHARE_PERMILLE)
        });
        u32::try_from(u64::from(reserved_permille) * FULL_SHARE_PERMILLE / share_permille).unwrap_or(u32::MAX)
    }

    fn penalty_at(&self, now: Millis) -> f64 {
        self.penalty * (-(now.since(self.penalized) as f64) / HALF_LIFE_MS as f64).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_again_and_again_is_unsteady_until_it_has_stayed() {
        let mut node = Comings::default();
        for (at, unsteady) in [(0, false), (10_000, false), (20_000, true)] {
            node.came_back(Millis(at));
            assert_eq!(node.is_unsteady(), unsteady, "{at}");
        }
        node.tick(Millis(120_000));
        assert!(node.is_unsteady(), "its penalty has not fallen far enough");
        node.tick(Millis(140_000));
        assert!(!node.is_unsteady());
    }

    #[test]
    fn returns_that_are_far_apart_are_no_flapping_and_nobody_is_unsteady_for_ever() {
        let mut node = Comings::default();
        for minute in 0..60 {
            node.came_back(Millis(minute * 120_000));
            assert!(!node.is_unsteady(), "{minute}");
        }
        for second in 0..600 {
            node.came_back(Millis(8_000_000 + second * 1_000));
        }
        node.tick(Millis(8_600_000 + 3 * HALF_LIFE_MS));
        assert!(!node.is_unsteady());
    }

    #[test]
    fn what_is_promised_to_a_newcomer_weighs_the_less_the_longer_it_is_there() {
        let mut node = Comings::default();
        assert_eq!(node.weigh(40, Millis(0)), 40, "of nobody who was here before us is it known that he is new");
        node.began(Millis(1_000));
        for (now, weight) in [(1_000, 400), (7_000, 400), (31_000, 80), (61_000, 40), (600_000, 40)] {
            assert_eq!(node.weigh(40, Millis(now)), weight, "{now}");
        }
        assert_eq!(node.weigh(u32::MAX, Millis(1_000)), u32::MAX);
        node.tick(Millis(61_000));
        assert_eq!(node.came, None);
    }
}
