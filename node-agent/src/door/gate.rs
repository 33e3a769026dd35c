//! The door itself: ticket, lease, claim, limits (rules 4, 5 and 21).

use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::timeout;

use roost_agent_core::hold::{Offer, Verdict};
use roost_proto::error::{Code, Problem, Reason, ReasonCount, Rejection};
use roost_proto::id::{Epoch, PeerId, RoomKey};
use roost_proto::redirect::{MAX_REDIRECTS, Redirect, location};
use roost_proto::time::Millis;
use roost_server::{ClusterKeys, Shared};
use roost_store::NodeStore;

use super::lookup::{Directory, Found, Wanted};
use super::opening;
use super::{Admission, Answer, Door, Knock, Stay};
use crate::metrics::AgentMetrics;
use crate::node::{Node, OpeningEnd, State};

/// How often the door looks again after a room was opened, or given up, while somebody waited.
const ROUNDS: usize = 4;
/// A room that just ended is given up within this time, as a rule; then a new lookup places it anew.
const HANDOVER: Duration = Duration::from_millis(150);

/// How many a node takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) participants: u32,
    /// 0: no limit.
    pub(crate) rooms: u32,
}

/// The door of this node.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<dyn NodeStore>,
    pub(crate) directory: Arc<dyn Directory>,
    /// None: there are no tickets here.
    pub(crate) keys: Option<ClusterKeys>,
    pub(crate) require_ticket: bool,
    pub(crate) limits: Limits,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<AgentMetrics>,
}

/// How far somebody came.
enum Way {
    In(Admission),
    /// The claim that was offered is over.
    Stale,
    /// The room is not here, and nothing was offered.
    Elsewhere,
    /// The room was offered and nobody has opened it; the node takes no further room.
    Barred,
}

/// What follows from one look at the state.
enum Step {
    Done(Way),
    Wait(watch::Receiver<OpeningEnd>),
    /// The room is about to move: wait a moment.
    Moving,
}

#[async_trait]
impl Door for Gate {
    async fn knock(&self, knock: Knock) -> Answer {
        let started = std::time::Instant::now();
        let answer = self.decide(&knock).await.unwrap_or_else(|mut problem| {
            problem.request_id.get_or_insert_with(|| knock.request_id.clone());
            Answer::Refused(problem)
        });
        let (what, code) = match &answer {
            Answer::Admitted(_) => ("admitted", None),
            Answer::Redirect(_) => ("redirect", None),
            Answer::Refused(problem) => ("refused", Some(problem.code)),
        };
        self.metrics.knocked(code.map_or(what, Code::as_str), started.elapsed());
        let (room, peer) = (&knock.room, &knock.peer);
        match &answer {
            Answer::Refused(problem) => {
                tracing::info!(%room, %peer, code = %problem.code, detail = problem.detail, "participant refused");
            }
            _ => tracing::debug!(%room, %peer, what, "participant at the door"),
        }
        answer
    }
}

impl Gate {
    async fn decide(&self, knock: &Knock) -> Result<Answer, Problem> {
        let offered = self.ticket(knock)?;
        let entry = self.enter(knock, offered).await?;
        let entry = match entry {
            Way::Stale if self.require_ticket => return Err(Code::TicketStale.into_problem()),
            // The ticket was only a hint, and an old one.
            Way::Stale => self.enter(knock, None).await?,
            entry => entry,
        };
        match entry {
            Way::In(admission) => Ok(Answer::Admitted(admission)),
            Way::Stale | Way::Elsewhere | Way::Barred => self.look_up(knock).await,
        }
    }

    /// What the ticket offers here; none if there is none, or one that doesn't help and isn't needed.
    fn ticket(&self, knock: &Knock) -> Result<Option<Offer>, Problem> {
        let (Some(keys), Some(text)) = (&self.keys, &knock.ticket) else {
            return if self.require_ticket { Err(Code::TicketRequired.into_problem()) } else { Ok(None) };
        };
        let store_ms = self.node.with(|state, now| state.lease.store_ms(now));
        let unless_needed = |code: Code| if self.require_ticket { Err(code.into_problem()) } else { Ok(None) };
        // Without the store's time nobody is admitted by a ticket anyway.
        let ticket = match keys.check_ticket(text, store_ms.unwrap_or(0)) {
            Ok(ticket) => ticket,
            Err(Code::TicketExpired) => return unless_needed(Code::TicketExpired),
            Err(code) => return Err(code.into_problem()),
        };
        if ticket.namespace != knock.room.namespace || ticket.room != knock.room.room {
            return Err(Code::TicketWrongRoom.into_problem());
        }
        if ticket.node != self.node.id {
            return unless_needed(Code::TicketWrongNode);
        }
        if !self.node.with(|state, _| state.knows_store(&ticket.store)) {
            return unless_needed(Code::TicketStale);
        }
        Ok(Some(Offer { incarnation: ticket.incarnation, epoch: ticket.epoch }))
    }

    /// Admits to a room that is open here; opens the one that is offered, and waits for that.
    async fn enter(&self, knock: &Knock, offered: Option<Offer>) -> Result<Way, Problem> {
        let mut has_moved = false;
        for _ in 0..ROUNDS {
            let mut opening = match self.node.with(|state, now| self.step(state, knock, offered, now))? {
                // What was offered was good when it was brought.
                Step::Done(Way::Stale) if has_moved => return Ok(Way::Elsewhere),
                Step::Done(entry) => return Ok(entry),
                Step::Wait(opening) => opening,
                Step::Moving => {
                    has_moved = true;
                    tokio::time::sleep(HANDOVER).await;
                    continue;
                }
            };
            // The opening has a time limit of its own; this one is for the case that its task died.
            let ended = timeout(opening::GIVEN_UP_AFTER, opening.wait_for(Option::is_some)).await;
            match ended.map(|ended| ended.map(|end| *end)) {
                Ok(Ok(Some(Ok(()) | Err(roost_agent_core::hold::OpenFailure::Refused)))) => {}
                _ => return Err(unavailable("the store does not answer: the room could not be opened")),
            }
        }
        Err(unavailable("the room is changing hands"))
    }

    fn step(&self, state: &mut State, knock: &Knock, offered: Option<Offer>, now: Millis) -> Result<Step, Problem> {
        let room = &knock.room;
        if state.leaving {
            return Err(Code::NodeLeaving.into_problem());
        }
        let verdict = state.holdings.knock(room, offered, &state.lease, now);
        match (verdict, offered) {
            (Verdict::Admit { opened_as }, _) => {
                self.check_room_for_one(state, knock)?;
                Ok(Step::Done(Way::In(self.admit(state, knock, opened_as))))
            }
            // It was granted before the node's mode was set. Where it lives instead a lookup says, which grants it anew.
            (Verdict::Open, Some(_)) if !state.mode().takes_rooms() => Ok(Step::Done(Way::Barred)),
            (Verdict::Open, Some(offer)) => {
                self.check_room_for_one(state, knock)?;
                self.check_room_for_a_room(state)?;
                state.holdings.begin_open(room, offer, now);
                let opening = opening::start(&self.node, &self.store, &self.metrics, room, offer);
                state.openings.insert(room.clone(), opening.clone());
                Ok(Step::Wait(opening))
            }
            (Verdict::Wait, _) => match state.openings.get(room) {
                Some(opening) => Ok(Step::Wait(opening.clone())),
                None => Err(unavailable("the room is changing hands")),
            },
            (Verdict::Stale, _) => {
                if let Some(offer) = offered {
                    state.holdings.disown(room, offer, &state.lease);
                }
                Ok(Step::Done(Way::Stale))
            }
            (Verdict::Moving, _) => Ok(Step::Moving),
            (Verdict::Suspended, _) => {
                Err(unavailable("the node cannot be sure at the moment that the room is its own"))
            }
            (Verdict::Unheld | Verdict::Open, _) => Ok(Step::Done(Way::Elsewhere)),
        }
    }

    fn admit(&self, state: &mut State, knock: &Knock, opened_as: Epoch) -> Admission {
        let Knock { room, peer, .. } = knock;
        state.holdings.entered(room);
        state.guests += 1;
        *state.inside.entry((room.clone(), peer.clone())).or_default() += 1;
        let claim = state.holdings.get(room).map_or(opened_as, |hold| hold.epoch);
        Admission::new(
            opened_as,
            claim,
            Box::new(Guest { node: self.node.clone(), room: room.clone(), peer: peer.clone(), opened_as }),
        )
    }

    fn check_room_for_one(&self, state: &State, knock: &Knock) -> Result<(), Problem> {
        let room = &knock.room;
        if !state.mode().takes_participants() && !state.inside.contains_key(&(room.clone(), knock.peer.clone())) {
            return Err(self.refusal(Reason::Mode));
        }
        if state.guests >= self.limits.participants {
            return Err(self.refusal(Reason::FullParticipants));
        }
        let most = self.shared.namespaces.of(&room.namespace).max_participants_per_room;
        let inside = state.holdings.get(room).map_or(0, |hold| hold.guests);
        if most > 0 && inside >= most {
            return Err(Problem::new(
                Code::RoomFull,
                format!("room {room}: {inside} of {most} participants are inside"),
            ));
        }
        Ok(())
    }

    fn check_room_for_a_room(&self, state: &State) -> Result<(), Problem> {
        let rooms = u32::try_from(state.holdings.len()).unwrap_or(u32::MAX);
        if self.limits.rooms > 0 && rooms >= self.limits.rooms {
            return Err(self.refusal(Reason::FullRooms));
        }
        Ok(())
    }

    fn refusal(&self, reason: Reason) -> Problem {
        let mut problem = Problem::new(Code::NoNode, format!("node {}: {}", self.node.id, reason.as_str()));
        problem.rejections = vec![Rejection { node: self.node.id.clone(), reason }];
        problem.rejection_counts = vec![ReasonCount { reason, count: 1 }];
        problem
    }

    /// Asks where the room lives, and admits or redirects.
    async fn look_up(&self, knock: &Knock) -> Result<Answer, Problem> {
        for is_last in [false, true] {
            let wanted = Wanted {
                room: &knock.room,
                client: Some(knock.client),
                region: None,
                expected: 0,
                avoid: &[],
                request_id: Some(&knock.request_id),
            };
            let found = self.directory.find(wanted).await?;
            if found.node != self.node.id {
                return redirect(knock, found);
            }
            let Some(offer) = found.offer else {
                return Err(unavailable("the scheduler's ticket cannot be read here: compare the cluster keys"));
            };
            match self.enter(knock, Some(offer)).await? {
                Way::In(admission) => return Ok(Answer::Admitted(admission)),
                // The scheduler has not heard of the mode yet.
                Way::Barred if is_last => return Err(self.refusal(Reason::Mode)),
                Way::Stale | Way::Elsewhere | Way::Barred => {}
            }
            if !is_last {
                tokio::time::sleep(HANDOVER).await;
            }
        }
        Err(unavailable("the room is changing hands"))
    }
}

fn redirect(knock: &Knock, found: Found) -> Result<Answer, Problem> {
    if knock.redirects >= MAX_REDIRECTS {
        return Err(Code::TooManyRedirects.into_problem());
    }
    Ok(Answer::Redirect(Redirect {
        location: location(&found.signaling_url, &knock.room, Some(&knock.peer), &found.ticket, knock.redirects + 1),
        node: found.node,
        epoch: found.epoch,
        ticket: found.ticket,
    }))
}

fn unavailable(detail: &str) -> Problem {
    Problem::new(Code::StoreUnavailable, detail)
}

/// A problem that its code says everything about.
trait IntoProblem {
    fn into_problem(self) -> Problem;
}

impl IntoProblem for Code {
    fn into_problem(self) -> Problem {
        Problem::new(self, self.meaning())
    }
}

/// Somebody who was admitted.
#[derive(Debug)]
struct Guest {
    node: Arc<Node>,
    room: RoomKey,
    peer: PeerId,
    opened_as: Epoch,
}

impl Stay for Guest {
    fn still_holds(&self) -> bool {
        self.node.with(|state, now| state.holdings.admits(&self.room, self.opened_as, &state.lease, now))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.node.with(|state, now| {
            state.guests = state.guests.saturating_sub(1);
            if let Entry::Occupied(mut known) = state.inside.entry((self.room.clone(), self.peer.clone())) {
                *known.get_mut() -= 1;
                if *known.get() == 0 {
                    known.remove();
                }
            }
            state.holdings.left(&self.room, self.opened_as, now);
        });
    }
}
