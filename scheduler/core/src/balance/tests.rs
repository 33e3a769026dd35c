//! What a plan must keep: single cases, then random clusters of which each plan is carried out and made anew.

use proptest::prelude::*;

use super::*;
use crate::sample::{self, READY};
use roost_proto::policy::Policy;
use roost_proto::report::Report;

const ENOUGH: Budget = Budget { rooms: u32::MAX, participants: u32::MAX };

#[test]
fn a_node_far_above_the_others_gives_small_rooms_to_the_least_loaded_one() {
    let moves = plan(&[node("a", 100, &[20, 4, 6, 30]), node("b", 100, &[10]), node("c", 100, &[5])], ENOUGH);
    let told: Vec<_> = moves.iter().map(|one| (one.participants, one.from.as_str(), one.to.as_str())).collect();
    assert_eq!(told, [(4, "a", "c"), (6, "a", "c"), (20, "a", "b")]);
    assert_eq!((moves[0].from_permille, moves[0].to_permille), ([600, 560], [50, 90]));
}

#[test]
fn inside_the_band_nothing_moves() {
    assert_eq!(plan(&[node("a", 100, &[10, 10, 10]), node("b", 100, &[5, 5])], ENOUGH), []);
    assert_eq!(plan(&[node("a", 100, &[90])], ENOUGH), [], "there is nobody else");
    assert_eq!(plan(&[node("a", 100, &[60]), node("b", 100, &[])], ENOUGH), [], "that would only turn it round");
}

#[test]
fn a_plan_stays_within_its_budget() {
    let nodes = [node("a", 1_000, &[30; 30]), node("b", 1_000, &[])];
    let all = plan(&nodes, ENOUGH);
    assert_eq!(plan(&nodes, Budget { rooms: 3, participants: 1_000 }), all[..3]);
    assert_eq!(plan(&nodes, Budget { rooms: 100, participants: 70 }), all[..2]);
}

#[test]
fn rooms_stay_in_their_region_and_off_nodes_that_may_not_have_them() {
    let full = node("a", 100, &[20, 20, 20]);
    type Change = fn(&mut Made);
    let changes: [Change; 6] = [
        |made| made.region = "us",
        |made| made.report.mode = Mode::Draining,
        |made| made.report.description.priority = 1,
        |made| made.report.description.namespaces = vec![NamespaceId::new("other").unwrap()],
        |made| made.report.description.carriers = vec![Carrier::new("telecom").unwrap()],
        |made| made.report.description.capacity.rooms = 1,
    ];
    assert!(!plan(&[full.clone(), node("b", 100, &[1])], ENOUGH).is_empty());
    for (row, change) in changes.iter().enumerate() {
        let mut other = node("b", 100, &[1]);
        change(&mut other);
        assert_eq!(plan(&[full.clone(), other], ENOUGH), [], "row {row}");
    }
    let fenced = Policy { fence: vec![Region::new("us").unwrap()], ..Policy::default() };
    let policies = Policies([(NamespaceId::new("default").unwrap(), fenced)].into());
    assert_eq!(plan_with(&[full, node("b", 100, &[1])], &policies, ENOUGH), []);
}

#[test]
fn what_the_host_feels_is_relieved_with_the_participants_who_cause_it() {
    let mut busy = node("a", 100, &[5, 5, 5, 5]);
    busy.report.host.cpu_permille = 800;
    let moves = plan(&[busy, node("b", 100, &[5])], ENOUGH);
    assert_eq!(moves.iter().map(|one| (one.from_permille, one.to_permille)).next(), Some(([800, 600], [50, 250])));
}

proptest! {
    /// A plan that was carried out asks for no other one; each of its moves keeps the constraints and lowers the higher of
    /// two; a part of the budget gives the beginning of the same plan.
    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do(nodes in nodes(), rooms in 0u32..6) {
        let moves = plan(&nodes, ENOUGH);
        prop_assert_eq!(&plan(&nodes, Budget { rooms, ..ENOUGH }), &moves[..moves.len().min(rooms as usize)]);
        let mut after = nodes.clone();
        for one in &moves {
            let at = |id: &NodeId| nodes.iter().position(|made| made.report.node == *id).unwrap();
            let (from, to) = (at(&one.from), at(&one.to));
            prop_assert_eq!(nodes[from].region, nodes[to].region);
            prop_assert_eq!(nodes[to].report.mode, Mode::Serving);
            prop_assert!(one.from_permille[0] >= one.to_permille[1].max(one.from_permille[1]));
            let here = after[from].rooms.iter().position(|(key, _)| *key == one.room).unwrap();
            let room = after[from].rooms.remove(here);
            prop_assert_eq!(room.1, one.participants);
            after[to].rooms.push(room);
        }
        let again = plan(&after, ENOUGH);
        prop_assert!(again.is_empty(), "{moves:?}, and then {again:?}");
    }
}

/// A node of a made-up cluster, with its rooms and their participants.
#[derive(Debug, Clone)]
struct Made {
    region: &'static str,
    report: Report,
    rooms: Vec<(RoomKey, u32)>,
}

fn node(id: &str, capacity: u32, rooms: &[u32]) -> Made {
    let mut report = sample::report(id, "eu");
    report.description.capacity.participants = capacity;
    let named = |(number, participants): (usize, &u32)| (sample::room(&format!("{id}-{number:02}")), *participants);
    Made { region: "eu", report, rooms: rooms.iter().enumerate().map(named).collect() }
}

fn plan(nodes: &[Made], budget: Budget) -> Vec<Move> {
    plan_with(nodes, &Policies::default(), budget)
}

fn plan_with(nodes: &[Made], policies: &Policies, budget: Budget) -> Vec<Move> {
    let reports = nodes.iter().map(|made| {
        let mut report = made.report.clone();
        report.description.region = Region::new(made.region).unwrap();
        report.participants = made.rooms.iter().map(|(_, participants)| participants).sum();
        report.rooms = made.rooms.len() as u32;
        report.changed = made.rooms.iter().map(|(key, count)| sample::held(key.room.as_str(), 7, *count)).collect();
        report
    });
    let mut view = sample::view(reports.collect());
    for made in nodes {
        for (key, _) in &made.rooms {
            let claim = sample::claim(made.report.node.as_str(), 7, ClaimState::Open);
            view.apply(sample::claimed(key.room.as_str(), claim, 0), READY);
        }
    }
    let mut survey = Survey::default();
    while !survey.look_on(&view, READY) {}
    survey.plan(policies, budget)
}

/// 2 to 6 nodes in two regions, one in five not serving. Capacities divide a thousand, so that a load is told exactly.
fn nodes() -> impl Strategy<Value = Vec<Made>> {
    let modes = prop_oneof![4 => Just(Mode::Serving), 1 => Just(Mode::BlockNewRooms), 1 => Just(Mode::Draining)];
    let rooms = prop::collection::vec(0u32..40, 0..12);
    let one = (prop::sample::select(vec![100u32, 200, 500, 1_000]), any::<bool>(), modes, rooms);
    prop::collection::vec(one, 2..6).prop_map(|rows| {
        let build = |(number, (capacity, is_near, mode, rooms)): (usize, (u32, bool, Mode, Vec<u32>))| {
            let mut made = node(&format!("n{number}"), capacity, &rooms);
            (made.region, made.report.mode) = (if is_near { "eu" } else { "us" }, mode);
            made
        };
        rows.into_iter().enumerate().map(build).collect()
    })
}
