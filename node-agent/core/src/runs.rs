//! The runs of the store's buckets, as the node has heard of them, and what a new one means for its lease and its rooms
//! (rules 1, 2 and 16 to 18).

use roost_proto::hash::BUCKETS;
use roost_proto::id::Incarnation;
use roost_proto::room::Run;
use roost_proto::time::Millis;

use crate::hold::Holdings;
use crate::lease::{FENCE_MARGIN_MS, LEASE_MS, Lease, REPORT_INTERVAL_MS};

/// A process that heard nothing for longer may have stood still, and knows nothing of what the store did meanwhile.
pub const STALL_MS: u64 = 1_500;

// Whoever is refused for so long in a grace, and admits as long as it may after that, has stopped when the grace is over.
const _: () = assert!(STALL_MS + LEASE_MS - FENCE_MARGIN_MS < LEASE_MS + REPORT_INTERVAL_MS);

/// What is known of every bucket; nothing before the store was reached.
#[derive(Debug, Clone)]
pub struct Runs {
    /// The bucket that has the node's lease.
    own: u8,
    buckets: Vec<Sight>,
    /// When the store answered a renewal last, or told all runs.
    heard: Millis,
    /// Since when it does not answer, and how long graces are: they stand still.
    silent: Option<(Millis, u64)>,
}

/// A bucket's run.
#[derive(Debug, Clone)]
struct Sight {
    run: Run,
    /// When the node heard of it.
    learned: Millis,
    /// Since when its grace runs: from then on, or since the store answered again.
    since: Millis,
}

impl Sight {
    fn new(run: Run, now: Millis) -> Self {
        Self { run, learned: now, since: now }
    }

    /// Whether an answer to what was asked at `sent` tells of a later run. What was asked before the node heard of this one
    /// may have been answered before it began.
    fn is_over(&self, told: &Run, sent: Millis) -> bool {
        self.run != *told && self.learned < sent
    }
}

impl Runs {
    /// Nothing is known yet; the node's lease is in bucket `own`.
    #[must_use]
    pub fn new(own: u8) -> Self {
        Self { own, buckets: Vec::new(), heard: Millis(0), silent: None }
    }

    /// The run that a bucket is believed to be in; none before the store was reached.
    #[must_use]
    pub fn get(&self, bucket: u8) -> Option<&Run> {
        self.buckets.get(usize::from(bucket)).map(|sight| &sight.run)
    }

    /// The run of the bucket that has the node's lease.
    #[must_use]
    pub fn own(&self) -> Option<&Run> {
        self.get(self.own)
    }

    /// The runs of all buckets; none before the store was reached.
    #[must_use]
    pub fn all(&self) -> Vec<Run> {
        self.buckets.iter().map(|sight| sight.run.clone()).collect()
    }

    /// Takes in the runs of all buckets, as the answer to what was asked at `sent` tells them. True if the lease is void
    /// by it.
    pub fn hear_all(
        &mut self,
        runs: Vec<Run>,
        sent: Millis,
        lease: &mut Lease,
        holdings: &mut Holdings,
        now: Millis,
    ) -> bool {
        if runs.len() != usize::from(BUCKETS) {
            return false;
        }
        self.answered(lease.lease_ms(), now);
        if self.buckets.is_empty() {
            self.buckets = runs.into_iter().map(|run| Sight::new(run, now)).collect();
            return false;
        }
        let mut void = false;
        for (bucket, run) in (0..BUCKETS).zip(runs) {
            void |= self.hear(bucket, run, sent, lease, holdings, now);
        }
        void
    }

    /// Takes in the run of one bucket, as the answer to what was asked at `sent` tells it; one that leads back to an
    /// earlier run is no news. In a new one every room of it is to be asserted, under its old deadline until then
    /// (rule 16); a new run of the node's own bucket voids its lease, and with it all rooms are to be asserted. True in
    /// that case.
    pub fn hear(
        &mut self,
        bucket: u8,
        run: Run,
        sent: Millis,
        lease: &mut Lease,
        holdings: &mut Holdings,
        now: Millis,
    ) -> bool {
        let Some(known) = self.buckets.get_mut(usize::from(bucket)).filter(|known| known.is_over(&run, sent)) else {
            return false;
        };
        *known = Sight::new(run, now);
        // What the node knew of the bucket's run may be older than what it knows of its lease.
        let deadline = lease.deadline();
        let until = |lease: &Lease, holdings: &Holdings, bucket| {
            deadline.map(|until| until.min(lease.deadline_from(holdings.vouched(bucket))))
        };
        holdings.enter_run(bucket, until(lease, holdings, bucket), now);
        match lease.incarnation() {
            Some(incarnation) if bucket == self.own => {
                lease.ended(incarnation);
                for bucket in 0..BUCKETS {
                    holdings.suspend_in(bucket, until(lease, holdings, bucket).unwrap_or_default());
                }
                true
            }
            _ => false,
        }
    }

    /// The lease was renewed in answer to a request sent at `sent`, and with it the store told the runs of those buckets in
    /// which the node has rooms. A bucket of which nothing was told, because its server did not answer, keeps its rooms'
    /// deadline. `None` is told by a scheduler that does not know the question: then the lease speaks for all. True if
    /// there is a new run.
    pub fn renewed(
        &mut self,
        told: Option<Vec<(u8, Run)>>,
        sent: Millis,
        lease: &mut Lease,
        holdings: &mut Holdings,
        now: Millis,
    ) -> bool {
        self.answered(lease.lease_ms(), now);
        let Some(told) = told else {
            (0..BUCKETS).for_each(|bucket| holdings.vouch(bucket, sent));
            return false;
        };
        let mut is_new = false;
        for (bucket, run) in told {
            match self.buckets.get(usize::from(bucket)) {
                Some(known) if known.run == run => holdings.vouch(bucket, sent),
                Some(known) if known.is_over(&run, sent) => {
                    self.hear(bucket, run, sent, lease, holdings, now);
                    is_new = true;
                }
                _ => {}
            }
        }
        is_new
    }

    /// The store's own host refused the renewal sent at `sent`: no bucket has gone anywhere (rule 14). One whose rooms are
    /// past their deadline stays as it is.
    pub fn refused(
        &self,
        incarnation: Incarnation,
        sent: Millis,
        lease: &mut Lease,
        holdings: &mut Holdings,
        now: Millis,
    ) {
        if lease.refused(incarnation, sent, now) {
            let goes_on = |bucket: &u8| now < lease.deadline_from(holdings.vouched(*bucket));
            let buckets: Vec<u8> = (0..BUCKETS).filter(goes_on).collect();
            buckets.into_iter().for_each(|bucket| holdings.vouch(bucket, sent));
        }
    }

    /// The store does not answer: graces stand still from its last answer to the next one, and begin anew with that. While
    /// it refuses others, those go on admitting (rule 14), for almost a lease after the last refusal, and cannot assert what
    /// they hold. A store whose servers may be `replaced_ms` is never trusted so: there a grace goes on.
    pub fn unheard(&mut self, lease_ms: u64, replaced_ms: u64) {
        if replaced_ms == 0 {
            self.silent.get_or_insert((self.heard, grace_ms(lease_ms, 0)));
        }
    }

    /// The store answers: graces that were not over begin anew after a silence.
    fn answered(&mut self, lease_ms: u64, now: Millis) {
        let stalled = || self.has_stalled(now).then(|| (self.heard, grace_ms(lease_ms, 0)));
        let silent = self.silent.or_else(stalled);
        (self.heard, self.silent) = (now, None);
        let Some((silent, length)) = silent else { return };
        for sight in self.buckets.iter_mut().filter(|sight| silent.since(sight.since) < length) {
            sight.since = now;
        }
    }

    /// How long the node's own grace in the bucket's run still lasts: whoever had a room of the bucket in an earlier run
    /// has stopped admitting to it after that (rules 15 and 18). `replaced_ms` is how long a server of the store that was
    /// replaced may go on answering.
    #[must_use]
    pub fn grace_left_ms(&self, bucket: u8, lease_ms: u64, replaced_ms: u64, now: Millis) -> u64 {
        let length = grace_ms(lease_ms, replaced_ms);
        let until = match self.silent {
            Some((silent, _)) => silent.min(now),
            None if replaced_ms == 0 && self.has_stalled(now) => self.heard,
            None => now,
        };
        match self.buckets.get(usize::from(bucket)) {
            Some(sight) => length.saturating_sub(until.since(sight.since)),
            None => length,
        }
    }

    fn has_stalled(&self, now: Millis) -> bool {
        now.since(self.heard) > STALL_MS
    }
}

fn grace_ms(lease_ms: u64, replaced_ms: u64) -> u64 {
    lease_ms.max(LEASE_MS) + REPORT_INTERVAL_MS.max(replaced_ms)
}

#[cfg(test)]
mod tests {
    use roost_proto::id::{Epoch, RoomKey};

    use super::*;
    use crate::hold::{Hold, Offer, State};

    #[test]
    fn a_new_run_of_another_bucket_suspends_its_rooms_and_leaves_the_lease() {
        let mut node = Node::with_rooms_everywhere();
        let bucket = (node.runs.own + 1) % BUCKETS;
        assert!(!node.hear(bucket, "second", Millis(2_000)));
        assert!(node.lease.incarnation().is_some());
        for (room, hold) in node.holdings.iter() {
            let expected = if room.bucket() == bucket { State::Wanted { until: Millis(3_000) } } else { State::Open };
            assert_eq!((hold.state, hold.lapsed), (expected, false), "{room}");
        }
    }

    #[test]
    fn when_all_buckets_begin_anew_every_room_keeps_its_deadline_and_its_right() {
        let mut node = Node::with_rooms_everywhere();
        assert!(node.hear_all("second", Millis(2_999)));
        assert_eq!(node.lease.incarnation(), None);
        for (room, hold) in node.holdings.iter() {
            assert_eq!((hold.state, hold.lapsed), (State::Wanted { until: Millis(3_000) }, false), "{room}");
        }
    }

    #[test]
    fn a_node_that_was_fenced_when_it_heard_of_a_run_has_lapsed_in_every_bucket() {
        let mut node = Node::with_rooms_everywhere();
        assert!(node.hear_all("second", Millis(3_000)));
        assert!(node.holdings.iter().all(|(_, hold)| hold.lapsed));
        // And so has one whose lease was over before.
        let mut node = Node::with_rooms_everywhere();
        assert!(node.lease.handle_timeout(Millis(9_000)).is_some());
        node.holdings.suspend_all(Millis(0));
        assert!(node.holdings.iter().all(|(_, hold)| !hold.lapsed), "in the same run rule 9 is enough");
        assert!(!node.hear_all("second", Millis(9_500)), "there was no lease to void");
        assert!(node.holdings.iter().all(|(_, hold)| hold.lapsed));
    }

    #[test]
    fn who_knew_the_run_in_time_is_not_lapsed_by_a_later_lapse() {
        let mut node = Node::with_rooms_everywhere();
        node.hear_all("second", Millis(2_000));
        node.lease.registered(Incarnation(2), 0, Millis(2_000), Millis(2_000));
        node.lease.ended(Incarnation(2));
        node.holdings.suspend_all(Millis(0));
        assert!(node.holdings.iter().all(|(_, hold)| !hold.lapsed));
        node.hear_all("third", Millis(2_500));
        assert!(node.holdings.iter().all(|(_, hold)| hold.lapsed), "of this one it heard too late");
    }

    #[test]
    fn a_grace_lasts_from_the_first_sight_of_its_bucket_s_run() {
        let mut node = Node::with_rooms_everywhere();
        let left = |node: &Node, bucket, replaced, now| node.runs.grace_left_ms(bucket, 3_000, replaced, Millis(now));
        node.renewed_each_second(0..=4);
        assert_eq!(left(&node, 2, 0, 4_999), 1, "the shortest is that of the usual lease and a report");
        assert_eq!(left(&node, 2, 6_000, 4_999), 5_001);
        node.renewed_each_second(5..=6);
        node.hear(2, "second", Millis(6_000));
        assert_eq!(left(&node, 2, 0, 7_000), 4_000);
        assert_eq!(left(&node, 3, 0, 7_000), 0);
        assert_eq!(node.runs.grace_left_ms(2, 60_000, 0, Millis(6_000)), 61_000);
        node.hear(2, "second", Millis(8_000));
        node.renewed_each_second(7..=11);
        assert_eq!(left(&node, 2, 0, 11_000), 0, "the same run begins nothing");
    }

    #[test]
    fn while_the_store_does_not_answer_a_grace_stands_still_and_then_it_begins_anew() {
        let mut node = Node::with_rooms_everywhere();
        let left = |node: &Node, now| [2, 3, 4].map(|bucket| node.runs.grace_left_ms(bucket, LEASE_MS, 0, Millis(now)));
        node.renewed_each_second(0..=10);
        node.hear(2, "second", Millis(10_000));
        node.renewed_each_second(11..=12);
        node.runs.unheard(LEASE_MS, 0);
        node.hear(3, "second", Millis(13_000));
        node.runs.unheard(LEASE_MS, 0);
        assert_eq!(left(&node, 60_000), [3_000, 5_000, 0]);
        node.hear_each(&[(2, "second"), (3, "second")], Millis(60_000));
        node.renewed_each_second(61..=62);
        assert_eq!(left(&node, 62_000), [3_000, 3_000, 0], "one that was over stays so");
        node.runs.unheard(LEASE_MS, 1_000);
        let left = [2, 3, 4].map(|bucket| node.runs.grace_left_ms(bucket, LEASE_MS, 1_000, Millis(64_000)));
        assert_eq!(left, [1_000, 1_000, 0], "where no refusal counts nothing stands still");
    }

    #[test]
    fn a_node_that_stood_still_does_not_count_that_time() {
        let mut node = Node::with_rooms_everywhere();
        let left = |node: &Node, now| node.runs.grace_left_ms(2, LEASE_MS, 0, Millis(now));
        node.renewed_each_second(0..=10);
        node.hear(2, "second", Millis(10_000));
        node.renewed_each_second(11..=12);
        assert_eq!(left(&node, 60_000), 3_000, "whoever wakes does not know what the store did meanwhile");
        node.renewed_each_second(60..=64);
        assert_eq!(left(&node, 64_000), 1_000, "it began anew");
        node.renewed_each_second(65..=65);
        assert_eq!(left(&node, 90_000), 0, "it was over before");
    }

    #[test]
    fn a_grace_ends_also_if_a_renewal_is_lost_now_and_then() {
        let mut node = Node::with_rooms_everywhere();
        node.hear(2, "second", Millis(10_000));
        for second in (10..30).filter(|second| second % 8 != 0) {
            node.renewed(&[(2, "second")], Millis(second * 1_000));
            if second % 8 == 7 {
                node.runs.unheard(LEASE_MS, 0);
            }
        }
        assert_eq!(node.runs.grace_left_ms(2, LEASE_MS, 0, Millis(29_000)), 0);
    }

    #[test]
    fn a_renewal_that_was_sent_before_a_run_was_heard_of_leads_back_to_no_other() {
        let mut node = Node::with_rooms_everywhere();
        node.hear(2, "second", Millis(2_100));
        let before = node.holdings.clone();
        assert!(!node.renewed(&[(2, "first")], Millis(2_000)));
        assert_eq!(node.runs.get(2), Some(&Run("second".into())));
        assert!(before.iter().eq(node.holdings.iter()));
        assert!(node.renewed(&[(2, "third")], Millis(2_200)));
    }

    #[test]
    fn no_answer_to_what_was_sent_before_a_run_was_heard_of_leads_back_to_another() {
        let mut node = Node::with_rooms_everywhere();
        let own = node.runs.own;
        node.hear(2, "second", Millis(2_100));
        let told = |node: &mut Node, bucket, run: &str, sent| {
            let Node { runs, lease, holdings } = node;
            runs.hear(bucket, Run(run.into()), Millis(sent), lease, holdings, Millis(2_500))
        };
        let before = node.holdings.clone();
        assert!(!told(&mut node, 2, "first", 2_100));
        let Node { runs, lease, holdings } = &mut node;
        let all = vec![Run("first".into()); usize::from(BUCKETS)];
        assert!(!runs.hear_all(all, Millis(2_100), lease, holdings, Millis(2_500)));
        assert_eq!(node.runs.get(2), Some(&Run("second".into())));
        assert!(before.iter().eq(node.holdings.iter()));
        // The lease stays, too, when the bucket is the node's own.
        assert!(node.hear(own, "second", Millis(2_200)));
        node.lease.registered(Incarnation(2), 0, Millis(2_300), Millis(2_300));
        assert!(!told(&mut node, own, "first", 2_200));
        assert_eq!(node.lease.incarnation(), Some(Incarnation(2)));
        assert!(told(&mut node, own, "third", 2_201));
    }

    #[test]
    fn a_renewal_prolongs_the_rooms_of_those_buckets_whose_run_is_known_to_go_on() {
        let mut node = Node::with_rooms_everywhere();
        assert!(!node.renewed(&[(2, "first"), (3, "first")], Millis(2_000)));
        assert_eq!(node.admitting(Millis(2_999)).len(), usize::from(BUCKETS));
        assert_eq!(node.admitting(Millis(3_000)), [2, 3], "the lease itself holds until 5 s");
        // Late, but the same run: nobody was given the rooms meanwhile.
        assert!(!node.renewed(&[(2, "first"), (4, "first")], Millis(3_500)));
        assert_eq!(node.admitting(Millis(4_999)), [2, 3, 4]);
        assert_eq!(node.admitting(Millis(5_000)), [2, 4]);
        assert!(!node.renewed_by_old_scheduler(Millis(4_000)));
        assert_eq!(node.admitting(Millis(6_999)).len(), usize::from(BUCKETS));
    }

    #[test]
    fn a_renewal_that_tells_of_a_new_run_leaves_its_rooms_the_deadline_that_they_had() {
        let mut node = Node::with_rooms_everywhere();
        node.renewed(&[(2, "first"), (3, "first")], Millis(1_000));
        assert!(node.renewed(&[(2, "second"), (3, "first")], Millis(2_000)));
        let hold = |node: &Node, bucket| {
            let found = node.holdings.iter().find(|(room, _)| room.bucket() == bucket);
            found.map(|(_, hold)| (hold.state, hold.lapsed))
        };
        assert_eq!(hold(&node, 2), Some((State::Wanted { until: Millis(4_000) }, false)));
        assert_eq!(hold(&node, 3), Some((State::Open, false)));
        // One of which nothing was heard for that long counts as lapsed, although the lease goes on.
        node.renewed(&[(3, "first")], Millis(4_000));
        assert!(node.renewed(&[(4, "second")], Millis(4_500)));
        assert_eq!(hold(&node, 4), Some((State::Wanted { until: Millis(3_000) }, true)));
        assert_eq!(node.lease.incarnation(), Some(Incarnation(1)));
    }

    #[test]
    fn a_store_that_refuses_prolongs_no_room_that_is_past_its_deadline() {
        let mut node = Node::with_rooms_everywhere();
        node.renewed(&[(2, "first")], Millis(2_000));
        let Node { runs, lease, holdings } = &mut node;
        runs.refused(Incarnation(1), Millis(3_500), lease, holdings, Millis(3_500));
        assert_eq!(node.admitting(Millis(6_499)), [2]);
    }

    struct Node {
        runs: Runs,
        lease: Lease,
        holdings: Holdings,
    }

    impl Node {
        /// With an open room in each bucket, and a lease whose deadline is at 3 s.
        fn with_rooms_everywhere() -> Self {
            let (mut lease, mut holdings) = (Lease::new(LEASE_MS), Holdings::default());
            assert!(lease.registered(Incarnation(1), 0, Millis(0), Millis(0)));
            let offer = Offer { incarnation: Incarnation(1), epoch: Epoch(10) };
            for bucket in 0..BUCKETS {
                let rooms = (0..1_000).map(|number| RoomKey::new("default", format!("room-{number}")).expect("valid"));
                let room = rooms.into_iter().find(|room| room.bucket() == bucket).expect("one in sixteen");
                holdings.begin_open(&room, offer, Millis(0));
                assert!(holdings.opened(&room, offer, Millis(0)));
            }
            let mut node = Self { runs: Runs::new(5), lease, holdings };
            assert!(!node.hear_all("first", Millis(0)));
            node
        }

        /// The lease was renewed, and of these buckets was told what run they are in; it is answered at once.
        fn renewed(&mut self, told: &[(u8, &str)], sent: Millis) -> bool {
            self.lease.renewed(Incarnation(1), 0, sent, sent);
            let told = told.iter().map(|(bucket, run)| (*bucket, Run((*run).into()))).collect();
            self.runs.renewed(Some(told), sent, &mut self.lease, &mut self.holdings, sent)
        }

        fn renewed_each_second(&mut self, seconds: std::ops::RangeInclusive<u64>) {
            for second in seconds {
                self.renewed(&[], Millis(second * 1_000));
            }
        }

        fn renewed_by_old_scheduler(&mut self, sent: Millis) -> bool {
            self.lease.renewed(Incarnation(1), 0, sent, sent);
            self.runs.renewed(None, sent, &mut self.lease, &mut self.holdings, sent)
        }

        /// The buckets to whose room somebody would be admitted.
        fn admitting(&self, now: Millis) -> Vec<u8> {
            let admits =
                |(room, hold): &(&RoomKey, &Hold)| self.holdings.admits(room, hold.opened_as, &self.lease, now);
            let mut buckets: Vec<u8> = self.holdings.iter().filter(admits).map(|(room, _)| room.bucket()).collect();
            buckets.sort_unstable();
            buckets
        }

        fn hear(&mut self, bucket: u8, run: &str, now: Millis) -> bool {
            self.runs.hear(bucket, Run(run.into()), now, &mut self.lease, &mut self.holdings, now)
        }

        /// Tells all runs: these, and the first of all others.
        fn hear_each(&mut self, runs: &[(u8, &str)], now: Millis) {
            let told = |bucket| runs.iter().find(|(number, _)| *number == bucket).map_or("first", |(_, run)| *run);
            let runs = (0..BUCKETS).map(|bucket| Run(told(bucket).into())).collect();
            assert!(!self.runs.hear_all(runs, now, &mut self.lease, &mut self.holdings, now));
        }

        fn hear_all(&mut self, run: &str, now: Millis) -> bool {
            let runs = vec![Run(run.into()); usize::from(BUCKETS)];
            self.runs.hear_all(runs, now, &mut self.lease, &mut self.holdings, now)
        }
    }
}
