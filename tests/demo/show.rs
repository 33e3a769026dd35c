//! What the demo prints of the cluster: where rooms went and why, and what to open.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use roost_tests::Trouble;
use roost_tests::cluster::Cluster;

const CLIENTS: &[(&str, &str)] = &[
    ("standup", "eu/central"),
    ("retro", "eu/central"),
    ("planning", "eu/west"),
    ("all-hands", "us/east"),
    ("sales", "us/west"),
    ("night-shift", "ap/south"),
];

/// Looks rooms up from several regions and prints where each went, and why.
pub(crate) async fn lookups(cluster: &Cluster) -> Result<(), Trouble> {
    println!("{:<12} {:<12} {:<6} {:<11} {:<9} why", "room", "client in", "node", "node in", "outcome");
    for (index, (room, region)) in CLIENTS.iter().chain(&CLIENTS[..1]).enumerate() {
        let scheduler = index % cluster.schedulers.len();
        let loads = loads(cluster, scheduler).await?;
        let reply = cluster.lookup(scheduler, "default", room, json!({ "region": region })).await?;
        let load = loads.get(reply.node.id.as_str()).copied().unwrap_or_default();
        let why = match (serde_json::to_value(reply.outcome)?.as_str(), reply.node.region.as_str()) {
            (Some("existing"), _) => "the room lives there".to_owned(),
            (_, node) if node == *region => format!("its own region, least loaded there ({load}\u{2030})"),
            (_, node) if node.split('/').next() == region.split('/').next() => {
                format!("no node in {region}: the nearest part of the tree, least loaded ({load}\u{2030})")
            }
            _ => format!("no node in any part of {region}: the least loaded of all ({load}\u{2030})"),
        };
        let outcome = serde_json::to_value(reply.outcome)?.as_str().unwrap_or_default().to_owned();
        println!("{room:<12} {region:<12} {:<6} {:<11} {outcome:<9} {why}", reply.node.id, reply.node.region);
    }
    Ok(())
}

/// Prints what there is to open.
pub(crate) fn urls(cluster: &Cluster, page: &str) {
    println!("Open in a browser:");
    println!("  a room, with your own camera   {page}");
    for (index, scheduler) in cluster.schedulers.iter().enumerate() {
        println!("  scheduler {}: nodes             http://{}/v1/nodes", index + 1, scheduler.admin);
        println!("               rooms             http://{}/v1/rooms", scheduler.admin);
        println!("               cluster, metrics  http://{0}/v1/cluster http://{0}/metrics", scheduler.admin);
    }
    for node in &cluster.nodes {
        println!("  node {:<6}                    http://{}/v1/node", node.id, node.control);
    }
    println!("Look a room up:");
    println!("  curl -s -X POST http://{}/v1/namespaces/default/rooms/standup/lookup", cluster.schedulers[0].public);
    println!("Logs: {}", cluster.folder().display());
}

async fn loads(cluster: &Cluster, scheduler: usize) -> Result<BTreeMap<String, u64>, Trouble> {
    let nodes: Value = cluster.admin(&cluster.schedulers[scheduler], "/v1/nodes").await?;
    let items = nodes["items"].as_array().ok_or("no nodes")?;
    let load = |node: &Value| {
        (
            node["id"].as_str().unwrap_or_default().to_owned(),
            node["load"]["worst_permille"].as_u64().unwrap_or_default(),
        )
    };
    Ok(items.iter().map(load).collect())
}
