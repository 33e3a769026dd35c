//! Whatever nodes, requests and time do, the index gives what a scan of all nodes gives.

use std::cmp::Reverse;

use proptest::prelude::*;
use roost_proto::admin::NodeState;
use roost_proto::error::{REJECTIONS_LISTED, Reason, Rejection};
use roost_proto::event::Event;
use roost_proto::explain::Candidate;
use roost_proto::id::{Carrier, Incarnation, NamespaceId, NodeId, Region, RoomKey};
use roost_proto::policy::{Ladder, Policy, Rung};
use roost_proto::report::{Mode, Report, Worker, WorkerState};
use roost_proto::time::Millis;

use super::Points;
use crate::explain::{Ranking, ranking};
use crate::place::{alternatives, place};
use crate::request::Request;
use crate::sample;
use crate::time::TICK_MS;
use crate::view::View;

const REGIONS: [&str; 7] = ["eu", "eu/west", "eu/west/paris", "cn", "cn/east", "cn/east/shanghai", "cn2"];
const FENCES: [&[&str]; 5] = [&[], &["cn"], &["cn/east", "eu"], &["eu/west/paris", "cn2"], &["us"]];
const CARRIERS: [&str; 2] = ["telecom", "unicom"];
const NAMESPACES: [&str; 2] = ["default", "acme"];

/// What happens to the view.
#[derive(Debug, Clone)]
enum Change {
    Reports(Box<Report>),
    Leaves(NodeId),
    IsReserved(NodeId, u64),
    /// So many ticks.
    Time(u64),
    Deaf,
    Hears,
}

/// What is asked of it.
#[derive(Debug, Clone)]
struct Question {
    key: RoomKey,
    policy: Policy,
    region: Option<Region>,
    carrier: Option<Carrier>,
    avoid: Vec<NodeId>,
    seed: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_index_gives_what_a_scan_of_all_nodes_gives(
        changes in prop::collection::vec(changes(), 1..60),
        questions in prop::collection::vec(questions(), 4),
    ) {
        let mut view = View::new(Millis(0));
        view.listen(Millis(0));
        let mut now = Millis(1_000);
        view.tick(now);
        for change in changes {
            now = apply(&mut view, change, now);
            for question in &questions {
                agrees(&view, &question.request())?;
            }
        }
    }

    #[test]
    fn standings_are_what_they_were_at_the_last_report_or_tick(changes in prop::collection::vec(changes(), 1..60)) {
        let mut view = View::new(Millis(0));
        view.listen(Millis(0));
        let mut now = Millis(1_000);
        view.tick(now);
        for change in changes {
            now = apply(&mut view, change, now);
            if !view.is_listening() {
                continue;
            }
            view.tick(now);
            for node in view.nodes.iter() {
                let mut judged = node.clone();
                judged.judge(view.state(node, now));
                prop_assert_eq!((judged.standing, judged.blocked), (node.standing, node.blocked));
                let is_over = view.state(node, now) == NodeState::Lost && node.report.description.temporary;
                prop_assert!(!is_over, "a temporary node leaves the list");
            }
        }
    }
}

#[test]
fn nothing_is_left_of_nodes_that_are_forgotten() {
    let mut view = View::new(Millis(0));
    view.listen(Millis(0));
    for (i, region) in (0..).zip(REGIONS) {
        let mut report = sample::report(&format!("n{i}"), region);
        report.description.temporary = true;
        report.description.carriers = CARRIERS.iter().take(i % 3).map(|name| Carrier::new(name).unwrap()).collect();
        report.description.namespaces =
            NAMESPACES.iter().take(i % 2).map(|name| NamespaceId::new(name).unwrap()).collect();
        view.apply(sample::reported(report), Millis(0));
    }
    assert_eq!(view.nodes.index().areas.len(), 8);
    sample::pass(&mut view, Millis(0), Millis(4_000));
    assert!(view.nodes.is_empty() && view.nodes.index().areas.is_empty());
    view.apply(sample::reported(sample::report("again", "eu")), Millis(4_000));
    assert_eq!(view.nodes.len(), 1);
}

fn agrees(view: &View, request: &Request<'_>) -> Result<(), TestCaseError> {
    let ranking = ranking(view, request);
    match place(view, request) {
        Ok(decision) => {
            let names: Vec<_> = ranking.candidates.iter().map(|candidate| candidate.node.as_str()).collect();
            prop_assert_eq!(Some(decision.rung), ranking.candidates.first().map(|candidate| candidate.rung));
            prop_assert_eq!(Some(decision.node.report.node.as_str()), names.first().copied());
            if view.is_listening() {
                let next = alternatives(view, &Request { alternatives: 3, ..*request }, decision.node);
                let next: Vec<_> = next.into_iter().map(|node| node.report.node.as_str()).collect();
                prop_assert_eq!(&next[..], &names[1..names.len().min(4)]);
            } else {
                prop_assert_eq!(Some(names[0]), lesser_of_two(view, request, &ranking));
            }
        }
        Err(refused) => {
            prop_assert_eq!(&ranking.candidates, &[]);
            prop_assert_eq!(refused.counts, ranking.counts);
            prop_assert_eq!(refused.rejections.len(), ranking.rejections.len().min(REJECTIONS_LISTED));
            prop_assert!(refused.rejections.iter().all(|listed| ranking.rejections.contains(listed)));
            let far = |reason: &Reason| *reason < Reason::Mode;
            prop_assert!(refused.rejections.is_sorted_by_key(|listed| &listed.node));
            let near = |listed: &[Rejection]| listed.iter().filter(|it| !far(&it.reason)).count();
            prop_assert_eq!(near(&refused.rejections), near(&ranking.rejections).min(REJECTIONS_LISTED));
        }
    }
    Ok(())
}

/// What a scheduler that hears nothing should take: of the candidates that only load parts, drawn twice by hash, the one
/// with the lower load.
fn lesser_of_two<'a>(view: &View, request: &Request<'_>, ranking: &'a Ranking) -> Option<&'a str> {
    let rank = |node: &Candidate| {
        let place = request.policy.ladder.rungs().iter().position(|rung| *rung == node.rung);
        (node.standing, place, node.region_missing, node.other_carrier, Reverse(node.priority))
    };
    let best = ranking.candidates.iter().map(rank).min()?;
    let alike = || ranking.candidates.iter().filter(|candidate| rank(candidate) == best);
    let distance = |draw, id: &NodeId| Points::of(request, draw).distance(view.node(id).unwrap().place);
    let first = alike().min_by_key(|candidate| distance(1, &candidate.node))?;
    let others = alike().filter(|candidate| candidate.node != first.node);
    let second = others.min_by_key(|candidate| distance(2, &candidate.node));
    let taken = second.filter(|second| second.load_band < first.load_band).unwrap_or(first);
    Some(taken.node.as_str())
}

fn apply(view: &mut View, change: Change, now: Millis) -> Millis {
    match change {
        Change::Reports(mut report) => {
            report.seq = view.node(&report.node).map_or(0, |node| node.report.seq) + 1;
            view.apply(sample::reported(*report), now);
        }
        Change::Leaves(node) => {
            let incarnation = view.node(&node).map_or(Incarnation(0), |node| node.report.incarnation);
            view.apply(Event::Left { node, incarnation }, now);
        }
        Change::IsReserved(node, reserved_milli) => {
            let incarnation = view.node(&node).map_or(Incarnation(0), |node| node.report.incarnation);
            view.nodes.set_reserved(&node, incarnation, reserved_milli);
        }
        Change::Time(ticks) => {
            let until = now.plus(ticks * TICK_MS);
            sample::pass(view, now, until);
            return until;
        }
        Change::Deaf => view.stop_listening(now),
        Change::Hears => view.listen(now),
    }
    now
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => reports().prop_map(|report| Change::Reports(Box::new(report))),
        1 => nodes().prop_map(Change::Leaves),
        3 => (nodes(), 0..30_000_u64).prop_map(|(node, reserved_milli)| Change::IsReserved(node, reserved_milli)),
        4 => (1..20_u64).prop_map(Change::Time),
        1 => Just(Change::Deaf),
        2 => Just(Change::Hears),
    ]
}

fn nodes() -> impl Strategy<Value = NodeId> {
    (0..30_u32).prop_map(|i| sample::node(&format!("n{i:02}")))
}

fn reports() -> impl Strategy<Value = Report> {
    let carriers = prop::collection::vec(prop::sample::select(&CARRIERS[..]), 0..3);
    let namespaces = prop::collection::vec(prop::sample::select(&NAMESPACES[..]), 0..3);
    let modes = prop_oneof![8 => Just(Mode::Serving), 1 => Just(Mode::Draining), 1 => Just(Mode::Maintenance)];
    let workers = prop_oneof![4 => Just(vec![]), 1 => Just(vec![WorkerState::Down]), 1 => Just(vec![WorkerState::Up])];
    let used = (
        prop_oneof![3 => Just(0_u32), 1 => 0..130_u32],
        prop_oneof![3 => Just(0_u32), 3 => 0..40_u32, 1 => 0..1_300_u32],
        prop_oneof![4 => Just(0_u32), 1 => 0..5_u32],
    );
    let described = (prop::sample::select(&REGIONS[..]), carriers, namespaces, -1..2_i32, any::<bool>());
    (nodes(), described, modes, workers, used, 1..3_u64).prop_map(
        |(node, described, mode, workers, used, incarnation)| {
            let (region, carriers, namespaces, priority, temporary) = described;
            let mut report = sample::report(node.as_str(), region);
            (report.incarnation, report.mode) = (Incarnation(incarnation), mode);
            (report.participants, report.host.cpu_permille, report.rooms) = used;
            (report.description.priority, report.description.temporary) = (priority, temporary);
            report.description.carriers = carriers.into_iter().map(|name| Carrier::new(name).unwrap()).collect();
            report.description.namespaces =
                namespaces.into_iter().map(|name| NamespaceId::new(name).unwrap()).collect();
            (report.description.capacity.rooms, report.description.capacity.cpu_permille) = (4, 1_000);
            report.workers = workers.into_iter().map(|state| Worker { state, ..sample::worker(0) }).collect();
            report
        },
    )
}

fn questions() -> impl Strategy<Value = Question> {
    let fence = prop::sample::select(&FENCES[..]);
    let mut clients = REGIONS.map(Some).to_vec();
    clients.extend([None, Some("eu/west/paris/montmartre"), Some("us/east")]);
    let carriers = vec![None, Some("telecom"), Some("unicom"), Some("mobile")];
    let asked = (prop::sample::select(&["default", "acme", "other"][..]), 0..50_u32, 0..3_u64);
    let from = (prop::sample::select(clients), prop::sample::select(carriers));
    (asked, prop::sample::select(ladders()), fence, from, prop::collection::vec(nodes(), 0..4)).prop_map(
        |(asked, ladder, fence, from, avoid)| {
            let fence = fence.iter().map(|name| Region::new(name).unwrap()).collect();
            Question {
                key: RoomKey::new(asked.0, asked.1.to_string()).unwrap(),
                policy: Policy { ladder, fence, max_participants_per_room: 0 },
                region: from.0.map(|name| Region::new(name).unwrap()),
                carrier: from.1.map(|name| Carrier::new(name).unwrap()),
                avoid,
                seed: asked.2,
            }
        },
    )
}

/// Every ladder that can be configured.
fn ladders() -> Vec<Ladder> {
    let mut found = vec![vec![]];
    let mut at = 0;
    while at < found.len() {
        for rung in Rung::ALL {
            let longer = [&found[at][..], &[rung]].concat();
            if Ladder::new(&longer).is_ok() {
                found.push(longer);
            }
        }
        at += 1;
    }
    found.iter().filter_map(|rungs| Ladder::new(rungs).ok()).collect()
}

impl Question {
    fn request(&self) -> Request<'_> {
        Request {
            region: self.region.as_ref(),
            carrier: self.carrier.as_ref(),
            avoid: &self.avoid,
            seed: self.seed,
            ..Request::new(&self.key, &self.policy)
        }
    }
}
