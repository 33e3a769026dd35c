//! The log of decisions: a line for each, fewer when there are many, each part of it a field.

use std::path::Path;
use std::time::Instant;

use roost_proto::report::Mode;
use serde_json::{Value, json};

use crate::agent::{Agent, report};
use crate::process::Scheduler;
use crate::wait;

#[tokio::test]
async fn a_decision_is_one_line_with_a_field_for_each_part() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let scheduler = Scheduler::start_logged(&["--dev", "--log-format", "json"], &log).await.ready().await;
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu/central").await;
    let mut closed = report("iad-1", "us/east");
    closed.mode = Mode::Draining;
    let _iad = Agent::start_with(&scheduler.cluster, closed).await;
    scheduler.knows(2).await;
    let body = json!({"region": "eu/central", "carrier": "telekom", "expected_participants": 12, "request_id": "r-1"});
    let placed = scheduler.lookup("a%20%22room%22", body.clone()).await;
    scheduler.lookup("a%20%22room%22", body).await;
    let nowhere = json!({"avoid": [fra.node], "request_id": "r-2"});
    assert_eq!(scheduler.lookup_in("default", "b", &nowhere).await["code"], "no_node");
    let lines =
        wait::until("both decisions are logged", || async { Some(decisions(&log)).filter(|l| l.len() >= 2) }).await;
    assert_eq!(lines.len(), 2, "a room that lives is no decision: {lines:?}");
    for (field, value) in [
        ("level", json!("INFO")),
        ("outcome", json!("placed")),
        ("namespace", json!("default")),
        ("room", json!("a \"room\"")),
        ("node", json!("fra-1")),
        ("epoch", placed["epoch"].clone()),
        ("rung", json!("region+carrier")),
        ("region", json!("eu/central")),
        ("carrier", json!("telekom")),
        ("expected", json!(10)),
        ("hint", json!(12)),
        ("standing", json!("sound")),
        ("load_band", json!(0)),
        ("load_permille", json!(0)),
        ("reserved_permille", json!(0)),
        ("request_id", json!("r-1")),
        ("sampled", Value::Null),
    ] {
        assert_eq!(lines[0][field], value, "{field} of {}", lines[0]);
    }
    assert!(lines[0]["took_us"].as_u64().unwrap() > 0);
    for (field, value) in [
        ("outcome", json!("refused")),
        ("code", json!("no_node")),
        ("room", json!("b")),
        ("avoid", json!(1)),
        ("avoided", json!(1)),
        ("mode", json!(1)),
        ("full_rooms", Value::Null),
        ("request_id", json!("r-2")),
    ] {
        assert_eq!(lines[1][field], value, "{field} of {}", lines[1]);
    }
}

#[tokio::test]
async fn of_many_decisions_some_are_written_and_say_for_how_many_they_stand() {
    const LOOKUPS: u64 = 700;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let scheduler = Scheduler::start_logged(&["--dev", "--log-format", "json"], &log).await.ready().await;
    let _fra = Agent::start(&scheduler.cluster, "fra-1", "eu/central").await;
    scheduler.knows(1).await;
    let started = Instant::now();
    for some in 0..LOOKUPS / 50 {
        let rooms: Vec<String> = (0..50).map(|i| format!("room-{some}-{i}")).collect();
        futures_util::future::join_all(rooms.iter().map(|room| scheduler.lookup(room, json!({})))).await;
    }
    let seconds = started.elapsed().as_secs() + 2;
    // A line is written before its lookup is answered.
    let lines = decisions(&log);
    let sampled = lines.iter().filter(|line| line["sampled"] == 100).count() as u64;
    let full = lines.iter().filter(|line| line["sampled"].is_null()).count() as u64;
    assert_eq!(sampled + full, lines.len() as u64);
    assert!(full >= 50 && full <= 50 * seconds, "{full} in {seconds} s");
    let told = full + 100 * sampled;
    assert!(told <= LOOKUPS && LOOKUPS - told < 100 * seconds, "{told} of {LOOKUPS} in {seconds} s");
}

#[tokio::test]
async fn rooms_that_live_are_told_of_to_whoever_asks_for_details() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let arguments = ["--dev", "--log-format", "json", "--log-level", "warn,decision=debug"];
    let scheduler = Scheduler::start_logged(&arguments, &log).await.ready().await;
    let _fra = Agent::start(&scheduler.cluster, "fra-1", "eu/central").await;
    scheduler.knows(1).await;
    for _ in 0..3 {
        scheduler.lookup("x", json!({})).await;
    }
    let lines = wait::until("three lines", || async { Some(decisions(&log)).filter(|lines| lines.len() == 3) }).await;
    let outcomes: Vec<&str> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["placed", "existing", "existing"]);
}

/// The lines of the log that are decisions; the last line of the file may be half written.
fn decisions(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["target"] == "decision").collect()
}
