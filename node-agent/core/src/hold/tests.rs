//! What must hold of the rooms a node holds: single rules first, then all of them under random events.

mod provisional;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use roost_proto::id::NodeId;

use super::*;
use crate::lease::{FENCE_MARGIN_MS, LEASE_MS};

#[test]
fn the_first_participant_waits_until_the_claim_is_open_and_those_after_it_wait_with_it() {
    let (mut holdings, lease) = (Holdings::default(), lease());
    let offer = offer(1, 10);
    assert_eq!(holdings.knock(&room(1), Some(offer), &lease, NOW), Verdict::Open);
    holdings.begin_open(&room(1), offer, NOW);
    assert_eq!(holdings.knock(&room(1), Some(offer), &lease, NOW), Verdict::Wait);
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), Verdict::Wait);
    assert!(holdings.opened(&room(1), offer, NOW));
    assert_eq!(holdings.knock(&room(1), Some(offer), &lease, NOW), admit(10));
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), admit(10));
}

#[test]
fn nobody_is_admitted_from_the_deadline_on() {
    let (holdings, lease) = (open_room(1, 10), lease());
    let deadline = lease.deadline().expect("held");
    assert_eq!(holdings.knock(&room(1), None, &lease, deadline.minus(1)), admit(10));
    assert_eq!(holdings.knock(&room(1), None, &lease, deadline), Verdict::Suspended);
    assert!(!holdings.admits(&room(1), Epoch(10), &lease, deadline));
}

#[test]
fn a_ticket_of_another_generation_or_incarnation_is_stale() {
    let (mut holdings, lease) = (open_room(1, 10), lease());
    assert_eq!(holdings.knock(&room(1), Some(offer(1, 9)), &lease, NOW), Verdict::Stale);
    assert_eq!(holdings.knock(&room(2), Some(offer(0, 10)), &lease, NOW), Verdict::Stale);
    assert_eq!(holdings.knock(&room(1), Some(offer(1, 11)), &lease, NOW), Verdict::Suspended);
    holdings.end(&room(1), Epoch(10));
    assert_eq!(holdings.knock(&room(1), Some(offer(1, 10)), &lease, NOW), Verdict::Stale);
    assert_eq!(holdings.knock(&room(1), Some(offer(1, 11)), &lease, NOW), Verdict::Open);
}

#[test]
fn an_opening_that_may_have_been_done_is_given_up_and_one_that_was_not_is_tried_again() {
    let (mut holdings, lease) = (Holdings::default(), lease());
    for (epoch, failure, then, given_up) in [
        (10, OpenFailure::NotDone, Verdict::Open, 0),
        (10, OpenFailure::Refused, Verdict::Stale, 0),
        (11, OpenFailure::Unknown, Verdict::Stale, 1),
    ] {
        holdings.begin_open(&room(1), offer(1, epoch), NOW);
        holdings.open_failed(&room(1), offer(1, epoch), failure);
        assert_eq!(holdings.knock(&room(1), Some(offer(1, epoch)), &lease, NOW), then, "{failure:?}");
        assert_eq!(holdings.releases().len(), given_up, "{failure:?}");
    }
}

#[test]
fn a_late_yes_to_an_opening_that_the_lapse_dropped_is_given_up() {
    let mut holdings = Holdings::default();
    holdings.begin_open(&room(1), offer(1, 10), NOW);
    holdings.suspend_all(Millis(0));
    assert!(!holdings.opened(&room(1), offer(1, 10), NOW));
    assert_eq!(holdings.releases(), [held(1, 1, 10)]);
}

#[test]
fn an_ended_room_is_released_until_the_store_answers() {
    let mut holdings = open_room(1, 10);
    assert_eq!(holdings.end(&room(1), Epoch(9)), None, "another generation");
    assert!(holdings.end(&room(1), Epoch(10)).is_some());
    assert_eq!(holdings.releases(), [held(1, 1, 10)]);
    holdings.released(&held(1, 1, 10));
    assert!(holdings.releases().is_empty() && holdings.is_empty());
}

#[test]
fn two_claims_of_one_epoch_are_both_released() {
    let (mut holdings, mut lease) = (open_room(1, 10), lease());
    lease.ended(Incarnation(1));
    holdings.suspend_all(Millis(0));
    lease.registered(Incarnation(2), 0, NOW, NOW);
    assert!(holdings.end(&room(1), Epoch(10)).is_some(), "while its assertion is on the way");
    holdings.asserted(&held(1, 1, 10), offer(2, 10), false, &lease, NOW);
    holdings.released(&held(1, 1, 10));
    assert_eq!(holdings.releases(), [held(1, 2, 10)]);
}

#[test]
fn a_room_into_which_somebody_just_came_does_not_end_for_being_empty() {
    let mut holdings = open_room(1, 10);
    holdings.entered(&room(1));
    assert_eq!(holdings.end_if_empty(&room(1), Epoch(10)), None);
    holdings.left(&room(1), Epoch(10), Millis(5_000));
    assert_eq!(holdings.idle(1_000, Millis(5_999)), []);
    assert_eq!(holdings.idle(1_000, Millis(6_000)), [(room(1), Epoch(10))]);
    assert!(holdings.end_if_empty(&room(1), Epoch(10)).is_some());
}

#[test]
fn a_room_whose_assertion_is_on_the_way_ends_for_being_empty_once_it_is_open_again() {
    let (mut holdings, mut lease) = (open_room(1, 10), lease());
    lease.ended(Incarnation(1));
    holdings.suspend_all(Millis(0));
    lease.registered(Incarnation(2), 0, NOW, NOW);
    let later = NOW.plus(60_000);
    assert_eq!(holdings.idle(1_000, later), [(room(1), Epoch(10))]);
    assert_eq!(holdings.end_if_empty(&room(1), Epoch(10)), None, "the store may have done it already");
    // It has, and the answer was lost: the next assertion finds that.
    assert!(holdings.found(&held(1, 1, 10), offer(2, 11), &lease));
    holdings.asserted(&held(1, 2, 11), offer(2, 12), false, &lease, NOW);
    assert!(holdings.end_if_empty(&room(1), Epoch(10)).is_some());
    assert_eq!(holdings.releases(), [held(1, 2, 12)]);
}

#[test]
fn after_a_lapse_a_room_admits_again_once_it_was_asserted_under_the_new_incarnation() {
    let (mut holdings, mut lease) = (open_room(1, 10), lease());
    lease.ended(Incarnation(1));
    holdings.suspend_all(Millis(0));
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), Verdict::Suspended);
    lease.registered(Incarnation(2), 0, NOW, NOW);
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), Verdict::Suspended);
    assert_eq!(holdings.wanted(), [held(1, 1, 10)]);
    holdings.asserted(&held(1, 1, 10), offer(2, 20), false, &lease, NOW);
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), admit(10));
    assert_eq!(holdings.knock(&room(1), Some(offer(2, 20)), &lease, NOW), admit(10));
    assert!(holdings.wanted().is_empty());
}

#[test]
fn in_a_new_run_a_room_keeps_its_old_deadline_until_it_was_asserted() {
    let (mut holdings, lease) = (open_room(1, 10), lease());
    holdings.enter_run(room(1).bucket(), Some(Millis(2_500)), NOW);
    assert_eq!(holdings.knock(&room(1), None, &lease, Millis(2_499)), admit(10));
    assert_eq!(holdings.knock(&room(1), None, &lease, Millis(2_500)), Verdict::Suspended);
    holdings.asserted(&held(1, 1, 10), offer(1, 10), false, &lease, NOW);
    assert_eq!(holdings.knock(&room(1), None, &lease, Millis(2_500)), admit(10));
}

#[test]
fn an_assertion_that_is_answered_for_an_ended_room_is_given_up() {
    let (mut holdings, mut lease) = (open_room(1, 10), lease());
    holdings.suspend_all(Millis(0));
    lease.registered(Incarnation(2), 0, NOW, NOW);
    holdings.end(&room(1), Epoch(10));
    holdings.asserted(&held(1, 1, 10), offer(2, 20), false, &lease, NOW);
    assert_eq!(holdings.releases(), [held(1, 1, 10), held(1, 2, 20)]);
    assert_eq!(holdings.knock(&room(1), Some(offer(2, 20)), &lease, NOW), Verdict::Stale);
}

#[test]
fn a_room_that_another_took_is_lost() {
    let (mut holdings, lease) = (open_room(1, 10), lease());
    holdings.suspend_all(Millis(0));
    assert_eq!(holdings.lost(&held(1, 1, 10)).map(|hold| hold.opened_as), Some(Epoch(10)));
    assert!(holdings.wanted().is_empty() && holdings.releases().is_empty());
    assert_eq!(holdings.knock(&room(1), None, &lease, NOW), Verdict::Unheld);
}

#[test]
fn a_room_that_an_assertion_without_an_answer_got_back_is_asserted_from_there() {
    let (mut holdings, mut lease) = (open_room(1, 10), lease());
    holdings.suspend_all(Millis(0));
    assert!(!holdings.found(&held(1, 1, 10), offer(2, 20), &lease), "this process had no such incarnation");
    lease.ended(Incarnation(1));
    assert!(lease.registered(Incarnation(3), 0, NOW, NOW));
    assert!(!holdings.found(&held(1, 1, 10), offer(0, 20), &lease), "no assertion was made under it");
    assert!(holdings.found(&held(1, 1, 10), offer(2, 20), &lease));
    assert_eq!(holdings.wanted(), [held(1, 2, 20)]);
    holdings.asserted(&held(1, 2, 20), offer(3, 30), false, &lease, NOW);
    assert!(holdings.admits(&room(1), Epoch(10), &lease, NOW));
    assert!(!holdings.found(&held(1, 3, 30), offer(3, 30), &lease), "it is not wanted");
}

#[test]
fn a_claim_that_is_listed_here_and_not_held_is_given_up() {
    let (mut holdings, lease) = (open_room(1, 10), lease());
    holdings.disown(&room(1), offer(1, 10), &lease);
    holdings.disown(&room(2), offer(0, 11), &lease);
    assert!(holdings.releases().is_empty(), "one is held, the other another incarnation's");
    holdings.disown(&room(2), offer(1, 11), &lease);
    assert_eq!(holdings.releases(), [held(2, 1, 11)]);
}

proptest! {
    /// Random events of participants, store and clock. At every step: who is admitted is admitted before the deadline to
    /// a room that the store confirmed, and an ended generation is neither admitted to, opened nor asserted again.
    #[test]
    fn no_admission_past_the_deadline_and_no_return_of_an_ended_generation(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new();
        for event in events {
            world.apply(&event);
            world.check()?;
        }
    }
}

pub(super) const NOW: Millis = Millis(1_000);

pub(super) fn room(number: u64) -> RoomKey {
    RoomKey::new("default", format!("room-{number}")).expect("valid")
}

pub(super) fn offer(incarnation: u64, epoch: u64) -> Offer {
    Offer { incarnation: Incarnation(incarnation), epoch: Epoch(epoch) }
}

pub(super) fn held(number: u64, incarnation: u64, epoch: u64) -> Held {
    Held { room: room(number), incarnation: Incarnation(incarnation), epoch: Epoch(epoch) }
}

pub(super) fn admit(opened_as: u64) -> Verdict {
    Verdict::Admit { opened_as: Epoch(opened_as) }
}

pub(super) fn target() -> Target {
    let node = NodeId::new("iad-1").expect("valid");
    Target { node, incarnation: Incarnation(7), signaling_url: "wss://iad-1.example".to_owned(), ttl_ms: 30_000 }
}

pub(super) fn lease() -> Lease {
    let mut lease = Lease::new(LEASE_MS);
    assert!(lease.registered(Incarnation(1), 0, NOW, NOW));
    lease
}

pub(super) fn open_room(number: u64, epoch: u64) -> Holdings {
    let mut holdings = Holdings::default();
    holdings.begin_open(&room(number), offer(1, epoch), NOW);
    assert!(holdings.opened(&room(number), offer(1, epoch), NOW));
    holdings
}

#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Renewed(u64),
    Lapsed,
    NewRun,
    Registered,
    /// Somebody knocks with a ticket of the room's newest grant, or of one so many grants before.
    Knock(u64, usize),
    /// The store answers the oldest opening: yes, no, not done or unknown.
    OpenAnswer(u8),
    AssertAnswer(bool),
    Move(u64),
    /// The store is asked to hand the first room over: done, not any more, not done, or one of these without an answer.
    MoveAnswer(u8),
    End(u64),
    Released,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0u64..2_000).prop_map(Event::Pass),
        2 => (0u64..1_000).prop_map(Event::Renewed),
        1 => Just(Event::Lapsed),
        1 => Just(Event::NewRun),
        2 => Just(Event::Registered),
        6 => (0u64..4, 0usize..3).prop_map(|(room, age)| Event::Knock(room, age)),
        6 => (0u8..6).prop_map(Event::OpenAnswer),
        3 => any::<bool>().prop_map(Event::AssertAnswer),
        2 => (0u64..4).prop_map(Event::Move),
        3 => (0u8..5).prop_map(Event::MoveAnswer),
        2 => (0u64..4).prop_map(Event::End),
        1 => Just(Event::Released),
    ]
}

struct World {
    holdings: Holdings,
    lease: Lease,
    now: Millis,
    epoch: u64,
    granted: BTreeMap<RoomKey, Vec<Offer>>,
    openings: Vec<(RoomKey, Offer)>,
    /// Each room's last generation that ended, as the test remembers it.
    ended: BTreeMap<RoomKey, Epoch>,
    /// When the last answered registration or renewal was sent.
    sent: Millis,
    confirmed: BTreeMap<RoomKey, Epoch>,
    /// What the store has handed over, and in which run.
    handed_over: BTreeMap<RoomKey, (Epoch, u32)>,
    run: u32,
    /// Asserted provisionally, and not confirmed since.
    unconfirmed: BTreeSet<RoomKey>,
}

impl World {
    fn new() -> Self {
        Self {
            holdings: Holdings::remembering(2),
            lease: Lease::new(LEASE_MS),
            now: NOW,
            epoch: 100,
            granted: BTreeMap::new(),
            openings: Vec::new(),
            ended: BTreeMap::new(),
            sent: Millis(0),
            confirmed: BTreeMap::new(),
            handed_over: BTreeMap::new(),
            run: 0,
            unconfirmed: BTreeSet::new(),
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Pass(ms) => {
                self.now = self.now.plus(*ms);
                if self.lease.handle_timeout(self.now).is_some() {
                    self.holdings.suspend_all(Millis(0));
                }
            }
            Event::Renewed(took_ms) => {
                if let Some(incarnation) = self.lease.incarnation() {
                    let sent = self.now.minus(*took_ms);
                    self.lease.renewed(incarnation, 0, sent, self.now);
                    (0..BUCKETS).for_each(|bucket| self.holdings.vouch(bucket, sent));
                    self.sent = self.sent.max(sent);
                }
            }
            Event::Lapsed => self.end_lease(Millis(0)),
            Event::NewRun => self.begin_run(),
            Event::Registered => {
                if self.lease.incarnation().is_none() {
                    let next = Incarnation(self.lease.last_incarnation().0 + 1);
                    self.lease.registered(next, 0, self.now, self.now);
                    self.sent = self.now;
                }
            }
            Event::Knock(number, age) => self.knock(&room(*number), *age),
            Event::OpenAnswer(answer) => self.answer_opening(*answer),
            Event::AssertAnswer(yes) => self.answer_assertion(*yes),
            Event::Move(number) => {
                if let Some(hold) = self.holdings.get(&room(*number)).cloned() {
                    self.holdings.begin_move(&room(*number), hold.epoch, target(), &self.lease);
                }
            }
            Event::MoveAnswer(answer) => self.answer_move(*answer),
            Event::End(number) => self.end(&room(*number)),
            Event::Released => {
                if let Some(first) = self.holdings.releases().first() {
                    self.holdings.released(first);
                }
            }
        }
    }

    /// As node.rs has it, where all buckets' runs change.
    fn begin_run(&mut self) {
        self.run += 1;
        let until = self.lease.deadline();
        (0..BUCKETS).for_each(|bucket| self.holdings.enter_run(bucket, until, self.now));
        self.end_lease(until.unwrap_or_default());
        for doubtful in self.holdings.take_doubtful() {
            self.note_end(&doubtful.room, doubtful.hold.epoch);
        }
    }

    /// An answer that is lost says nothing; what was done is done all the same, unless it was done before.
    fn answer_move(&mut self, answer: u8) {
        let Some(Move { held, .. }) = self.holdings.moves().into_iter().next() else { return };
        assert!(self.holdings.ask_move(&held));
        let before = self.handed_over.get(&held.room).copied();
        let was_done = before == Some((held.epoch, self.run));
        if matches!(answer, 0 | 3) {
            self.handed_over.insert(held.room.clone(), (held.epoch, self.run));
        }
        match answer {
            0 => {
                self.epoch += 1;
                self.holdings.moved(&held, Epoch(self.epoch));
                self.note_end(&held.room, held.epoch);
            }
            1 if !was_done => {
                self.holdings.move_refused(&held);
                self.note_end(&held.room, held.epoch);
            }
            2 => self.holdings.move_not_done(&held),
            _ => {}
        }
    }

    fn end_lease(&mut self, until: Millis) {
        if let Some(incarnation) = self.lease.incarnation() {
            self.lease.ended(incarnation);
            self.holdings.suspend_all(until);
        }
    }

    fn knock(&mut self, room: &RoomKey, age: usize) {
        let granted = self.granted.entry(room.clone()).or_default();
        if age == 0 {
            self.epoch += 1;
            granted.push(offer(self.lease.last_incarnation().0, self.epoch));
        }
        let Some(offer) = granted.iter().rev().nth(age).copied() else { return };
        if self.holdings.knock(room, Some(offer), &self.lease, self.now) == Verdict::Open {
            self.assert_not_ended(room, offer.epoch);
            self.holdings.begin_open(room, offer, self.now);
            self.openings.push((room.clone(), offer));
        }
    }

    fn answer_opening(&mut self, answer: u8) {
        let Some((room, offer)) = (!self.openings.is_empty()).then(|| self.openings.remove(0)) else { return };
        let failure = match answer {
            0 => OpenFailure::Refused,
            1 => OpenFailure::NotDone,
            2 => OpenFailure::Unknown,
            _ => {
                if self.holdings.opened(&room, offer, self.now) {
                    self.unconfirmed.remove(&room);
                    self.confirmed.insert(room, offer.epoch);
                } else {
                    self.note_end(&room, offer.epoch);
                }
                return;
            }
        };
        self.holdings.open_failed(&room, offer, failure);
        if failure != OpenFailure::NotDone {
            self.note_end(&room, offer.epoch);
        }
    }

    fn answer_assertion(&mut self, yes: bool) {
        let provisional = self.holdings.provisional().next();
        let Some(asked) = self.holdings.wanted().first().cloned().or(provisional) else { return };
        let handed_over = self.handed_over.get(&asked.room).filter(|(epoch, _)| *epoch == asked.epoch);
        if let Some((_, run)) = handed_over {
            assert_eq!(*run, self.run, "{} may be asserted by whoever was given it", asked.room);
        }
        if yes && handed_over.is_none() {
            let Some(incarnation) = self.lease.incarnation() else { return };
            let hold = self.holdings.get(&asked.room).expect("wanted");
            let (state, lapsed) = (hold.state, hold.lapsed);
            let provisional = lapsed && state != State::Provisional;
            if !provisional {
                self.epoch += 1;
                self.unconfirmed.remove(&asked.room);
            }
            let epoch = if provisional { asked.epoch.0 } else { self.epoch };
            self.holdings.asserted(&asked, offer(incarnation.0, epoch), provisional, &self.lease, self.now);
            if provisional {
                self.unconfirmed.insert(asked.room);
            }
        } else if let Some(hold) = self.holdings.lost(&asked) {
            self.note_end(&asked.room, hold.epoch);
        }
    }

    fn end(&mut self, room: &RoomKey) {
        let Some(opened_as) = self.holdings.get(room).map(|hold| hold.opened_as) else { return };
        if let Some(hold) = self.holdings.end(room, opened_as) {
            self.note_end(room, hold.epoch);
        }
    }

    fn note_end(&mut self, room: &RoomKey, epoch: Epoch) {
        let ended = self.ended.entry(room.clone()).or_default();
        *ended = (*ended).max(epoch);
    }

    fn assert_not_ended(&self, room: &RoomKey, epoch: Epoch) {
        assert!(self.ended.get(room).is_none_or(|ended| epoch > *ended), "{room} at {epoch} came back");
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (room, hold) in self.holdings.iter() {
            self.assert_not_ended(room, hold.epoch);
            if self.holdings.knock(room, None, &self.lease, self.now) == admit(hold.opened_as.0) {
                prop_assert_ne!(self.handed_over.get(room).map(|(epoch, _)| *epoch), Some(hold.epoch));
                prop_assert!(self.now < self.sent.plus(LEASE_MS - FENCE_MARGIN_MS));
                prop_assert_eq!(self.confirmed.get(room), Some(&hold.opened_as));
                prop_assert!(!self.unconfirmed.contains(room), "{} was not confirmed", room);
            }
        }
        for wanted in self.holdings.wanted() {
            self.assert_not_ended(&wanted.room, wanted.epoch);
        }
        Ok(())
    }
}
