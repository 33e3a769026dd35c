//! A lookup: from the view if the room lives, else by one compare-and-set in the store.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use roost_proto::error::Problem;
use roost_proto::explain::Candidate;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::lookup::{Client, Outcome};
use roost_proto::policy::Rung;
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::time::Millis;
use roost_scheduler_core::explain::rank;
use roost_scheduler_core::join::{Evidence, Home, Step, decide};
use roost_scheduler_core::request::Request;
use roost_scheduler_core::time::{GRANT_TTL_MS, LOOKUP_WAIT_MS};
use roost_server::Ticket;
use roost_server::ticket::TICKET_LIFE_MS;
use roost_store::StoreError;
use roost_store::operation::{Grant, Granted, Prolonged};

use super::Scheduler;
use crate::decision_log::{self, Line};
use crate::error::{no_node, room_full, starting, store_unavailable};

/// How often one lookup may lose against others before it gives up.
const MOST_TRIES: usize = 8;
/// How often a lookup that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Spreads rooms over equal nodes; all schedulers of a cluster must agree on it.
pub(super) const SEED: u64 = 0;

/// What is asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub key: RoomKey,
    pub client: Client,
    /// None: the caller does not say.
    pub expected_participants: Option<u32>,
    pub avoid: Vec<NodeId>,
    pub alternatives: usize,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Found {
    pub outcome: Outcome,
    pub home: Home,
    /// Only when this lookup placed the room.
    pub placed: Option<Placed>,
}

/// How a room was placed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    /// How near its node is to the client.
    pub rung: Rung,
    pub expected: Expected,
}

impl Found {
    fn existing(home: Home) -> Self {
        Self { outcome: Outcome::Existing, home, placed: None }
    }
}

/// What a lookup comes to before it writes anything.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The room lives there; a grant that is getting old is to be prolonged.
    Lives { home: Home, prolong: Option<Claim> },
    /// Nobody has it, or whoever has it may lose it.
    Place(Placement),
}

/// A grant that is about to be written.
#[derive(Debug)]
pub(super) struct Placement {
    pub home: Home,
    pub run: Run,
    pub seen: Option<Claim>,
    pub placed: Placed,
}

/// Whether a decision is to be logged, and if so, how the node ranked.
struct Drawn {
    line: Option<Line>,
    candidate: Option<Candidate>,
}

/// What a write led to.
pub(super) enum Next {
    Answer(Found),
    Again,
}

/// How far a lookup has come.
#[derive(Debug)]
pub(super) struct Course {
    evidence: Evidence,
    deadline: Millis,
    tries_left: usize,
}

impl Course {
    pub(super) fn new(now: Millis) -> Self {
        Self { evidence: Evidence::default(), deadline: now.plus(LOOKUP_WAIT_MS), tries_left: MOST_TRIES }
    }

    /// What the store has said so far.
    pub(super) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Nothing is waited for after it.
    pub(super) fn deadline(&self) -> Millis {
        self.deadline
    }

    /// Asks for one more call of the store.
    pub(super) fn go_on(&mut self) -> Result<(), Problem> {
        if self.tries_left == 0 {
            tracing::warn!("a lookup lost against others each time");
            return Err(store_unavailable());
        }
        self.tries_left -= 1;
        Ok(())
    }
}

impl Scheduler {
    /// Finds the room's node, or gives it one.
    pub(crate) async fn look_up(&self, asked: &Asked) -> Result<Found, Problem> {
        let request = self.request(asked)?;
        let found = match self.decide(&request, &Evidence::default()) {
            Step::Existing(home) => {
                decision_log::existing(&request, &home);
                Ok(Found::existing(home))
            }
            // Boxed, so that the many lookups that end above carry nothing of it.
            step => Box::pin(self.find(step, &request)).await,
        };
        if let Some(recorder) = &self.kept.recorder {
            recorder.answered(&request, &found, self.clock.now());
        }
        found
    }

    /// What the core is asked.
    pub(super) fn request<'a>(&'a self, asked: &'a Asked) -> Result<Request<'a>, Problem> {
        self.rules.check_namespace(&asked.key.namespace)?;
        Ok(Request {
            key: &asked.key,
            policy: self.rules.shared.namespaces.of(&asked.key.namespace),
            region: asked.client.region.as_ref(),
            carrier: asked.client.carrier.as_ref(),
            hint: asked.expected_participants,
            avoid: &asked.avoid,
            alternatives: asked.alternatives,
            seed: SEED,
        })
    }

    pub(super) fn decide(&self, request: &Request<'_>, evidence: &Evidence) -> Step {
        let now = self.clock.now();
        decide(&self.view(), request, evidence, now)
    }

    /// Goes on until there is an answer, and tells of it.
    async fn find(&self, step: Step, request: &Request<'_>) -> Result<Found, Problem> {
        let started = Instant::now();
        // Of a placement it is drawn before, for its line says how the node ranked then.
        let mut drawn = None;
        let found = self.go_on(step, request, &mut drawn).await;
        match &found {
            Ok(Found { home, placed: Some(placed), .. }) => {
                if let Some(Drawn { line: Some(line), candidate }) = drawn {
                    line.placed(request, home, *placed, candidate.as_ref(), started.elapsed());
                }
            }
            Ok(Found { home, .. }) => decision_log::existing(request, home),
            Err(problem) => {
                let draw = || self.decisions.draw(self.clock.now());
                if let Some(line) = drawn.map_or_else(draw, |drawn| drawn.line) {
                    line.refused(request, problem, started.elapsed());
                }
            }
        }
        found
    }

    /// Reads and writes until there is an answer. Draws once whether a placement is to be logged, and notes how the node
    /// ranks when it is made.
    async fn go_on(&self, mut step: Step, request: &Request<'_>, drawn: &mut Option<Drawn>) -> Result<Found, Problem> {
        let mut course = Course::new(self.clock.now());
        loop {
            let next = match self.settle(step, request, &mut course).await? {
                Verdict::Lives { home, prolong: None } => return Ok(Found::existing(home)),
                Verdict::Lives { home, prolong: Some(claim) } => {
                    course.go_on()?;
                    self.prolong(request.key, home, claim).await?
                }
                Verdict::Place(placement) => {
                    course.go_on()?;
                    let line = drawn.take().map_or_else(|| self.decisions.draw(self.clock.now()), |drawn| drawn.line);
                    let candidate = line.and_then(|_| rank(&self.view(), request, &placement.home.node.id));
                    *drawn = Some(Drawn { line, candidate });
                    self.grant(request.key, placement).await?
                }
            };
            match next {
                Next::Answer(found) => return Ok(found),
                Next::Again => step = self.decide(request, &course.evidence),
            }
        }
    }

    /// Reads what is missing and waits for what may come by itself, until there is nothing left to do but to answer or to
    /// write. Writes nothing.
    pub(super) async fn settle(
        &self,
        mut step: Step,
        request: &Request<'_>,
        course: &mut Course,
    ) -> Result<Verdict, Problem> {
        loop {
            match step {
                Step::Existing(home) => return Ok(Verdict::Lives { home, prolong: None }),
                Step::Prolong { home, claim } => return Ok(Verdict::Lives { home, prolong: Some(claim) }),
                Step::Grant { home, run, seen, expected, rung } => {
                    let placed = Placed { rung, expected };
                    return Ok(Verdict::Place(Placement { home, run, seen, placed }));
                }
                Step::NoNode(refused) => return Err(no_node(refused)),
                Step::RoomFull => return Err(room_full()),
                Step::Wait { .. } => self.wait(course.deadline, starting).await?,
                Step::Unreached => self.wait(course.deadline, store_unavailable).await?,
                Step::Read => {
                    course.go_on()?;
                    self.read(request.key).await;
                    course.evidence.record_read = true;
                }
                Step::Prove { node, incarnation } => {
                    course.go_on()?;
                    let is_over = self.is_over(&node, incarnation).await;
                    course.evidence.lease = Some((node, incarnation, is_over));
                }
            }
            step = self.decide(request, &course.evidence);
        }
    }

    /// Lets some time pass, unless it is too late or too many wait already: then `late` is the answer.
    pub(super) async fn wait(&self, deadline: Millis, late: fn() -> Problem) -> Result<(), Problem> {
        let Ok(_waiting) = self.waiting.try_acquire() else { return Err(late()) };
        if self.clock.now() >= deadline {
            return Err(late());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        Ok(())
    }

    /// Whether the lease of this incarnation is over, by the store's word. Without its word the room stays where it is. An
    /// incarnation that it does not remember is over.
    pub(super) async fn is_over(&self, node: &NodeId, incarnation: Incarnation) -> bool {
        let leases = self.store.leases(node).await;
        self.metrics.store_called("leases", &leases);
        leases.is_ok_and(|leases| {
            leases.iter().find(|lease| lease.incarnation == incarnation).is_none_or(|lease| lease.lapsed)
        })
    }

    pub(super) async fn grant(&self, key: &RoomKey, placement: Placement) -> Result<Next, Problem> {
        let Placement { home, run, seen, placed } = placement;
        let expected = placed.expected;
        let (node, incarnation) = (home.node.id.clone(), home.incarnation);
        let forgotten = seen.as_ref().map(|claim| claim.epoch);
        let claim = |epoch: Epoch, run: Run| Claim { run, epoch, state: ClaimState::Granted, node, incarnation };
        let asked = self.clock.now();
        let grant = Grant {
            room: key.clone(),
            run: run.clone(),
            seen,
            node: home.node.id.clone(),
            incarnation,
            ttl_ms: GRANT_TTL_MS,
            expected,
        };
        let granted = self.store.grant(grant).await;
        self.metrics.store_called("grant", &granted);
        match granted {
            Ok(Granted::Yes { epoch, store_ms }) => {
                self.clock.learn_store(store_ms, asked);
                let mut view = self.view_mut();
                view.fold_claim(key.clone(), claim(epoch, run), (GRANT_TTL_MS, expected), asked);
                let home = Home { epoch, ..home };
                Ok(Next::Answer(Found { outcome: Outcome::Placed, home, placed: Some(placed) }))
            }
            Ok(Granted::No { current }) => {
                self.fold_current(key, current, forgotten);
                Ok(Next::Again)
            }
            Ok(Granted::NewRun { run }) => {
                self.see_run(key, &run);
                Ok(Next::Again)
            }
            // Perhaps it was done: what is there now is the answer, whoever wrote it.
            Err(StoreError::Unknown { .. }) => {
                if self.read(key).await {
                    Ok(Next::Again)
                } else {
                    Err(store_unavailable())
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a room could not be granted");
                Err(store_unavailable())
            }
        }
    }

    /// A grant that is not prolonged still holds for what is left of it.
    async fn prolong(&self, key: &RoomKey, home: Home, claim: Claim) -> Result<Next, Problem> {
        let asked = self.clock.now();
        let prolonged = self.store.prolong(key, &claim, GRANT_TTL_MS).await;
        self.metrics.store_called("prolong", &prolonged);
        match prolonged {
            Ok(Prolonged::Yes) => {
                self.view_mut().fold_claim(key.clone(), claim, (GRANT_TTL_MS, Expected::default()), asked);
                let home = Home { ttl_ms: GRANT_TTL_MS, ..home };
                Ok(Next::Answer(Found::existing(home)))
            }
            Ok(Prolonged::No { current }) => {
                self.fold_current(key, current, Some(claim.epoch));
                Ok(Next::Again)
            }
            Ok(Prolonged::NewRun { run }) => {
                self.see_run(key, &run);
                Ok(Next::Again)
            }
            Err(error) => {
                tracing::debug!(%error, "a grant could not be prolonged");
                Ok(Next::Answer(Found::existing(home)))
            }
        }
    }

    /// Reads the room's record into the view. Whether the store answered.
    pub(super) async fn read(&self, key: &RoomKey) -> bool {
        let known = self.view().room(key, self.clock.now()).map(|room| room.epoch);
        let read = self.store.read(key).await;
        self.metrics.store_called("read", &read);
        match read {
            Ok(current) => {
                self.fold_current(key, current, known);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "a room's record could not be read");
                false
            }
        }
    }

    /// Folds what the store has of the room. Nothing: what we believed in, up to the epoch `known`, is gone.
    fn fold_current(&self, key: &RoomKey, current: Option<Claim>, known: Option<Epoch>) {
        let now = self.clock.now();
        let mut view = self.view_mut();
        match current {
            // How much of a grant's time is left is not said with it.
            Some(claim) => drop(view.fold_claim(key.clone(), claim, (0, Expected::default()), now)),
            None => {
                if let Some(epoch) = known {
                    view.forget(key, epoch);
                }
            }
        }
    }

    fn see_run(&self, key: &RoomKey, run: &Run) {
        let now = self.clock.now();
        if self.view_mut().see_run(key.bucket(), run, now) {
            tracing::warn!(bucket = key.bucket(), "the store is in a new run: grace begins");
        }
    }

    /// A ticket that proves this answer at the node's door.
    pub(crate) fn ticket(&self, key: &RoomKey, home: &Home) -> String {
        self.rules.keys.sign_ticket(&Ticket {
            namespace: key.namespace.clone(),
            room: key.room.clone(),
            node: home.node.id.clone(),
            incarnation: home.incarnation,
            epoch: home.epoch,
            store: self.store_identity(),
            expires_store_ms: self.clock.store_now_ms().saturating_add(TICKET_LIFE_MS),
            id: format!("{}-{:x}", self.entry.id, self.tickets.fetch_add(1, Ordering::Relaxed)),
        })
    }
}
