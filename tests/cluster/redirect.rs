//! A client connects anywhere and is sent to its room's node.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use roost_tests::cluster::{Cluster, Plan};
use roost_tests::participant::Participant;

use crate::run;

#[test]
fn participants_who_connect_to_the_scheduler_or_a_wrong_node_meet_in_one_room() {
    for plan in [Plan::small(), Plan::small().with_redis(2)] {
        run(async {
            let cluster = Cluster::start(plan).await?;
            let home = cluster.lookup_from("eu/central", "standup").await?;
            assert_eq!(home.node.id.as_str(), "fra-1");
            let mut anna = Participant::arrive(&cluster.door("iad-1", "standup", "anna", "")?).await?;
            anna.join("Anna").await?;
            let last = cluster.schedulers.last().ok_or("no scheduler")?;
            let scheduler = format!("ws://{}/signaling?roomId=standup&peerId=ben", last.public);
            let mut ben = Participant::arrive(&scheduler).await?;
            let answer = ben.join("Ben").await?;
            assert_eq!(answer["peers"][0]["id"], "anna", "{answer}");
            assert_eq!(anna.expect("newPeer").await?["id"], "ben");
            assert_eq!((anna.redirects, ben.redirects), (1, 1));
            cluster.stop().await
        });
    }
}

#[test]
fn a_redirect_closes_with_4000_so_that_stock_clients_do_not_come_back() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        cluster.lookup_from("eu/central", "standup").await?;
        let scheduler = format!("ws://{}/?roomId=standup&peerId=p", cluster.schedulers[0].public);
        for door in [scheduler, cluster.door("iad-1", "standup", "p", "")?] {
            let mut participant = Participant::connect(&door).await?;
            let redirect = participant.expect("redirect").await?;
            assert_eq!(redirect["node"], "fra-1");
            assert!(redirect["location"].as_str().ok_or("no location")?.contains("redirects=1"), "{redirect}");
            let closed = participant.closed().await?;
            assert_eq!((closed.code, closed.reason.as_str()), (4000, "redirect"));
        }
        cluster.stop().await
    });
}

#[test]
fn the_fourth_redirect_is_refused() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        cluster.lookup_from("eu/central", "standup").await?;
        let query = "roomId=standup&peerId=p&redirects=3";
        let scheduler = format!("ws://{}/?{query}", cluster.schedulers[0].public);
        let node = format!("ws://{}/?{query}", cluster.node("iad-1")?.signaling);
        for door in [scheduler, node] {
            let mut participant = Participant::connect(&door).await?;
            assert_eq!(participant.expect("error").await?["code"], "too_many_redirects");
            assert_eq!(participant.closed().await?.code, 4000);
        }
        cluster.stop().await
    });
}

#[test]
fn a_sora_style_client_is_redirected_by_scheduler_and_node() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        cluster.lookup_from("eu/central", "standup").await?;
        for door in [&cluster.schedulers[0].public, &cluster.node("iad-1")?.signaling] {
            let answer = say_connect(&format!("ws://{door}/signaling"), "standup").await?;
            assert_eq!(answer["type"], "redirect", "{answer}");
            let location = answer["location"].as_str().ok_or("no location")?;
            assert!(location.starts_with(&format!("ws://{}", cluster.node("fra-1")?.signaling)), "{location}");
        }
        let home = format!("ws://{}/signaling", cluster.node("fra-1")?.signaling);
        let answer = say_connect(&home, "standup").await?;
        assert_eq!((&answer["type"], &answer["problem"]["code"]), (&json!("error"), &json!("not_implemented")));
        cluster.stop().await
    });
}

async fn say_connect(url: &str, channel: &str) -> Result<Value, roost_tests::Trouble> {
    let (mut socket, _) = connect_async(url).await?;
    let connect = json!({"type": "connect", "role": "sendrecv", "channel_id": channel});
    socket.send(Message::text(connect.to_string())).await?;
    loop {
        if let Message::Text(text) = socket.next().await.ok_or("closed without an answer")?? {
            return Ok(serde_json::from_str(&text)?);
        }
    }
}
