//! A country's cluster by its shipped configuration: rooms land by region and carrier, fall back rung by rung, and stay in.

use serde_json::{Value, json};

use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::participant::Participant;
use roost_tests::{Trouble, binaries, wait};

use crate::run;

const SOON: std::time::Duration = std::time::Duration::from_secs(10);

#[test]
fn rooms_land_by_region_and_carrier_and_fall_back_as_nodes_fill_and_die() {
    run(async {
        let folder = tempfile::tempdir()?;
        let mut cluster = Cluster::start(national(folder.path())?).await?;
        for (region, carrier, node) in [
            ("cn/east/shanghai", "telecom", "sh-ct"),
            ("cn/east/shanghai", "unicom", "sh-cu"),
            ("cn/east/zhejiang", "telecom", "hz-ct"),
            ("cn/east/zhejiang", "unicom", "sh-cu"),
            ("cn/south/guangxi", "mobile", "gz-cm"),
            ("cn/northwest/xinjiang", "mobile", "gz-cm"),
        ] {
            let body = json!({ "region": region, "carrier": carrier });
            let found = cluster.lookup(0, "default", &format!("{carrier} in {region}"), body).await?;
            assert_eq!(found.node.id.as_str(), node, "{carrier} in {region}");
            assert_eq!(found.client.region.as_ref().map(|found| found.as_str()), Some(region));
            assert_eq!(found.client.carrier.as_ref().map(|found| found.as_str()), Some(carrier));
        }

        let mut anna = Participant::connect(&cluster.door("sh-ct", "telecom in cn/east/shanghai", "anna", "")?).await?;
        anna.join("Anna").await?;
        wait::until("sh-ct has its one room", SOON, || async {
            let node = cluster.admin(&cluster.schedulers[0], "/v1/nodes/sh-ct").await.ok()?;
            (node["rooms"] == 1).then_some(())
        })
        .await?;
        assert_eq!(taker(&cluster, "on the carrier nearby", &[]).await?, "hz-ct");

        cluster.node_mut("hz-ct")?.process.kill().await?;
        wait::until("hz-ct is lost", SOON, || async {
            let node = cluster.admin(&cluster.schedulers[0], "/v1/nodes/hz-ct").await.ok()?;
            (node["state"] == "lost").then_some(())
        })
        .await?;
        assert_eq!(taker(&cluster, "in the province", &[]).await?, "sh-cu");
        assert_eq!(taker(&cluster, "anywhere", &["sh-cu"]).await?, "gz-cm");

        let refused = cluster.lookup_response(0, "default", "nowhere", shanghai(&["sh-cu", "gz-cm"])).await?;
        let expected = [
            ("gz-cm", "avoided"),
            ("hk", "outside_fence"),
            ("hz-ct", "not_alive"),
            ("sh-ct", "full_rooms"),
            ("sh-cu", "avoided"),
        ];
        assert_refused(refused, &expected).await?;
        drop(anna);
        cluster.stop().await
    });
}

#[test]
fn a_namespace_that_stays_near_refuses_what_is_far_with_each_nodes_reason() {
    run(async {
        let folder = tempfile::tempdir()?;
        let cluster = Cluster::start(national(folder.path())?).await?;
        let class = json!({ "region": "cn/east/jiangsu", "carrier": "unicom" });
        assert_eq!(cluster.lookup(0, "school", "class", class).await?.node.id.as_str(), "sh-cu");
        let far = json!({ "region": "cn/northwest/xinjiang", "carrier": "telecom" });
        let refused = cluster.lookup_response(0, "school", "far", far).await?;
        let far = ["gz-cm", "hk", "hz-ct", "sh-ct", "sh-cu"]
            .map(|node| (node, if node == "hk" { "outside_fence" } else { "beyond_ladder" }));
        assert_refused(refused, &far).await?;
        cluster.stop().await
    });
}

/// Shipped for a country, with free ports and synthetic media: one node in Shanghai that takes a single room.
fn national(folder: &std::path::Path) -> Result<Plan, Trouble> {
    let key = folder.join("cluster-key");
    std::fs::write(&key, "an-example-key-that-is-long-enough-0123456789\n")?;
    let file = binaries::tree().join("docker/config/national.toml").display().to_string();
    let on = |id, region, carrier| NodePlan::new(id, region).with(&["--carrier", carrier]);
    let mut plan = Plan::small();
    plan.nodes = vec![
        on("sh-ct", "cn/east/shanghai", "telecom").with(&["--max-rooms", "1"]),
        on("sh-cu", "cn/east/shanghai", "unicom"),
        on("hz-ct", "cn/east/zhejiang", "telecom"),
        on("gz-cm", "cn/south/guangdong", "mobile"),
        NodePlan::new("hk", "hk"),
    ];
    plan.cluster_key = Some(key);
    plan.scheduler_arguments = vec!["--config".to_owned(), file];
    Ok(plan)
}

/// A client of China Telecom in Shanghai.
fn shanghai(avoid: &[&str]) -> Value {
    json!({ "region": "cn/east/shanghai", "carrier": "telecom", "avoid": avoid })
}

/// The node that gets the room of such a client.
async fn taker(cluster: &Cluster, room: &str, avoid: &[&str]) -> Result<String, Trouble> {
    Ok(cluster.lookup(0, "default", room, shanghai(avoid)).await?.node.id.as_str().to_owned())
}

async fn assert_refused(response: reqwest::Response, expected: &[(&str, &str)]) -> Result<(), Trouble> {
    assert_eq!(response.status(), 503);
    let problem: Value = response.json().await?;
    assert_eq!(problem["code"], "no_node");
    let expected: Vec<_> = expected.iter().map(|(node, reason)| json!({ "node": node, "reason": reason })).collect();
    assert_eq!(problem["rejections"], Value::Array(expected));
    Ok(())
}
