//! The scheduler's picture of all nodes and rooms, folded from what the store tells. It answers lookups of living rooms.

use std::collections::BTreeMap;

use roost_proto::admin::{NodeCounts, NodeState, NodeView};
use roost_proto::event::Event;
use roost_proto::explain::Standing;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::lookup::NodeAddress;
use roost_proto::report::Report;
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::time::Millis;

use crate::brake::{Brake, BrakeSettings};
use crate::drain;
use crate::grace::Grace;
use crate::liveness::{Hearing, Hearings};
use crate::node::{Folded, Node};
use crate::nodes::Nodes;
use crate::request::Request;
use crate::room::{Fate, Room, Rooms};
use crate::time::STALL_MS;
use crate::trust::doubts;
use crate::watch::Watches;

/// How many rooms a tick looks at for ones that are over.
const SWEPT_PER_TICK: usize = 2_000;
/// How many claims without a holder wait to be ended. Further ones are found again.
const MOST_ORPHANS: usize = 10_000;
/// How many rooms a tick looks at whose reservations are due to change. A room takes at most as many steps as
/// [`crate::time::EXPECT_MS`] has, so that this is enough for thousands of grants a second.
const STEPS_PER_TICK: usize = 10_000;

/// All that a scheduler knows.
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) nodes: Nodes,
    pub rooms: Rooms,
    pub grace: Grace,
    hearings: Hearings,
    watches: Watches,
    brake: Brake,
    orphans: BTreeMap<RoomKey, Claim>,
    /// When the watch that runs began: after a grace's length what it did not tell is gone.
    watch_began: Millis,
    ticked: Millis,
    old_reports: u64,
}

/// Sums over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub nodes: NodeCounts,
    /// Nodes that are not lost and report numbers that cannot be.
    pub distrusted: u32,
    /// Nodes that came back several times within minutes.
    pub unsteady: u32,
    /// Participants on all nodes that are not lost.
    pub participants: u32,
}

/// What is to be done because of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    /// Reports of the node are missing: ask it for a full one.
    FullReport(NodeId, Incarnation),
    /// The event belongs to a run that we have not seen: read the runs again.
    Runs,
}

impl View {
    /// A view that knows nothing and hears nothing.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self {
            nodes: Nodes::default(),
            rooms: Rooms::default(),
            grace: Grace::default(),
            hearings: Hearings::none(now),
            watches: Watches::default(),
            brake: Brake::default(),
            orphans: BTreeMap::new(),
            watch_began: now,
            ticked: now,
            old_reports: 0,
        }
    }

    /// A watch has begun: events come from `now` on.
    pub fn listen(&mut self, now: Millis) {
        self.listen_to(&Vec::from_iter(0..BUCKETS), now);
    }

    /// A watch of these buckets has begun. Of a part of the store that is silent nothing is concluded, and what is known of
    /// its rooms is still answered.
    pub fn listen_to(&mut self, buckets: &[u8], now: Millis) {
        self.rooms.begin_watch(buckets);
        self.watch_began = now;
        self.resume(buckets, now);
    }

    /// The watch has ended: no events come any more.
    pub fn stop_listening(&mut self, now: Millis) {
        let heard = self.awake(now);
        self.hearings.end(heard);
        self.grace.pause(heard);
    }

    /// Whether events come, of all buckets.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.hearings.is_whole()
    }

    fn resume(&mut self, buckets: &[u8], now: Millis) {
        self.grace.resume(buckets, now);
        let mut deaf_ms = [0; BUCKETS as usize];
        for bucket in buckets {
            deaf_ms[usize::from(bucket % BUCKETS)] = self.hearings.begin(*bucket, now);
        }
        self.nodes.skip(&deaf_ms);
    }

    /// Takes note of a bucket's run; a new one begins a grace.
    pub fn see_run(&mut self, bucket: u8, run: &Run, now: Millis) -> bool {
        self.grace.see_run(bucket, run, now)
    }

    /// How long the bucket's grace still runs, in ms; 0 when it is over. The time in which this process stood still is no
    /// part of it: the store may have refused everybody meanwhile.
    #[must_use]
    pub fn grace_left_ms(&self, bucket: u8, now: Millis) -> u64 {
        self.grace.left_ms(bucket, self.awake(now))
    }

    /// How long the longest grace still runs, in ms.
    #[must_use]
    pub fn longest_grace_left_ms(&self, now: Millis) -> u64 {
        self.grace.longest_left_ms(self.awake(now))
    }

    /// Folds one event.
    pub fn apply(&mut self, event: Event, now: Millis) -> Wanted {
        match event {
            Event::Claimed { key, claim, ttl_ms, expected, handed_over: _ } => {
                self.fold_claim(key, claim, (ttl_ms, expected), now)
            }
            Event::Released { key, epoch } => {
                self.grace.see_epoch(key.bucket(), epoch);
                self.forget(&key, epoch);
                Wanted::Nothing
            }
            Event::Reported(report) => self.fold_report(*report, now),
            Event::Left { node, incarnation } => {
                self.nodes.leave(&node, incarnation);
                Wanted::Nothing
            }
            // What the node reports from then on says the same: the store sees to that.
            Event::Steered { node, steering } => {
                self.nodes.steer(&node, steering);
                Wanted::Nothing
            }
            Event::Purged { node } => {
                self.nodes.purge(&node, self.hearing(node.bucket(), now), now);
                Wanted::Nothing
            }
        }
    }

    /// Folds a claim that the store told of, be it in an event or in an answer: with how long a grant holds in ms, and
    /// what is expected of it.
    pub fn fold_claim(&mut self, key: RoomKey, mut claim: Claim, told: (u64, Expected), now: Millis) -> Wanted {
        let bucket = key.bucket();
        self.grace.see_epoch(bucket, claim.epoch);
        let wanted = match self.grace.run(bucket) {
            Some(run) if *run == claim.run => {
                claim.run = run.clone();
                Wanted::Nothing
            }
            _ => Wanted::Runs,
        };
        self.rooms.fold_claim(key, claim, told, now);
        self.share_reservations();
        wanted
    }

    /// Forgets a room that has ended, if it is known in this generation or an earlier one.
    pub fn forget(&mut self, key: &RoomKey, epoch: Epoch) {
        self.rooms.forget(key, epoch);
        self.share_reservations();
    }

    /// Tells nodes what is reserved on them. One that is not known yet is told when it is.
    fn share_reservations(&mut self) {
        while let Some((id, incarnation, reserved_milli)) = self.rooms.take_changed() {
            self.nodes.set_reserved(&id, incarnation, reserved_milli);
        }
    }

    fn fold_report(&mut self, mut report: Report, now: Millis) -> Wanted {
        let doubts = doubts(&report);
        let trusted = doubts.is_empty();
        let changed = std::mem::take(&mut report.changed);
        let ended = std::mem::take(&mut report.ended);
        let (id, incarnation) = (report.node.clone(), report.incarnation);
        self.grace.see_lease(report.lease_ms);
        let known = self.nodes.get(&id).map(|node| (node.report.incarnation, node.state));
        let folded = self.nodes.fold(report, doubts, now);
        if folded == Folded::Old {
            self.old_reports += 1;
            return Wanted::Nothing;
        }
        self.watches.reported(&id, incarnation);
        for room in &changed {
            self.grace.see_epoch(room.key.bucket(), room.epoch);
            self.rooms.fold_report(room, (&id, incarnation), trusted, now);
        }
        for room in &ended {
            self.rooms.forget(&room.key, room.epoch);
        }
        self.share_reservations();
        let is_new = known.map(|(known, _)| known) != Some(incarnation);
        let was_gone = known.is_some_and(|(_, state)| state == NodeState::Lost);
        // Whoever has just begun to listen knows nobody, and in a grace all take new incarnations.
        if (is_new || was_gone) && self.has_heard_all(id.bucket(), now) && self.grace_left_ms(id.bucket(), now) == 0 {
            self.nodes.came(&id, known.is_some());
        }
        if is_new {
            self.nodes.set_reserved(&id, incarnation, self.rooms.reserved_milli(&id, incarnation));
        }
        if folded == Folded::Incomplete { Wanted::FullReport(id, incarnation) } else { Wanted::Nothing }
    }

    /// Called every [`crate::time::TICK_MS`]: forgets what is over, a bounded part of it at a time.
    pub fn tick(&mut self, now: Millis) {
        if now.since(self.ticked) > STALL_MS {
            let heard = self.hearings.heard();
            self.hearings.end(self.ticked);
            self.grace.pause(self.ticked);
            self.resume(&heard, now);
        }
        self.ticked = now;
        let lost = self.nodes.tick(&self.hearings, now);
        let alive = || {
            self.nodes.iter().filter(|node| node.state != NodeState::Lost && node.report.mode.counts()).count() as u32
        };
        let alive = if lost > 0 { alive() } else { 0 };
        self.brake.tick(lost, alive, self.grace.lease_ms(), now);
        self.rooms.step(STEPS_PER_TICK, now);
        let grace_ms = self.grace.length_ms();
        let is_old = now.since(self.watch_began) > grace_ms;
        let (grace, nodes, hearings, is_braked) = (&self.grace, &self.nodes, &self.hearings, self.brake.holds());
        let orphans = self.rooms.sweep(SWEPT_PER_TICK, now, |key, room, confirmed| {
            let told = is_old && hearings.of(key.bucket()).is_on();
            let hearing = hearings.of(room.node.bucket());
            // A room of which the store has not told for so long has no claim, whatever its node reported.
            let is_unclaimed = room.run.is_none() && now.since(room.told) > grace_ms;
            if (told && (!confirmed || is_unclaimed))
                || is_void(grace, key, room, now)
                || is_ghost(nodes, hearing, room, now)
            {
                return Fate::Over;
            }
            let in_grace = grace.left_ms(key.bucket(), now) > 0 || grace.left_ms(room.node.bucket(), now) > 0;
            let is_settled = told && confirmed && !in_grace && !is_braked && room.state == ClaimState::Open;
            if is_settled && hearing.is_orphaned(nodes.get(room.node), room, grace_ms, now) {
                return Fate::Orphaned;
            }
            Fate::Lives
        });
        let space = MOST_ORPHANS.saturating_sub(self.orphans.len());
        self.orphans.extend(orphans.into_iter().take(space));
        self.share_reservations();
    }

    /// Open claims whose holder was not heard of for long after its lease: they are to be ended, once the store has said
    /// that the lease is over (rule 12).
    pub fn take_orphans(&mut self) -> BTreeMap<RoomKey, Claim> {
        std::mem::take(&mut self.orphans)
    }

    /// The agent says, on the connection to it, which incarnation it acts under.
    pub fn agent_named(&mut self, node: &NodeId, incarnation: Incarnation) {
        self.watches.named(node, incarnation);
    }

    /// The connection to the agent broke.
    pub fn agent_broke(&mut self, node: &NodeId) {
        self.watches.broke(node);
    }

    /// The agent's host refused another connection at the agent's own address. Gives the incarnation that is proven dead
    /// by that, if one was named on the connection that broke before (rule 13).
    pub fn agent_refused(&mut self, node: &NodeId) -> Option<Incarnation> {
        let dead = self.watches.refused(node)?;
        self.nodes.die(node, dead);
        Some(dead)
    }

    /// Nobody connects to the agent any more.
    pub fn agent_forgotten(&mut self, node: &NodeId) {
        self.watches.forget(node);
    }

    /// Rule 13: the room's incarnation is proven dead.
    #[must_use]
    pub fn is_dead(&self, room: &Room<'_>) -> bool {
        self.watches.is_dead(room.node, room.incarnation)
    }

    /// The brake on moves.
    #[must_use]
    pub fn brake(&self) -> &Brake {
        &self.brake
    }

    /// Sets the brake anew; it does not hold.
    pub fn set_brake(&mut self, settings: BrakeSettings) {
        self.brake = Brake::new(settings);
    }

    /// Lets the brake go, by the operator's word.
    pub fn release_brake(&mut self) {
        self.brake.release();
    }

    /// The room, unless its grant expired or its run is over with nobody having said so again.
    #[must_use]
    pub fn room(&self, key: &RoomKey, now: Millis) -> Option<Room<'_>> {
        self.rooms.get(key, now).filter(|room| !is_void(&self.grace, key, room, now))
    }

    /// Whether the claim is in the bucket's run of today.
    #[must_use]
    pub fn is_current(&self, key: &RoomKey, run: &Run) -> bool {
        self.grace.run(key.bucket()) == Some(run)
    }

    /// How many participants a new room of this request is to be counted as.
    #[must_use]
    pub fn expected(&self, request: &Request<'_>, now: Millis) -> Expected {
        let most = Some(request.policy.max_participants_per_room).filter(|most| *most > 0).unwrap_or(u32::MAX);
        let hint = request.hint.unwrap_or(0).min(most);
        let participants = u32::from(self.rooms.sizes().expected(request.key, hint, now)).min(most);
        Expected { participants, hint, age_ms: 0 }
    }

    /// The node, whatever its state.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// All nodes, by name, those after `after`.
    pub fn nodes(&self, after: Option<&NodeId>) -> impl Iterator<Item = (&NodeId, &Node)> {
        self.nodes.by_name(after)
    }

    /// The node's state at this moment, which ownership is judged by; placement, and what operators see, by that of the last
    /// tick.
    #[must_use]
    pub fn state(&self, node: &Node, now: Millis) -> NodeState {
        self.hearing(node.report.node.bucket(), now).state(node, now)
    }

    /// Rule 12 (b): we heard nothing of the room's home for a full lease, or it said itself that it is over.
    #[must_use]
    pub fn was_silent(&self, room: &Room<'_>, now: Millis) -> bool {
        let hearing = self.hearing(room.node.bucket(), now);
        hearing.was_silent(self.nodes.get(room.node), room, self.grace.length_ms(), now)
    }

    /// Whether we have listened for so long that every living node of the bucket has reported.
    #[must_use]
    pub fn has_heard_all(&self, bucket: u8, now: Millis) -> bool {
        self.hearing(bucket, now).has_lasted(self.grace.length_ms(), now)
    }

    /// What is heard of a bucket's nodes at `now`. After a stall, until the next tick finds it: nothing since the last one, for a process
    /// that stood still has folded nothing either.
    fn hearing(&self, bucket: u8, now: Millis) -> Hearing {
        let mut hearing = self.hearings.of(bucket);
        if self.awake(now) < now {
            hearing.end(self.ticked);
        }
        hearing
    }

    /// Until when this process is known to have gone on: after a stall, until the next tick finds it, its last one.
    fn awake(&self, now: Millis) -> Millis {
        if now.since(self.ticked) > STALL_MS { self.ticked } else { now }
    }

    /// The node as the admin API shows it.
    #[must_use]
    pub fn node_view(&self, node: &Node, store_ms: u64, now: Millis) -> NodeView {
        let report = &node.report;
        NodeView {
            id: report.node.clone(),
            state: node.state,
            mode: report.mode,
            incarnation: report.incarnation,
            description: report.description.clone(),
            load: node.load,
            reserved_permille: node.reserved_permille(),
            standing: node.standing,
            distrusted: node.doubts().iter().map(ToString::to_string).collect(),
            rooms: report.rooms,
            participants: report.participants,
            streams: report.streams,
            workers: report.workers.clone(),
            host: report.host,
            report_age_ms: now.since(node.seen()),
            drain: drain::progress(node, self.rooms.open_at(&report.node), store_ms),
        }
    }

    /// How many nodes are in which state, and what they come to.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for node in self.nodes.iter() {
            match node.state {
                _ if !node.report.mode.counts() => totals.nodes.maintenance += 1,
                NodeState::Alive => totals.nodes.alive += 1,
                NodeState::Suspect => totals.nodes.suspect += 1,
                NodeState::Lost => totals.nodes.lost += 1,
            }
            if node.state == NodeState::Lost {
                continue;
            }
            totals.distrusted += u32::from(node.is_distrusted());
            totals.unsteady += u32::from(node.standing == Standing::Unsteady);
            totals.participants = totals.participants.saturating_add(node.report.participants);
        }
        totals
    }

    /// How many reports changed nothing, because a later one of their node had come before. A watch that begins tells some
    /// twice.
    #[must_use]
    pub fn old_reports(&self) -> u64 {
        self.old_reports
    }

    /// The buckets in whose grace we should say which epochs we have seen, and in which run (rule 20).
    #[must_use]
    pub fn to_raise(&self) -> Vec<(u8, Run, Epoch)> {
        (0..BUCKETS)
            .filter(|bucket| self.grace.highest(*bucket).0 > 0)
            .filter_map(|bucket| Some((bucket, self.grace.run(bucket)?.clone(), self.grace.highest(bucket))))
            .collect()
    }

    /// Where participants connect to the node.
    #[must_use]
    pub fn address(node: &Node) -> NodeAddress {
        NodeAddress {
            id: node.report.node.clone(),
            region: node.report.description.region.clone(),
            signaling_url: node.report.description.signaling_url.clone(),
        }
    }
}

/// Rule 2: a record of an earlier run is void when the grace is over in which its node could have asserted it again.
fn is_void(grace: &Grace, key: &RoomKey, room: &Room<'_>, now: Millis) -> bool {
    let bucket = key.bucket();
    let Some(run) = room.run else { return false };
    let Some(current) = grace.run(bucket) else { return false };
    // A grant is worth nothing beyond its run: nobody is there who would assert it.
    run != current && (room.state == ClaimState::Granted || grace.left_ms(bucket, now) == 0)
}

/// A room that only a report told of, by an incarnation that is over: no claim will end it.
fn is_ghost(nodes: &Nodes, hearing: Hearing, room: &Room<'_>, now: Millis) -> bool {
    room.run.is_none()
        && nodes.get(room.node).is_none_or(|node| {
            node.report.incarnation != room.incarnation || hearing.state(node, now) == NodeState::Lost
        })
}

#[cfg(test)]
mod tests;
