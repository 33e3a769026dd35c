//! The placement: which node takes a room that has none, and why the others could not when none can.

use roost_proto::error::{REJECTIONS_LISTED, Reason, ReasonCount, Rejection};
use roost_proto::policy::Rung;
use roost_proto::time::Millis;

use crate::filter::{Wish, refusal};
use crate::node::Node;
use crate::request::Request;
use crate::score::NodeScore;
use crate::view::View;

/// Where the room goes.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    pub node: &'a Node,
    /// How near it is to the client.
    pub rung: Rung,
}

/// No node can take the room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NoNode {
    /// At most [`REJECTIONS_LISTED`], by node.
    pub rejections: Vec<Rejection>,
    /// How many nodes refused, by reason; complete.
    pub counts: Vec<ReasonCount>,
}

/// Places the room of the request. Allocates nothing when it succeeds.
pub fn place<'a>(view: &'a View, request: &Request<'_>, now: Millis) -> Result<Decision<'a>, NoNode> {
    best(view, request, None, now)
        .map(|(score, node)| Decision { node, rung: request.policy.ladder.rungs()[usize::from(score.rung)] })
        .ok_or_else(|| explain(view, request, now))
}

/// What `avoid` with `taken` would give next, best first, as many as the request asks for.
#[must_use]
pub fn alternatives<'a>(view: &'a View, request: &Request<'_>, taken: &Node, now: Millis) -> Vec<&'a Node> {
    let mut found = Vec::with_capacity(request.alternatives);
    let mut after = None;
    // Asked for seldom and few: so many passes cost less than to keep a list in each placement.
    while found.len() < request.alternatives {
        let Some((score, node)) = best(view, request, after, now) else { break };
        after = Some(score);
        if node.report.node != taken.report.node {
            found.push(node);
        }
    }
    found
}

/// The best eligible node of those that rank after `after`.
fn best<'a>(
    view: &'a View,
    request: &Request<'_>,
    after: Option<NodeScore<'a>>,
    now: Millis,
) -> Option<(NodeScore<'a>, &'a Node)> {
    let mut best: Option<(NodeScore<'a>, &'a Node)> = None;
    for (_, node) in view.nodes(None) {
        let state = view.state(node, now);
        if refusal(node, state, Wish::NewRoom, request).is_some() {
            continue;
        }
        let score = NodeScore::of(node, state, request);
        if after.is_none_or(|after| score > after) && best.is_none_or(|(least, _)| score < least) {
            best = Some((score, node));
        }
    }
    best
}

/// Why each node refused.
fn explain(view: &View, request: &Request<'_>, now: Millis) -> NoNode {
    let mut counts = [0_u32; Reason::ALL.len()];
    let mut rejections = Vec::new();
    for (id, node) in view.nodes(None) {
        let Some(reason) = refusal(node, view.state(node, now), Wish::NewRoom, request) else { continue };
        counts[reason as usize] += 1;
        if rejections.len() < REJECTIONS_LISTED {
            rejections.push(Rejection { node: id.clone(), reason });
        }
    }
    let counted = Reason::ALL.into_iter().map(|reason| ReasonCount { reason, count: counts[reason as usize] });
    NoNode { rejections, counts: counted.filter(|counted| counted.count > 0).collect() }
}

impl NoNode {
    /// The one node that has the room refuses.
    #[must_use]
    pub fn of(node: &Node, reason: Reason) -> Self {
        let rejections = vec![Rejection { node: node.report.node.clone(), reason }];
        Self { rejections, counts: vec![ReasonCount { reason, count: 1 }] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, READY};
    use proptest::prelude::*;
    use roost_proto::id::{NamespaceId, NodeId, Region};
    use roost_proto::policy;
    use roost_proto::report::{Mode, Report};

    #[test]
    fn a_room_goes_to_the_clients_region() {
        let view = sample::view(vec![sample::report("fra", "eu/central"), sample::report("iad", "us/east")]);
        for i in 0..20 {
            let key = sample::room(&i.to_string());
            for (client, node) in [("eu/west", "fra"), ("us/east", "iad")] {
                let region = Region::new(client).unwrap();
                let request = Request { region: Some(&region), ..request(&key) };
                assert_eq!(place(&view, &request, READY).unwrap().node.report.node.as_str(), node);
            }
        }
    }

    #[test]
    fn without_a_node_there_is_no_reason_either() {
        let key = sample::room("x");
        assert_eq!(place(&sample::view(vec![]), &request(&key), READY).unwrap_err(), NoNode::default());
    }

    #[test]
    fn a_refusal_names_each_node_up_to_a_limit_and_counts_all() {
        let mut reports: Vec<_> = (0..30).map(|i| sample::report(&format!("n{i:02}"), "eu")).collect();
        reports[0].mode = Mode::Draining;
        for report in &mut reports[1..] {
            report.participants = 100;
        }
        let key = sample::room("x");
        let refused = place(&sample::view(reports), &request(&key), READY).unwrap_err();
        assert_eq!(refused.rejections.len(), REJECTIONS_LISTED);
        let counts: Vec<_> = refused.counts.iter().map(|counted| (counted.reason, counted.count)).collect();
        assert_eq!(counts, [(Reason::Mode, 1), (Reason::FullParticipants, 29)]);
    }

    #[test]
    fn alternatives_are_what_avoiding_gives_next() {
        let view = sample::view(["a", "b", "c", "d"].map(|id| sample::report(id, "eu")).into());
        let key = sample::room("x");
        let request = Request { alternatives: 8, ..request(&key) };
        let first = place(&view, &request, READY).unwrap().node;
        let named = alternatives(&view, &request, first, READY);
        let mut avoid = vec![first.report.node.clone()];
        for node in &named {
            let next = place(&view, &Request { avoid: &avoid, ..request }, READY).unwrap().node;
            assert_eq!(next.report.node, node.report.node);
            avoid.push(next.report.node.clone());
        }
        assert_eq!(named.len(), 3);
        assert_eq!(alternatives(&view, &Request { alternatives: 1, ..request }, first, READY).len(), 1);
    }

    proptest! {
        #[test]
        fn every_node_is_eligible_or_refused_with_a_reason(reports in reports(), room in 0..100_u32) {
            let view = sample::view(reports.clone());
            let key = sample::room(&room.to_string());
            let refused = |report: &Report| {
                let node = view.node(&report.node).unwrap();
                refusal(node, view.state(node, READY), Wish::NewRoom, &request(&key))
            };
            match place(&view, &request(&key), READY) {
                Ok(decision) => prop_assert_eq!(refused(&decision.node.report), None),
                Err(no_node) => {
                    prop_assert_eq!(no_node.counts.iter().map(|c| c.count as usize).sum::<usize>(), reports.len());
                    for report in &reports {
                        let reason = refused(report);
                        prop_assert!(reason.is_some());
                        let listed = no_node.rejections.iter().find(|listed| listed.node == report.node);
                        prop_assert_eq!(listed.map(|listed| listed.reason), reason);
                    }
                }
            }
        }

        #[test]
        fn losing_another_node_does_not_move_the_choice(reports in reports(), room in 0..100_u32, lost in 0..12_usize) {
            let key = sample::room(&room.to_string());
            let chosen = |reports: &[Report]| {
                let view = sample::view(reports.to_vec());
                place(&view, &request(&key), READY).ok().map(|decision| decision.node.report.node.clone())
            };
            let before = chosen(&reports);
            let mut fewer = reports.clone();
            let gone = fewer.remove(lost % reports.len());
            prop_assume!(before.is_some() && before.as_ref() != Some(&gone.node));
            prop_assert_eq!(chosen(&fewer), before);
        }

        #[test]
        fn the_same_view_request_and_seed_give_the_same_decision(reports in reports(), seed: u64) {
            let key = sample::room("x");
            let request = Request { seed, ..request(&key) };
            let chosen = |reports: Vec<Report>| {
                let view = sample::view(reports);
                place(&view, &request, READY).map(|decision| decision.node.report.node.clone())
            };
            let backwards = reports.iter().rev().cloned().collect();
            prop_assert_eq!(chosen(reports), chosen(backwards));
        }
    }

    fn request(key: &roost_proto::id::RoomKey) -> Request<'_> {
        Request::new(key, &policy::DEFAULT)
    }

    /// 1 to 12 nodes with differing region, mode, priority, namespaces and use.
    fn reports() -> impl Strategy<Value = Vec<Report>> {
        let modes = prop_oneof![
            4 => Just(Mode::Serving),
            1 => Just(Mode::BlockNewRooms),
            1 => Just(Mode::Draining),
            1 => Just(Mode::Maintenance),
        ];
        let one = (0..3_usize, modes, -1..2_i32, any::<bool>(), 0..130_u32, 0..1_200_u32);
        prop::collection::vec(one, 1..12).prop_map(|rows| {
            let build = |(i, (region, mode, priority, own, participants, cpu)): (usize, _)| {
                let mut report = sample::report(&format!("n{i}"), ["eu", "us/east", "us/west"][region]);
                report.mode = mode;
                report.description.priority = priority;
                report.description.namespaces = if own { vec![] } else { vec![NamespaceId::new("acme").unwrap()] };
                report.participants = participants;
                report.host.cpu_permille = cpu;
                report
            };
            rows.into_iter().enumerate().map(build).collect()
        })
    }

    #[test]
    fn nodes_are_known_by_name() {
        let view = sample::view(vec![sample::report("b", "eu"), sample::report("a", "eu")]);
        let names: Vec<&NodeId> = view.nodes(None).map(|(id, _)| id).collect();
        assert_eq!(names, [&sample::node("a"), &sample::node("b")]);
        assert_eq!(view.nodes(Some(&sample::node("a"))).count(), 1);
    }
}
