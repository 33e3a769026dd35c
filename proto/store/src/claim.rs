//! The specification of ownership: one bucket of the shared state and every step on it, without I/O and clock.
//!
//! The embedded store runs it as it is; the Lua scripts do the same in Redis, and one property test holds them together.
//! `now` is always the store's clock in ms. Rules are those of the ownership protocol, by number. Leases are in
//! [`crate::lease`].

use std::collections::BTreeMap;

use roost_proto::event::Event;
use roost_proto::id::{Epoch, NUMBER_LIMIT, NodeId, RoomKey};
use roost_proto::room::{Claim, ClaimState, Expected, Run};

use crate::lease::Leases;
use crate::operation::{
    Assert, Asserted, Grant, Granted, HandOver, HandedOver, Holding, Opened, Prolonged, Raise, Raised, Released, Right,
};
use crate::steer::Kept;

/// The longest grant and the longest lease, in ms (30 days); longer ones are cut.
pub const DURATION_LIMIT_MS: u64 = 30 * 24 * 3_600_000;

/// A step's answer, and the event that every watcher gets with it.
pub type Step<T> = (T, Option<Event>);

/// One bucket: a part of all rooms and nodes that has a run and an epoch counter of its own.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(crate) run: Run,
    /// The highest epoch that was given, asserted or heard of. It outlives the run as a lower bound (rule 2).
    counter: u64,
    /// Somebody's grace in this run is over (rule 19).
    closed: bool,
    rooms: BTreeMap<RoomKey, Record>,
    pub(crate) nodes: BTreeMap<NodeId, Leases>,
    /// What is wanted of nodes. It outlives the run: reports carry it too, and the higher plan counts.
    pub(crate) steered: BTreeMap<NodeId, Kept>,
}

#[derive(Debug, Clone)]
struct Record {
    claim: Claim,
    /// A grant is absent from this instant on; an open claim has none.
    expires_ms: Option<u64>,
}

impl Bucket {
    /// An empty bucket in its first run.
    #[must_use]
    pub fn new(run: Run) -> Self {
        Self {
            run,
            counter: 0,
            closed: false,
            rooms: BTreeMap::new(),
            nodes: BTreeMap::new(),
            steered: BTreeMap::new(),
        }
    }

    /// Begins a new run over the same data: records and leases are void, the counter stays (rules 1 and 2).
    pub fn begin(&mut self, run: Run) {
        self.run = run;
        self.closed = false;
    }

    /// The run that the bucket is in.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The room's claim; none where it is absent, expired or of an earlier run (rule 2).
    #[must_use]
    pub fn read(&self, room: &RoomKey, now: u64) -> Option<&Claim> {
        self.live(room, now).map(|record| &record.claim)
    }

    /// All claims with what is left of a grant's time in ms, 0 for open ones.
    pub fn claims(&self, now: u64) -> impl Iterator<Item = (&RoomKey, &Claim, u64)> {
        self.rooms
            .iter()
            .filter(move |(_, record)| self.is_live(record, now))
            .map(move |(room, record)| (room, &record.claim, record.expires_ms.map_or(0, |until| until - now)))
    }

    /// Grants the room if its whole record is the one that was seen (rule 3).
    ///
    /// That an open claim may be taken from its node is for the caller to prove (rules 12 and 13).
    pub fn grant(&mut self, grant: &Grant, now: u64) -> Step<Granted> {
        if let Some(run) = self.other_run(&grant.run) {
            return (Granted::NewRun { run }, None);
        }
        let current = self.read(&grant.room, now);
        if current != grant.seen.as_ref() {
            return (Granted::No { current: current.cloned() }, None);
        }
        let epoch = self.next_epoch(true, now);
        let claim = Claim {
            run: self.run.clone(),
            epoch,
            state: ClaimState::Granted,
            node: grant.node.clone(),
            incarnation: grant.incarnation,
        };
        let event = self.write(&grant.room, claim, Some((grant.ttl_ms, grant.expected)), now);
        (Granted::Yes { epoch, store_ms: now }, Some(event))
    }

    /// Starts a granted claim's time anew, if it is exactly the given one.
    pub fn prolong(&mut self, room: &RoomKey, claim: &Claim, ttl_ms: u64, now: u64) -> Step<Prolonged> {
        if let Some(run) = self.other_run(&claim.run) {
            return (Prolonged::NewRun { run }, None);
        }
        match self.read(room, now) {
            Some(current) if current == claim && claim.state == ClaimState::Granted => {
                let time = Some((ttl_ms, Expected::default()));
                (Prolonged::Yes, Some(self.write(room, claim.clone(), time, now)))
            }
            Some(current) if *current == (Claim { state: ClaimState::Open, ..claim.clone() }) => (Prolonged::Yes, None),
            current => (Prolonged::No { current: current.cloned() }, None),
        }
    }

    /// Opens a granted claim for its first participant (rule 4).
    pub fn open(&mut self, holding: &Holding, now: u64) -> Step<Opened> {
        if let Some(run) = self.other_run(&holding.run) {
            return (Opened::NewRun { run }, None);
        }
        match self.read(&holding.room, now) {
            Some(current) if is_held(current, holding) => match current.state {
                ClaimState::Open => (Opened::Yes, None),
                ClaimState::Granted => {
                    let claim = Claim { state: ClaimState::Open, ..current.clone() };
                    (Opened::Yes, Some(self.write(&holding.room, claim, None, now)))
                }
            },
            current => (Opened::No { current: current.cloned() }, None),
        }
    }

    /// Asserts that a room is open at a node that holds or held it (rules 9, 17 to 19).
    ///
    /// A provisional assertion (rule 18) is an open record as any other; that nobody is admitted to it is for the node to
    /// keep. Until the bucket closes a higher epoch replaces it, and it never takes an epoch that would close it.
    pub fn assert(&mut self, assert: &Assert, now: u64) -> Step<Asserted> {
        let (held, right) = (&assert.held, assert.right);
        if let Some(run) = self.other_run(&held.run) {
            return (Asserted::NewRun { run }, None);
        }
        let current = self.read(&held.room, now).cloned();
        if held.epoch.0 >= NUMBER_LIMIT {
            return (Asserted::No { current }, None);
        }
        let wanted = Holding { incarnation: assert.incarnation, ..held.clone() };
        let is_provisional = right == Right::Provisional;
        // Rules 17 to 19: before somebody's grace has ended, an epoch of an earlier run is as good as it was.
        let keeps = !self.closed && right != Right::Confirming;
        let epoch = match current.as_ref().map(|claim| (claim, claim.state == ClaimState::Open)) {
            // Done already; the answer was lost.
            Some((claim, true)) if right != Right::Confirming && is_held(claim, &wanted) => {
                return (Asserted::Yes { epoch: claim.epoch, provisional: is_provisional }, None);
            }
            // Done already, with a new epoch; the answer, which had it, was lost.
            Some((claim, true))
                if claim.epoch > held.epoch && is_held(claim, &Holding { epoch: claim.epoch, ..wanted }) =>
            {
                return (Asserted::Yes { epoch: claim.epoch, provisional: false }, None);
            }
            None if keeps => held.epoch,
            Some((claim, _)) if keeps && claim.epoch < held.epoch => held.epoch,
            // Its lease has lapsed once more; what it asserts stays provisional.
            Some((claim, true)) if keeps && is_provisional && is_held(claim, held) => held.epoch,
            // Rule 9: what was this node's before its lease lapsed, or is nobody's, is its own in a new generation. That
            // closes nothing, for no grace need have passed. A confirmation does (rule 19).
            Some((claim, true)) if is_held(claim, held) => self.next_epoch(right == Right::Confirming, now),
            None => self.next_epoch(true, now),
            Some(_) => return (Asserted::No { current }, None),
        };
        let provisional = is_provisional && epoch == held.epoch;
        self.counter = self.counter.max(epoch.0);
        let claim = Claim {
            run: self.run.clone(),
            epoch,
            state: ClaimState::Open,
            node: held.node.clone(),
            incarnation: assert.incarnation,
        };
        let event = self.write(&held.room, claim, None, now);
        (Asserted::Yes { epoch, provisional }, Some(event))
    }

    /// Gives the room up, if it is this node's in this generation; else there is nothing to do (rule 10).
    pub fn release(&mut self, holding: &Holding, now: u64) -> Step<Released> {
        if let Some(run) = self.other_run(&holding.run) {
            return (Released::NewRun { run }, None);
        }
        if !self.read(&holding.room, now).is_some_and(|current| is_held(current, holding)) {
            return (Released::Yes, None);
        }
        self.rooms.remove(&holding.room);
        (Released::Yes, Some(Event::Released { key: holding.room.clone(), epoch: holding.epoch }))
    }

    /// Hands an open room over to another node, if it is exactly the holder's: granted there from here on (rule 23).
    pub fn hand_over(&mut self, hand_over: &HandOver, now: u64) -> Step<HandedOver> {
        let HandOver { held, to, to_incarnation, ttl_ms, expected } = hand_over;
        if let Some(run) = self.other_run(&held.run) {
            return (HandedOver::NewRun { run }, None);
        }
        match self.read(&held.room, now) {
            Some(claim) if claim.state == ClaimState::Open && is_held(claim, held) => {}
            // Done already; the answer was lost.
            Some(claim) if claim.node == *to && claim.incarnation == *to_incarnation && claim.epoch > held.epoch => {
                return (HandedOver::Yes { epoch: claim.epoch }, None);
            }
            current => return (HandedOver::No { current: current.cloned() }, None),
        }
        // The holder need not have waited for a grace: that closes nothing (rule 19).
        let epoch = self.next_epoch(false, now);
        let claim = Claim {
            run: self.run.clone(),
            epoch,
            state: ClaimState::Granted,
            node: to.clone(),
            incarnation: *to_incarnation,
        };
        let mut event = self.write(&held.room, claim, Some((*ttl_ms, *expected)), now);
        if let Event::Claimed { handed_over, .. } = &mut event {
            *handed_over = true;
        }
        (HandedOver::Yes { epoch }, Some(event))
    }

    /// Lifts the counter to an epoch that somebody knows of (rule 20).
    pub fn raise(&mut self, raise: &Raise) -> Raised {
        if let Some(run) = self.other_run(&raise.run) {
            return Raised::NewRun { run };
        }
        if raise.epoch.0 < NUMBER_LIMIT {
            self.counter = self.counter.max(raise.epoch.0);
        }
        Raised::Yes
    }

    /// Forgets what is absent anyway: expired grants, records of earlier runs, nodes gone for a very long time.
    pub fn sweep(&mut self, now: u64) {
        let run = self.run.clone();
        self.rooms.retain(|_, record| record.claim.run == run && record.expires_ms.is_none_or(|until| until > now));
        self.nodes.retain(|_, leases| !leases.is_forgotten(now));
        self.steered.retain(|_, kept| kept.until_ms > now);
    }

    /// The bucket's run, if the caller believes in another one (rule 1).
    pub(crate) fn other_run(&self, believed: &Run) -> Option<Run> {
        (self.run != *believed).then(|| self.run.clone())
    }

    /// An epoch above all that this bucket has given or heard of, and at least the store's time (rules 3 and 20).
    /// One that closes the bucket is given after somebody's grace: no epoch of an earlier run is accepted after it (rule 19).
    fn next_epoch(&mut self, closes: bool, now: u64) -> Epoch {
        self.closed |= closes;
        self.counter = (self.counter + 1).max(now);
        Epoch(self.counter)
    }

    /// Writes a record: a grant, which expires after so many ms, or a lasting one.
    fn write(&mut self, room: &RoomKey, claim: Claim, grant: Option<(u64, Expected)>, now: u64) -> Event {
        assert!(claim.epoch.0 <= self.counter, "the counter is below an epoch that is in use");
        assert_eq!(claim.state == ClaimState::Granted, grant.is_some(), "a grant expires, an open claim does not");
        let ttl_ms = grant.map(|(ttl_ms, _)| ttl_ms.clamp(1, DURATION_LIMIT_MS));
        let expected = grant.map(|(_, expected)| expected).unwrap_or_default();
        let record = Record { claim: claim.clone(), expires_ms: ttl_ms.map(|ttl| now + ttl) };
        self.rooms.insert(room.clone(), record);
        Event::Claimed { key: room.clone(), claim, ttl_ms: ttl_ms.unwrap_or(0), expected, handed_over: false }
    }

    fn live(&self, room: &RoomKey, now: u64) -> Option<&Record> {
        self.rooms.get(room).filter(|record| self.is_live(record, now))
    }

    fn is_live(&self, record: &Record, now: u64) -> bool {
        record.claim.run == self.run && record.expires_ms.is_none_or(|until| until > now)
    }
}

/// Whether the claim is this node's, under this incarnation, in this generation.
fn is_held(claim: &Claim, holding: &Holding) -> bool {
    claim.node == holding.node && claim.incarnation == holding.incarnation && claim.epoch == holding.epoch
}
