//! A client asks where its room lives.

use serde_json::json;

use roost_proto::lookup::Outcome;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::participant::Participant;

use crate::run;

#[test]
fn a_room_goes_to_the_clients_region_and_stays_there() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        for (region, node) in [("eu/central", "fra-1"), ("us/east", "iad-1"), ("us/west", "iad-1")] {
            let room = format!("room of {region}");
            let first = cluster.lookup_from(region, &room).await?;
            assert_eq!((first.outcome, first.node.id.as_str()), (Outcome::Placed, node), "{region}");
            let again = cluster.lookup_from("eu/central", &room).await?;
            assert_eq!((again.outcome, &again.node, again.epoch), (Outcome::Existing, &first.node, first.epoch));
        }
        cluster.stop().await
    });
}

#[test]
fn an_open_room_is_read_and_listed_with_its_participants() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        let found = cluster.lookup_from("eu/central", "standup").await?;
        let mut anna = Participant::connect(&cluster.door("fra-1", "standup", "anna", &found.ticket)?).await?;
        anna.join("Anna").await?;
        let scheduler = &cluster.schedulers[0];
        let path = "/v1/namespaces/default/rooms/standup";
        roost_tests::wait::until("the room is open with one participant", SOON, || async {
            let room = cluster.http.get(format!("http://{}{path}", scheduler.public)).send().await.ok()?;
            let room: serde_json::Value = room.json().await.ok()?;
            (room["state"] == "open" && room["participants"] == 1 && room["node"] == "fra-1").then_some(())
        })
        .await?;
        let rooms = cluster.admin(scheduler, "/v1/rooms?namespace=default&node=fra-1").await?;
        assert_eq!(rooms["items"][0]["room"], "standup", "{rooms}");
        let none = cluster.admin(scheduler, "/v1/rooms?node=iad-1").await?;
        assert_eq!(none["items"], json!([]));
        cluster.stop().await
    });
}

#[test]
fn no_node_for_a_namespace_is_answered_with_each_reason() {
    run(async {
        let mut plan = Plan::small();
        plan.nodes = vec![NodePlan::new("fra-1", "eu/central").with(&["--namespace", "acme"])];
        let cluster = Cluster::start(plan).await?;
        let response = cluster.lookup_response(0, "other", "x", json!({})).await?;
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
        let problem: serde_json::Value = response.json().await?;
        assert_eq!(problem["code"], "no_node");
        assert_eq!(problem["rejections"], json!([{"node": "fra-1", "reason": "wrong_namespace"}]));
        assert_eq!(cluster.lookup(0, "acme", "x", json!({})).await?.node.id.as_str(), "fra-1");
        cluster.stop().await
    });
}

#[test]
fn nodes_and_rooms_come_in_pages() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        for index in 0..7 {
            cluster.lookup_from("eu/central", &format!("room-{index}")).await?;
        }
        let scheduler = &cluster.schedulers[0];
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = cluster.admin(scheduler, &format!("/v1/rooms?limit=3{cursor}")).await?;
            let items = page["items"].as_array().ok_or("no items")?;
            assert!(items.len() <= 3);
            seen.extend(items.iter().map(|room| room["room"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, (0..7).map(|index| format!("room-{index}")).collect::<Vec<_>>());
        assert_eq!(cluster.admin(scheduler, "/v1/nodes/fra-1").await?["region"], "eu/central");
        assert_eq!(cluster.admin(scheduler, "/v1/nodes/none").await?["code"], "node_not_found");
        cluster.stop().await
    });
}

const SOON: std::time::Duration = std::time::Duration::from_secs(5);
