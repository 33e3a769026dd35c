//! Lookups, as scheduler/src/app/lookup.rs has them.

use roost_agent_core::hold::Offer;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::policy;
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::time::Millis;
use roost_scheduler_core::join::{Evidence, Home, Step, decide};
use roost_scheduler_core::request::Request;
use roost_scheduler_core::time::{GRANT_TTL_MS, LOOKUP_WAIT_MS};
use roost_store::operation::{Grant, Granted, Prolonged};

use super::{Answer, Purpose, Scheduler, Silence};
use crate::message::{Ask, Body, Said, Ticket};
use crate::wire::{Place, Timer, Wire};

/// How often one lookup may lose against others before it gives up.
const MOST_TRIES: usize = 8;
const LOOK_AGAIN_MS: u64 = 50;

/// How far a lookup has come.
#[derive(Debug)]
pub(super) struct Course {
    client: Place,
    id: u64,
    room: RoomKey,
    avoid: Vec<NodeId>,
    evidence: Evidence,
    deadline: Millis,
    tries_left: usize,
}

/// What a lookup has asked the store.
#[derive(Debug, Clone)]
pub(super) enum Call {
    /// `to_answer`: nothing else is asked if this fails.
    Read {
        known: Option<Epoch>,
        to_answer: bool,
    },
    Leases(NodeId, Incarnation),
    Grant {
        home: Box<Home>,
        run: Run,
        seen: Option<Epoch>,
        asked: Millis,
    },
    Prolong {
        home: Box<Home>,
        claim: Claim,
        asked: Millis,
    },
}

impl Scheduler {
    pub(super) fn look_up(
        &mut self,
        (client, id): (Place, u64),
        room: RoomKey,
        avoid: Option<NodeId>,
        wire: &mut Wire,
    ) {
        let avoid = Vec::from_iter(avoid);
        let deadline = self.now(wire).plus(LOOKUP_WAIT_MS);
        let course =
            Course { client, id, room, avoid, evidence: Evidence::default(), deadline, tries_left: MOST_TRIES };
        let lookup = wire.id();
        self.lookups.insert(lookup, course);
        self.look_again(lookup, wire);
    }

    /// Decides the next step.
    pub(super) fn look_again(&mut self, lookup: u64, wire: &mut Wire) {
        let now = self.now(wire);
        let Some(course) = self.lookups.get_mut(&lookup) else { return };
        let request = Request { avoid: &course.avoid, ..Request::new(&course.room, &policy::DEFAULT) };
        let step = decide(&self.view, &request, &course.evidence, now);
        wire.tell(|| format!("{} on {}: {step:?}", self.place, course.room));
        let asks = !matches!(step, Step::Existing(_) | Step::Wait { .. } | Step::Unreached | Step::NoNode(_));
        if asks {
            if course.tries_left == 0 {
                return self.end(lookup, None, wire);
            }
            course.tries_left -= 1;
        }
        let room = course.room.clone();
        let (ask, call) = match step {
            Step::Existing(home) => return self.end(lookup, Some(home), wire),
            Step::NoNode(_) | Step::RoomFull => return self.end(lookup, None, wire),
            Step::Wait { .. } | Step::Unreached if now >= course.deadline => return self.end(lookup, None, wire),
            Step::Wait { .. } | Step::Unreached => {
                return wire.timer(self.place, self.life, LOOK_AGAIN_MS, Timer::LookAgain(lookup));
            }
            Step::Read => {
                let known = self.view.room(&room, now).map(|room| room.epoch);
                (Ask::Read(room), Call::Read { known, to_answer: false })
            }
            Step::Prove { node, incarnation } => (Ask::Leases(node.clone()), Call::Leases(node, incarnation)),
            Step::Prolong { home, claim } => {
                let call = Call::Prolong { home: Box::new(home), claim: claim.clone(), asked: now };
                (Ask::Prolong { room, claim, ttl_ms: GRANT_TTL_MS }, call)
            }
            Step::Grant { home, run, seen, expected, rung: _ } => {
                let forgotten = seen.as_ref().map(|claim| claim.epoch);
                let (node, incarnation) = (home.node.id.clone(), home.incarnation);
                self.given.push((room.clone(), node.clone()));
                let grant = Grant { room, run: run.clone(), seen, node, incarnation, ttl_ms: GRANT_TTL_MS, expected };
                (Ask::Grant(grant), Call::Grant { home: Box::new(home), run, seen: forgotten, asked: now })
            }
        };
        self.ask(ask, Purpose::Lookup(lookup, call), wire);
    }

    pub(super) fn lookup_answered(&mut self, lookup: u64, call: Call, answer: Answer, wire: &mut Wire) {
        let Some(room) = self.lookups.get(&lookup).map(|course| course.room.clone()) else { return };
        match (call, answer) {
            (Call::Read { known, to_answer }, answer) => {
                let is_read = matches!(answer, Ok(Said::Read(_)));
                if let Ok(Said::Read(current)) = answer {
                    self.fold_current(&room, current, known, wire);
                } else if to_answer {
                    return self.end(lookup, None, wire);
                }
                if let Some(course) = self.lookups.get_mut(&lookup).filter(|_| is_read || !to_answer) {
                    course.evidence.record_read |= !to_answer;
                }
            }
            (Call::Leases(node, incarnation), answer) => {
                let is_over = match answer {
                    Ok(Said::Leases(leases)) => {
                        leases.iter().find(|lease| lease.incarnation == incarnation).is_none_or(|lease| lease.lapsed)
                    }
                    _ => false,
                };
                if let Some(course) = self.lookups.get_mut(&lookup) {
                    course.evidence.lease = Some((node, incarnation, is_over));
                }
            }
            (Call::Grant { home, run, seen, asked }, answer) => {
                return self.granted(lookup, &room, (*home, run, seen, asked), answer, wire);
            }
            (Call::Prolong { home, claim, asked }, answer) => match answer {
                Ok(Said::Prolonged(Prolonged::Yes)) => {
                    let told = (GRANT_TTL_MS, Expected::default());
                    self.view.fold_claim(room, claim, told, asked);
                    return self.end(lookup, Some(*home), wire);
                }
                Ok(Said::Prolonged(Prolonged::No { current })) => {
                    self.fold_current(&room, current, Some(claim.epoch), wire);
                }
                Ok(Said::Prolonged(Prolonged::NewRun { run })) => self.see_run(&room, &run, wire),
                _ => return self.end(lookup, Some(*home), wire),
            },
        }
        self.look_again(lookup, wire);
    }

    fn granted(
        &mut self,
        lookup: u64,
        room: &RoomKey,
        (home, run, seen, asked): (Home, Run, Option<Epoch>, Millis),
        answer: Answer,
        wire: &mut Wire,
    ) {
        match answer {
            Ok(Said::Granted(Granted::Yes { epoch, .. }, expected)) => {
                let (node, incarnation) = (home.node.id.clone(), home.incarnation);
                let claim = Claim { run, epoch, state: ClaimState::Granted, node, incarnation };
                self.view.fold_claim(room.clone(), claim, (GRANT_TTL_MS, expected), asked);
                return self.end(lookup, Some(Home { epoch, ..home }), wire);
            }
            Ok(Said::Granted(Granted::No { current }, _)) => self.fold_current(room, current, seen, wire),
            Ok(Said::Granted(Granted::NewRun { run }, _)) => self.see_run(room, &run, wire),
            // Perhaps it was done: what is there is the answer, whoever wrote it.
            Err(Silence::TooLate) => {
                let known = self.view.room(room, self.now(wire)).map(|room| room.epoch);
                let call = Call::Read { known, to_answer: true };
                return self.ask(Ask::Read(room.clone()), Purpose::Lookup(lookup, call), wire);
            }
            _ => return self.end(lookup, None, wire),
        }
        self.look_again(lookup, wire);
    }

    fn see_run(&mut self, room: &RoomKey, run: &Run, wire: &Wire) {
        let now = self.now(wire);
        self.view.see_run(room.bucket(), run, now);
    }

    fn end(&mut self, lookup: u64, home: Option<Home>, wire: &mut Wire) {
        let Some(course) = self.lookups.remove(&lookup) else { return };
        let ticket = home.map(|home| Ticket {
            room: course.room,
            node: home.node.id,
            offer: Offer { incarnation: home.incarnation, epoch: home.epoch },
        });
        wire.send(self.place, course.client, course.id, Body::Found(ticket));
    }
}
