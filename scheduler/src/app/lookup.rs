//! A lookup: from the view if the room lives, else by one compare-and-set in the store.

use std::sync::atomic::Ordering;
use std::time::Duration;

use roost_proto::error::Problem;
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::lookup::{Client, Outcome};
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::time::Millis;
use roost_scheduler_core::join::{Evidence, Home, Step, decide};
use roost_scheduler_core::request::Request;
use roost_scheduler_core::time::{GRANT_TTL_MS, LOOKUP_WAIT_MS};
use roost_server::Ticket;
use roost_server::ticket::TICKET_LIFE_MS;
use roost_store::StoreError;
use roost_store::operation::{Grant, Granted, Prolonged};

use super::Scheduler;
use crate::error::{no_node, room_full, starting, store_unavailable};

/// How often one lookup may lose against others before it gives up.
const MOST_TRIES: usize = 8;
/// How often a lookup that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Spreads rooms over equal nodes; all schedulers of a cluster must agree on it.
const SEED: u64 = 0;

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
    home: Home,
    run: Run,
    seen: Option<Claim>,
    expected: Expected,
}

/// What a write led to.
enum Next {
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

    /// Asks for one more call of the store.
    fn go_on(&mut self) -> Result<(), Problem> {
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
        match self.decide(&request, &Evidence::default()) {
            Step::Existing(home) => Ok(Found { outcome: Outcome::Existing, home }),
            // Boxed, so that the many lookups that end above carry nothing of it.
            step => Box::pin(self.go_on(step, &request)).await,
        }
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

    /// Reads and writes until there is an answer.
    async fn go_on(&self, mut step: Step, request: &Request<'_>) -> Result<Found, Problem> {
        let mut course = Course::new(self.clock.now());
        loop {
            let next = match self.settle(step, request, &mut course).await? {
                Verdict::Lives { home, prolong: None } => return Ok(Found { outcome: Outcome::Existing, home }),
                Verdict::Lives { home, prolong: Some(claim) } => {
                    course.go_on()?;
                    self.prolong(request.key, home, claim).await?
                }
                Verdict::Place(placement) => {
                    course.go_on()?;
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
                Step::Grant { home, run, seen, expected, .. } => {
                    return Ok(Verdict::Place(Placement { home, run, seen, expected }));
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
    async fn wait(&self, deadline: Millis, late: fn() -> Problem) -> Result<(), Problem> {
        let Ok(_waiting) = self.waiting.try_acquire() else { return Err(late()) };
        if self.clock.now() >= deadline {
            return Err(late());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        Ok(())
    }

    /// Whether the lease of this incarnation is over, by the store's word. Without its word the room stays where it is. An
    /// incarnation that it does not remember is over.
    async fn is_over(&self, node: &NodeId, incarnation: Incarnation) -> bool {
        let leases = self.store.leases(node).await;
        self.metrics.store_called("leases", &leases);
        leases.is_ok_and(|leases| {
            leases.iter().find(|lease| lease.incarnation == incarnation).is_none_or(|lease| lease.lapsed)
        })
    }

    async fn grant(&self, key: &RoomKey, placement: Placement) -> Result<Next, Problem> {
        let Placement { home, run, seen, expected } = placement;
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
                Ok(Next::Answer(Found { outcome: Outcome::Placed, home: Home { epoch, ..home } }))
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
                Ok(Next::Answer(Found { outcome: Outcome::Existing, home }))
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
                Ok(Next::Answer(Found { outcome: Outcome::Existing, home }))
            }
        }
    }

    /// Reads the room's record into the view. Whether the store answered.
    async fn read(&self, key: &RoomKey) -> bool {
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
                    view.rooms.forget(key, epoch);
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
