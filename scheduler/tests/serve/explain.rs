//! The dry run: what it says is what the lookup that follows gives, and it changes nothing.

use std::collections::BTreeSet;

use roost_proto::id::{Carrier, Epoch, NamespaceId, NodeId, RoomKey};
use roost_proto::report::{Mode, Report, RoomReport};
use serde_json::{Value, json};

use crate::agent::{Agent, report, report_once};
use crate::process::Scheduler;
use crate::wait;

const REGIONS: [&str; 6] = ["eu/central", "eu/west", "us/east", "us/west", "cn/east/shanghai", "cn/north"];
const CARRIERS: [&str; 3] = ["telecom", "unicom", "mobile"];

#[tokio::test]
async fn the_dry_run_says_what_the_lookup_that_follows_at_once_gives() {
    let (scheduler, nodes) = motley().await;
    let mut draw = Draw(7);
    let mut seen = BTreeSet::new();
    for round in 0..300 {
        let namespace = ["default", "acme", "other"][draw.below(3)];
        let room = format!("room-{}", draw.below(200));
        let mut body = json!({});
        if draw.below(4) > 0 {
            body["region"] =
                json!(["eu/central", "eu/north", "us/east", "cn/east", "cn/east/shanghai", "sa"][draw.below(6)]);
        }
        if draw.below(2) > 0 {
            body["carrier"] = json!(["telecom", "unicom", "mobile", "AS64500"][draw.below(4)]);
        }
        if draw.below(2) > 0 {
            body["expected_participants"] = json!(1 + draw.below(200));
        }
        let avoided = if draw.below(12) == 0 { nodes.len() } else { draw.below(3) };
        let avoid: Vec<&NodeId> = (0..avoided).map(|i| &nodes[(i + round) % nodes.len()].node).collect();
        body["avoid"] = json!(avoid);
        let said = scheduler.explain(namespace, &room, &body).await;
        let given = scheduler.lookup_in(namespace, &room, &body).await;
        let context = format!("{namespace}/{room} {body}: {said} and then {given}");
        assert_eq!((&said["outcome"], &said["code"]), (&given["outcome"], &given["code"]), "{context}");
        assert_eq!(
            (&said["node"], &said["candidates"][0]["node"]),
            (&given["node"]["id"], &given["node"]["id"]),
            "{context}"
        );
        if said["code"] == "no_node" {
            assert_eq!(said["rejection_counts"], given["rejection_counts"], "{context}");
        }
        seen.insert(said["outcome"].as_str().or(said["code"].as_str()).unwrap().to_owned());
    }
    assert_eq!(seen, BTreeSet::from(["existing", "no_node", "placed"].map(str::to_owned)));
}

#[tokio::test]
async fn the_dry_run_changes_nothing() {
    let (scheduler, _nodes) = motley().await;
    scheduler.lookup("lives", json!({})).await;
    let picture = || async {
        let metrics = scheduler.http.get(format!("http://{}/metrics", scheduler.admin)).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let counted = ["roost_lookup", "roost_rejections", "call=\"grant\"", "call=\"prolong\"", "roost_redirects"];
        let counts: Vec<String> =
            metrics.lines().filter(|line| counted.iter().any(|name| line.contains(name))).map(str::to_owned).collect();
        let mut nodes = scheduler.admin("/v1/nodes").await;
        for node in nodes["items"].as_array_mut().unwrap() {
            node["report_age_ms"] = json!(0);
        }
        (counts, scheduler.admin("/v1/rooms").await, nodes)
    };
    let before = picture().await;
    for i in 0..40 {
        let room = ["lives".to_owned(), format!("new-{i}")][i % 2].clone();
        let body = json!({"expected_participants": 50, "region": REGIONS[i % 6]});
        let said = scheduler.explain("default", &room, &body).await;
        assert_eq!(said["outcome"], ["existing", "placed"][i % 2], "{said}");
    }
    let none: Vec<String> = (0..12).map(|i| format!("node-{i:02}")).collect();
    assert_eq!(scheduler.explain("default", "new", &json!({ "avoid": none })).await["code"], "no_node");
    assert_eq!(picture().await, before);
}

#[tokio::test]
async fn each_node_is_a_candidate_with_its_rank_or_refused_with_its_reason() {
    let scheduler = Scheduler::start().await.ready().await;
    let with = |id: &str, region: &str, change: fn(&mut Report)| {
        let mut report = report(id, region);
        change(&mut report);
        report
    };
    let reports = [
        with("best", "cn/east", |_| {}),
        with("busy", "cn/east", |report| report.participants = 60),
        with("other", "cn/east", |report| report.description.carriers = vec![Carrier::new("unicom").unwrap()]),
        with("far", "us", |_| {}),
        with("full", "cn/east", |report| report.participants = 100),
        with("off", "cn/east", |report| report.mode = Mode::Maintenance),
        with("theirs", "cn/east", |report| report.description.namespaces = vec![NamespaceId::new("acme").unwrap()]),
    ];
    let mut agents = Vec::new();
    for report in reports {
        agents.push(Agent::start_with(&scheduler.cluster, report).await);
    }
    scheduler.knows(7).await;
    let body = json!({"region": "cn/east", "carrier": "telecom", "expected_participants": 12});
    let said = scheduler.explain("default", "x", &body).await;
    let ranked: Vec<&str> =
        said["candidates"].as_array().unwrap().iter().map(|c| c["node"].as_str().unwrap()).collect();
    assert_eq!(ranked, ["best", "busy", "other", "far"], "{said}");
    assert_eq!(
        (&said["outcome"], &said["rung"], &said["node"]),
        (&json!("placed"), &json!("region+carrier"), &json!("best"))
    );
    assert_eq!((&said["expected_participants"], &said["client"]["region"]), (&json!(10), &json!("cn/east")));
    let fields = ["rung", "region_missing", "other_carrier", "load_permille", "load_band", "priority", "standing"];
    let of = |rank: usize| fields.map(|field| said["candidates"][rank][field].clone());
    assert_eq!(of(0), [json!("region+carrier"), json!(0), json!(false), json!(0), json!(0), json!(0), json!("sound")]);
    assert_eq!(of(1)[3..5], [json!(600), json!(75)]);
    assert_eq!(of(2)[..3], [json!("region"), json!(0), json!(true)]);
    assert_eq!(of(3)[..3], [json!("anywhere"), json!(2), json!(false)]);
    let refused = json!([
        {"node": "full", "reason": "full_participants"},
        {"node": "off", "reason": "mode"},
        {"node": "theirs", "reason": "wrong_namespace"},
    ]);
    assert_eq!((&said["rejections"], &said["candidate_count"]), (&refused, &json!(4)));
    let counts: u64 = said["rejection_counts"].as_array().unwrap().iter().map(|c| c["count"].as_u64().unwrap()).sum();
    assert_eq!(counts, 3);
}

#[tokio::test]
async fn what_would_be_refused_is_said_with_its_code() {
    let config = tempfile::NamedTempFile::new().unwrap();
    let table = "[scheduler]\nallow_unknown_namespaces = false\n[namespaces.default]\nmax_participants_per_room = 2\n";
    std::fs::write(&config, table).unwrap();
    let scheduler = Scheduler::start_with(&["--dev", "--config", config.path().to_str().unwrap()]).await;
    let refused = |said: &Value| (said["code"].clone(), said["candidates"].clone(), said["rejections"].clone());
    let none = || json!([]);
    assert_eq!(scheduler.explain("default", "x", &json!({})).await["code"], "starting");
    let scheduler = scheduler.ready().await;
    assert_eq!(refused(&scheduler.explain("default", "x", &json!({})).await), (json!("no_node"), none(), none()));
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu").await;
    let _iad = Agent::start(&scheduler.cluster, "iad-1", "us").await;
    scheduler.knows(2).await;
    let epoch = scheduler.lookup("x", json!({"region": "eu"})).await["epoch"].as_u64().unwrap();
    fra.open("x", epoch).await;
    let room = |participants| RoomReport {
        key: RoomKey::new("default", "x").unwrap(),
        epoch: Epoch(epoch),
        worker: 0,
        participants,
        producers: 0,
        consumers: 0,
    };
    fra.say(|report| report.changed = vec![room(2)]);
    let said = scheduler.said("x", "room_full").await;
    assert_eq!(refused(&said), (json!("room_full"), none(), none()));
    fra.say(|report| (report.changed, report.mode) = (vec![room(1)], Mode::Maintenance));
    let said = scheduler.said("x", "no_node").await;
    // Its home alone is asked, although the other node could take a room.
    assert_eq!(refused(&said), (json!("no_node"), none(), json!([{"node": "fra-1", "reason": "mode"}])));
    let body = json!({"namespace": "acme", "room": "x"});
    let url = format!("http://{}/v1/explain", scheduler.admin);
    let response = scheduler.http.post(url).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 403, "as a lookup of it");
}

#[tokio::test]
async fn many_nodes_come_in_pages_each_of_them_once() {
    const NODES: usize = 2_500;
    let scheduler = Scheduler::start().await.ready().await;
    let reports = (0..NODES).map(|i| {
        let mut report = report(&format!("n{i:04}"), REGIONS[i % 6]);
        // One in five is full.
        report.participants = (i % 5 * 25) as u32;
        report
    });
    report_once(&scheduler.cluster, reports.collect()).await;
    // A node that gets suspect between two pages changes its rank.
    wait::until("all nodes are suspect", || async {
        (scheduler.admin("/v1/cluster").await["nodes"]["suspect"] == NODES).then_some(())
    })
    .await;
    for (query, pages) in [("", 3), ("limit=700&", 4), ("limit=1000&", 3)] {
        let (mut candidates, mut rejections, mut cursor, mut count) = (Vec::new(), Vec::new(), String::new(), 0);
        loop {
            let path = format!("/v1/explain?{query}{cursor}");
            let page = scheduler.explain_at(&path, &json!({"namespace": "default", "room": "x", "region": "eu"})).await;
            assert_eq!(page["candidate_count"], 2_000, "{page}");
            let names = |list: &Value| -> Vec<String> {
                list.as_array().unwrap().iter().map(|item| item["node"].as_str().unwrap().to_owned()).collect()
            };
            candidates.extend(names(&page["candidates"]));
            rejections.extend(names(&page["rejections"]));
            count += 1;
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("cursor={next}"),
                None => break,
            }
        }
        assert_eq!((count, candidates.len(), rejections.len()), (pages, 2_000, 500), "{query}");
        let all: BTreeSet<_> = candidates.iter().chain(&rejections).collect();
        assert_eq!(all.len(), NODES, "{query}");
    }
}

impl Scheduler {
    /// Waits for a dry run with this code.
    async fn said(&self, room: &str, code: &str) -> Value {
        wait::until(code, || async {
            Some(self.explain("default", room, &json!({})).await).filter(|said| said["code"] == code)
        })
        .await
    }
}

/// Twelve nodes that differ in all that placement looks at.
async fn motley() -> (Scheduler, Vec<Agent>) {
    let scheduler = Scheduler::start().await.ready().await;
    let mut nodes = Vec::new();
    for i in 0..12_usize {
        let mut report = report(&format!("node-{i:02}"), REGIONS[i % 6]);
        let description = &mut report.description;
        description.carriers = if i % 4 == 0 { vec![] } else { vec![Carrier::new(CARRIERS[i % 3]).unwrap()] };
        description.namespaces = if i % 5 == 0 { vec![NamespaceId::new("acme").unwrap()] } else { vec![] };
        description.priority = (i % 3) as i32;
        report.mode = if i == 7 { Mode::Draining } else { Mode::Serving };
        report.participants = if i == 8 { 100 } else { (i * 7) as u32 };
        nodes.push(Agent::start_with(&scheduler.cluster, report).await);
    }
    scheduler.knows(12).await;
    (scheduler, nodes)
}

/// Numbers that look random and are the same in each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}
