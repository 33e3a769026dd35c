//! One of those that are compared: it takes a step in its own numbers and answers in words that all share.

use roost_proto::event::Event;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::report::Mode;
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::steer::Steering;
use roost_store::operation::{
    Assert, Asserted, Grant, Granted, HandOver, HandedOver, Holding, Leave, Opened, Prolonged, Purged, Raise, Raised,
    Register, Registered, Released, Renew, Renewed, Steer, Steered,
};

use super::engine::Engine;
use super::operation::{Change, Operation, Picked};
use crate::made;
use crate::server::Server;

/// What is done to one store, and what the party remembers of it.
pub(super) struct Party<'a> {
    engine: Engine<'a>,
    rooms: Vec<RoomKey>,
    nodes: Vec<NodeId>,
    /// The runs of all buckets, by generation.
    runs: Vec<Vec<Run>>,
    /// In the order in which they were given; each is higher than those before.
    epochs: Vec<u64>,
    incarnations: [Vec<u64>; 2],
    /// What was wanted of each node, plan after plan.
    plans: [Vec<Steering>; 2],
    /// Every claim that was written, with those of other rooms.
    past: Vec<Claim>,
}

impl<'a> Party<'a> {
    pub(super) async fn specification() -> Self {
        Self::new(Engine::specification()).await
    }

    pub(super) async fn embedded() -> Self {
        Self::new(Engine::embedded()).await
    }

    pub(super) async fn redis(server: &'a Server) -> Self {
        Self::new(Engine::redis(server).await).await
    }

    async fn new(engine: Engine<'a>) -> Self {
        let rooms = (0..).map(|number| made::room(&format!("room-{number}")));
        let rooms: Vec<_> = rooms.filter(|room| room.bucket() == 5).take(3).collect();
        let nodes = vec![made::node("fra-1"), made::node("fra-2")];
        let runs = vec![engine.runs().await];
        Self {
            engine,
            rooms,
            nodes,
            runs,
            epochs: Vec::new(),
            incarnations: [Vec::new(), Vec::new()],
            plans: [Vec::new(), Vec::new()],
            past: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.engine.name()
    }

    pub(super) async fn watch(&mut self) {
        self.engine.watch().await;
    }

    /// The events of rooms, then those of each node: only within a bucket is there one order.
    pub(super) async fn told(&mut self, count: usize) -> Vec<String> {
        let mut told = self.engine.told(count).await;
        told.sort_by_key(|event| match event {
            Event::Claimed { .. } | Event::Released { .. } => None,
            Event::Reported(report) => Some(report.node.clone()),
            Event::Left { node, .. } | Event::Steered { node, .. } | Event::Purged { node } => Some(node.clone()),
        });
        told.iter().map(|event| self.event(event)).collect()
    }

    /// All that is left at the end.
    pub(super) async fn remains(&mut self) -> Vec<String> {
        let mut remains = Vec::new();
        for room in 0..self.rooms.len() {
            remains.push(self.apply(&Operation::Read { room }).await);
        }
        for node in 0..self.nodes.len() {
            remains.push(self.apply(&Operation::Leases { node }).await);
        }
        remains
    }

    pub(super) async fn apply(&mut self, operation: &Operation) -> String {
        self.engine.pass(1).await;
        match operation {
            Operation::Pass => {
                self.engine.pass(20_000).await;
                String::new()
            }
            Operation::Restart => {
                self.engine.restart().await;
                self.runs.push(self.engine.runs().await);
                String::new()
            }
            Operation::Wipe => self.wipe().await,
            Operation::Register { .. }
            | Operation::Renew { .. }
            | Operation::Leave { .. }
            | Operation::Leases { .. } => self.apply_to_lease(operation).await,
            Operation::Steer { .. } | Operation::Purge { .. } => self.apply_to_steering(operation).await,
            _ => self.apply_to_room(operation).await,
        }
    }

    async fn wipe(&mut self) -> String {
        self.engine.wipe().await;
        let highest = Epoch(self.epochs.last().copied().unwrap_or(0));
        let bucket = self.rooms[0].bucket();
        let run = self.run(self.rooms[0].bucket(), false);
        let noticed = self.engine.raise(Raise { bucket, run, epoch: highest }).await;
        self.runs.push(self.engine.runs().await);
        let run = self.run(self.rooms[0].bucket(), false);
        let raised = self.engine.raise(Raise { bucket, run, epoch: highest }).await;
        format!("{} {raised:?}", matches!(noticed, Raised::NewRun { .. }))
    }

    async fn apply_to_lease(&mut self, operation: &Operation) -> String {
        match *operation {
            Operation::Register { node, other_process, lease_ms } => {
                let register = Register {
                    run: self.run(self.nodes[node].bucket(), false),
                    node: self.nodes[node].clone(),
                    process: if other_process { "other" } else { "process" }.to_owned(),
                    after: Incarnation(self.incarnations[node].last().copied().unwrap_or(0)),
                    lease_ms,
                };
                match self.engine.register(register).await {
                    Registered::Yes { incarnation, steering, .. } => {
                        self.incarnations[node].push(incarnation.0);
                        assert!(self.incarnations[node].is_sorted_by(|a, b| a < b), "incarnations grow");
                        format!("yes {} {}", self.incarnations[node].len(), self.steering_text(node, steering))
                    }
                    Registered::Taken { .. } => "taken".to_owned(),
                    Registered::NewRun { run } => self.new_run(&run),
                }
            }
            Operation::Renew { node, which, lease_ms, old_run, plan } => {
                let incarnation = self.incarnation(node, which);
                let mut report = made::report(self.nodes[node].as_str(), incarnation, lease_ms);
                report.steering = plan.and_then(|ago| self.plan(node, ago));
                let run = self.run(self.nodes[node].bucket(), old_run);
                match self.engine.renew(Renew { run, report, buckets: Vec::new() }).await {
                    Renewed::Yes { steering, .. } => format!("yes {}", self.steering_text(node, steering)),
                    Renewed::Lapsed => "lapsed".to_owned(),
                    Renewed::NewRun { run } => self.new_run(&run),
                }
            }
            Operation::Leave { node, which, old_run } => {
                let run = self.run(self.nodes[node].bucket(), old_run);
                let incarnation = self.incarnation(node, which);
                self.engine.leave(Leave { node: self.nodes[node].clone(), run, incarnation }).await;
                String::new()
            }
            Operation::Leases { node } => {
                let leases = self.engine.leases(&self.nodes[node]).await;
                let lease = |incarnation: Incarnation, lapsed| {
                    let position = self.incarnations[node].iter().position(|other| *other == incarnation.0);
                    format!("{position:?} {lapsed}, ")
                };
                leases.iter().map(|one| lease(one.incarnation, one.lapsed)).collect()
            }
            _ => unreachable!("only what concerns leases comes here"),
        }
    }

    async fn apply_to_steering(&mut self, operation: &Operation) -> String {
        match *operation {
            Operation::Steer { node, mode, seen, old_run } => {
                // A plan that was purged or lost is not known to be below the next one.
                self.engine.pass_beyond(self.plan(node, 0).map_or(0, |last| last.plan)).await;
                let run = self.run(self.nodes[node].bucket(), old_run);
                let seen_plan = self.plan(node, seen).map_or(0, |seen| seen.plan);
                let drain = (mode == Mode::Draining).then_some(made::DRAIN);
                let steer = Steer { node: self.nodes[node].clone(), run, seen_plan, mode, drain };
                match self.engine.steer(steer).await {
                    Steered::Yes { steering } => {
                        self.plans[node].push(steering);
                        assert!(self.plans[node].is_sorted_by(|a, b| a.plan < b.plan), "plans grow");
                        format!("yes {}", self.steering_text(node, Some(steering)))
                    }
                    Steered::No { current } => format!("no {}", self.steering_text(node, Some(current))),
                    Steered::Unreadable { plan } => panic!("we wrote plan {plan} ourselves"),
                    Steered::NewRun { run } => self.new_run(&run),
                }
            }
            Operation::Purge { node, old_run } => {
                let run = self.run(self.nodes[node].bucket(), old_run);
                match self.engine.purge(&self.nodes[node], &run).await {
                    Purged::Yes => "purged".to_owned(),
                    Purged::Held { .. } => "held".to_owned(),
                    Purged::NewRun { run } => self.new_run(&run),
                }
            }
            _ => unreachable!("only what concerns steering comes here"),
        }
    }

    async fn apply_to_room(&mut self, operation: &Operation) -> String {
        match operation {
            Operation::Grant { room, seen, node, incarnation, ttl_ms } => {
                self.grant(*room, seen.as_ref(), *node, *incarnation, *ttl_ms).await
            }
            Operation::Prolong { room, claim, ttl_ms } => {
                let claim = self.claim(*room, claim).await;
                match self.engine.prolong(&self.rooms[*room], &claim, *ttl_ms).await {
                    Prolonged::Yes => "yes".to_owned(),
                    Prolonged::No { current } => self.no(current.as_ref()),
                    Prolonged::NewRun { run } => self.new_run(&run),
                }
            }
            Operation::Open { room, held } => {
                let held = self.held(*room, held).await;
                match self.engine.open(held).await {
                    Opened::Yes => self.written(*room, "open").await,
                    Opened::No { current } => self.no(current.as_ref()),
                    Opened::NewRun { run } => self.new_run(&run),
                }
            }
            Operation::Assert { room, held, wanted, right } => {
                let held = self.held(*room, held).await;
                match self.engine.assert(Assert { held, incarnation: Incarnation(*wanted), right: *right }).await {
                    Asserted::Yes { epoch, provisional } => {
                        self.given(epoch);
                        self.written(*room, if provisional { "provisional" } else { "asserted" }).await
                    }
                    Asserted::No { current } => self.no(current.as_ref()),
                    Asserted::NewRun { run } => self.new_run(&run),
                }
            }
            Operation::Release { room, held } => {
                let held = self.held(*room, held).await;
                match self.engine.release(held).await {
                    Released::Yes => "released".to_owned(),
                    Released::NewRun { run } => self.new_run(&run),
                }
            }
            Operation::HandOver { room, held, to, incarnation, ttl_ms } => {
                let held = self.held(*room, held).await;
                self.hand_over(*room, held, *to, *incarnation, *ttl_ms).await
            }
            Operation::Raise { which, ahead_ms, old_run } => {
                let epoch = Epoch(self.epoch(*which) + ahead_ms);
                let bucket = self.rooms[0].bucket();
                match self.engine.raise(Raise { bucket, run: self.run(bucket, *old_run), epoch }).await {
                    Raised::Yes => "raised".to_owned(),
                    Raised::NewRun { run } => self.new_run(&run),
                }
            }
            Operation::Read { room } => {
                let claim = self.engine.read(&self.rooms[*room]).await;
                self.no(claim.as_ref())
            }
            _ => unreachable!("only what concerns rooms comes here"),
        }
    }

    async fn grant(
        &mut self,
        room: usize,
        seen: Option<&Picked>,
        node: usize,
        incarnation: u64,
        ttl_ms: u64,
    ) -> String {
        let mut run = self.run(self.rooms[room].bucket(), false);
        let mut claim = None;
        if let Some(picked) = seen {
            run = self.run(self.rooms[room].bucket(), picked.old_run);
            claim = Some(self.claim(room, picked).await);
        }
        let grant = Grant {
            room: self.rooms[room].clone(),
            run,
            seen: claim,
            node: self.nodes[node].clone(),
            incarnation: Incarnation(incarnation),
            ttl_ms,
            expected: Expected {
                participants: u32::try_from(ttl_ms % 7).unwrap_or(0),
                hint: incarnation as u32,
                age_ms: 0,
            },
        };
        match self.engine.grant(grant).await {
            Granted::Yes { epoch, .. } => {
                self.given(epoch);
                self.written(room, "granted").await
            }
            Granted::No { current } => self.no(current.as_ref()),
            Granted::NewRun { run } => self.new_run(&run),
        }
    }

    async fn hand_over(&mut self, room: usize, held: Holding, to: usize, incarnation: u64, ttl_ms: u64) -> String {
        let (to, to_incarnation) = (self.nodes[to].clone(), Incarnation(incarnation));
        let hand_over = HandOver { held, to, to_incarnation, ttl_ms, expected: made::EXPECTED };
        match self.engine.hand_over(hand_over).await {
            HandedOver::Yes { epoch } => {
                self.given(epoch);
                self.written(room, "handed over").await
            }
            HandedOver::No { current } => self.no(current.as_ref()),
            HandedOver::NewRun { run } => self.new_run(&run),
        }
    }

    /// Remembers what is there now.
    async fn written(&mut self, room: usize, how: &str) -> String {
        let claim = self.engine.read(&self.rooms[room]).await.expect("it was just written");
        let answer = format!("{how} {}", self.text(&claim));
        self.past.push(claim);
        answer
    }

    /// Remembers an epoch. One that was not known is the highest so far.
    fn given(&mut self, epoch: Epoch) {
        if epoch.0 >= 1_000 && !self.epochs.contains(&epoch.0) {
            self.epochs.push(epoch.0);
            assert!(self.epochs.is_sorted_by(|a, b| a < b), "{}: epochs grow: {:?}", self.name(), self.epochs);
        }
    }

    /// The claim that is named, in this party's numbers.
    async fn claim(&mut self, room: usize, picked: &Picked) -> Claim {
        let mut claim = match picked.past {
            None => self.engine.read(&self.rooms[room]).await,
            Some(number) if !self.past.is_empty() => Some(self.past[number % self.past.len()].clone()),
            Some(_) => None,
        }
        .unwrap_or_else(|| Claim {
            run: self.run(self.rooms[room].bucket(), false),
            epoch: Epoch(self.epoch(3)),
            state: ClaimState::Open,
            node: self.nodes[0].clone(),
            incarnation: Incarnation(1),
        });
        match picked.change {
            Change::Nothing => {}
            Change::Node(node) => claim.node = self.nodes[node].clone(),
            Change::Incarnation(incarnation) => claim.incarnation = Incarnation(incarnation),
            Change::Epoch(which) => claim.epoch = Epoch(self.epoch(which)),
            Change::State if claim.state == ClaimState::Open => claim.state = ClaimState::Granted,
            Change::State => claim.state = ClaimState::Open,
        }
        claim
    }

    async fn held(&mut self, room: usize, picked: &Picked) -> Holding {
        let claim = self.claim(room, picked).await;
        let run = self.run(self.rooms[room].bucket(), picked.old_run);
        Holding { run, ..made::holding(&self.rooms[room], &claim) }
    }

    /// This run, or the one before.
    fn run(&self, bucket: u8, old: bool) -> Run {
        let generation = self.runs.len().saturating_sub(if old { 2 } else { 1 });
        self.runs[generation][usize::from(bucket)].clone()
    }

    /// A number that means the same to every party: one that was given, or a small one.
    fn epoch(&self, which: usize) -> u64 {
        self.epochs.get(which).copied().unwrap_or(which as u64)
    }

    fn incarnation(&self, node: usize, which: usize) -> Incarnation {
        Incarnation(self.incarnations[node].iter().rev().nth(which).copied().unwrap_or(which as u64))
    }

    fn plan(&self, node: usize, ago: usize) -> Option<Steering> {
        self.plans[node].iter().rev().nth(ago).copied()
    }

    fn steering_text(&self, node: usize, steering: Option<Steering>) -> String {
        let Some(steering) = steering else { return "unsteered".to_owned() };
        let position = self.plans[node].iter().position(|other| other.plan == steering.plan);
        format!("p{position:?} {:?} {:?}", steering.mode, steering.drain)
    }

    fn no(&self, current: Option<&Claim>) -> String {
        current.map_or("nothing".to_owned(), |claim| self.text(claim))
    }

    fn new_run(&self, run: &Run) -> String {
        format!("new {}", self.run_text(run))
    }

    fn run_text(&self, run: &Run) -> String {
        let generation = self.runs.iter().position(|runs| runs.contains(run));
        generation.map_or("run ?".to_owned(), |generation| format!("run {generation}"))
    }

    fn epoch_text(&self, epoch: Epoch) -> String {
        match self.epochs.iter().position(|other| *other == epoch.0) {
            Some(position) => format!("e{position}"),
            None if epoch.0 < 1_000 => epoch.to_string(),
            None => "e?".to_owned(),
        }
    }

    fn text(&self, claim: &Claim) -> String {
        let (run, epoch) = (self.run_text(&claim.run), self.epoch_text(claim.epoch));
        format!("{run} {epoch} {:?} {} {}", claim.state, claim.node, claim.incarnation)
    }

    fn event(&self, event: &Event) -> String {
        let incarnation = |node: &NodeId, incarnation: Incarnation| {
            let node = usize::from(*node != self.nodes[0]);
            self.incarnations[node].iter().position(|other| *other == incarnation.0)
        };
        match event {
            Event::Claimed { key, claim, ttl_ms, expected, handed_over } => {
                format!("claimed {key} {} {ttl_ms} {expected:?} {handed_over}", self.text(claim))
            }
            Event::Released { key, epoch } => format!("released {key} {}", self.epoch_text(*epoch)),
            Event::Reported(report) => {
                let steering = self.steering_text(usize::from(report.node != self.nodes[0]), report.steering);
                let incarnation = incarnation(&report.node, report.incarnation);
                format!("reported {} {incarnation:?} {:?} {steering}", report.node, report.mode)
            }
            Event::Left { node, incarnation: left } => format!("left {node} {:?}", incarnation(node, *left)),
            Event::Steered { node, steering } => {
                format!("steered {node} {}", self.steering_text(usize::from(*node != self.nodes[0]), Some(*steering)))
            }
            Event::Purged { node } => format!("purged {node}"),
        }
    }
}
