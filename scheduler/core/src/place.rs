//! The placement: which node takes a room that has none, and why the others could not when none can.

use roost_proto::error::{REJECTIONS_LISTED, Reason, ReasonCount, Rejection};
use roost_proto::explain::Standing;
use roost_proto::policy::Rung;

use crate::filter::{Wish, refusal};
use crate::index::{Condition, Found, Index, Points, Shelf, Slot, conditions, outermost};
use crate::node::Node;
use crate::request::Request;
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
    /// By name, at most [`REJECTIONS_LISTED`]; those on the ladder before those that are not.
    pub rejections: Vec<Rejection>,
    /// How many nodes refused, by reason; complete.
    pub counts: Vec<ReasonCount>,
    /// The room lives on the one node that refuses: no other was asked.
    pub is_home: bool,
}

/// Places the room of the request. Allocates nothing when it succeeds.
pub fn place<'a>(view: &'a View, request: &Request<'_>) -> Result<Decision<'a>, NoNode> {
    best(view, request, &[]).ok_or_else(|| NoNode::of_all(view, request))
}

/// What `avoid` with `taken` would give next, best first, as many as the request asks for.
#[must_use]
pub fn alternatives<'a>(view: &'a View, request: &Request<'_>, taken: &'a Node) -> Vec<&'a Node> {
    if request.alternatives == 0 {
        return Vec::new();
    }
    let mut found = vec![taken];
    while found.len() <= request.alternatives
        && let Some(next) = best(view, request, &found)
    {
        found.push(next.node);
    }
    found.split_off(1)
}

const STANDINGS: [Standing; 4] = [Standing::Sound, Standing::Unsteady, Standing::Distrusted, Standing::Suspect];

/// The best eligible node, `taken` ones aside: the best by its rank of those that meet the first condition that any meets.
fn best<'a>(view: &'a View, request: &Request<'_>, taken: &[&Node]) -> Option<Decision<'a>> {
    let points = Points::of(request, 0);
    let skip = |slot| {
        let is = |node: &Node| {
            request.avoid.contains(&node.report.node) || taken.iter().any(|taken| taken.report.node == node.report.node)
        };
        (!request.avoid.is_empty() || !taken.is_empty()) && view.nodes.at(slot).is_some_and(is)
    };
    let index = view.nodes.index();
    STANDINGS.into_iter().find_map(|standing| {
        conditions(request).find_map(|condition| {
            let shelves = index.meeting(request, condition);
            let best = shelves.filter_map(|shelf| shelf.best(standing, &points, &skip)).min()?;
            let slot =
                if view.is_listening() { best.slot } else { lesser_of_two(index, request, condition, best, &skip) };
            Some(Decision { node: view.nodes.at(slot)?, rung: condition.rung })
        })
    })
}

/// Of those that meet the condition and have the priority of the best, two that the room's hash draws, and of these the
/// one with the lower load.
///
/// For a scheduler that hears nothing: what it knows of load grows old, and the others don't hear of its choices, so that
/// the best would be taken for the best by all of them.
fn lesser_of_two(
    index: &Index,
    request: &Request<'_>,
    condition: Condition<'_>,
    best: Found,
    skip: &impl Fn(Slot) -> bool,
) -> Slot {
    let draw = |draw, other: Option<Slot>| {
        let points = Points::of(request, draw);
        let skip = |slot| Some(slot) == other || skip(slot);
        let drawn = |shelf: &Shelf| shelf.nearest(best.rank, &points, &skip);
        index.meeting(request, condition).filter_map(drawn).min_by_key(|found| found.spread)
    };
    let first = draw(1, None).unwrap_or(best);
    match draw(2, Some(first.slot)) {
        Some(second) if second.rank.load_band < first.rank.load_band => second.slot,
        _ => first.slot,
    }
}

impl NoNode {
    /// The one node that has the room refuses.
    #[must_use]
    pub fn of(node: &Node, reason: Reason) -> Self {
        let rejections = vec![Rejection { node: node.report.node.clone(), reason }];
        Self { rejections, counts: vec![ReasonCount { reason, count: 1 }], is_home: true }
    }

    /// Every node refuses.
    fn of_all(view: &View, request: &Request<'_>) -> Self {
        let counts = Self::count(view, request);
        Self { rejections: Self::list(view, request), counts: reason_counts(&counts), is_home: false }
    }

    fn count(view: &View, request: &Request<'_>) -> [u32; Reason::ALL.len()] {
        let reached = view.nodes.index().reached(request);
        let mut counts = reached.on_ladder.blocked;
        let all = view.nodes.len() as u32;
        counts[Reason::WrongNamespace as usize] = all - reached.serving_namespace;
        counts[Reason::OutsideFence as usize] = reached.serving_namespace - reached.inside_fence;
        counts[Reason::BeyondLadder as usize] = reached.inside_fence - reached.near;
        counts[Reason::WrongCarrier as usize] = reached.near - reached.on_ladder.nodes;
        for (at, id) in request.avoid.iter().enumerate() {
            let Some(node) = view.nodes.get(id).filter(|_| !request.avoid[..at].contains(id)) else { continue };
            if refusal(node, Wish::NewRoom, request) == Some(Reason::Avoided) {
                counts[Reason::Avoided as usize] += 1;
                if let Some(other) = node.blocked {
                    counts[other as usize] -= 1;
                }
            }
        }
        counts
    }

    /// Those on the ladder, then others. All nodes refuse, so few have to be looked at.
    fn list(view: &View, request: &Request<'_>) -> Vec<Rejection> {
        let index = view.nodes.index();
        let conditions = outermost(request).into_iter().flatten();
        let shelves = conditions.flat_map(|condition| index.meeting(request, condition));
        let blocked =
            shelves.flat_map(Shelf::blocked).flat_map(|(_, slots)| slots).filter_map(|slot| view.nodes.at(*slot));
        let is_avoided = |node: &&Node| refusal(node, Wish::NewRoom, request) == Some(Reason::Avoided);
        let avoided = request.avoid.iter().filter_map(|id| view.nodes.get(id)).filter(is_avoided);
        let mut listed: Vec<Rejection> = Vec::with_capacity(REJECTIONS_LISTED);
        for node in blocked.chain(avoided).chain(view.nodes.by_name(None).map(|(_, node)| node)) {
            let Some(reason) = refusal(node, Wish::NewRoom, request) else { continue };
            let id = &node.report.node;
            if listed.iter().all(|rejection| rejection.node != *id) {
                listed.push(Rejection { node: id.clone(), reason });
            }
            if listed.len() == REJECTIONS_LISTED {
                break;
            }
        }
        listed.sort_by(|one, other| one.node.cmp(&other.node));
        listed
    }
}

/// Counts by reason as they are answered: those that are not 0.
pub(crate) fn reason_counts(counts: &[u32; Reason::ALL.len()]) -> Vec<ReasonCount> {
    let counted = Reason::ALL.into_iter().map(|reason| ReasonCount { reason, count: counts[reason as usize] });
    counted.filter(|counted| counted.count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;
    use roost_proto::id::{Carrier, NamespaceId, NodeId, Region};
    use roost_proto::policy::{self, Policy};
    use roost_proto::report::{Mode, Report};

    #[test]
    fn a_room_goes_to_the_clients_region() {
        let view = sample::view(vec![sample::report("fra", "eu/central"), sample::report("iad", "us/east")]);
        for i in 0..20 {
            let key = sample::room(&i.to_string());
            for (client, node) in [("eu/west", "fra"), ("us/east", "iad")] {
                let region = Region::new(client).unwrap();
                let request = Request { region: Some(&region), ..request(&key) };
                assert_eq!(place(&view, &request).unwrap().node.report.node.as_str(), node);
            }
        }
    }

    #[test]
    fn a_placement_that_succeeds_allocates_nothing() {
        let regions = ["cn/east/shanghai", "cn/east", "cn/north", "eu"];
        let reports = (0..400).map(|i| {
            let mut report = sample::report(&format!("n{i}"), regions[i % 4]);
            report.participants = i as u32 % 120;
            report.description.carriers = [vec![], vec![Carrier::new("telecom").unwrap()]][i % 2].clone();
            report
        });
        let mut view = sample::view(reports.collect());
        let key = sample::room("x");
        let (near, far) = (Region::new("cn/east/shanghai").unwrap(), Region::new("us/east").unwrap());
        let (own, other) = (Carrier::new("telecom").unwrap(), Carrier::new("mobile").unwrap());
        let avoid: Vec<_> = (0..16).map(|i| sample::node(&format!("n{i}"))).collect();
        let fenced = Policy { fence: vec![Region::new("cn/north").unwrap(), near.clone()], ..Policy::default() };
        let requests = [
            request(&key),
            Request { region: Some(&near), carrier: Some(&own), ..request(&key) },
            Request { region: Some(&near), carrier: Some(&other), avoid: &avoid, ..request(&key) },
            Request { region: Some(&far), carrier: Some(&other), ..request(&key) },
            Request { region: Some(&far), carrier: Some(&own), ..Request::new(&key, &fenced) },
        ];
        for listens in [true, false] {
            if !listens {
                view.stop_listening(sample::READY);
            }
            for (row, request) in requests.iter().enumerate() {
                let made = allocation_counter::measure(|| assert!(place(&view, request).is_ok()));
                assert_eq!(made.count_total, 0, "row {row}, listens: {listens}");
            }
        }
        let everywhere: Vec<_> = (0..400).map(|i| sample::node(&format!("n{i}"))).collect();
        let refused = Request { avoid: &everywhere, ..request(&key) };
        assert!(allocation_counter::measure(|| assert!(place(&view, &refused).is_err())).count_total > 0);
    }

    #[test]
    fn without_a_node_there_is_no_reason_either() {
        let key = sample::room("x");
        assert_eq!(place(&sample::view(vec![]), &request(&key)).unwrap_err(), NoNode::default());
    }

    #[test]
    fn a_refusal_names_each_node_up_to_a_limit_and_counts_all() {
        let mut reports: Vec<_> = (0..30).map(|i| sample::report(&format!("n{i:02}"), "eu")).collect();
        reports[0].mode = Mode::Draining;
        for report in &mut reports[1..] {
            report.participants = 100;
        }
        let key = sample::room("x");
        let refused = place(&sample::view(reports), &request(&key)).unwrap_err();
        assert_eq!(refused.rejections.len(), REJECTIONS_LISTED);
        let counts: Vec<_> = refused.counts.iter().map(|counted| (counted.reason, counted.count)).collect();
        assert_eq!(counts, [(Reason::Mode, 1), (Reason::FullParticipants, 29)]);
    }

    #[test]
    fn alternatives_are_what_avoiding_gives_next() {
        let view = sample::view(["a", "b", "c", "d"].map(|id| sample::report(id, "eu")).into());
        let key = sample::room("x");
        let request = Request { alternatives: 8, ..request(&key) };
        let first = place(&view, &request).unwrap().node;
        let named = alternatives(&view, &request, first);
        let mut avoid = vec![first.report.node.clone()];
        for node in &named {
            let next = place(&view, &Request { avoid: &avoid, ..request }).unwrap().node;
            assert_eq!(next.report.node, node.report.node);
            avoid.push(next.report.node.clone());
        }
        assert_eq!(named.len(), 3);
        assert_eq!(alternatives(&view, &Request { alternatives: 1, ..request }, first).len(), 1);
    }

    proptest! {
        #[test]
        fn every_node_is_eligible_or_refused_with_a_reason(reports in reports(), room in 0..100_u32) {
            let view = sample::view(reports.clone());
            let key = sample::room(&room.to_string());
            let refused = |report: &Report| {
                let node = view.node(&report.node).unwrap();
                refusal(node, Wish::NewRoom, &request(&key))
            };
            match place(&view, &request(&key)) {
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
                place(&view, &request(&key)).ok().map(|decision| decision.node.report.node.clone())
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
                place(&view, &request).map(|decision| decision.node.report.node.clone())
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
