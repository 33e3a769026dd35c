//! Whether a dry run says what the lookup that follows at once gives: random requests to a real scheduler, one by one.

use std::time::Duration;

use roost_proto::error::Problem;
use roost_proto::explain::ExplainReply;
use roost_proto::hash::stable_hash;
use roost_proto::id::{Incarnation, NodeId};
use roost_proto::lookup::LookupReply;
use roost_proto::report::{Capacity, Mode, Report};
use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, Plan};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{node, store};

const REQUESTS: u64 = 10_000;
const NODES: u64 = 60;
const ROOMS: u64 = 5_000;
/// Of nodes and clients; there are clients in the last, and no nodes.
const REGIONS: [&str; 7] =
    ["eu/central", "eu/west", "us/east", "cn/east/shanghai", "cn/east/zhejiang", "cn/north", "sa/south"];
const CARRIERS: [&str; 4] = ["telecom", "unicom", "mobile", "AS64500"];
const NAMESPACES: [&str; 4] = ["default", "acme", "near", "fenced"];
/// Clients elsewhere get no node in `near`; nodes elsewhere no room of `fenced`.
const POLICIES: &str =
    "[namespaces.near]\nladder = [\"region+carrier\", \"region\"]\n[namespaces.fenced]\nfence = [\"cn\"]\n";

/// What lookups gave.
#[derive(Debug, Default)]
struct Seen {
    placed: u64,
    existing: u64,
    refused: u64,
    equal: u64,
}

/// Prints the section.
pub(crate) async fn print() -> Result<(), Trouble> {
    let mut plan = Plan::small().with_redis(1);
    plan.nodes.clear();
    let policies = tempfile::NamedTempFile::new()?;
    std::fs::write(&policies, POLICIES)?;
    plan.scheduler_arguments = vec!["--config".to_owned(), policies.path().display().to_string()];
    let cluster = Cluster::start(plan).await?;
    let redis_url = cluster.redis.as_ref().ok_or("no Redis")?.url();
    let store = store::open(&redis_url, "roost")?;
    let mut nodes = JoinSet::new();
    for index in 0..NODES {
        node::start(&mut nodes, store.clone(), report_of(index)?).await?;
    }
    roost_tests::wait::until("the nodes are alive", Duration::from_secs(15), || async {
        let known = cluster.admin(&cluster.schedulers[0], "/v1/cluster").await.ok()?;
        (known["nodes"]["alive"] == NODES).then_some(())
    })
    .await?;
    let mut seen = Seen::default();
    for number in 0..REQUESTS {
        ask(&cluster, number, &mut seen).await?;
    }
    let Seen { placed, existing, refused, equal } = seen;
    println!(
        "dry runs over {NODES} nodes, each with its lookup: {placed} placed, {existing} existing, {refused} refused"
    );
    println!("{:<40} {equal} of {REQUESTS}   goal all\n", "dry run equal to its lookup");
    nodes.shutdown().await;
    cluster.stop().await
}

/// Asks the dry run, then the lookup, and compares.
async fn ask(cluster: &Cluster, number: u64, seen: &mut Seen) -> Result<(), Trouble> {
    let draw = |what: &str, below: u64| stable_hash(&[what.as_bytes(), &number.to_be_bytes()]) % below;
    let (namespace, room) = (NAMESPACES[draw("namespace", 4) as usize], format!("room-{}", draw("room", ROOMS)));
    let mut body = json!({"alternatives": draw("alternatives", 3)});
    if draw("region?", 5) > 0 {
        body["region"] = json!(REGIONS[draw("region", 7) as usize]);
    }
    if draw("carrier?", 3) > 0 {
        body["carrier"] = json!(CARRIERS[draw("carrier", 4) as usize]);
    }
    if draw("expected?", 2) > 0 {
        body["expected_participants"] = json!(1 + draw("expected", 100));
    }
    let avoided = draw("avoided", 8).saturating_sub(4);
    body["avoid"] = (0..avoided).map(|nth| json!(name(draw("avoid", NODES) + nth))).collect();
    let scheduler = &cluster.schedulers[0];
    let url = format!("http://{}/v1/namespaces/{namespace}/rooms/{room}/lookup", scheduler.public);
    let lookup = cluster.http.post(url).json(&body);
    (body["namespace"], body["room"]) = (json!(namespace), json!(room));
    let explain = cluster.http.post(format!("http://{}/v1/explain", scheduler.admin)).json(&body);

    let said: ExplainReply = explain.send().await?.json().await?;
    let given: Value = lookup.send().await?.json().await?;
    let is_equal = if given.get("code").is_some() {
        seen.refused += 1;
        let given: Problem = serde_json::from_value(given.clone())?;
        said.code == Some(given.code) && said.rejection_counts == given.rejection_counts
    } else {
        let given: LookupReply = serde_json::from_value(given.clone())?;
        *if said.rung.is_some() { &mut seen.placed } else { &mut seen.existing } += 1;
        let first = said.candidates.first().map(|candidate| &candidate.node);
        (said.outcome, said.node.as_ref(), first) == (Some(given.outcome), Some(&given.node.id), Some(&given.node.id))
    };
    seen.equal += u64::from(is_equal);
    if !is_equal {
        println!("not equal: {body}\n  said {}\n  given {given}", serde_json::to_string(&said)?);
    }
    Ok(())
}

fn name(index: u64) -> String {
    format!("node-{:02}", index % NODES)
}

/// A node that differs from others in all that placement looks at; one in twelve is full, one in fifteen takes no rooms.
fn report_of(index: u64) -> Result<Report, Trouble> {
    let at = |list: &[&str]| list[index as usize % list.len()].to_owned();
    let mut report = node::report(NodeId::new(name(index))?, Incarnation(0))?;
    let description = &mut report.description;
    description.region = at(&REGIONS[..6]).parse()?;
    if index % 7 > 1 {
        description.carriers = vec![at(&CARRIERS).parse()?];
    }
    if index.is_multiple_of(5) {
        description.namespaces = vec!["acme".parse()?];
    }
    if index.is_multiple_of(11) {
        description.priority = 1;
    }
    description.capacity = Capacity { participants: 500, ..Capacity::default() };
    report.participants = if index.is_multiple_of(12) { 500 } else { (index * 37 % 400) as u32 };
    report.host.cpu_permille = (index * 53 % 700) as u32;
    report.mode = if index.is_multiple_of(15) { Mode::BlockNewRooms } else { Mode::Serving };
    Ok(report)
}
