//! Closing a room whose holder does something else.

use roost_proto::command::Action;
use roost_proto::id::RoomKey;
use roost_proto::room::Expected;
use roost_store::operation::{Assert, Asserted, HandOver, NodeAnswer, NodeOperation, Right};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Row};

use crate::agent::Agent;
use crate::process::Scheduler;
use crate::wait;

#[tokio::test]
async fn a_room_that_goes_elsewhere_is_not_closed_and_the_ledger_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = format!("sqlite:{}", path.display());
    let scheduler = Scheduler::start_with(&["--dev", "--ledger", &ledger]).await.ready().await;
    let (fra, iad, epoch) = open_room(&scheduler).await;
    let hand_over = HandOver {
        held: fra.holding("x", epoch),
        to: iad.node.clone(),
        to_incarnation: iad.incarnation,
        ttl_ms: 30_000,
        expected: Expected::default(),
    };
    let ((status, answer), _) = tokio::join!(close(&scheduler), async {
        told_to_close(&fra, epoch).await;
        fra.ask(NodeOperation::HandOver(hand_over)).await
    });
    assert_eq!((status, &answer["code"]), (503, &json!("unfinished")), "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("node iad-1"), "{answer}");
    let detail = wait::until("the action is a row", || async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let mut connection = options.connect().await.ok()?;
        let row = sqlx::query("SELECT detail FROM actions WHERE action = 'close_room' AND subject = 'default/x'");
        Some(row.fetch_one(&mut connection).await.ok()?.get::<String, _>("detail"))
    })
    .await;
    assert_eq!(detail, r#"{"failed":"unfinished"}"#);
}

#[tokio::test]
async fn a_room_that_its_node_asserts_anew_is_closed_in_that_generation() {
    let scheduler = Scheduler::start().await.ready().await;
    let (fra, _iad, epoch) = open_room(&scheduler).await;
    let held = fra.holding("x", epoch);
    let ((status, answer), next) = tokio::join!(close(&scheduler), async {
        told_to_close(&fra, epoch).await;
        fra.leave().await;
        let again = Agent::start(&scheduler.cluster, "fra-1", "eu/central").await;
        let assert = Assert { held, incarnation: again.incarnation, right: Right::Sure };
        let answer = again.ask(NodeOperation::Assert(assert)).await;
        let NodeAnswer::Asserted(Asserted::Yes { epoch, .. }) = answer else { panic!("{answer:?}") };
        told_to_close(&again, epoch.0).await;
        again.release("x", epoch.0).await;
        epoch.0
    });
    assert_eq!((status, answer["epoch"].as_u64()), (200, Some(next)), "{answer}");
    assert!(next > epoch);
}

#[tokio::test]
async fn a_room_of_a_lost_node_cannot_be_closed() {
    let scheduler = Scheduler::start().await.ready().await;
    let (fra, _iad, _) = open_room(&scheduler).await;
    drop(fra);
    wait::until("the node is lost", || async {
        (scheduler.admin("/v1/nodes/fra-1").await["state"] == "lost").then_some(())
    })
    .await;
    let (status, answer) = close(&scheduler).await;
    assert_eq!((status, &answer["code"]), (503, &json!("no_node")), "{answer}");
    assert_eq!(answer["rejections"], json!([{"node": "fra-1", "reason": "not_alive"}]));
}

/// Two nodes, of which the first has the room `x` open in this epoch.
async fn open_room(scheduler: &Scheduler) -> (Agent, Agent, u64) {
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu/central").await;
    let iad = Agent::start(&scheduler.cluster, "iad-1", "us/east").await;
    scheduler.knows(2).await;
    let epoch = scheduler.lookup_from("eu", "x").await["epoch"].as_u64().unwrap();
    fra.open("x", epoch).await;
    (fra, iad, epoch)
}

async fn close(scheduler: &Scheduler) -> (u16, Value) {
    let url = format!("http://{}/v1/namespaces/default/rooms/x", scheduler.admin);
    let response = scheduler.http.delete(url).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn told_to_close(agent: &Agent, wanted: u64) {
    let wanted_key = RoomKey::new("default", "x").unwrap();
    wait::until("the command comes", || async {
        let commands = agent.commands.lock().unwrap();
        let is_it = |action: &Action| matches!(action, Action::CloseRoom { key, epoch } if *key == wanted_key && epoch.0 == wanted);
        commands.iter().any(|command| is_it(&command.action)).then_some(())
    })
    .await;
}
