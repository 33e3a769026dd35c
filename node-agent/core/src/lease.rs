//! The node's lease, seen from the node: until when it may admit, and what ends it (rules 6 to 8 and 16).

use roost_proto::id::Incarnation;
use roost_proto::time::Millis;

/// The lease's length unless configured.
pub const LEASE_MS: u64 = 4_000;
/// The shortest lease that can be configured.
pub const MIN_LEASE_MS: u64 = 3_000;
/// The longest lease that can be configured: a dead node's rooms wait for it.
pub const MAX_LEASE_MS: u64 = 60_000;
/// How long before the store may give its rooms away a node stops admitting (rule 7).
pub const FENCE_MARGIN_MS: u64 = 1_000;
/// How often a node reports, and renews its lease with it.
pub const REPORT_INTERVAL_MS: u64 = 1_000;

/// How long an answer to a renewal is waited for. One that is lost leaves time for another before the fence.
#[must_use]
pub const fn renew_timeout_ms(lease_ms: u64) -> u64 {
    (lease_ms - FENCE_MARGIN_MS) / 2
}

/// The longest time over which agents spread what they assert in a new run of the store.
pub const SPREAD_MS: u64 = 1_000;

/// How long, in ms, a node waits before it asserts the rooms of a bucket in a new run, by a `draw` of its own, any number:
/// all nodes hear of the run within a moment. Never longer than a quarter of what is left until its doors to them close.
#[must_use]
pub const fn spread_ms(draw: u64, left_ms: u64) -> u64 {
    let most = if left_ms / 4 < SPREAD_MS { left_ms / 4 } else { SPREAD_MS };
    draw % (most + 1)
}

const _: () = assert!(MIN_LEASE_MS <= LEASE_MS && LEASE_MS <= MAX_LEASE_MS);
// A node that reports on time is never fenced, also when one renewal is lost.
const _: () = assert!(REPORT_INTERVAL_MS + renew_timeout_ms(LEASE_MS) < LEASE_MS - FENCE_MARGIN_MS);
const _: () = assert!(REPORT_INTERVAL_MS + renew_timeout_ms(MIN_LEASE_MS) <= MIN_LEASE_MS - FENCE_MARGIN_MS);

/// What the lease lets the node do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No incarnation: register.
    None,
    /// Admits until its deadline.
    Held,
    /// Past its deadline: admits nobody; an answer to a renewal may still lift it.
    Fenced,
}

/// The node's lease. Deadlines are on the node's own clock.
#[derive(Debug, Clone)]
pub struct Lease {
    lease_ms: u64,
    current: Option<Current>,
    /// The last incarnation that this process had; the next one is larger (rule 8).
    last: Incarnation,
    store_clock: Option<StoreClock>,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    incarnation: Incarnation,
    /// From here on nobody is admitted.
    deadline: Millis,
}

/// The store's clock as it was at a moment of our own.
#[derive(Debug, Clone, Copy)]
struct StoreClock {
    store_ms: u64,
    at: Millis,
}

impl Lease {
    /// No lease yet; it will be `lease_ms` long, between [`MIN_LEASE_MS`] and [`MAX_LEASE_MS`].
    #[must_use]
    pub fn new(lease_ms: u64) -> Self {
        let lease_ms = lease_ms.clamp(MIN_LEASE_MS, MAX_LEASE_MS);
        Self { lease_ms, current: None, last: Incarnation(0), store_clock: None }
    }

    /// Length of the lease.
    #[must_use]
    pub fn lease_ms(&self) -> u64 {
        self.lease_ms
    }

    /// What it lets the node do at `now`.
    #[must_use]
    pub fn standing(&self, now: Millis) -> Standing {
        match self.current {
            None => Standing::None,
            Some(current) if now < current.deadline => Standing::Held,
            Some(_) => Standing::Fenced,
        }
    }

    /// The incarnation under which the node acts, fenced or not.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.current.map(|current| current.incarnation)
    }

    /// The largest incarnation that this process had.
    #[must_use]
    pub fn last_incarnation(&self) -> Incarnation {
        self.last
    }

    /// From when on nobody is admitted; none without an incarnation.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.current.map(|current| current.deadline)
    }

    /// The store gave `incarnation` in answer to a registration sent at `sent`.
    ///
    /// False, and nothing is changed, if the incarnation is not a new one: an answer that came late or twice.
    pub fn registered(&mut self, incarnation: Incarnation, store_ms: u64, sent: Millis, now: Millis) -> bool {
        if incarnation <= self.last {
            return false;
        }
        self.last = incarnation;
        self.current = Some(Current { incarnation, deadline: self.deadline_from(sent) });
        self.set_store_clock(store_ms, now);
        true
    }

    /// The store renewed the lease of `incarnation` in answer to a report sent at `sent`. The deadline counts from then,
    /// and only ever moves forward; if it lies ahead a fence is lifted (rule 7). An answer to another incarnation
    /// changes nothing.
    pub fn renewed(&mut self, incarnation: Incarnation, store_ms: u64, sent: Millis, now: Millis) {
        let deadline = self.deadline_from(sent);
        let Some(current) = self.current.as_mut().filter(|current| current.incarnation == incarnation) else { return };
        current.deadline = current.deadline.max(deadline);
        self.set_store_clock(store_ms, now);
    }

    /// The store's own host refused the connection for a renewal that was sent at `sent`: nobody can give the node's rooms
    /// away, so it counts as one (rule 14). It never lifts a fence: before it the store may have been there.
    /// False if it changes nothing.
    pub fn refused(&mut self, incarnation: Incarnation, sent: Millis, now: Millis) -> bool {
        let deadline = self.deadline_from(sent);
        let held = |current: &&mut Current| current.incarnation == incarnation && now < current.deadline;
        let Some(current) = self.current.as_mut().filter(held) else { return false };
        current.deadline = current.deadline.max(deadline);
        true
    }

    /// The store says that the lease of `incarnation` is over, or a new run of the store voided it (rules 2 and 8):
    /// it is never renewed. True if it was the current one.
    pub fn ended(&mut self, incarnation: Incarnation) -> bool {
        let is_current = self.incarnation() == Some(incarnation);
        if is_current {
            self.current = None;
        }
        is_current
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.current.map(|current| current.deadline.plus(FENCE_MARGIN_MS))
    }

    /// Ends an incarnation whose whole lease has passed since its last answered renewal was sent, and gives it: it must
    /// be taken for lapsed, whatever the store may still say (rule 8).
    pub fn handle_timeout(&mut self, now: Millis) -> Option<Incarnation> {
        let over = self.current.filter(|current| now >= current.deadline.plus(FENCE_MARGIN_MS))?;
        self.current = None;
        Some(over.incarnation)
    }

    /// The store's time, as far as it is known: told with the last answer, and gone on by the node's own clock since.
    #[must_use]
    pub fn store_ms(&self, now: Millis) -> Option<u64> {
        self.store_clock.map(|clock| clock.store_ms.saturating_add(now.since(clock.at)))
    }

    /// From when on nobody is admitted by a request that was sent at `sent` (rule 7).
    pub(crate) fn deadline_from(&self, sent: Millis) -> Millis {
        sent.plus(self.lease_ms - FENCE_MARGIN_MS)
    }

    fn set_store_clock(&mut self, store_ms: u64, now: Millis) {
        self.store_clock = Some(StoreClock { store_ms, at: now });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nodes_spread_over_a_second_what_they_assert_and_close_no_door_by_it() {
        let mut begins: Vec<u64> = (0..3_000).map(|node| spread_ms(node * 7_919, 3_000)).collect();
        begins.sort_unstable();
        assert!(begins[0] < 10 && begins[2_999] > 740 && begins[2_999] <= 750, "up to a quarter of what is left");
        let at_once = begins.windows(300).filter(|some| some[299] - some[0] < 50).count();
        assert_eq!(at_once, 0, "no tenth of them within a fifteenth of the time");
        assert_eq!((spread_ms(u64::MAX, 0), spread_ms(5_000, 3)), (0, 0), "those whose doors are closing hurry");
        assert!((0..10_000).all(|draw| spread_ms(draw, u64::MAX) <= SPREAD_MS));
    }

    #[test]
    fn the_deadline_counts_from_when_the_answered_renewal_was_sent() {
        let mut lease = registered_at(1_000, 1_900);
        assert_eq!(lease.deadline(), Some(Millis(4_000)));
        lease.renewed(Incarnation(1), 0, Millis(2_000), Millis(3_500));
        assert_eq!(lease.deadline(), Some(Millis(5_000)));
        assert_eq!(lease.standing(Millis(4_999)), Standing::Held);
        assert_eq!(lease.standing(Millis(5_000)), Standing::Fenced);
    }

    #[test]
    fn a_late_answer_to_the_same_incarnation_lifts_the_fence() {
        let mut lease = registered_at(0, 0);
        assert_eq!(lease.standing(Millis(3_200)), Standing::Fenced);
        lease.renewed(Incarnation(1), 0, Millis(2_000), Millis(3_200));
        assert_eq!(lease.standing(Millis(3_200)), Standing::Held);
    }

    #[test]
    fn a_store_that_refuses_renews_what_is_held_and_lifts_no_fence() {
        let mut lease = registered_at(0, 0);
        lease.refused(Incarnation(2), Millis(1_000), Millis(1_000));
        assert_eq!(lease.deadline(), Some(Millis(3_000)), "that is no incarnation of ours");
        lease.refused(Incarnation(1), Millis(2_900), Millis(2_999));
        assert_eq!(lease.standing(Millis(5_899)), Standing::Held);
        lease.refused(Incarnation(1), Millis(1_000), Millis(3_000));
        assert_eq!(lease.deadline(), Some(Millis(5_900)), "it counts from when it was sent");
        lease.refused(Incarnation(1), Millis(5_899), Millis(5_900));
        assert_eq!(lease.standing(Millis(5_900)), Standing::Fenced, "the answer came too late");
        lease.refused(Incarnation(1), Millis(6_000), Millis(6_000));
        assert_eq!(lease.standing(Millis(6_000)), Standing::Fenced);
        assert_eq!(lease.handle_timeout(Millis(6_900)), Some(Incarnation(1)));
    }

    #[test]
    fn an_answer_that_is_older_than_the_last_one_shortens_nothing() {
        let mut lease = registered_at(0, 0);
        lease.renewed(Incarnation(1), 0, Millis(2_000), Millis(2_100));
        lease.renewed(Incarnation(1), 0, Millis(1_000), Millis(2_200));
        assert_eq!(lease.deadline(), Some(Millis(5_000)));
    }

    #[test]
    fn a_lapsed_lease_is_never_renewed() {
        let mut lease = registered_at(0, 0);
        assert!(lease.ended(Incarnation(1)));
        lease.renewed(Incarnation(1), 0, Millis(10), Millis(20));
        assert_eq!(lease.standing(Millis(20)), Standing::None);
        assert!(!lease.registered(Incarnation(1), 0, Millis(10), Millis(20)), "a second answer to the registration");
        assert!(lease.registered(Incarnation(2), 0, Millis(10), Millis(20)));
    }

    #[test]
    fn a_whole_lease_without_an_answer_ends_the_incarnation() {
        let mut lease = registered_at(0, 0);
        assert_eq!(lease.poll_timeout(), Some(Millis(4_000)));
        assert_eq!(lease.handle_timeout(Millis(3_999)), None);
        assert_eq!(lease.handle_timeout(Millis(4_000)), Some(Incarnation(1)));
        assert_eq!((lease.incarnation(), lease.last_incarnation()), (None, Incarnation(1)));
    }

    #[test]
    fn the_stores_time_goes_on_without_the_store() {
        let mut lease = registered_at(0, 100);
        assert_eq!(lease.store_ms(Millis(100)), Some(1_700_000_000_000));
        lease.ended(Incarnation(1));
        assert_eq!(lease.store_ms(Millis(60_100)), Some(1_700_000_060_000));
    }

    proptest! {
        /// Whatever is answered, in whatever order: an incarnation is held only while less than the lease less the
        /// margin has passed since the latest of its own requests that was answered with yes was sent.
        #[test]
        fn it_is_held_only_within_the_margin_of_an_answered_request(steps in proptest::collection::vec(step(), 1..60)) {
            let mut lease = Lease::new(LEASE_MS);
            let mut latest: Option<(Incarnation, u64)> = None;
            let mut over: Vec<Incarnation> = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step.pass_ms;
                over.extend(lease.handle_timeout(Millis(now)));
                let sent = now.saturating_sub(step.took_ms);
                let incarnation = Incarnation(step.incarnation);
                match step.answer {
                    0 => if lease.registered(incarnation, 0, Millis(sent), Millis(now)) {
                        prop_assert!(!over.contains(&incarnation));
                        over.extend(latest.map(|(old, _)| old));
                        latest = Some((incarnation, sent));
                    },
                    1 => if lease.ended(incarnation) { over.push(incarnation) },
                    _ => {
                        lease.renewed(incarnation, 0, Millis(sent), Millis(now));
                        if let Some((_, at)) = latest.as_mut().filter(|(of, _)| *of == incarnation) {
                            *at = sent.max(*at);
                        }
                    }
                }
                if lease.standing(Millis(now)) == Standing::Held {
                    let (incarnation, sent) = latest.expect("registered");
                    prop_assert_eq!(lease.incarnation(), Some(incarnation));
                    prop_assert!(!over.contains(&incarnation), "{} came back", incarnation);
                    prop_assert!(now < sent + LEASE_MS - FENCE_MARGIN_MS);
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    struct Step {
        pass_ms: u64,
        took_ms: u64,
        incarnation: u64,
        answer: u8,
    }

    fn step() -> impl Strategy<Value = Step> {
        (0u64..2_500, 0u64..3_000, 1u64..6, 0u8..6).prop_map(|(pass_ms, took_ms, incarnation, answer)| Step {
            pass_ms,
            took_ms,
            incarnation,
            answer,
        })
    }

    fn registered_at(sent: u64, now: u64) -> Lease {
        let mut lease = Lease::new(LEASE_MS);
        assert!(lease.registered(Incarnation(1), 1_700_000_000_000, Millis(sent), Millis(now)));
        lease
    }
}
