//! Reports that cannot be used: each is dropped and counted, and nothing else suffers.

use futures_util::{SinkExt, StreamExt};
use roost_proto::id::{Epoch, RoomKey};
use roost_proto::report::{EndedRoom, RoomReport};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::agent::{Agent, connect, report};
use crate::process::Scheduler;
use crate::redis::Redis;
use crate::wait;

#[tokio::test]
async fn a_report_by_hand_in_redis_harms_neither_its_node_nor_others() {
    let redis = Redis::start().await;
    let scheduler = redis.scheduler().await;
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu").await;
    scheduler.knows(1).await;
    let good = serde_json::to_value(fra.report.lock().unwrap().clone()).unwrap();
    let with = |change: fn(&mut Value)| {
        let mut report = good.clone();
        change(&mut report);
        report.to_string()
    };
    let everywhere = good.to_string().replace("\"seq\":", "\"seq\":18446744073709551615,\"was\":");
    for (text, reason, count) in [
        ("garbage".to_owned(), "unreadable", 1),
        (with(|report| report["participants"] = json!(-3)), "unreadable", 2),
        (good.to_string().replace("\"cpu_permille\":0,\"cpus\"", "\"cpu_permille\":1e999,\"cpus\""), "unreadable", 3),
        (everywhere, "impossible", 1),
    ] {
        redis.report(&fra, &text).await;
        counted(&scheduler, reason, count).await;
    }
    let old = dropped(&scheduler, "old").await;
    redis.report(&fra, &with(|report| report["seq"] = json!(1))).await;
    counted(&scheduler, "old", old + 1).await;
    // Of the largest numbers that a report can hold, one for each field, none is added up with an overflow.
    let mut report = report("huge-1", "eu");
    report.incarnation = fra.incarnation;
    (report.rooms, report.participants, report.streams) = (u32::MAX, u32::MAX, u32::MAX);
    (report.host.cpu_permille, report.host.cpus) = (u32::MAX, u32::MAX);
    (report.host.memory_used_bytes, report.host.memory_total_bytes) = (u64::MAX, u64::MAX);
    (report.host.network_rx_bps, report.host.network_tx_bps) = (u64::MAX, u64::MAX);
    report.description.priority = i32::MIN;
    redis.report(&fra, &serde_json::to_string(&report).unwrap()).await;
    scheduler.knows(2).await;
    let node = scheduler.admin("/v1/nodes/huge-1").await;
    assert_eq!(node["participants"], u32::MAX, "{node}");
    assert_eq!(scheduler.admin("/v1/cluster").await["participants"], u32::MAX, "the total is cut");
    assert_eq!(scheduler.admin("/v1/nodes/fra-1").await["state"], "alive");
    assert_eq!(scheduler.lookup("x", json!({})).await["node"]["id"], "fra-1");
}

#[tokio::test]
async fn an_agents_own_unusable_report_is_dropped_and_its_connection_goes_on() {
    let scheduler = Scheduler::start().await;
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu").await;
    scheduler.knows(1).await;
    let mut socket = connect(&scheduler.cluster).await;
    let renewal = r#"{"id":7,"op":{"op":"renew","run":"r","report":{"node":"fra-1","participants":-1}}}"#;
    for (request, answer) in [(renewal, "unavailable"), (r#"{"id":8,"op":{"op":"identity"}}"#, "identity")] {
        socket.send(Message::text(request)).await.unwrap();
        let text = loop {
            // Pings come in between.
            if let Message::Text(text) = socket.next().await.expect("an answer").unwrap() {
                break text;
            }
        };
        let reply: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(reply["answer"]["answer"], answer, "{reply}");
    }
    counted(&scheduler, "unreadable", 1).await;
    let key = RoomKey::new("default", "x").unwrap();
    let room =
        RoomReport { key: key.clone(), epoch: Epoch(1), worker: 0, participants: u32::MAX, producers: 0, consumers: 0 };
    fra.say(|report| report.changed = vec![room]);
    counted(&scheduler, "impossible", 1).await;
    fra.say(|report| (report.changed, report.ended) = (vec![], vec![EndedRoom { key, epoch: Epoch(u64::MAX) }]));
    counted(&scheduler, "impossible", 2).await;
    fra.say(|report| (report.ended, report.participants) = (vec![], 17));
    wait::until("the next report is told", || async {
        Some(scheduler.admin("/v1/nodes/fra-1").await).filter(|node| node["participants"] == 17)
    })
    .await;
    assert_eq!(scheduler.admin("/v1/cluster").await["rooms"], 0);
}

/// Waits until at least so many were dropped for this reason.
async fn counted(scheduler: &Scheduler, reason: &str, count: u64) {
    wait::until(reason, || async { (dropped(scheduler, reason).await >= count).then_some(()) }).await;
}

async fn dropped(scheduler: &Scheduler, reason: &str) -> u64 {
    let url = format!("http://{}/metrics", scheduler.admin);
    let text = scheduler.http.get(url).send().await.unwrap().text().await.unwrap();
    let name = format!("roost_reports_dropped_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}
