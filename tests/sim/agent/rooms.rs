//! What the agent says to the store of its rooms, as uplink/assertion.rs and uplink/release.rs have it.

use roost_agent_core::hold::{Held, Offer};
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation};
use roost_proto::room::{ClaimState, Run};
use roost_proto::time::Millis;
use roost_store::operation::{Assert, Asserted, NodeAnswer, NodeOperation, Raise, Raised, Released, Right};

use super::{ANSWER_WITHIN_MS, Agent, Purpose, Silence};
use crate::wire::{Timer, Wire};

const PAUSE_MS: u64 = 50;
const LONGEST_PAUSE_MS: u64 = 2_000;
/// A grace may stand still, with little of it left.
const LOOK_AGAIN_MS: u64 = 100;

/// Goes through what is to be said, again and again until nothing is left.
#[derive(Debug, Default)]
pub(super) struct Round {
    is_running: bool,
    /// Somebody asked for another round meanwhile.
    is_wanted: bool,
    pub(super) on_the_way: usize,
    failures: u32,
}

impl Round {
    /// Whether to begin.
    pub(super) fn want(&mut self) -> bool {
        self.is_wanted = true;
        let begins = !self.is_running;
        if begins {
            (self.is_running, self.is_wanted) = (true, false);
        }
        begins
    }

    pub(super) fn pause(&mut self, wire: &mut Wire) -> u64 {
        let most = PAUSE_MS.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE_MS);
        self.failures += 1;
        wire.draw(most / 2, most)
    }

    /// Nothing is left. True if another round was asked for.
    pub(super) fn end(&mut self) -> bool {
        self.failures = 0;
        self.is_running = std::mem::take(&mut self.is_wanted);
        self.is_running
    }
}

impl Agent {
    pub(super) fn assert_wanted(&mut self, wire: &mut Wire) {
        if self.assertion.want() {
            self.assert_again(wire);
        }
    }

    /// Asks once for each room, after the highest epoch of its bucket was posted.
    pub(super) fn assert_again(&mut self, wire: &mut Wire) {
        let Some(incarnation) = self.lease.incarnation() else { return self.assert_ended(wire) };
        let raises = self.raises(incarnation);
        let asks = self.asks(incarnation, wire);
        let is_held_back = |held: &Held| raises.iter().any(|raise| raise.bucket == held.room.bucket());
        let asks: Vec<_> = asks.into_iter().filter(|(held, _)| !is_held_back(held)).collect();
        self.assertion.on_the_way = raises.len();
        for raise in raises {
            let purpose = Purpose::Raise(raise.bucket, (incarnation, raise.run.clone()));
            self.ask(NodeOperation::Raise(raise), purpose, ANSWER_WITHIN_MS, wire);
        }
        self.assert_each(asks, wire);
        if self.assertion.on_the_way == 0 {
            self.assert_ended(wire);
        }
    }

    /// The highest epochs that are still to be posted (rule 20).
    fn raises(&self, incarnation: Incarnation) -> Vec<Raise> {
        let raise = |bucket: u8| {
            let (run, epoch) = (self.run(bucket)?, self.holdings.highest_epoch(bucket));
            let is_raised = self.raised.get(&bucket) == Some(&(incarnation, run.clone()));
            (epoch > Epoch(0) && !is_raised).then_some(Raise { bucket, run, epoch })
        };
        (0..BUCKETS).filter_map(raise).collect()
    }

    pub(super) fn raise_answered(
        &mut self,
        bucket: u8,
        mark: (Incarnation, Run),
        answer: &Result<NodeAnswer, Silence>,
        wire: &mut Wire,
    ) {
        if matches!(answer, Ok(NodeAnswer::Raised(Raised::Yes | Raised::NewRun { .. }))) {
            self.raised.insert(bucket, mark);
            let asks = self.lease.incarnation().map(|incarnation| self.asks(incarnation, wire)).unwrap_or_default();
            let asks = asks.into_iter().filter(|(held, _)| held.room.bucket() == bucket).collect();
            self.assert_each(asks, wire);
        }
        self.one_answered(wire);
    }

    fn assert_each(&mut self, asks: Vec<(Held, Assert)>, wire: &mut Wire) {
        self.assertion.on_the_way += asks.len();
        for (held, assert) in asks {
            let purpose = Purpose::Assert(held, assert.clone(), self.now(wire.now));
            self.ask(NodeOperation::Assert(assert), purpose, ANSWER_WITHIN_MS, wire);
        }
    }

    /// As assertion.rs has it: what is to be asked at this moment.
    fn asks(&self, incarnation: Incarnation, wire: &Wire) -> Vec<(Held, Assert)> {
        let right = |held: &Held| match self.holdings.get(&held.room) {
            Some(hold) if hold.lapsed => Right::Provisional,
            _ => Right::Sure,
        };
        let wanted = self.holdings.wanted().into_iter().map(|held| (right(&held), held));
        let is_due = |held: &Held| self.grace_left_ms(held, wire) == 0;
        let due = self.holdings.provisional().filter(is_due).map(|held| (Right::Confirming, held));
        let ask = |(right, held): (Right, Held)| {
            let assert = Assert { held: self.holding(&held)?, incarnation, right };
            Some((held, assert))
        };
        wanted.chain(due).filter_map(ask).collect()
    }

    fn grace_left_ms(&self, held: &Held, wire: &Wire) -> u64 {
        self.runs.grace_left_ms(held.room.bucket(), self.lease.lease_ms(), 0, self.now(wire.now))
    }

    /// Begins a round as soon as the grace of a provisional assertion is over.
    pub(super) fn confirm_due(&mut self, wire: &mut Wire) {
        match self.holdings.provisional().map(|held| self.grace_left_ms(&held, wire)).min() {
            Some(0) => self.assert_wanted(wire),
            Some(left) => wire.timer(self.place, self.life, left.max(LOOK_AGAIN_MS), Timer::Confirm),
            None => {}
        }
    }

    pub(super) fn assert_answered(
        &mut self,
        held: &Held,
        (asked, sent): (&Assert, Millis),
        answer: Result<NodeAnswer, Silence>,
        wire: &mut Wire,
    ) {
        // An answer of a run that is over is none.
        let is_of_this_run = self.run(held.room.bucket()).as_ref() == Some(&asked.held.run);
        match answer {
            _ if !is_of_this_run => {}
            Ok(NodeAnswer::Asserted(Asserted::Yes { epoch, provisional })) => {
                let offer = Offer { incarnation: asked.incarnation, epoch };
                self.holdings.asserted(held, offer, provisional, &self.lease, sent);
            }
            Ok(NodeAnswer::Asserted(Asserted::No { current })) => {
                let open = current.as_ref().filter(|claim| claim.node == self.id && claim.state == ClaimState::Open);
                let found = open.map(|claim| Offer { incarnation: claim.incarnation, epoch: claim.epoch });
                if found.is_some_and(|offer| self.holdings.found(held, offer, &self.lease)) {
                    // Asserted anew.
                } else if let Some(hold) = self.holdings.lost(held) {
                    self.lost.push((held.room.clone(), hold.opened_as, current));
                }
            }
            Ok(NodeAnswer::Asserted(Asserted::NewRun { run })) => {
                self.note_run_in_passing(held.room.bucket(), run, sent, wire);
            }
            _ => {}
        }
        self.one_answered(wire);
    }

    /// The round is over with the last answer.
    fn one_answered(&mut self, wire: &mut Wire) {
        self.assertion.on_the_way -= 1;
        if self.assertion.on_the_way > 0 {
            return;
        }
        let is_left = self.lease.incarnation().is_some_and(|incarnation| {
            !self.asks(incarnation, wire).is_empty() || !self.raises(incarnation).is_empty()
        });
        if is_left { self.assert_later(wire) } else { self.assert_ended(wire) }
    }

    fn assert_later(&mut self, wire: &mut Wire) {
        let pause = self.assertion.pause(wire);
        wire.timer(self.place, self.life, pause, Timer::Assert);
    }

    fn assert_ended(&mut self, wire: &mut Wire) {
        if self.assertion.end() {
            wire.timer(self.place, self.life, 0, Timer::Assert);
        } else {
            self.confirm_due(wire);
        }
    }

    pub(super) fn release_wanted(&mut self, wire: &mut Wire) {
        if self.release.want() {
            self.release_again(wire);
        }
    }

    /// Asks once for each claim that is to be given up.
    pub(super) fn release_again(&mut self, wire: &mut Wire) {
        let pending: Vec<_> =
            self.holdings.releases().into_iter().filter_map(|held| Some((self.holding(&held)?, held))).collect();
        self.release.on_the_way = pending.len();
        let sent = self.now(wire.now);
        if pending.is_empty() {
            self.release.is_wanted = false;
            self.release.end();
        }
        for (holding, held) in pending {
            self.ask(NodeOperation::Release(holding), Purpose::Release(held, sent), ANSWER_WITHIN_MS, wire);
        }
    }

    pub(super) fn release_answered(
        &mut self,
        held: &Held,
        sent: Millis,
        answer: Result<NodeAnswer, Silence>,
        wire: &mut Wire,
    ) {
        match answer {
            Ok(NodeAnswer::Released(Released::Yes)) => self.holdings.released(held),
            Ok(NodeAnswer::Released(Released::NewRun { run })) => {
                self.note_run_in_passing(held.room.bucket(), run, sent, wire);
            }
            _ => {}
        }
        self.release.on_the_way -= 1;
        if self.release.on_the_way > 0 {
            return;
        }
        if self.holdings.releases_len() == 0 {
            self.release.is_wanted = false;
            self.release.end();
        } else {
            let pause = self.release.pause(wire);
            wire.timer(self.place, self.life, pause, Timer::Release);
        }
    }
}
