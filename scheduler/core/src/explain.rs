//! Why a room would go where it would go: every node with its rank or its reason. The one decision that looks at all nodes.

use roost_proto::error::{Reason, ReasonCount, Rejection};
use roost_proto::explain::Candidate;
use roost_proto::time::Millis;

use crate::filter::{Wish, refusal};
use crate::node::Node;
use crate::request::Request;
use crate::score::NodeScore;
use crate::view::View;

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

/// Ranks every node for the request.
#[must_use]
pub fn ranking(view: &View, request: &Request<'_>, now: Millis) -> Ranking {
    let mut ranked = Vec::new();
    let mut rejections = Vec::new();
    let mut counts = [0_u32; Reason::ALL.len()];
    for (id, node) in view.nodes(None) {
        let state = view.state(node, now);
        match refusal(node, state, Wish::NewRoom, request) {
            Some(reason) => {
                counts[reason as usize] += 1;
                rejections.push(Rejection { node: id.clone(), reason });
            }
            None => ranked.push((NodeScore::of(node, state, request), node)),
        }
    }
    ranked.sort_unstable_by_key(|(score, _)| *score);
    let candidates = ranked.iter().map(|(score, node)| candidate(score, node, request)).collect();
    let counted = Reason::ALL.into_iter().map(|reason| ReasonCount { reason, count: counts[reason as usize] });
    Ranking { candidates, rejections, counts: counted.filter(|counted| counted.count > 0).collect() }
}

fn candidate(score: &NodeScore<'_>, node: &Node, request: &Request<'_>) -> Candidate {
    Candidate {
        node: node.report.node.clone(),
        standing: score.standing,
        rung: request.policy.ladder.rungs()[usize::from(score.rung)],
        region_missing: score.region.0,
        other_carrier: score.other_carrier,
        priority: score.priority.0,
        load_band: score.load_band,
        spread: score.spread,
        load_permille: node.load.worst_permille,
        reserved_permille: node.reserved_permille(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{alternatives, place};
    use crate::sample::{self, READY};
    use roost_proto::policy;
    use roost_proto::report::Mode;

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
        let ranking = ranking(&view, &request, READY);
        let first = place(&view, &request, READY).unwrap().node;
        let next = alternatives(&view, &request, first, READY);
        let taken: Vec<_> = std::iter::once(first).chain(next).map(|node| &node.report.node).collect();
        let ranked: Vec<_> = ranking.candidates.iter().map(|candidate| &candidate.node).collect();
        assert_eq!((ranked.len(), &ranked[..9]), (9, &taken[..]));
        let refused: Vec<_> = ranking.rejections.iter().map(|r| (r.node.as_str(), r.reason)).collect();
        let full = Reason::FullParticipants;
        assert_eq!(refused, [("n03", Reason::Mode), ("n10", full), ("n11", full)]);
        assert_eq!(ranking.counts.iter().map(|counted| counted.count).collect::<Vec<_>>(), [1, 2]);
    }
}
