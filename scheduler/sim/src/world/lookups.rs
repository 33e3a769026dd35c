//! Lookups: the steps between a scheduler and the store, as the real scheduler takes them, each a message.

use std::time::Instant;

use rand::RngExt as _;
use roost_agent_core::hold::Offer;
use roost_proto::error::Code;
use roost_proto::id::{Incarnation, NodeId};
use roost_proto::policy::Rung;
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::time::Millis;
use roost_scheduler_core::join::{Evidence, Home, Step, decide};
use roost_scheduler_core::place::NoNode;
use roost_scheduler_core::request::Request;
use roost_scheduler_core::time::{GRANT_TTL_MS, LOOKUP_WAIT_MS};
use roost_store::operation::{Grant, Granted, Lease, Prolonged};

use super::{Happening, Place, World};
use crate::plan::Plan;
use crate::policies::NewRoom;
use crate::scheduler::{Core, Mind};
use crate::store::{first_run, store_ms};

/// How often one lookup may call the store.
const MOST_CALLS: u8 = 8;
/// How often a lookup that waits looks again.
const LOOK_AGAIN_MS: u64 = 50;
/// The real scheduler's.
const SEED: u64 = 0;

/// A lookup that has not been answered yet.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    visit: u32,
    scheduler: usize,
    evidence: Evidence,
    calls_left: u8,
    deadline: Millis,
}

/// What is asked of the store.
#[derive(Debug)]
pub(super) enum Call {
    Read,
    Leases { node: NodeId, incarnation: Incarnation },
    Grant { home: Home, run: Run, seen: Option<Claim>, expected: Expected, rung: Rung },
    Prolong { home: Home, claim: Claim },
}

/// What the store answers, with what was asked.
#[derive(Debug)]
pub(super) enum Answer {
    Read { current: Option<Claim> },
    Leases { node: NodeId, incarnation: Incarnation, leases: Vec<Lease> },
    Granted { home: Home, seen: Option<Claim>, expected: Expected, rung: Rung, asked: Millis, granted: Granted },
    Prolonged { home: Home, claim: Claim, asked: Millis, prolonged: Prolonged },
}

impl<'a> World<'a> {
    /// A participant asks one of the schedulers.
    pub(super) fn visit(&mut self, visit: u32) {
        let guest = &mut self.guests[visit as usize];
        if guest.place != Place::Outside {
            return;
        }
        if guest.tries == 0 {
            self.tally.came();
            if let Some(leaves_at) = self.plan.visits[visit as usize].leaves_at {
                self.queue.push(leaves_at, Happening::Leave { visit });
            }
        }
        guest.tries += 1;
        let namespace = &self.plan.rooms[self.plan.visits[visit as usize].room as usize].key.namespace;
        if self.plan.known_namespaces_only && !self.plan.namespaces.has(namespace) {
            return self.refuse(visit, Code::NamespaceNotAllowed.as_str());
        }
        if self.settling.is_over() && self.go_straight(visit) {
            return;
        }
        let scheduler = self.routes.random_range(0..self.schedulers.len());
        self.wake(scheduler);
        if self.is_core(scheduler) {
            let deadline = self.now.plus(LOOKUP_WAIT_MS);
            let evidence = Evidence::default();
            self.decide(Box::new(Lookup { visit, scheduler, evidence, calls_left: MOST_CALLS, deadline }));
        } else {
            self.choose(visit, scheduler);
        }
    }

    /// To the door of the room's home, if it has one.
    fn go_straight(&mut self, visit: u32) -> bool {
        let key = &self.plan.rooms[self.plan.visits[visit as usize].room as usize].key;
        let Some(claim) = self.store.of(key).read(key, store_ms(self.now)) else { return false };
        let offer = Offer { incarnation: claim.incarnation, epoch: claim.epoch };
        let Some(node) = self.numbers.get(&claim.node).copied() else { return false };
        let arrives = self.network.client(self.now);
        self.queue.push(arrives, Happening::Knock { visit, node, offer });
        true
    }

    /// Asks the core for the next step, and takes it.
    pub(super) fn decide(&mut self, mut lookup: Box<Lookup>) {
        self.wake(lookup.scheduler);
        let request = request(self.plan, &self.guests[lookup.visit as usize].avoid, lookup.visit);
        let Mind::Core(core) = &mut self.schedulers[lookup.scheduler].mind else { return };
        let began = Instant::now();
        let step = decide(&core.view, &request, &lookup.evidence, self.now);
        self.tally.decided(began.elapsed());
        let call = match step {
            Step::Existing(home) => return self.direct(lookup.visit, &home),
            Step::Wait { .. } | Step::Unreached if self.now >= lookup.deadline => {
                return self.refuse(lookup.visit, "starting");
            }
            Step::Wait { .. } | Step::Unreached => {
                let later = self.now.plus(LOOK_AGAIN_MS);
                return self.queue.push(later, Happening::LookAgain(lookup));
            }
            Step::RoomFull => return self.refuse(lookup.visit, "room_full"),
            Step::NoNode(refused) => return self.no_node(&lookup, &refused),
            Step::Read => Call::Read,
            Step::Prove { node, incarnation } => Call::Leases { node, incarnation },
            Step::Prolong { home, claim } => Call::Prolong { home, claim },
            Step::Grant { home, run, seen, expected, rung } => {
                self.check_grant(lookup.visit, lookup.scheduler, &home.node.id);
                Call::Grant { home, run, seen, expected, rung }
            }
        };
        if lookup.calls_left == 0 {
            return self.refuse(lookup.visit, "store_unavailable");
        }
        lookup.calls_left -= 1;
        let arrives = self.network.store(self.now);
        self.queue.push(arrives, Happening::Call(lookup, call));
    }

    /// The call has reached the store.
    pub(super) fn call(&mut self, lookup: Box<Lookup>, call: Call) {
        let asked = self.now;
        let key = &self.plan.rooms[self.plan.visits[lookup.visit as usize].room as usize].key;
        let (now, bucket) = (store_ms(self.now), key.bucket());
        let answer = match call {
            Call::Read => Answer::Read { current: self.store.of(key).read(key, now).cloned() },
            Call::Leases { node, incarnation } => {
                let leases = self.store.bucket(node.bucket()).leases(&node, now);
                Answer::Leases { node, incarnation, leases }
            }
            Call::Grant { home, run, seen, expected, rung } => {
                let grant = Grant {
                    room: key.clone(),
                    run,
                    seen,
                    node: home.node.id.clone(),
                    incarnation: home.incarnation,
                    ttl_ms: GRANT_TTL_MS,
                    expected,
                };
                let (granted, event) = self.store.of(key).grant(&grant, now);
                self.publish(bucket, event);
                Answer::Granted { home, seen: grant.seen, expected, rung, asked, granted }
            }
            Call::Prolong { home, claim } => {
                let (prolonged, event) = self.store.of(key).prolong(key, &claim, GRANT_TTL_MS, now);
                self.publish(bucket, event);
                Answer::Prolonged { home, claim, asked, prolonged }
            }
        };
        let answered = self.network.store(self.now);
        self.queue.push(answered, Happening::Answer(lookup, answer));
    }

    /// The store's answer has come back.
    pub(super) fn answer(&mut self, mut lookup: Box<Lookup>, answer: Answer) {
        self.wake(lookup.scheduler);
        let (now, plan) = (self.now, self.plan);
        let visit = plan.visits[lookup.visit as usize];
        let key = &plan.rooms[visit.room as usize].key;
        let Mind::Core(core) = &mut self.schedulers[lookup.scheduler].mind else { return };
        match answer {
            Answer::Read { current } => {
                let known = core.view.room(key, now).map(|room| room.epoch);
                core.fold_current(key, current, known, now);
                lookup.evidence.record_read = true;
            }
            Answer::Leases { node, incarnation, leases } => {
                let lease = leases.iter().find(|lease| lease.incarnation == incarnation);
                lookup.evidence.lease = Some((node, incarnation, lease.is_none_or(|lease| lease.lapsed)));
            }
            Answer::Granted { home, seen, expected, rung, asked, granted } => match granted {
                Granted::Yes { epoch, .. } => {
                    let claim = Claim {
                        run: first_run(),
                        epoch,
                        state: ClaimState::Granted,
                        node: home.node.id.clone(),
                        incarnation: home.incarnation,
                    };
                    core.fold_own(key, claim, GRANT_TTL_MS, expected, asked);
                    if let Some(node) = self.numbers.get(&home.node.id) {
                        self.tally.placed(plan, *node, visit.room, rung);
                    }
                    return self.direct(lookup.visit, &Home { epoch, ..home });
                }
                Granted::No { current } => {
                    self.tally.conflict();
                    core.fold_current(key, current, seen.map(|claim| claim.epoch), now);
                }
                Granted::NewRun { run } => drop(core.view.see_run(key.bucket(), &run, now)),
            },
            Answer::Prolonged { home, claim, asked, prolonged } => match prolonged {
                Prolonged::Yes => {
                    core.fold_own(key, claim, GRANT_TTL_MS, Expected::default(), asked);
                    return self.direct(lookup.visit, &home);
                }
                Prolonged::No { current } => core.fold_current(key, current, Some(claim.epoch), now),
                Prolonged::NewRun { run } => drop(core.view.see_run(key.bucket(), &run, now)),
            },
        }
        self.decide(lookup);
    }

    /// Another system's rule: knows each room's node, and gives a new one its own at once.
    fn choose(&mut self, visit: u32, scheduler: usize) {
        let (now, plan) = (self.now, self.plan);
        let room = plan.visits[visit as usize].room;
        let key = &plan.rooms[room as usize].key;
        let claim = self.store.of(key).read(key, store_ms(now)).cloned();
        let known = claim.and_then(|claim| Some((*self.numbers.get(&claim.node)?, claim.incarnation, claim.epoch)));
        let Mind::Other(other) = &mut self.schedulers[scheduler].mind else { return };
        let chosen = known.is_none().then(|| other.choose(&NewRoom { promised: self.tally.promised() }, now)).flatten();
        let found = known.or_else(|| {
            let node = chosen?;
            let (id, incarnation) = (plan.nodes[node].id.clone(), self.nodes[node].lease.incarnation()?);
            let (room, run, ttl_ms) = (key.clone(), first_run(), GRANT_TTL_MS);
            let expected = Expected::default();
            let grant = Grant { room, run, seen: None, node: id, incarnation, ttl_ms, expected };
            match self.store.of(key).grant(&grant, store_ms(now)).0 {
                Granted::Yes { epoch, .. } => Some((node, incarnation, epoch)),
                Granted::No { .. } | Granted::NewRun { .. } => None,
            }
        });
        let Some((node, incarnation, epoch)) = found else { return self.refuse(visit, "no_node") };
        if known.is_none() {
            self.tally.placed(plan, node, room, Rung::Anywhere);
            self.check_place(visit, node);
        }
        let Mind::Other(other) = &mut self.schedulers[scheduler].mind else { return };
        other.sent(node, now);
        let arrives = self.network.client(now);
        self.queue.push(arrives, Happening::Knock { visit, node, offer: Offer { incarnation, epoch } });
    }

    /// Sends the participant to the room's home.
    fn direct(&mut self, visit: u32, home: &Home) {
        let Some(node) = self.numbers.get(&home.node.id).copied() else { return };
        let offer = Offer { incarnation: home.incarnation, epoch: home.epoch };
        let arrives = self.network.client(self.now);
        self.queue.push(arrives, Happening::Knock { visit, node, offer });
    }

    /// The participant cannot come in anywhere.
    pub(super) fn refuse(&mut self, visit: u32, reason: &str) {
        self.guests[visit as usize].place = Place::Gone;
        self.tally.refused(reason);
    }

    /// No node takes the room; or the one that has it is full, and then the participant wanted to be there.
    fn no_node(&mut self, lookup: &Lookup, refused: &NoNode) {
        let key = &self.plan.rooms[self.plan.visits[lookup.visit as usize].room as usize].key;
        let Mind::Core(core) = &self.schedulers[lookup.scheduler].mind else { return };
        let home = core.view.room(key, self.now).filter(|room| room.state == ClaimState::Open);
        let node = home.and_then(|room| self.numbers.get(room.node)).copied();
        self.tally.rejected(refused);
        match node {
            Some(node) => self.turn_away(lookup.visit, node),
            None => self.guests[lookup.visit as usize].place = Place::Gone,
        }
    }
}

impl Core {
    /// Folds what the store has of a room. Nothing: what was believed, up to the epoch `known`, is gone.
    fn fold_current(
        &mut self,
        key: &roost_proto::id::RoomKey,
        current: Option<Claim>,
        known: Option<roost_proto::id::Epoch>,
        now: Millis,
    ) {
        match (current, known) {
            (Some(claim), _) => drop(self.view.fold_claim(key.clone(), claim, (0, Expected::default()), now)),
            (None, Some(epoch)) => self.view.forget(key, epoch),
            (None, None) => {}
        }
    }
}

/// What the core is asked for a visit.
pub(super) fn request<'a>(plan: &'a Plan, avoid: &'a [NodeId], visit: u32) -> Request<'a> {
    let visit = &plan.visits[visit as usize];
    let (room, client) = (&plan.rooms[visit.room as usize], &plan.clients[visit.client as usize]);
    Request {
        key: &room.key,
        policy: plan.namespaces.of(&room.key.namespace),
        region: client.region.as_ref(),
        carrier: client.carrier.as_ref(),
        hint: room.hint,
        avoid,
        alternatives: 0,
        seed: SEED,
    }
}
