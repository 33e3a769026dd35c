//! What may not happen does not happen, in made-up clusters of all kinds.

use proptest::prelude::*;
use roost_proto::id::{Carrier, NamespaceId, Region};
use roost_proto::policy::{Ladder, Policies, Policy, Rung};
use roost_proto::report::Mode;
use roost_server::Shared;
use roost_sim::policies::PolicyName;
use roost_sim::scenario::{
    Arrivals, ClientGroup, Hint, Limits, Loaded, ModeChange, NodeGroup, PerParticipant, Scenario, Size,
};

use crate::{figures, shipped};

#[test]
fn no_rule_is_broken_in_a_country_with_everything_in_it() {
    let loaded = shipped("national.toml");
    let outcome = figures(&loaded, PolicyName::Roost, 5, Hint::Off { percent: 30 }, 1);
    assert_eq!(outcome.violations.total(), 0, "{outcome:?}");
    for reason in
        ["full_participants", "door full_participants", "mode", "wrong_namespace", "outside_fence", "room_full"]
    {
        assert!(outcome.refusals.contains_key(reason), "{reason} was never put to the test: {:?}", outcome.refusals);
    }
    assert_eq!(outcome.rungs.len(), Rung::ALL.len(), "{:?}", outcome.rungs);
}

#[test]
fn a_rule_that_is_broken_is_seen() {
    let violations = figures(&shipped("national.toml"), PolicyName::LivekitRandom, 1, Hint::None, 1).violations;
    assert!(violations.namespace > 0 && violations.fence > 0 && violations.ladder > 0, "{violations:?}");
    assert_eq!((violations.mode, violations.limits, violations.homes), (0, 0, 0), "doors hold whoever decides");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn no_rule_is_broken_in_any_cluster(loaded in clusters(), schedulers in 1..4_u16, seed: u64) {
        let plan = roost_sim::plan::Plan::of(&loaded, seed, loaded.scenario.hints[0]);
        for policy in [PolicyName::Roost, PolicyName::RoostTwoChoice, PolicyName::PrivateCorrection] {
            let setting = roost_sim::world::Setting { policy, schedulers, seed, keep_samples: false };
            let outcome = roost_sim::world::run(&plan, setting, |_| {}).figures;
            prop_assert_eq!(outcome.violations.total(), 0, "{}: {:?}", policy, outcome);
        }
    }
}

const REGIONS: [&str; 5] = ["cn/east/shanghai", "cn/east", "cn/north/beijing", "cn", "eu"];
const CARRIERS: [&str; 3] = ["telecom", "unicom", "AS64500"];
const NAMESPACES: [&str; 3] = ["default", "acme", "bank"];

/// 1 to 8 groups of small nodes, more participants than they take, and a policy for some namespaces.
fn clusters() -> impl Strategy<Value = Loaded> {
    let nodes = prop::collection::vec(node(), 1..8);
    let clients = prop::collection::vec(client(), 1..6);
    let policies = prop::collection::btree_map(prop::sample::select(&NAMESPACES[..]), policy(), 0..3);
    (nodes, clients, policies, any::<bool>()).prop_map(|(mut nodes, clients, policies, hinted)| {
        for (index, node) in nodes.iter_mut().enumerate() {
            node.id = format!("n{index}-{{}}");
        }
        let namespaces = policies.into_iter().map(|(name, policy)| (NamespaceId::new(name).unwrap(), policy)).collect();
        let arrivals = Arrivals {
            rooms_per_s: Some(3.0),
            size: Size { mean: 6.0, sigma2: 0.7 },
            fill_s: 10.0,
            stay_s: Some(15.0),
            ..Arrivals::default()
        };
        let hint = if hinted { Hint::Off { percent: 50 } } else { Hint::None };
        let scenario = Scenario {
            duration_s: 30.0,
            hints: vec![hint],
            nodes,
            clients,
            arrivals: vec![arrivals],
            ..Scenario::default()
        };
        let shared = Shared { namespaces: Policies(namespaces), ..Shared::default() };
        Loaded { name: String::new(), scenario, shared, rows: vec![None] }
    })
}

fn node() -> impl Strategy<Value = NodeGroup> {
    let modes = prop::sample::select(vec![
        Mode::Serving,
        Mode::Serving,
        Mode::Serving,
        Mode::BlockNewRooms,
        Mode::BlockNewParticipants,
        Mode::Draining,
        Mode::Maintenance,
    ]);
    let changes = prop::collection::vec((0.0..30.0_f64, modes.clone()), 0..3);
    let limits = (3..60_u32, 0..6_u32, prop::sample::select(vec![0, 800_u32]));
    let served = prop::collection::vec(prop::sample::select(&NAMESPACES[..]), 0..2);
    let carried = prop::collection::vec(prop::sample::select(&CARRIERS[..]), 0..2);
    let place = (prop::sample::select(&REGIONS[..]), carried, served);
    (place, modes, changes, limits, 1..3_u32, -1..2_i32).prop_map(|(place, mode, changes, limits, count, priority)| {
        let (region, carriers, namespaces) = place;
        let (participants, rooms, cpu_permille) = limits;
        NodeGroup {
            id: String::new(),
            count,
            region: Region::new(region).unwrap(),
            carriers: carriers.into_iter().map(|name| Carrier::new(name).unwrap()).collect(),
            namespaces: namespaces.into_iter().map(|name| NamespaceId::new(name).unwrap()).collect(),
            priority,
            mode,
            mode_changes: changes.into_iter().map(|(at_s, mode)| ModeChange { at_s, mode }).collect(),
            capacity: Limits { participants, rooms, cpu_permille, ..Limits::default() },
            initial_rooms: 0,
            initial_participants: 0,
            report_every_ms: [1_000, 3_000],
            per_participant: PerParticipant { cpu_permille: 20.0, ..PerParticipant::default() },
            frozen_load: false,
        }
    })
}

fn client() -> impl Strategy<Value = ClientGroup> {
    let region = prop::option::of(prop::sample::select(&REGIONS[..]));
    let carrier = prop::option::of(prop::sample::select(&CARRIERS[..]));
    (region, carrier, prop::sample::select(&NAMESPACES[..])).prop_map(|(region, carrier, namespace)| ClientGroup {
        share: 1.0,
        namespace: NamespaceId::new(namespace).unwrap(),
        region: region.map(|region| Region::new(region).unwrap()),
        carrier: carrier.map(|carrier| Carrier::new(carrier).unwrap()),
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let ladder = prop::sample::subsequence(Rung::ALL.to_vec(), 1..=Rung::ALL.len());
    let fence = prop::option::of(prop::sample::select(&["cn", "cn/east", "eu"][..]));
    (ladder, fence, prop::sample::select(vec![0, 4_u32])).prop_map(|(rungs, fence, most)| Policy {
        ladder: Ladder::new(&rungs).unwrap(),
        fence: fence.into_iter().map(|region| Region::new(region).unwrap()).collect(),
        max_participants_per_room: most,
    })
}
