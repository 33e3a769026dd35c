//! Moves of living rooms, as they are planned and ordered.

use roost_proto::command::{Action, Command};
use roost_proto::id::{Epoch, RoomKey};
use roost_proto::report::RoomReport;
use roost_proto::room::Expected;
use roost_store::operation::{Assert, Asserted, HandOver, HandedOver, NodeAnswer, NodeOperation, Right};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions, Row};

use crate::agent::Agent;
use crate::process::Scheduler;
use crate::wait;

#[tokio::test]
async fn a_plan_is_proposed_and_its_rooms_move_only_when_the_operator_says_so() {
    let (scheduler, fra, _other) = uneven().await;
    let proposed = proposed(&scheduler).await;
    let first = &proposed["moves"][0];
    assert_eq!((&proposed["applied"], &first["from"], &first["to"]), (&json!(false), &json!("fra-1"), &json!("fra-2")));
    assert_eq!((&first["participants"], &first["from_permille"]), (&json!(20), &json!([600, 400])), "{proposed}");
    assert!(!fra.commands.lock().unwrap().iter().any(|command| matches!(command.action, Action::MoveRoom { .. })));
    let (applied, ()) = tokio::join!(rebalance(&scheduler, json!({"apply": true})), obey(&fra, None));
    assert_eq!((&applied["applied"], &applied["moves"][0]["failed"]), (&json!(true), &Value::Null), "{applied}");
    let room = applied["moves"][0]["room"].as_str().unwrap();
    assert_eq!(scheduler.lookup(room, json!({})).await["node"]["id"], "fra-2");
    let wrong = rebalance(&scheduler, json!({"max_rooms": 0})).await;
    assert_eq!(wrong["detail"], "body max_rooms: 0: expected 1 to 200");
}

#[tokio::test]
async fn a_planned_move_that_ends_elsewhere_was_not_made() {
    let (scheduler, fra, _other) = uneven().await;
    proposed(&scheduler).await;
    let iad = Agent::start(&scheduler.cluster, "iad-1", "us").await;
    scheduler.knows(3).await;
    let (applied, ()) = tokio::join!(rebalance(&scheduler, json!({"apply": true})), obey(&fra, Some(&iad)));
    assert_eq!((&applied["moves"][0]["to"], &applied["moves"][0]["failed"]), (&json!("fra-2"), &json!("unfinished")));
}

#[tokio::test]
async fn a_room_goes_to_the_node_that_is_named_whoever_else_moves_it_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = format!("sqlite:{}", path.display());
    let scheduler = Scheduler::start_with(&["--dev", "--ledger", &ledger]).await.ready().await;
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu/central").await;
    let iad = Agent::start(&scheduler.cluster, "iad-1", "us/east").await;
    let _sin = Agent::start(&scheduler.cluster, "sin-1", "ap").await;
    scheduler.knows(3).await;
    let found = scheduler.lookup_from("eu", "x").await;
    fra.open("x", found["epoch"].as_u64().unwrap()).await;
    let url = format!("http://{}/v1/namespaces/default/rooms/x/move", scheduler.admin);
    let ordered = scheduler.http.post(url).json(&json!({"node": "sin-1"})).send();
    let (moved, ()) = tokio::join!(ordered, obey(&fra, Some(&iad)));
    let moved: Value = moved.unwrap().json().await.unwrap();
    assert_eq!(moved["node"], "sin-1", "{moved}");
    let moves = wait::until("both moves are rows", || async {
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.ok()?;
        let moves = sqlx::query("SELECT * FROM moves ORDER BY epoch").fetch_all(&mut connection).await.ok()?;
        (moves.len() == 2).then_some(moves)
    })
    .await;
    let text = |row: &SqliteRow| ["from_node", "node", "why"].map(|name| row.get::<String, _>(name));
    assert_eq!(text(&moves[0]), ["fra-1", "iad-1", "moved"]);
    assert_eq!(text(&moves[1]), ["iad-1", "sin-1", "granted_anew"], "nobody had come to iad-1 yet");
}

#[tokio::test]
async fn a_room_whose_namespace_is_configured_no_more_is_moved_drained_and_closed_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("roost.toml");
    std::fs::write(&config, "[scheduler]\nallow_unknown_namespaces = false\n[namespaces.other]\n").unwrap();
    let scheduler = Scheduler::start_with(&["--dev", "--config", config.to_str().unwrap()]).await.ready().await;
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu/central").await;
    let iad = Agent::start(&scheduler.cluster, "iad-1", "us/east").await;
    scheduler.knows(2).await;
    for room in ["x", "y"] {
        let assert = Assert { held: fra.holding(room, 7), incarnation: fra.incarnation, right: Right::Sure };
        let answer = fra.ask(NodeOperation::Assert(assert)).await;
        let NodeAnswer::Asserted(Asserted::Yes { epoch, .. }) = answer else { panic!("{answer:?}") };
        fra.say(|report| {
            report.changed.push(RoomReport {
                key: RoomKey::new("default", room).unwrap(),
                epoch,
                worker: 0,
                participants: 1,
                producers: 0,
                consumers: 0,
            });
            (report.rooms, report.participants) = (report.rooms + 1, report.participants + 1);
        });
    }
    let refused = scheduler.lookup_in("default", "x", &json!({})).await;
    assert_eq!(refused["code"], "namespace_not_allowed", "for clients it is none");
    let rooms = format!("http://{}/v1/namespaces/default/rooms", scheduler.admin);
    wait::until("the scheduler knows both rooms", || async {
        let known = scheduler.admin("/v1/nodes/fra-1").await["rooms"] == 2;
        let rooms = scheduler.admin("/v1/rooms").await["items"].as_array()?.len();
        (known && rooms == 2).then_some(())
    })
    .await;
    let (moved, ()) =
        tokio::join!(scheduler.http.post(format!("{rooms}/x/move")).json(&json!({})).send(), obey(&fra, None));
    let moved: Value = moved.unwrap().json().await.unwrap();
    assert_eq!((&moved["node"], &moved["room"]), (&json!("iad-1"), &json!("x")), "{moved}");
    fra.commands.lock().unwrap().clear();
    let drain = format!("http://{}/v1/nodes/fra-1/drain", scheduler.admin);
    let begun = scheduler.http.post(drain).json(&json!({"move": true})).send().await.unwrap();
    assert_eq!(begun.status(), 200);
    obey(&fra, None).await;
    wait::until("the drain has moved the other", || async {
        let rooms = scheduler.admin("/v1/rooms?node=iad-1").await;
        (rooms["items"].as_array()?.len() == 2).then_some(())
    })
    .await;
    let closed = async {
        let closed = scheduler.http.delete(format!("{rooms}/y")).send().await.unwrap();
        (closed.status().as_u16(), closed.json::<Value>().await.unwrap())
    };
    let ((status, closed), ()) = tokio::join!(closed, async {
        let told = wait::until("it is told to close", || async {
            let commands = iad.commands.lock().unwrap();
            commands.iter().find_map(|command| match command.action {
                Action::CloseRoom { epoch, .. } => Some(epoch),
                _ => None,
            })
        });
        iad.release("y", told.await.0).await;
    });
    assert_eq!((status, &closed["room"]), (200, &json!("y")), "{closed}");
}

/// Three rooms of 20 participants at `fra-1`, nobody at its peer `fra-2`.
async fn uneven() -> (Scheduler, Agent, Agent) {
    let scheduler = Scheduler::start().await.ready().await;
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu").await;
    scheduler.knows(1).await;
    let mut rooms = Vec::new();
    for room in ["a", "b", "c"] {
        let found = scheduler.lookup(room, json!({"expected_participants": 1})).await;
        let epoch = found["epoch"].as_u64().unwrap();
        fra.open(room, epoch).await;
        rooms.push(RoomReport {
            key: RoomKey::new("default", room).unwrap(),
            epoch: Epoch(epoch),
            worker: 0,
            participants: 20,
            producers: 0,
            consumers: 0,
        });
    }
    fra.say(|report| (report.participants, report.rooms, report.changed) = (60, 3, rooms));
    let other = Agent::start(&scheduler.cluster, "fra-2", "eu").await;
    scheduler.knows(2).await;
    (scheduler, fra, other)
}

async fn proposed(scheduler: &Scheduler) -> Value {
    wait::until("a plan is proposed", || async {
        let plan = rebalance(scheduler, json!({})).await;
        plan["moves"].as_array().is_some_and(|moves| moves.len() == 1).then_some(plan)
    })
    .await
}

async fn rebalance(scheduler: &Scheduler, body: Value) -> Value {
    let url = format!("http://{}/v1/rebalance", scheduler.admin);
    scheduler.http.post(url).json(&body).send().await.unwrap().json().await.unwrap()
}

/// Hands over the first room that the agent is told to move; to `other`, if there is one.
async fn obey(agent: &Agent, other: Option<&Agent>) {
    let told = wait::until("a command comes", || async {
        let commands = agent.commands.lock().unwrap();
        commands.iter().find(|command| matches!(command.action, Action::MoveRoom { .. })).cloned()
    });
    let Command { action: Action::MoveRoom { key, epoch, to, to_incarnation, ttl_ms, .. }, .. } = told.await else {
        unreachable!("it was looked for")
    };
    let held = agent.holding(key.room.as_str(), epoch.0);
    let (to, to_incarnation) = other.map_or((to, to_incarnation), |other| (other.node.clone(), other.incarnation));
    let hand_over = HandOver { held, to, to_incarnation, ttl_ms, expected: Expected::default() };
    let answer = agent.ask(NodeOperation::HandOver(hand_over)).await;
    assert!(matches!(answer, NodeAnswer::HandedOver(HandedOver::Yes { .. })), "{answer:?}");
}
