//! The brake: when many leases lapse silently together, that is rather the store's fault or our own than the nodes', and
//! no room is taken from any of them for a while.

use std::collections::VecDeque;

use roost_proto::time::Millis;

/// How the brake is set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BrakeSettings {
    /// More than this share of the nodes that lived.
    pub share: f64,
    /// And at least so many.
    pub min_nodes: u32,
    /// It holds for so long at most.
    pub max_ms: u64,
}

/// Unless configured.
pub const BRAKE: BrakeSettings = BrakeSettings { share: 0.5, min_nodes: 4, max_ms: 30_000 };

/// Counts nodes that fall silent, and holds rooms in place when too many do.
#[derive(Debug, Clone)]
pub struct Brake {
    settings: BrakeSettings,
    /// When how many fell silent, in the last lease.
    lapsed: VecDeque<(Millis, u32)>,
    /// Since when it holds, and until when at most.
    holds: Option<(Millis, Millis)>,
}

/// What the brake did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Braked {
    Nothing,
    /// It holds from now on: so many fell silent of so many that lived.
    Engaged {
        lapsed: u32,
        lived: u32,
    },
    /// It does not hold any more.
    Ended,
}

impl Brake {
    /// A brake that does not hold.
    #[must_use]
    pub fn new(settings: BrakeSettings) -> Self {
        Self { settings, lapsed: VecDeque::new(), holds: None }
    }

    /// Counts the nodes that fell silent at a tick; `alive` are those that still live after that. What lapsed within
    /// `lease_ms` counts as together.
    pub fn tick(&mut self, silenced: u32, alive: u32, lease_ms: u64, now: Millis) -> Braked {
        while self.lapsed.front().is_some_and(|(at, _)| now.since(*at) >= lease_ms) {
            self.lapsed.pop_front();
        }
        if silenced > 0 {
            self.lapsed.push_back((now, silenced));
        }
        if let Some((_, until)) = self.holds {
            if now >= until {
                self.release();
                return Braked::Ended;
            }
            return Braked::Nothing;
        }
        if silenced == 0 {
            return Braked::Nothing;
        }
        let lapsed = self.lapsed.iter().fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
        let lived = alive.saturating_add(lapsed);
        if lapsed >= self.settings.min_nodes && f64::from(lapsed) > self.settings.share * f64::from(lived) {
            self.holds = Some((now, now.plus(self.settings.max_ms)));
            return Braked::Engaged { lapsed, lived };
        }
        Braked::Nothing
    }

    /// Whether no room is to be taken from a node because of its silence.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds.is_some()
    }

    /// How long it still holds at most; none if it does not.
    #[must_use]
    pub fn left_ms(&self, now: Millis) -> Option<u64> {
        self.holds.map(|(_, until)| until.since(now))
    }

    /// Lets go, at the end or by the operator's word. What has lapsed so far does not engage it again.
    pub fn release(&mut self) {
        self.holds = None;
        self.lapsed.clear();
    }
}

impl Default for Brake {
    fn default() -> Self {
        Self::new(BRAKE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_MS: u64 = 4_000;

    #[test]
    fn it_engages_when_more_than_half_and_at_least_four_lapse_within_a_lease() {
        let engages = |lapses: &[(u64, u32)], alive: u32| {
            let mut brake = Brake::default();
            for (at, count) in lapses {
                brake.tick(*count, alive, LEASE_MS, Millis(*at));
            }
            brake.holds()
        };
        assert!(engages(&[(0, 4)], 3));
        assert!(!engages(&[(0, 4)], 4), "just half");
        assert!(!engages(&[(0, 3)], 0), "three are too few to blame others");
        assert!(engages(&[(0, 2), (3_999, 2)], 1));
        assert!(!engages(&[(0, 2), (4_000, 2)], 1), "one after the other");
        assert!(engages(&[(0, u32::MAX), (1, u32::MAX)], 7), "nothing overflows");
    }

    #[test]
    fn it_holds_for_its_time_or_until_it_is_released() {
        let mut brake = Brake::default();
        assert_eq!(brake.tick(5, 0, LEASE_MS, Millis(1_000)), Braked::Engaged { lapsed: 5, lived: 5 });
        assert_eq!((brake.holds(), brake.left_ms(Millis(11_000))), (true, Some(20_000)));
        assert_eq!(brake.tick(5, 0, LEASE_MS, Millis(30_999)), Braked::Nothing);
        assert_eq!(brake.tick(0, 0, LEASE_MS, Millis(31_000)), Braked::Ended);
        assert_eq!((brake.holds(), brake.left_ms(Millis(31_000))), (false, None));
        assert_eq!(brake.tick(0, 0, LEASE_MS, Millis(31_250)), Braked::Nothing, "they are not counted again");
        brake.tick(9, 1, LEASE_MS, Millis(40_000));
        brake.release();
        assert!(!brake.holds());
    }
}
