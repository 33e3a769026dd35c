//! What can be asked of the store, and its answers. Serialisable, so that an agent without Redis can ask a scheduler.

use serde::{Deserialize, Serialize};

use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::report::{Mode, Report};
use roost_proto::room::{Claim, Expected, Run};
use roost_proto::steer::{Drain, Steering};

/// Takes a node's lease under a never-used incarnation (rule 8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    pub node: NodeId,
    /// The run that the caller believes the node's bucket to be in.
    pub run: Run,
    /// Tells this process from all others; a process that takes its own node again after a lapse sends the same.
    pub process: String,
    /// The last incarnation that this process had, 0 at first; the new one is larger.
    pub after: Incarnation,
    pub lease_ms: u64,
}

/// The answer to [`Register`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Registered {
    /// `store_ms` is the store's clock when it answered.
    Yes {
        incarnation: Incarnation,
        store_ms: u64,
        /// What is wanted of the node, if anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        steering: Option<Steering>,
    },
    /// Another process holds an unlapsed lease of this node.
    Taken { until_store_ms: u64 },
    /// The bucket is in another run (rule 1).
    NewRun { run: Run },
}

/// Renews a lease (rule 6) and publishes the report, in one write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Renew {
    /// The run that the caller believes the node's bucket to be in.
    pub run: Run,
    /// Names node, incarnation and the lease's length.
    pub report: Report,
    /// The buckets in which the node has rooms: it has to know that their runs go on (rule 16).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<u8>,
}

impl Renew {
    /// Each bucket that was asked about, once; what is none is left out.
    pub(crate) fn asked(&self) -> Vec<u8> {
        (0..BUCKETS).filter(|bucket| self.buckets.contains(bucket)).collect()
    }
}

/// The answer to [`Renew`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Renewed {
    Yes {
        store_ms: u64,
        /// What is wanted of the node, if it is a later plan than the report's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        steering: Option<Steering>,
        /// The runs of the buckets that were asked about, as far as their servers said so after the renewal was sent. None
        /// from a scheduler that does not know the question.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        runs: Option<Vec<(u8, Run)>>,
    },
    /// The lease is over; it is never renewed (rule 8).
    Lapsed,
    NewRun {
        run: Run,
    },
}

/// One node's claim on one room, as the node names it in what it asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    pub room: RoomKey,
    /// The run that the caller believes the room's bucket to be in.
    pub run: Run,
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
}

/// The answer to `open` (rule 4): granted to open, if it is still this node's in this generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Opened {
    /// It is open now, or was open already in exactly this generation.
    Yes,
    /// It is not this node's in this generation; `current` is what is there (never a void record).
    No {
        current: Option<Claim>,
    },
    NewRun {
        run: Run,
    },
}

/// Asserts that a room is open here (rules 9 and 17 to 19).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assert {
    /// What the node holds or held. In the same run: its old incarnation and epoch (rule 9).
    pub held: Holding,
    /// The incarnation under which it wants the room: the same if its lease never lapsed (rule 17).
    pub incarnation: Incarnation,
    #[serde(default, skip_serializing_if = "Right::is_sure")]
    pub right: Right,
}

/// What a node knows of its right to a room that it asserts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Its lease was not over when it first heard of the run, or it had the room in this run (rules 9 and 17).
    #[default]
    Sure,
    /// Its lease was over: another may have been given the room since (rule 18).
    Provisional,
    /// The same, and the node's grace is over: the room is to be its own for good (rule 18). `held` is what it asserted.
    Confirming,
}

impl Right {
    /// Takes a reference, as serde wants it.
    fn is_sure(&self) -> bool {
        *self == Self::Sure
    }
}

/// The answer to [`Assert`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Asserted {
    /// Open here, in this generation: a new one after a lapse, the old one in a new run.
    Yes {
        epoch: Epoch,
        /// Nobody may be admitted before it was confirmed (rule 18). A higher epoch may still take the room.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        provisional: bool,
    },
    /// The room is lost; `current` is who has it.
    No {
        current: Option<Claim>,
    },
    NewRun {
        run: Run,
    },
}

/// The answer to `release` (rule 10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Released {
    /// It is gone, or was not this node's in this generation: either way nothing of it remains.
    Yes,
    NewRun {
        run: Run,
    },
}

/// Hands an open room over to another node (rule 23). The holder sends it, after it has stopped admitting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    pub held: Holding,
    pub to: NodeId,
    pub to_incarnation: Incarnation,
    /// How long the new node's grant waits for the first participant.
    pub ttl_ms: u64,
    /// Not part of the record: told once, to all who watch.
    #[serde(default)]
    pub expected: Expected,
}

/// The answer to [`HandOver`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum HandedOver {
    /// It is the new node's, in this generation: granted, or open there already.
    Yes {
        epoch: Epoch,
    },
    /// It was not the caller's any more; `current` is what is there.
    No {
        current: Option<Claim>,
    },
    NewRun {
        run: Run,
    },
}

/// Posts the highest epoch that the caller knows of in a bucket; its counter is never below it again (rule 20).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raise {
    pub bucket: u8,
    pub run: Run,
    pub epoch: Epoch,
}

/// The answer to [`Raise`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Raised {
    Yes,
    NewRun { run: Run },
}

/// Ends the node's incarnation: the lease is over at once. Sent last by an agent that stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    pub node: NodeId,
    pub run: Run,
    pub incarnation: Incarnation,
}

/// Says what is wanted of a node, by compare-and-set of the plan's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steer {
    pub node: NodeId,
    /// The run that the caller believes the node's bucket to be in.
    pub run: Run,
    /// The plan that the caller knows, 0 for none. It has to be the stored one, if any is stored.
    pub seen_plan: u64,
    pub mode: Mode,
    pub drain: Option<Drain>,
}

/// The answer to [`Steer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Steered {
    /// Its plan is above the stored one and the caller's, and at least the store's time in ms.
    Yes {
        steering: Steering,
    },
    /// Another plan is there.
    No {
        current: Steering,
    },
    /// Another plan is there, which a later version wrote and we cannot read. Who knows its number can replace it.
    Unreadable {
        plan: u64,
    },
    NewRun {
        run: Run,
    },
}

/// The answer to `purge`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purged {
    Yes,
    /// The node has a lease that is not over.
    Held {
        until_store_ms: u64,
    },
    NewRun {
        run: Run,
    },
}

/// Gives a room to a node (rule 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub room: RoomKey,
    /// The run that the caller believes the room's bucket to be in.
    pub run: Run,
    /// The whole record that the caller saw; the grant fails if there is another.
    pub seen: Option<Claim>,
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// How long the grant waits for the first participant.
    pub ttl_ms: u64,
    /// Not part of the record: told once, to all who watch.
    pub expected: Expected,
}

/// The answer to [`Grant`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    Yes {
        epoch: Epoch,
        store_ms: u64,
    },
    /// Another record is there, or none where one was seen.
    No {
        current: Option<Claim>,
    },
    NewRun {
        run: Run,
    },
}

/// The answer to `prolong`: a granted claim's time starts anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prolonged {
    /// It is granted for the whole `ttl_ms` again, or has been opened in the same generation.
    Yes,
    /// Something else is there.
    No {
        current: Option<Claim>,
    },
    NewRun {
        run: Run,
    },
}

/// The lease of one incarnation, as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub incarnation: Incarnation,
    pub until_store_ms: u64,
    /// Over, by the store's clock, in the current run: a fact that never changes back (rule 12).
    pub lapsed: bool,
}

/// A scheduler of the cluster, as it enlists itself for agents and other schedulers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerEntry {
    pub id: String,
    pub cluster_url: String,
    pub version: String,
}

/// One operation of an agent on the store, as it travels to a scheduler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum NodeOperation {
    /// Which runs are the buckets in? Answered with `Runs`.
    Runs,
    /// Which store is it? Answered with `Identity`.
    Identity,
    Register(Register),
    /// Boxed: it is by far the largest.
    Renew(Box<Renew>),
    Open(Holding),
    Assert(Assert),
    Release(Holding),
    HandOver(HandOver),
    Raise(Raise),
    Leave(Leave),
    Schedulers,
}

/// The store's answer to a [`NodeOperation`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "data", rename_all = "snake_case")]
pub enum NodeAnswer {
    Runs(Vec<Run>),
    Identity(String),
    Registered(Registered),
    Renewed(Renewed),
    Opened(Opened),
    Asserted(Asserted),
    Released(Released),
    HandedOver(HandedOver),
    Raised(Raised),
    Left,
    Schedulers(Vec<SchedulerEntry>),
    /// The scheduler's store failed: certainly not done.
    Unavailable(String),
    /// The scheduler's store failed: it may have been done.
    Unknown(String),
}
