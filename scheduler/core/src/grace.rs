//! The pause after a store's new run, in which agents say again which rooms they hold (rules 15 and 20).

use roost_proto::hash::BUCKETS;
use roost_proto::id::Epoch;
use roost_proto::room::Run;
use roost_proto::time::Millis;

use crate::time::{DEFAULT_LEASE_MS, MAX_LEASE_MS, REPORT_EVERY_MS};

/// The run of each bucket, since when we know of it, and the highest epoch that was ever seen there.
#[derive(Debug, Clone)]
pub struct Grace {
    buckets: Vec<Bucket>,
    /// The longest lease of any node that was heard of.
    lease_ms: u64,
    /// The longest time that a store's server which was replaced goes on answering.
    replaced_ms: u64,
}

#[derive(Debug, Clone, Default)]
struct Bucket {
    run: Option<Run>,
    first_seen: Millis,
    highest: Epoch,
    /// Since when its server does not answer: its grace stands still.
    paused: Option<Millis>,
}

impl Default for Grace {
    fn default() -> Self {
        Self { buckets: vec![Bucket::default(); usize::from(BUCKETS)], lease_ms: DEFAULT_LEASE_MS, replaced_ms: 0 }
    }
}

impl Grace {
    /// Takes note of the run that a bucket is in. Whether it is a new one, whose grace begins.
    pub fn see_run(&mut self, bucket: u8, run: &Run, now: Millis) -> bool {
        let Some(entry) = self.buckets.get_mut(usize::from(bucket)) else { return false };
        if entry.run.as_ref() == Some(run) {
            return false;
        }
        entry.run = Some(run.clone());
        entry.first_seen = now;
        true
    }

    /// The store does not answer. While it refuses agents, too, those go on admitting (rule 14) and cannot assert what they
    /// hold: that time is no part of a grace.
    pub fn pause(&mut self, now: Millis) {
        for entry in &mut self.buckets {
            entry.paused.get_or_insert(now);
        }
    }

    /// The store answers for these buckets: their graces that were not over begin anew, for whoever was refused last may
    /// admit for almost a lease from then on.
    pub fn resume(&mut self, buckets: &[u8], now: Millis) {
        let length_ms = self.length_ms();
        for bucket in buckets {
            let Some(entry) = self.buckets.get_mut(usize::from(*bucket)) else { continue };
            let Some(since) = entry.paused.take() else { continue };
            if since.since(entry.first_seen) < length_ms {
                entry.first_seen = now;
            }
        }
    }

    /// Takes note of an epoch that was given in a bucket, in whichever run.
    pub fn see_epoch(&mut self, bucket: u8, epoch: Epoch) {
        if let Some(entry) = self.buckets.get_mut(usize::from(bucket)) {
            entry.highest = entry.highest.max(epoch);
        }
    }

    /// Takes note of a node's lease: a grace lasts as long as the longest.
    pub fn see_lease(&mut self, lease_ms: u64) {
        self.lease_ms = self.lease_ms.max(lease_ms.min(MAX_LEASE_MS));
    }

    /// The longest lease of any node that was heard of.
    #[must_use]
    pub fn lease_ms(&self) -> u64 {
        self.lease_ms
    }

    /// Takes note of how long a server of the store that was replaced may go on answering: a lease that it renewed last
    /// begins that much later than the new run (rule 15).
    pub fn see_replaced(&mut self, replaced_ms: u64) {
        self.replaced_ms = self.replaced_ms.max(replaced_ms.min(MAX_LEASE_MS));
    }

    /// The run that a bucket is in; none before the store was reached.
    #[must_use]
    pub fn run(&self, bucket: u8) -> Option<&Run> {
        self.buckets.get(usize::from(bucket))?.run.as_ref()
    }

    /// The highest epoch that was ever seen in a bucket.
    #[must_use]
    pub fn highest(&self, bucket: u8) -> Epoch {
        self.buckets.get(usize::from(bucket)).map_or(Epoch(0), |entry| entry.highest)
    }

    /// How long a grace lasts: a lease and a report; where the store's server may be replaced, a lease and the time for
    /// which the old one may go on answering, if that is longer.
    #[must_use]
    pub fn length_ms(&self) -> u64 {
        self.lease_ms + REPORT_EVERY_MS.max(self.replaced_ms)
    }

    /// How long a bucket's grace still runs; 0 when it is over. All of it before the store was reached.
    #[must_use]
    pub(crate) fn left_ms(&self, bucket: u8, now: Millis) -> u64 {
        match self.buckets.get(usize::from(bucket)) {
            Some(Bucket { run: Some(_), first_seen, paused, .. }) => {
                let until = paused.map_or(now, |paused| paused.min(now));
                self.length_ms().saturating_sub(until.since(*first_seen))
            }
            _ => self.length_ms(),
        }
    }

    /// How long the longest grace still runs.
    #[must_use]
    pub(crate) fn longest_left_ms(&self, now: Millis) -> u64 {
        (0..BUCKETS).map(|bucket| self.left_ms(bucket, now)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::run;

    #[test]
    fn a_grace_lasts_a_lease_and_a_report_from_first_sight_of_a_run() {
        let mut grace = Grace::default();
        assert_eq!(grace.left_ms(3, Millis(0)), 5_000, "before the store was reached nothing is over");
        assert!(grace.see_run(3, &run("r1"), Millis(1_000)));
        assert_eq!(grace.left_ms(3, Millis(5_999)), 1);
        assert_eq!(grace.left_ms(3, Millis(6_000)), 0);
        assert!(!grace.see_run(3, &run("r1"), Millis(9_000)), "the same run begins nothing");
        assert_eq!(grace.left_ms(3, Millis(9_000)), 0);
        assert!(grace.see_run(3, &run("r2"), Millis(9_000)));
        assert_eq!(grace.left_ms(3, Millis(9_000)), 5_000);
        assert_eq!(grace.longest_left_ms(Millis(20_000)), 5_000, "other buckets were never seen");
    }

    #[test]
    fn while_the_store_does_not_answer_a_grace_stands_still_and_then_it_begins_anew() {
        let mut grace = Grace::default();
        grace.see_run(3, &run("r1"), Millis(0));
        grace.see_run(4, &run("r1"), Millis(4_000));
        grace.pause(Millis(6_000));
        grace.see_run(5, &run("r1"), Millis(7_000));
        let left = |grace: &Grace, now| [3, 4, 5].map(|bucket| grace.left_ms(bucket, Millis(now)));
        assert_eq!(left(&grace, 60_000), [0, 3_000, 5_000]);
        grace.pause(Millis(50_000));
        grace.resume(&[3, 4, 5], Millis(60_000));
        assert_eq!(left(&grace, 60_000), [0, 5_000, 5_000], "one that was over stays so");
        assert_eq!(left(&grace, 62_000), [0, 3_000, 3_000]);
    }

    #[test]
    fn a_part_that_does_not_answer_keeps_only_its_own_graces_from_ending() {
        let mut grace = Grace::default();
        for bucket in [3, 4] {
            grace.see_run(bucket, &run("r1"), Millis(0));
        }
        grace.pause(Millis(1_000));
        grace.resume(&[4, 200], Millis(2_000));
        let left = |grace: &Grace, now| [3, 4].map(|bucket| grace.left_ms(bucket, Millis(now)));
        assert_eq!(left(&grace, 9_000), [4_000, 0]);
        grace.pause(Millis(9_000));
        grace.resume(&[3, 4], Millis(10_000));
        assert_eq!(left(&grace, 12_000), [3_000, 0]);
    }

    #[test]
    fn the_longest_lease_counts_up_to_a_limit() {
        let mut grace = Grace::default();
        grace.see_lease(10_000);
        grace.see_lease(2_000);
        assert_eq!(grace.length_ms(), 11_000);
        grace.see_lease(u64::MAX);
        assert_eq!(grace.length_ms(), MAX_LEASE_MS + REPORT_EVERY_MS);
    }

    #[test]
    fn a_store_that_fails_over_has_a_longer_grace() {
        let mut grace = Grace::default();
        grace.see_replaced(500);
        assert_eq!(grace.length_ms(), 5_000, "a report is longer");
        grace.see_replaced(3_000);
        grace.see_replaced(0);
        assert_eq!(grace.length_ms(), 7_000);
        grace.see_replaced(u64::MAX);
        assert_eq!(grace.length_ms(), DEFAULT_LEASE_MS + MAX_LEASE_MS);
    }

    #[test]
    fn the_highest_epoch_outlives_the_run() {
        let mut grace = Grace::default();
        grace.see_run(0, &run("r1"), Millis(0));
        grace.see_epoch(0, Epoch(7));
        grace.see_epoch(0, Epoch(5));
        grace.see_run(0, &run("r2"), Millis(0));
        assert_eq!((grace.highest(0), grace.highest(1), grace.highest(200)), (Epoch(7), Epoch(0), Epoch(0)));
    }
}
