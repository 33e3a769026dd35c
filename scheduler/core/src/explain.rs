//! Why a room would go where it would go: every node with its rank or its reason. The one decision that looks at all nodes.

use std::cmp::Reverse;

use roost_proto::error::{Reason, ReasonCount, Rejection};
use roost_proto::explain::Candidate;
use roost_proto::id::NodeId;
use roost_proto::policy::Rung;
use roost_proto::time::Millis;

use crate::filter::{Wish, refusal};
use crate::index::Points;
use crate::join::{Evidence, Step, decide};
use crate::node::Node;
use crate::place::{place, reason_counts};
use crate::region::RegionMatch;
use crate::request::Request;
use crate::score::NodeScore;
use crate::view::View;

/// How many nodes are looked at in one go.
pub const PART: usize = 4_096;

/// What a lookup would come to, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub step: Step,
    /// The node of the step stands first: of a room that lives the home, whatever it thinks of further rooms.
    pub ranking: Ranking,
}

/// All nodes as they rank for a room that is open nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranking {
    /// Who could take it, the best first: the first is what [`crate::place::place`] gives.
    pub candidates: Vec<Candidate>,
    /// Who could not, by name.
    pub rejections: Vec<Rejection>,
    /// How many could not, by reason.
    pub counts: Vec<ReasonCount>,
}

/// A look at every node, [`PART`] by part, so that whoever changes the view need not wait for the whole of it.
#[derive(Debug, Default)]
pub struct Survey {
    candidates: Vec<Candidate>,
    rejections: Vec<Rejection>,
    counts: [u32; Reason::ALL.len()],
    /// The last node that was looked at.
    last: Option<NodeId>,
}

/// Ranks every node for the request.
#[must_use]
pub fn ranking(view: &View, request: &Request<'_>) -> Ranking {
    let mut survey = Survey::default();
    while !survey.look_on(view, request) {}
    let mut ranking = survey.ranking(request);
    // A scheduler that hears nothing does not take the best.
    if !view.is_listening()
        && let Ok(taken) = place(view, request)
        && let Some(first) = rank(view, request, &taken.node.report.node)
    {
        ranking.begin_with(first);
    }
    ranking
}

/// Decides as a lookup would; and the rank of the node that it would give, whatever that thinks of further rooms.
#[must_use]
pub fn conclude(view: &View, request: &Request<'_>, evidence: &Evidence, now: Millis) -> (Step, Option<Candidate>) {
    let step = decide(view, request, evidence, now);
    let first = step.home().and_then(|home| rank(view, request, &home.node.id));
    (step, first)
}

/// How the node ranks, whether or not it could take the room; none if it is not known.
#[must_use]
pub fn rank(view: &View, request: &Request<'_>, node: &NodeId) -> Option<Candidate> {
    let node = view.node(node)?;
    Some(candidate(&NodeScore::of(node, request, &Points::of(request, 0)), node, request))
}

/// Where in a ranking's candidates those begin that rank after `last`, which may have moved or gone since.
#[must_use]
pub fn after(candidates: &[Candidate], last: &Candidate, request: &Request<'_>) -> usize {
    let last = score(last, request);
    candidates.partition_point(|candidate| score(candidate, request) <= last)
}

impl Survey {
    /// Looks at the next nodes. Whether that was all.
    pub fn look_on(&mut self, view: &View, request: &Request<'_>) -> bool {
        let points = Points::of(request, 0);
        let mut last = None;
        for (looked, (id, node)) in (1..).zip(view.nodes(self.last.as_ref())) {
            match refusal(node, Wish::NewRoom, request) {
                Some(reason) => {
                    self.counts[reason as usize] += 1;
                    self.rejections.push(Rejection { node: id.clone(), reason });
                }
                None => self.candidates.push(candidate(&NodeScore::of(node, request, &points), node, request)),
            }
            if looked == PART {
                last = Some(id.clone());
                break;
            }
        }
        let is_all = last.is_none();
        self.last = last.or(self.last.take());
        is_all
    }

    /// What was seen, with what was concluded at its end.
    #[must_use]
    pub fn explained(self, (step, first): (Step, Option<Candidate>), request: &Request<'_>) -> Explanation {
        let mut ranking = self.ranking(request);
        match (&step, first) {
            (_, Some(first)) => ranking.begin_with(first),
            (Step::NoNode(refused), _) if refused.is_home => {
                let (rejections, counts) = (refused.rejections.clone(), refused.counts.clone());
                ranking = Ranking { candidates: Vec::new(), rejections, counts };
            }
            // What the survey saw first may have changed since.
            (Step::NoNode(_), _) => ranking.candidates.clear(),
            (Step::RoomFull, _) => ranking = Ranking::default(),
            _ => {}
        }
        Explanation { step, ranking }
    }

    fn ranking(mut self, request: &Request<'_>) -> Ranking {
        self.candidates.sort_unstable_by_key(|candidate| score(candidate, request));
        let Self { candidates, rejections, counts, .. } = self;
        Ranking { candidates, rejections, counts: reason_counts(&counts) }
    }
}

impl Ranking {
    fn begin_with(&mut self, first: Candidate) {
        if let Some(listed) = self.rejections.iter().position(|refused| refused.node == first.node) {
            let reason = self.rejections.remove(listed).reason;
            self.counts.iter_mut().filter(|counted| counted.reason == reason).for_each(|counted| counted.count -= 1);
            self.counts.retain(|counted| counted.count > 0);
        }
        self.candidates.retain(|other| other.node != first.node);
        self.candidates.insert(0, first);
    }
}

/// The home of a room that lives may be on no rung of this client's ladder: it counts as `anywhere`.
fn candidate(score: &NodeScore, node: &Node, request: &Request<'_>) -> Candidate {
    Candidate {
        node: node.report.node.clone(),
        standing: score.standing,
        rung: request.policy.ladder.rungs().get(usize::from(score.rung)).copied().unwrap_or(Rung::Anywhere),
        region_missing: score.region.0,
        other_carrier: score.other_carrier,
        priority: score.priority.0,
        load_band: score.load_band,
        spread: score.spread,
        load_permille: node.load.worst_permille,
        reserved_permille: node.weighed_permille(),
    }
}

/// The score that a candidate was made of.
fn score(candidate: &Candidate, request: &Request<'_>) -> NodeScore {
    let place = request.policy.ladder.rungs().iter().position(|rung| *rung == candidate.rung);
    NodeScore {
        standing: candidate.standing,
        rung: place.map_or(u8::MAX, |place| place as u8),
        region: RegionMatch(candidate.region_missing),
        other_carrier: candidate.other_carrier,
        priority: Reverse(candidate.priority),
        load_band: candidate.load_band,
        spread: candidate.spread,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::alternatives;
    use crate::sample::{self, READY};
    use roost_proto::id::Region;
    use roost_proto::policy::{self, Ladder, Policy};
    use roost_proto::report::{Mode, Report};
    use roost_proto::room::ClaimState;

    #[test]
    fn a_ranking_has_every_node_and_is_in_the_order_in_which_placement_takes_them() {
        let mut reports: Vec<_> = (0..12).map(|i| sample::report(&format!("n{i:02}"), "eu")).collect();
        for (i, report) in (0..).zip(&mut reports) {
            report.participants = i * 10;
        }
        reports[3].mode = Mode::Draining;
        let view = sample::view(reports);
        let key = sample::room("x");
        let request = Request { alternatives: 8, ..Request::new(&key, &policy::DEFAULT) };
        let ranking = ranking(&view, &request);
        let first = place(&view, &request).unwrap().node;
        let next = alternatives(&view, &request, first);
        let taken: Vec<_> = std::iter::once(first).chain(next).map(|node| &node.report.node).collect();
        let ranked: Vec<_> = ranking.candidates.iter().map(|candidate| &candidate.node).collect();
        assert_eq!((ranked.len(), &ranked[..9]), (9, &taken[..]));
        let refused: Vec<_> = ranking.rejections.iter().map(|r| (r.node.as_str(), r.reason)).collect();
        let full = Reason::FullParticipants;
        assert_eq!(refused, [("n03", Reason::Mode), ("n10", full), ("n11", full)]);
        assert_eq!(ranking.counts.iter().map(|counted| counted.count).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_home_of_a_room_that_lives_comes_first_whatever_it_thinks_of_further_rooms() {
        let mut view = sample::view(["a", "b", "c"].map(|id| sample::report(id, "eu")).into());
        view.apply(sample::claimed("x", sample::claim("c", 7, ClaimState::Open), 0), READY);
        for mode in [Mode::Serving, Mode::BlockNewRooms] {
            view.apply(sample::reported(Report { mode, ..sample::numbered("c", 1, 2 + mode as u64) }), READY);
            let (key, client) = (sample::room("x"), Region::new("us").unwrap());
            let policy = Policy { ladder: Ladder::new(&[Rung::Region]).unwrap(), ..Policy::default() };
            for (request, others) in [
                (Request::new(&key, &policy::DEFAULT), 2),
                (Request { region: Some(&client), ..Request::new(&key, &policy) }, 0),
            ] {
                let Explanation { step, ranking } = explained(&view, &request);
                assert!(matches!(step, Step::Existing(home) if home.node.id.as_str() == "c"), "{mode:?}");
                assert_eq!((ranking.candidates[0].node.as_str(), ranking.candidates.len()), ("c", 1 + others));
                assert_eq!(ranking.rejections.len(), 2 - others);
                assert_eq!(ranking.counts.iter().map(|counted| counted.count as usize).sum::<usize>(), 2 - others);
            }
        }
    }

    #[test]
    fn a_room_that_lives_is_refused_by_its_home_alone() {
        let mut view = sample::view(["a", "b", "c"].map(|id| sample::report(id, "eu")).into());
        view.apply(sample::claimed("x", sample::claim("c", 7, ClaimState::Open), 0), READY);
        let report = Report { mode: Mode::Maintenance, ..sample::numbered("c", 1, 2) };
        view.apply(sample::reported(report), READY);
        let key = sample::room("x");
        let explained = explained(&view, &Request::new(&key, &policy::DEFAULT));
        assert!(matches!(explained.step, Step::NoNode(_)) && explained.ranking.candidates.is_empty());
        let refused = &explained.ranking.rejections;
        assert_eq!((refused.len(), refused[0].node.as_str(), refused[0].reason), (1, "c", Reason::Mode));
    }

    #[test]
    fn a_ranking_goes_on_after_a_candidate_although_it_has_moved_or_gone() {
        let mut reports: Vec<_> = (0..20).map(|i| sample::report(&format!("n{i:02}"), "eu")).collect();
        for (i, report) in (0..).zip(&mut reports) {
            report.participants = i % 5 * 10;
        }
        let key = sample::room("x");
        let request = Request::new(&key, &policy::DEFAULT);
        let before = ranking(&sample::view(reports.clone()), &request).candidates;
        let last = &before[9];
        assert_eq!(after(&before, last, &request), 10);
        let changes: [fn(&mut Report); 2] = [|report| report.participants = 90, |report| report.mode = Mode::Draining];
        for change in changes {
            let mut reports = reports.clone();
            reports.iter_mut().filter(|report| report.node == last.node).for_each(change);
            let ranked = ranking(&sample::view(reports), &request).candidates;
            let rest: Vec<_> = ranked[after(&ranked, last, &request)..].iter().map(|c| &c.node).collect();
            let expected: Vec<_> = before[10..].iter().map(|c| &c.node).collect();
            assert_eq!(rest[..10], expected, "the others come once each");
        }
    }

    #[test]
    fn many_nodes_are_looked_at_in_parts_each_of_them_once() {
        let reports = (0..2 * PART + 1).map(|i| sample::report(&format!("n{i:05}"), "eu"));
        let mut view = sample::view(reports.collect());
        let key = sample::room("x");
        let request = Request::new(&key, &policy::DEFAULT);
        let mut survey = Survey::default();
        assert!(!survey.look_on(&view, &request));
        let best = place(&view, &request).unwrap().node.report.node.clone();
        view.apply(sample::reported(Report { participants: 90, seq: 2, ..sample::report(best.as_str(), "eu") }), READY);
        assert!(!survey.look_on(&view, &request) && survey.look_on(&view, &request));
        let Explanation { ranking, .. } =
            survey.explained(conclude(&view, &request, &Evidence::default(), READY), &request);
        assert_eq!(ranking.candidates[0].node, place(&view, &request).unwrap().node.report.node);
        let nodes: std::collections::BTreeSet<_> = ranking.candidates.iter().map(|c| &c.node).collect();
        assert_eq!((nodes.len(), ranking.candidates.len()), (2 * PART + 1, 2 * PART + 1));
    }

    fn explained(view: &View, request: &Request<'_>) -> Explanation {
        let mut survey = Survey::default();
        assert!(survey.look_on(view, request));
        survey.explained(conclude(view, request, &Evidence::default(), READY), request)
    }
}
