//! Which rooms the node holds, and what follows for a participant at the door (rules 4, 5, 8 to 11, 16 to 18, 21 and 23).

mod ended;
mod moving;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation, RoomKey};
use roost_proto::time::Millis;

use crate::lease::{Lease, Standing};
use ended::{Ended, ROOMS_REMEMBERED};
use moving::Moving;
pub use moving::{Doubtful, Move, Target};

/// How many releases may wait for an answer besides those of rooms that were open here.
const DISOWNED_LIMIT: usize = 4_096;

/// A claim that somebody says this node has: from a ticket, or from a lookup that the node made itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    pub incarnation: Incarnation,
    pub epoch: Epoch,
}

/// What to do for somebody at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The room is open here: in. `opened_as` names the room in the media server.
    Admit { opened_as: Epoch },
    /// Open the room in the store first (rule 4): [`Holdings::begin_open`].
    Open,
    /// It is being opened: wait for that, and ask again.
    Wait,
    /// The room is about to go to another node: wait a moment, and ask again.
    Moving,
    /// The room is here, or may be, but nobody can be admitted to it at the moment.
    Suspended,
    /// The offered claim is over, or never was this incarnation's (rule 21).
    Stale,
    /// Nothing is known of the room here, and nothing was offered.
    Unheld,
}

/// One room that the node holds, or wants back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub state: State,
    /// The incarnation that the claim names, as far as the node knows.
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    /// The generation in which it was opened here; a later epoch after a re-assertion changes it not.
    pub opened_as: Epoch,
    /// The node's lease was over, or nearly so, when it first heard of the run of the room's bucket: another may have been
    /// given the room. What is asserted is provisional, and has to be confirmed (rule 18).
    pub lapsed: bool,
    /// Participants who were admitted and are not gone.
    pub guests: u32,
    /// Since when there are none.
    idle_since: Millis,
    /// Where it is to go. Kept while it may be there already.
    moving: Option<Moving>,
}

/// How far a room has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Asked of the store, not answered: nobody is admitted.
    Opening,
    /// Confirmed under the current incarnation: admits while the lease holds.
    Open,
    /// To be handed over to another node: nobody is admitted any more (rule 23).
    Moving,
    /// To be asserted again, after a lapse or in a new run of the store. Admits until the deadline that was good before
    /// (rule 16); after a lapse that is never (rule 8).
    Wanted { until: Millis },
    /// Asserted under the current incarnation, to be confirmed when the node's grace is over (rule 18). Admits nobody.
    Provisional,
}

/// A claim as the node names it to the store: to assert it again, or to give it up (rules 9 and 10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub room: RoomKey,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
}

/// How opening a room failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFailure {
    /// The store said no: the claim is over.
    Refused,
    /// It was certainly not done; it may be tried again.
    NotDone,
    /// It may have been done. That counts as not held (rule 4), and what may be there is given up.
    Unknown,
}

/// The rooms of one node.
#[derive(Debug, Clone)]
pub struct Holdings {
    rooms: BTreeMap<RoomKey, Hold>,
    ended: Ended,
    releases: BTreeMap<(RoomKey, Epoch), Incarnation>,
    doubtful: Vec<Doubtful>,
    /// The highest epoch known of each bucket (rule 20).
    highest: [Epoch; BUCKETS as usize],
    /// When the last request was sent whose answer said that the bucket's run goes on (rule 16). A lease that is renewed in
    /// another bucket says nothing of it.
    vouched: [Millis; BUCKETS as usize],
}

impl Default for Holdings {
    fn default() -> Self {
        Self::remembering(ROOMS_REMEMBERED)
    }
}

impl Holdings {
    fn remembering(ended: usize) -> Self {
        Self {
            rooms: BTreeMap::new(),
            ended: Ended::new(ended),
            releases: BTreeMap::new(),
            doubtful: Vec::new(),
            highest: [Epoch(0); BUCKETS as usize],
            vouched: [Millis(0); BUCKETS as usize],
        }
    }

    /// What to do for somebody who wants into `room`, with what is `offered`.
    #[must_use]
    pub fn knock(&self, room: &RoomKey, offered: Option<Offer>, lease: &Lease, now: Millis) -> Verdict {
        let Some(hold) = self.rooms.get(room) else { return self.knock_unheld(room, offered, lease, now) };
        match offered {
            Some(offer) if offer.epoch < hold.epoch => Verdict::Stale,
            // Somebody granted the room anew: what is held here is about to prove lost, or kept.
            Some(offer) if offer.epoch > hold.epoch => Verdict::Suspended,
            _ if hold.state == State::Opening => Verdict::Wait,
            _ if hold.state == State::Moving => Verdict::Moving,
            _ if hold.admits(lease, self.vouched(room.bucket()), now) => Verdict::Admit { opened_as: hold.opened_as },
            _ => Verdict::Suspended,
        }
    }

    fn knock_unheld(&self, room: &RoomKey, offered: Option<Offer>, lease: &Lease, now: Millis) -> Verdict {
        let Some(offer) = offered else { return Verdict::Unheld };
        if lease.standing(now) != Standing::Held {
            return Verdict::Suspended;
        }
        if lease.incarnation() != Some(offer.incarnation) || self.ended.contains(room, offer.epoch) {
            return Verdict::Stale;
        }
        Verdict::Open
    }

    /// Whether somebody may be admitted to `room`, opened here as `opened_as`, at this moment (rule 5).
    #[must_use]
    pub fn admits(&self, room: &RoomKey, opened_as: Epoch, lease: &Lease, now: Millis) -> bool {
        let vouched = self.vouched(room.bucket());
        self.rooms.get(room).is_some_and(|hold| hold.opened_as == opened_as && hold.admits(lease, vouched, now))
    }

    /// The store is asked to open `room`. Only after [`Verdict::Open`].
    pub fn begin_open(&mut self, room: &RoomKey, offer: Offer, now: Millis) {
        let Offer { incarnation, epoch } = offer;
        self.note_epoch(room, epoch);
        let hold = Hold {
            state: State::Opening,
            incarnation,
            epoch,
            opened_as: epoch,
            lapsed: false,
            guests: 0,
            idle_since: now,
            moving: None,
        };
        self.rooms.insert(room.clone(), hold);
    }

    /// The store opened `room`. False if the answer is for something that is over meanwhile: then it is given up.
    pub fn opened(&mut self, room: &RoomKey, offer: Offer, now: Millis) -> bool {
        match self.opening(room, offer) {
            Some(hold) => {
                hold.state = State::Open;
                let asked = std::mem::replace(&mut hold.idle_since, now);
                self.vouch(room.bucket(), asked);
                true
            }
            None => {
                self.give_up(room, offer);
                false
            }
        }
    }

    /// The store did not open `room`.
    pub fn open_failed(&mut self, room: &RoomKey, offer: Offer, failure: OpenFailure) {
        if self.opening(room, offer).is_some() {
            self.rooms.remove(room);
        }
        match failure {
            OpenFailure::Refused => self.ended.insert(room, offer.epoch),
            OpenFailure::NotDone => {}
            OpenFailure::Unknown => self.give_up(room, offer),
        }
    }

    /// Somebody was admitted to `room`.
    pub fn entered(&mut self, room: &RoomKey) {
        if let Some(hold) = self.rooms.get_mut(room) {
            hold.guests += 1;
        }
    }

    /// Somebody who was admitted to `room` when it was `opened_as` is gone.
    pub fn left(&mut self, room: &RoomKey, opened_as: Epoch, now: Millis) {
        if let Some(hold) = self.rooms.get_mut(room).filter(|hold| hold.opened_as == opened_as) {
            hold.guests = hold.guests.saturating_sub(1);
            if hold.guests == 0 {
                hold.idle_since = now;
            }
        }
    }

    /// Ends `room` if it is here as `opened_as`: nobody is admitted from here on, and its claim is given up (rule 10).
    pub fn end(&mut self, room: &RoomKey, opened_as: Epoch) -> Option<Hold> {
        self.rooms.get(room).filter(|hold| hold.opened_as == opened_as)?;
        let hold = self.rooms.remove(room)?;
        self.give_up(room, Offer { incarnation: hold.incarnation, epoch: hold.epoch });
        Some(hold)
    }

    /// As [`Self::end`], unless somebody is in the room, or it is not open: what is asked of the store about it may be done,
    /// and the answer lost, so that nobody would give that up (rule 11). It ends when it is open again.
    pub fn end_if_empty(&mut self, room: &RoomKey, opened_as: Epoch) -> Option<Hold> {
        self.rooms.get(room).filter(|hold| hold.guests == 0 && hold.state == State::Open)?;
        self.end(room, opened_as)
    }

    /// Rooms into which nobody came, or from which all went, `idle_ms` ago or longer.
    #[must_use]
    pub fn idle(&self, idle_ms: u64, now: Millis) -> Vec<(RoomKey, Epoch)> {
        let idle = |hold: &Hold| hold.guests == 0 && now.since(hold.idle_since) >= idle_ms;
        self.rooms.iter().filter(|(_, hold)| idle(hold)).map(|(room, hold)| (room.clone(), hold.opened_as)).collect()
    }

    /// Gives up an offered claim that is the current incarnation's, but neither held nor being opened here (rule 11).
    pub fn disown(&mut self, room: &RoomKey, offer: Offer, lease: &Lease) {
        let is_ours = lease.incarnation() == Some(offer.incarnation);
        if is_ours && !self.rooms.contains_key(room) && self.releases.len() < DISOWNED_LIMIT {
            self.give_up(room, offer);
        }
    }

    /// Every room must be asserted again: the lease lapsed (`until` zero), or it begins anew in a new run of the store
    /// (`until` its old deadline). Openings on their way are dropped (rule 8).
    pub fn suspend_all(&mut self, until: Millis) {
        self.rooms.retain(|_, hold| hold.state != State::Opening);
        self.rooms.values_mut().for_each(|hold| hold.suspend(Some(until)));
    }

    /// The lease is void: the rooms of one bucket, whose run goes on, must be asserted under another one.
    pub(crate) fn suspend_in(&mut self, bucket: u8, until: Millis) {
        self.rooms.retain(|room, hold| hold.state != State::Opening || room.bucket() != bucket);
        let concerned = self.rooms.iter_mut().filter(|(room, _)| room.bucket() == bucket);
        concerned.for_each(|(_, hold)| hold.suspend(Some(until)));
    }

    /// The bucket's run goes on, as the answer to a request says that was sent at `sent`.
    pub(crate) fn vouch(&mut self, bucket: u8, sent: Millis) {
        let vouched = &mut self.vouched[usize::from(bucket % BUCKETS)];
        *vouched = (*vouched).max(sent);
    }

    /// When that was last said.
    pub(crate) fn vouched(&self, bucket: u8) -> Millis {
        self.vouched[usize::from(bucket % BUCKETS)]
    }

    /// The buckets in which there are rooms, in order.
    #[must_use]
    pub fn buckets(&self) -> Vec<u8> {
        let buckets: BTreeSet<u8> = self.rooms.keys().map(RoomKey::bucket).collect();
        buckets.into_iter().collect()
    }

    /// The rooms of one bucket must be asserted in its new run: under the deadline that the lease had, and provisionally
    /// where that has passed (rules 16 to 18). Without a lease they keep the one that they had.
    pub(crate) fn enter_run(&mut self, bucket: u8, until: Option<Millis>, now: Millis) {
        self.doubt(bucket);
        self.rooms.retain(|room, hold| hold.state != State::Opening || room.bucket() != bucket);
        for (_, hold) in self.rooms.iter_mut().filter(|(room, _)| room.bucket() == bucket) {
            hold.lapsed |= now >= hold.until(until);
            hold.suspend(until);
        }
    }

    /// The rooms to assert, with the incarnation and epoch that were held.
    #[must_use]
    pub fn wanted(&self) -> Vec<Held> {
        let wanted = self.rooms.iter().filter(|(_, hold)| matches!(hold.state, State::Wanted { .. }));
        wanted.map(|(room, hold)| hold.held(room)).collect()
    }

    /// The rooms that were asserted provisionally, as the store has them.
    pub fn provisional(&self) -> impl Iterator<Item = Held> {
        let provisional = self.rooms.iter().filter(|(_, hold)| hold.state == State::Provisional);
        provisional.map(|(room, hold)| hold.held(room))
    }

    /// The store answered yes to the assertion of `asserted`, which was sent at `sent`, in the run that its bucket is in:
    /// the room is open under `now_held`, or provisionally so. If the room ended meanwhile, that is given up.
    pub fn asserted(&mut self, asserted: &Held, now_held: Offer, provisional: bool, lease: &Lease, sent: Millis) {
        self.note_epoch(&asserted.room, now_held.epoch);
        self.vouch(asserted.room.bucket(), sent);
        let is_current = lease.incarnation() == Some(now_held.incarnation);
        let is_held = self.rooms.get(&asserted.room).is_some_and(|hold| hold.is_as(now_held));
        match self.wanted_as(asserted) {
            Some(hold) => {
                hold.incarnation = now_held.incarnation;
                hold.epoch = now_held.epoch;
                // It was not handed over, and cannot be any more: its epoch is another one.
                hold.moving = None;
                hold.lapsed = provisional;
                if is_current {
                    hold.state = if provisional { State::Provisional } else { State::Open };
                }
            }
            None if is_held => {}
            None => self.give_up(&asserted.room, now_held),
        }
    }

    /// The store answered no to the assertion of `asserted`, for the room is open at this node as `current`: an earlier
    /// assertion or confirmation was done, and its answer lost before the lease lapsed once more. That is what is asserted
    /// next (rule 9). False if it was not this process's, or has ended: then the room is lost.
    pub fn found(&mut self, asserted: &Held, current: Offer, lease: &Lease) -> bool {
        let (incarnation, epoch) = (asserted.incarnation, asserted.epoch);
        let is_later = current.incarnation >= incarnation && current.epoch >= epoch;
        let is_same = current.incarnation == incarnation && current.epoch == epoch;
        let is_own = is_later && !is_same && current.incarnation <= lease.last_incarnation();
        if !is_own || self.ended.contains(&asserted.room, current.epoch) {
            return false;
        }
        self.note_epoch(&asserted.room, current.epoch);
        let Some(hold) = self.wanted_as(asserted) else { return false };
        // A provisional assertion gives no new epoch.
        hold.lapsed &= current.epoch == epoch;
        (hold.incarnation, hold.epoch) = (current.incarnation, current.epoch);
        true
    }

    /// The store answered no to the assertion of `asserted`: another has the room. Gives the hold that was lost.
    pub fn lost(&mut self, asserted: &Held) -> Option<Hold> {
        self.wanted_as(asserted)?;
        self.drop_room(&asserted.room)
    }

    /// The claims to give up that the store has not answered for yet.
    #[must_use]
    pub fn releases(&self) -> Vec<Held> {
        let release = |((room, epoch), incarnation): (&(RoomKey, Epoch), &Incarnation)| Held {
            room: room.clone(),
            incarnation: *incarnation,
            epoch: *epoch,
        };
        self.releases.iter().map(release).collect()
    }

    /// How many claims there are to give up.
    #[must_use]
    pub fn releases_len(&self) -> usize {
        self.releases.len()
    }

    /// Nothing of the claim remains in the store.
    pub fn released(&mut self, release: &Held) {
        let key = (release.room.clone(), release.epoch);
        // In a new run an epoch stays, so that a later incarnation's claim of the same one may wait by now.
        if self.releases.get(&key) == Some(&release.incarnation) {
            self.releases.remove(&key);
        }
    }

    /// The hold on `room`, if there is one.
    #[must_use]
    pub fn get(&self, room: &RoomKey) -> Option<&Hold> {
        self.rooms.get(room)
    }

    /// Every room, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&RoomKey, &Hold)> {
        self.rooms.iter()
    }

    /// How many rooms there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// The highest epoch known of `bucket`; zero if none is.
    #[must_use]
    pub fn highest_epoch(&self, bucket: u8) -> Epoch {
        self.highest.get(usize::from(bucket)).copied().unwrap_or_default()
    }

    fn opening(&mut self, room: &RoomKey, offer: Offer) -> Option<&mut Hold> {
        let is_it = |hold: &&mut Hold| hold.state == State::Opening && hold.is_as(offer);
        self.rooms.get_mut(room).filter(is_it)
    }

    fn wanted_as(&mut self, asserted: &Held) -> Option<&mut Hold> {
        let offer = Offer { incarnation: asserted.incarnation, epoch: asserted.epoch };
        let is_it =
            |hold: &&mut Hold| matches!(hold.state, State::Wanted { .. } | State::Provisional) && hold.is_as(offer);
        self.rooms.get_mut(&asserted.room).filter(is_it)
    }

    /// The room is not this node's any more: there is nothing to give up.
    fn drop_room(&mut self, room: &RoomKey) -> Option<Hold> {
        let hold = self.rooms.remove(room)?;
        self.ended.insert(room, hold.epoch);
        Some(hold)
    }

    fn give_up(&mut self, room: &RoomKey, offer: Offer) {
        self.ended.insert(room, offer.epoch);
        self.releases.insert((room.clone(), offer.epoch), offer.incarnation);
    }

    fn note_epoch(&mut self, room: &RoomKey, epoch: Epoch) {
        let highest = &mut self.highest[usize::from(room.bucket())];
        *highest = (*highest).max(epoch);
    }
}

impl Hold {
    /// The claim of `room`, whose hold it is, as the node names it to the store.
    #[must_use]
    pub fn held(&self, room: &RoomKey) -> Held {
        Held { room: room.clone(), incarnation: self.incarnation, epoch: self.epoch }
    }

    fn is_as(&self, offer: Offer) -> bool {
        self.epoch == offer.epoch && self.incarnation == offer.incarnation
    }

    /// Until when its right to the room lasts, if that of the lease is `until`.
    fn until(&self, until: Option<Millis>) -> Millis {
        match self.state {
            State::Wanted { until: before } => until.map_or(before, |until| before.min(until)),
            State::Open | State::Opening | State::Moving => until.unwrap_or_default(),
            State::Provisional => Millis(0),
        }
    }

    fn suspend(&mut self, until: Option<Millis>) {
        // Nobody is admitted again before it is certain that the room was not handed over.
        let until = if self.state == State::Moving { Millis(0) } else { self.until(until) };
        self.state = State::Wanted { until };
    }

    fn admits(&self, lease: &Lease, vouched: Millis, now: Millis) -> bool {
        match self.state {
            State::Opening | State::Moving | State::Provisional => false,
            State::Open => {
                let is_held = lease.incarnation() == Some(self.incarnation) && lease.standing(now) == Standing::Held;
                is_held && now < lease.deadline_from(vouched)
            }
            State::Wanted { until } => now < until,
        }
    }
}
