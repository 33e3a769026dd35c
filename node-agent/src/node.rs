//! What the node is and holds at this moment, behind one lock: its lease, its rooms, its mode, who is inside.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use roost_agent_core::cadence::Cadence;
use roost_agent_core::hold::{Held, Holdings, Offer, OpenFailure};
use roost_agent_core::lease::Lease;
use roost_agent_core::runs::Runs;
use roost_proto::id::{Incarnation, NodeId, PeerId, RoomKey};
use roost_proto::report::{Host, Mode};
use roost_proto::room::{Claim, ClaimState, Run};
use roost_proto::steer::Steering;
use roost_proto::time::Millis;
use roost_store::operation::Holding;

use crate::clock;

/// How many stores are remembered: those that tickets of the last minutes may be of.
const STORES_KEPT: usize = 4;

/// How an opening ended; none while the store has not answered.
pub(crate) type OpeningEnd = Option<Result<(), OpenFailure>>;

/// The node. Whoever needs to know or change what it holds takes the lock, for moments only.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    state: Mutex<State>,
    /// A claim is to be given up.
    pub(crate) release_wanted: Notify,
    /// A report should go out now.
    pub(crate) report_wanted: Notify,
    /// Rooms are to be handed over.
    pub(crate) move_wanted: Notify,
    /// Rooms are to be asserted.
    pub(crate) assert_wanted: Notify,
    /// The incarnation under which the node acts.
    pub(crate) incarnation: watch::Sender<Option<Incarnation>>,
}

/// All that changes.
#[derive(Debug)]
pub(crate) struct State {
    node: NodeId,
    pub(crate) lease: Lease,
    pub(crate) holdings: Holdings,
    pub(crate) cadence: Cadence,
    /// What an operator wants of the node, by the latest plan that it heard of.
    pub(crate) steering: Option<Steering>,
    /// Told to stop: takes nobody any more.
    pub(crate) leaving: bool,
    pub(crate) runs: Runs,
    /// The stores in which the node had a lease, the current one last.
    stores: Vec<String>,
    /// Participants who were admitted and are not gone.
    pub(crate) guests: u32,
    /// Which peers they are, with how many connections each has: one that comes again is not new.
    pub(crate) inside: BTreeMap<(RoomKey, PeerId), u32>,
    /// Rooms that the store was asked to open.
    pub(crate) openings: BTreeMap<RoomKey, watch::Receiver<OpeningEnd>>,
    pub(crate) host: Host,
}

impl Node {
    /// A node without a lease.
    pub(crate) fn new(id: NodeId, lease_ms: u64) -> Self {
        let state = State {
            node: id.clone(),
            lease: Lease::new(lease_ms),
            holdings: Holdings::default(),
            cadence: Cadence::new(clock::now()),
            steering: None,
            leaving: false,
            runs: Runs::new(id.bucket()),
            stores: Vec::new(),
            guests: 0,
            inside: BTreeMap::new(),
            openings: BTreeMap::new(),
            host: Host::default(),
        };
        Self {
            id,
            state: Mutex::new(state),
            release_wanted: Notify::new(),
            report_wanted: Notify::new(),
            move_wanted: Notify::new(),
            assert_wanted: Notify::new(),
            incarnation: watch::Sender::new(None),
        }
    }

    /// Reads or changes the state. The time is read under the lock, so that it is the moment of the decision (rule 5).
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State, Millis) -> T) -> T {
        let mut state = self.lock();
        let before = (state.holdings.releases_len(), state.holdings.doubtful_len());
        let answer = act(&mut state, clock::now());
        let after = (state.holdings.releases_len(), state.holdings.doubtful_len());
        drop(state);
        if after.0 > before.0 {
            self.release_wanted.notify_one();
        }
        if after.1 > before.1 {
            self.move_wanted.notify_one();
        }
        answer
    }

    /// The store has told the run of a bucket in passing, in answer to what was asked at `sent`: what follows from a new
    /// one is begun at once.
    pub(crate) fn note_run(&self, bucket: u8, run: Run, sent: Millis) {
        self.with(|state, now| state.note_run(bucket, run, sent, now));
        // The lease is in one bucket; another one's new run is no reason for it to be taken anew.
        self.assert_wanted.notify_one();
        self.report_wanted.notify_one();
    }

    /// What it is and holds.
    #[cfg(test)]
    pub(crate) fn into_state(self) -> State {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The cores change one thing at a time; what a panic left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The run that a bucket is believed to be in; none before the store was reached.
    pub(crate) fn run(&self, bucket: u8) -> Option<Run> {
        self.runs.get(bucket).cloned()
    }

    /// The run of the node's own bucket, where its lease is.
    pub(crate) fn own_run(&self) -> Option<Run> {
        self.runs.own().cloned()
    }

    /// Takes in the runs of all buckets, asked for at `sent`. True if the lease is void by it.
    pub(crate) fn note_runs(&mut self, runs: Vec<Run>, sent: Millis, now: Millis) -> bool {
        self.runs.hear_all(runs, sent, &mut self.lease, &mut self.holdings, now)
    }

    /// Takes in the run of one bucket, told in answer to what was asked at `sent`. True if the lease is void by it.
    pub(crate) fn note_run(&mut self, bucket: u8, run: Run, sent: Millis, now: Millis) -> bool {
        self.runs.hear(bucket, run, sent, &mut self.lease, &mut self.holdings, now)
    }

    /// Takes in the run of the node's own bucket, as [`Self::note_run`].
    pub(crate) fn note_own_run(&mut self, run: Run, sent: Millis, now: Millis) -> bool {
        self.note_run(self.node.bucket(), run, sent, now)
    }

    /// How long until a room that was asserted provisionally may be confirmed (rule 18); none if there is none.
    pub(crate) fn confirm_in_ms(&self, replaced_ms: u64, now: Millis) -> Option<u64> {
        let lease_ms = self.lease.lease_ms();
        let left = |held: Held| self.runs.grace_left_ms(held.room.bucket(), lease_ms, replaced_ms, now);
        self.holdings.provisional().map(left).min()
    }

    /// The rooms that may be confirmed: the node's own grace in their buckets is over.
    pub(crate) fn to_confirm(&self, replaced_ms: u64, now: Millis) -> Vec<Held> {
        let lease_ms = self.lease.lease_ms();
        let is_over = |held: &Held| self.runs.grace_left_ms(held.room.bucket(), lease_ms, replaced_ms, now) == 0;
        self.holdings.provisional().filter(is_over).collect()
    }

    /// Takes note of the store that the node registers in.
    pub(crate) fn note_store(&mut self, identity: String) {
        if self.stores.last() != Some(&identity) {
            self.stores.retain(|known| *known != identity);
            self.stores.push(identity);
            let surplus = self.stores.len().saturating_sub(STORES_KEPT);
            self.stores.drain(..surplus);
        }
    }

    /// The store that the node registered in last.
    pub(crate) fn store(&self) -> Option<String> {
        self.stores.last().cloned()
    }

    /// Whether the node had a lease in the store of this identity. A room that was open when the store was wiped is open
    /// in the same generation after it, and its tickets still hold (rules 17 and 21).
    pub(crate) fn knows_store(&self, identity: &str) -> bool {
        self.stores.iter().any(|known| known == identity)
    }

    /// The store says that the lease of `incarnation` is over (rule 8). True if it was the current one.
    pub(crate) fn lapsed(&mut self, incarnation: Incarnation) -> bool {
        let is_current = self.lease.ended(incarnation);
        if is_current {
            self.holdings.suspend_all(Millis(0));
        }
        is_current
    }

    /// Ends an incarnation of which nothing was heard for a whole lease, and gives it.
    pub(crate) fn check_lease(&mut self, now: Millis) -> Option<Incarnation> {
        let over = self.lease.handle_timeout(now)?;
        self.holdings.suspend_all(Millis(0));
        Some(over)
    }

    /// What the node takes by the operator's word.
    pub(crate) fn mode(&self) -> Mode {
        self.steering.map_or(Mode::Serving, |steering| steering.mode)
    }

    /// Takes in what the store says is wanted of the node. True if it is news.
    pub(crate) fn steer(&mut self, told: Option<Steering>) -> bool {
        let is_news = Steering::plan_of(told) > Steering::plan_of(self.steering);
        if is_news {
            self.steering = told;
        }
        is_news
    }

    /// The claim, if it says that a room is open at this node.
    pub(crate) fn open_here(&self, claim: Option<&Claim>) -> Option<Offer> {
        let claim = claim.filter(|claim| claim.node == self.node && claim.state == ClaimState::Open)?;
        Some(Offer { incarnation: claim.incarnation, epoch: claim.epoch })
    }

    /// The claim as the store is asked about it; none before the store was reached.
    pub(crate) fn holding(&self, held: &Held) -> Option<Holding> {
        Some(Holding {
            room: held.room.clone(),
            run: self.run(held.room.bucket())?,
            node: self.node.clone(),
            incarnation: held.incarnation,
            epoch: held.epoch,
        })
    }
}
