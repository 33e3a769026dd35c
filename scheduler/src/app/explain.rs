//! The dry run of a lookup: the same steps up to the one that would write, and every node's rank or reason.

use roost_proto::error::{Code, Problem, Rejection};
use roost_proto::explain::{Candidate, ExplainReply};
use roost_proto::id::NodeId;
use roost_proto::lookup::Outcome;
use roost_scheduler_core::explain::{Explanation, Ranking, Survey, after, conclude};
use roost_scheduler_core::join::{Evidence, Step};
use roost_scheduler_core::request::Request;
use serde::{Deserialize, Serialize};

use super::lookup::{Asked, Course};
use super::{Scheduler, cursor};

/// The last node of a page.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Last {
    /// What a lookup would give stands before all others, whatever its rank.
    First,
    Candidate(Candidate),
    Rejection(NodeId),
}

/// Which nodes of a ranking are shown: `limit` of those after `last`, candidates before rejections.
#[derive(Debug)]
pub(crate) struct Cut {
    last: Option<Last>,
    limit: usize,
}

impl Cut {
    /// The page after the cursor `after`.
    pub(crate) fn new(after: Option<&str>, limit: usize) -> Result<Self, Problem> {
        let read = |text: &str| serde_json::from_str(&cursor::read(text)?).ok();
        let last = after.map(|text| read(text).ok_or_else(cursor::wrong)).transpose()?;
        Ok(Self { last, limit })
    }
}

impl Scheduler {
    /// What a lookup would give, and how all nodes rank for it. Nothing is written.
    pub(crate) async fn explain(&self, asked: Asked, cut: Cut) -> Result<ExplainReply, Problem> {
        let request = self.request(&asked)?;
        let mut course = Course::new(self.clock.now());
        let Explanation { step, ranking } = loop {
            let is_read = self.settle(self.decide(&request, course.evidence()), &request, &mut course).await.is_ok();
            let mut survey = Survey::default();
            let concluded = loop {
                if let Some(concluded) = self.look_on(&mut survey, &request, course.evidence()) {
                    break concluded;
                }
                tokio::task::yield_now().await;
            };
            // The store may have had news since it was read.
            if !(is_read && matches!(concluded.0, Step::Read | Step::Prove { .. })) {
                break survey.explained(concluded, &request);
            }
        };
        let expected_participants = self.view().expected(&request, self.clock.now()).participants;
        let candidate_count = u32::try_from(ranking.candidates.len()).unwrap_or(u32::MAX);
        let rejection_counts = ranking.counts.clone();
        let page = page(ranking, cut, step.home().is_some(), &request);
        let mut reply = ExplainReply {
            namespace: asked.key.namespace.clone(),
            room: asked.key.room.clone(),
            outcome: None,
            code: None,
            node: None,
            rung: None,
            expected_participants,
            client: asked.client.clone(),
            candidates: page.candidates,
            rejections: page.rejections,
            candidate_count,
            rejection_counts,
            next_cursor: page.next,
        };
        match step {
            Step::Existing(home) | Step::Prolong { home, .. } => {
                (reply.outcome, reply.node) = (Some(Outcome::Existing), Some(home.node.id));
            }
            Step::Grant { home, rung, .. } => {
                (reply.outcome, reply.node, reply.rung) = (Some(Outcome::Placed), Some(home.node.id), Some(rung));
            }
            Step::NoNode(_) => reply.code = Some(Code::NoNode),
            Step::RoomFull => reply.code = Some(Code::RoomFull),
            Step::Wait { .. } => reply.code = Some(Code::Starting),
            Step::Unreached | Step::Read | Step::Prove { .. } => reply.code = Some(Code::StoreUnavailable),
        }
        Ok(reply)
    }

    /// Looks at some more nodes. After the last of them, in the same view, the conclusion.
    fn look_on(
        &self,
        survey: &mut Survey,
        request: &Request<'_>,
        evidence: &Evidence,
    ) -> Option<(Step, Option<Candidate>)> {
        let now = self.clock.now();
        let view = self.view();
        survey.look_on(&view, request).then(|| conclude(&view, request, evidence, now))
    }
}

/// Some nodes of a ranking, and the cursor to what follows.
#[derive(Debug)]
struct Page {
    candidates: Vec<Candidate>,
    rejections: Vec<Rejection>,
    next: Option<String>,
}

/// Cuts a page out of a ranking, of which the first is what a lookup would give, if it would give anything.
fn page(ranking: Ranking, cut: Cut, gives: bool, request: &Request<'_>) -> Page {
    let Ranking { mut candidates, mut rejections, .. } = ranking;
    let first = usize::from(gives).min(candidates.len());
    let skipped = match &cut.last {
        None => 0,
        Some(Last::First) => first,
        Some(Last::Candidate(last)) => first + after(&candidates[first..], last, request),
        Some(Last::Rejection(last)) => {
            rejections.drain(..rejections.partition_point(|refused| refused.node <= *last));
            candidates.len()
        }
    };
    candidates.drain(..skipped);
    let more = candidates.len() + rejections.len() > cut.limit;
    candidates.truncate(cut.limit);
    rejections.truncate(cut.limit - candidates.len());
    let last = match (rejections.last(), candidates.last()) {
        (Some(refused), _) => Some(Last::Rejection(refused.node.clone())),
        (None, Some(_)) if skipped + candidates.len() <= first => Some(Last::First),
        (None, candidate) => candidate.cloned().map(Last::Candidate),
    };
    let text = |last: Last| cursor::of(&serde_json::to_string(&last).expect("a cursor has string keys only"));
    Page { candidates, rejections, next: last.filter(|_| more).map(text) }
}
