//! How eligible nodes are ranked: a struct with derived order, whose field order is the policy.

use std::cmp::Reverse;

use roost_proto::explain::Standing;

use crate::index::Points;
use crate::node::Node;
use crate::region::{self, RegionMatch};
use crate::request::Request;

/// Ranks one node for one room; the smallest is the best. Field order is the order of importance.
///
/// It says what the index must give: the node that has the smallest score of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeScore {
    /// Whose numbers cannot be comes after those whose can; whose reports are late may be dying, and comes last.
    pub standing: Standing,
    /// The place of the node's rung in the namespace's ladder.
    pub rung: u8,
    pub region: RegionMatch,
    /// Whether the node is on another carrier than the client.
    pub other_carrier: bool,
    /// What the operator gave it; the higher the better.
    pub priority: Reverse<i32>,
    pub load_band: u8,
    /// Spreads rooms over equal nodes, the same way on every scheduler. No two nodes have the same.
    pub spread: u64,
}

impl NodeScore {
    /// The node's score for the request, whose room falls on `points`.
    #[must_use]
    pub fn of(node: &Node, request: &Request<'_>, points: &Points) -> Self {
        let description = &node.report.description;
        Self {
            standing: node.standing,
            // Who is on no rung is refused before it is ranked.
            rung: region::rung(request, description).map_or(u8::MAX, |(place, _)| place),
            region: RegionMatch::of(request.region, &description.region),
            other_carrier: !region::serves_carrier(request.carrier, description),
            priority: Reverse(description.priority),
            load_band: node.load_band(),
            spread: points.distance(node.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Slot;
    use crate::sample;
    use crate::trust::doubts;
    use roost_proto::admin::NodeState;
    use roost_proto::id::Region;
    use roost_proto::policy;
    use roost_proto::report::Report;
    use roost_proto::time::Millis;

    #[test]
    fn the_more_of_the_clients_region_a_node_shares_the_better() {
        let region = |text| Region::new(text).unwrap();
        let client = region("cn/east/shanghai");
        let order = ["cn/east/shanghai", "cn/east/hangzhou", "cn/north", "eu"];
        let matches: Vec<_> = order.iter().map(|node| RegionMatch::of(Some(&client), &region(node))).collect();
        assert!(matches.is_sorted() && matches[0] < matches[3], "{matches:?}");
        assert_eq!(RegionMatch::of(Some(&region("cn")), &region("cn/east")), RegionMatch(0), "finer is not worse");
        assert_eq!(RegionMatch::of(None, &region("eu")), RegionMatch(0));
    }

    #[test]
    fn what_comes_first_in_the_struct_decides() {
        type Change = fn(&mut Report);
        let rows: [(&str, Change, Change); 4] = [
            (
                "region before priority",
                |_| {},
                |r| {
                    r.description.region = Region::new("us").unwrap();
                    r.description.priority = 9;
                },
            ),
            (
                "priority before load",
                |r| {
                    r.description.priority = 1;
                    r.host.cpu_permille = 900;
                },
                |_| {},
            ),
            ("less load is better", |_| {}, |r| r.host.cpu_permille = 100),
            ("a lower priority is worse", |_| {}, |r| r.description.priority = -1),
        ];
        for (name, better, worse) in rows {
            let (mut a, mut b) = (sample::report("a", "eu"), sample::report("b", "eu"));
            better(&mut a);
            worse(&mut b);
            for i in 0..50 {
                assert!(score(&a, NodeState::Alive, i) < score(&b, NodeState::Alive, i), "{name}");
            }
        }
        let (a, mut b) = (sample::report("a", "us"), sample::report("b", "eu"));
        assert!(score(&a, NodeState::Alive, 1) < score(&b, NodeState::Suspect, 1), "standing before region");
        b.host.cpu_permille = 5_000;
        assert!(
            score(&a, NodeState::Alive, 1) < score(&b, NodeState::Alive, 1),
            "who can be trusted before who cannot"
        );
        assert!(
            score(&b, NodeState::Alive, 1) < score(&a, NodeState::Suspect, 1),
            "who is there before who may not be"
        );
    }

    #[test]
    fn loads_of_one_band_are_equal() {
        let mut report = sample::report("a", "eu");
        report.host.cpu_permille = 208;
        let one = score(&report, NodeState::Alive, 1);
        report.host.cpu_permille = 215;
        assert_eq!(score(&report, NodeState::Alive, 1), one);
    }

    #[test]
    fn equal_nodes_get_equally_many_rooms() {
        for seed in [0, 1, 77] {
            let nodes: Vec<_> = ["a", "b", "c", "d"]
                .map(|id| Node::new(sample::report(id, "eu"), Vec::new(), Slot(0), Millis(0)))
                .into();
            let mut rooms = [0_u32; 4];
            for i in 0..4_000 {
                let key = sample::room(&format!("room-{i}"));
                let request = Request { seed, ..Request::new(&key, &policy::DEFAULT) };
                let points = Points::of(&request, 0);
                let best = (0..4).min_by_key(|n| NodeScore::of(&nodes[*n], &request, &points)).unwrap();
                rooms[best] += 1;
            }
            assert!(rooms.iter().all(|count| (800..1_200).contains(count)), "seed {seed}: {rooms:?}");
        }
    }

    fn score(report: &Report, state: NodeState, room: u32) -> NodeScore {
        let (key, region) = (sample::room(&room.to_string()), Region::new("eu/west").unwrap());
        let request = Request { region: Some(&region), ..Request::new(&key, &policy::DEFAULT) };
        let mut node = Node::new(report.clone(), doubts(report), Slot(0), Millis(0));
        node.judge(state);
        NodeScore::of(&node, &request, &Points::of(&request, 0))
    }
}
