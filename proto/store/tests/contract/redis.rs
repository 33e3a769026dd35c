//! What only Redis can do to us: losing connections and data, refusing, being slow, other users.

use std::sync::Arc;
use std::time::Duration;

use roost_proto::event::Event;
use roost_proto::id::{Epoch, Incarnation};
use roost_proto::report::Mode;
use roost_proto::room::{ClaimState, Expected};
use roost_store::operation::{Granted, Opened, Steer, Steered};
use roost_store::{NodeStore, RedisSettings, RedisStore, Store, StoreError};

use crate::made::{
    LONG_MS, grant, grant_and_open, holding, node, register, renewal, room, run_of, run_of_node, try_grant,
};
use crate::server::Server;
use crate::stage::{client, ended, next, until};

#[tokio::test]
async fn an_empty_restart_is_a_new_run_and_epochs_go_on_from_the_time() {
    let mut server = Server::start().await;
    let store = client(&server);
    let claim = grant_and_open(&*store, &room("standup"), "fra-1", 1).await;
    let runs = store.runs().await.unwrap();
    server.restart(false).await;
    until("a new run", || async { store.runs().await.is_ok_and(|after| after != runs) }).await;
    let answer = store.open(holding(&room("standup"), &claim)).await.unwrap();
    assert!(matches!(answer, Opened::NewRun { .. }), "{answer:?}");
    assert!(grant(&*store, &room("standup"), "fra-2", 1).await.epoch > claim.epoch);
}

#[tokio::test]
async fn while_redis_is_away_every_call_says_so_and_recovers_after() {
    let mut server = Server::start().await;
    let store = client(&server);
    let claim = grant(&*store, &room("standup"), "fra-1", 1).await;
    let run = claim.run.clone();
    server.kill();
    // The first may have been sent before the end was noticed.
    let first = store.open(holding(&room("standup"), &claim)).await.unwrap_err();
    assert!(matches!(first, StoreError::Unknown { .. } | StoreError::Unavailable { .. }), "{first}");
    for _ in 0..3 {
        let refused = store.open(holding(&room("standup"), &claim)).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable { .. } | StoreError::Refused { .. }), "{refused}");
        assert!(store.watch().await.is_err());
    }
    server.start_again().await;
    until("the store answers", || async { store.runs().await.is_ok() }).await;
    assert_ne!(run_of(&*store, &room("standup")).await, run);
    grant(&*store, &room("standup"), "fra-1", 1).await;
}

#[tokio::test]
async fn a_call_whose_connection_is_cut_is_unknown_and_the_run_goes_on() {
    let server = Server::start().await;
    let settings = RedisSettings { connections: 1, ..RedisSettings::default() };
    let store = Arc::new(RedisStore::new(&server.url(), &settings).unwrap());
    let claim = grant_and_open(&*store, &room("standup"), "fra-1", 1).await;
    server.command(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
    let waiting = tokio::spawn({
        let store = store.clone();
        let holding = holding(&room("standup"), &claim);
        async move { store.release(holding).await }
    });
    until("the call was sent", || async {
        let clients: String = server.ask(&["CLIENT", "LIST"]).await;
        clients.contains("cmd=evalsha") && clients.contains("flags=b")
    })
    .await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    let cut = waiting.await.unwrap();
    assert!(matches!(cut, Err(StoreError::Unknown { .. })), "{cut:?}");
    server.command(&["CLIENT", "UNPAUSE"]).await;
    assert_eq!(store.read(&room("standup")).await.unwrap(), Some(claim));
    // A connection that ends while nobody calls costs no call anything.
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    until("the end was noticed", || async { store.runs().await.is_ok() }).await;
}

#[tokio::test]
async fn an_answer_that_comes_late_is_unknown_and_the_call_may_be_done() {
    let server = Server::start().await;
    let settings = RedisSettings { timeout: Duration::from_millis(100), ..RedisSettings::default() };
    let store = RedisStore::new(&server.url(), &settings).unwrap();
    let run = run_of(&store, &room("standup")).await;
    let mut connection = server.connection().await;
    let busy = redis::Script::new(
        "local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end
         local start = now() repeat until now() - start > 400",
    );
    let mut probe = server.connection().await;
    probe.set_response_timeout(Duration::from_millis(30));
    let grant = roost_store::operation::Grant {
        room: room("standup"),
        run,
        seen: None,
        node: node("fra-1"),
        incarnation: Incarnation(1),
        ttl_ms: LONG_MS,
        expected: Expected::default(),
    };
    let busy = tokio::spawn(async move { busy.invoke_async::<_, ()>(&mut connection).await });
    until("the server is busy", || {
        let mut probe = probe.clone();
        async move { redis::cmd("PING").query_async::<()>(&mut probe).await.is_err() }
    })
    .await;
    let late = store.grant(grant).await;
    assert!(matches!(late, Err(StoreError::Unknown { .. })), "{late:?}");
    busy.await.unwrap().unwrap();
    until("the grant is there all the same", || async {
        store.read(&room("standup")).await.is_ok_and(|claim| claim.is_some())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_to_write_has_certainly_not_written() {
    let server = Server::start().await;
    let store = client(&server);
    let room = room("standup");
    let claim = grant(&*store, &room, "fra-1", 1).await;
    for (refuse, allow) in [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (["CONFIG", "SET", "min-replicas-to-write", "1"], ["CONFIG", "SET", "min-replicas-to-write", "0"]),
    ] {
        server.command(&refuse).await;
        let refused = store.open(holding(&room, &claim)).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
        server.command(&allow).await;
    }
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let refused = store.open(holding(&room, &claim)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(store.open(holding(&room, &claim)).await.unwrap(), Opened::Yes);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_loaded_again_unnoticed() {
    let server = Server::start().await;
    let store = client(&server);
    grant(&*store, &room("one"), "fra-1", 1).await;
    server.command(&["SCRIPT", "FLUSH"]).await;
    grant(&*store, &room("two"), "fra-1", 1).await;
}

#[tokio::test]
async fn two_prefixes_share_a_server_and_nothing_else() {
    let server = Server::start().await;
    let settings = |prefix: &str| RedisSettings { prefix: prefix.to_owned(), ..RedisSettings::default() };
    let one = RedisStore::new(&server.url(), &settings("one")).unwrap();
    let two = RedisStore::new(&server.url(), &settings("two")).unwrap();
    let mut events = two.watch().await.unwrap();
    let claim = grant_and_open(&one, &room("standup"), "fra-1", 1).await;
    assert_eq!(two.read(&room("standup")).await.unwrap(), None);
    assert_ne!(one.identity().await.unwrap(), two.identity().await.unwrap());
    assert_ne!(one.runs().await.unwrap(), two.runs().await.unwrap());
    let other = grant(&two, &room("standup"), "fra-2", 1).await;
    let seen = next(&mut events).await;
    assert!(matches!(seen, roost_proto::event::Event::Claimed { claim, .. } if claim == other));
    assert_eq!(one.read(&room("standup")).await.unwrap(), Some(claim));
    let keys: Vec<String> = server.ask(&["KEYS", "*"]).await;
    assert!(keys.iter().all(|key| key.starts_with("one:{b") || key.starts_with("two:{b")), "{keys:?}");
}

/// The commands that src/redis/mod.rs names, and no more.
#[tokio::test]
async fn a_user_with_the_documented_commands_can_do_everything() {
    let documented = documented("");
    assert!(documented.len() > 20, "{documented:?}");
    let server = Server::start().await;
    let mut words = vec!["ACL", "SETUSER", "roost", "on", ">secret", "resetkeys", "~cluster:*", "-@all"];
    words.extend(documented);
    server.command(&words).await;
    let url = server.url().replace("redis://", "redis://roost:secret@");
    let settings = RedisSettings { prefix: "cluster".to_owned(), ..RedisSettings::default() };
    let store = RedisStore::new(&url, &settings).unwrap();
    everything(&store).await;
    let foreign = RedisStore::new(&url, &RedisSettings::default()).unwrap();
    let refused = foreign.runs().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable { .. }), "{refused}");
    let nobody = RedisStore::new(&server.url().replace("redis://", "redis://roost:wrong@"), &settings).unwrap();
    let refused = nobody.runs().await.unwrap_err();
    assert!(!refused.to_string().contains("wrong@"), "{refused}");
}

/// What an ACL user needs, by src/redis/mod.rs; with what one `kind` of store needs besides.
pub(crate) fn documented(kind: &str) -> Vec<&'static str> {
    let section = include_str!("../../README.md").split("\n## ").find(|section| section.starts_with("The ACL user"));
    let lines = section.expect("the list is there").lines();
    let lines = lines.filter(|line| !line.contains(" also: ") || !kind.is_empty() && line.contains(kind));
    let words = lines.flat_map(str::split_whitespace).map(|word| word.trim_matches(|c: char| "`(),.".contains(c)));
    words.filter(|word| word.starts_with('+')).collect()
}

/// Each call once; some of what they do differs with what is there already.
pub(crate) async fn everything(store: &RedisStore) {
    let room = room("standup");
    store.runs().await.unwrap();
    store.identity().await.unwrap();
    store.now_ms().await.unwrap();
    let claim = grant(store, &room, "fra-1", 1).await;
    store.prolong(&room, &claim, LONG_MS).await.unwrap();
    let mut commands = store.commands(&node("fra-1"), Incarnation(1)).await.unwrap();
    let mut events = store.watch().await.unwrap();
    next(&mut events).await;
    store.open(holding(&room, &claim)).await.unwrap();
    next(&mut events).await;
    store.assert(crate::made::assertion(store, &room, &claim, 2).await).await.unwrap();
    store.release(holding(&room, &store.read(&room).await.unwrap().unwrap())).await.unwrap();
    let raise =
        roost_store::operation::Raise { bucket: 3, run: store.runs().await.unwrap()[3].clone(), epoch: Epoch(1) };
    store.raise(raise).await.unwrap();
    let mut incarnation = Incarnation(0);
    for _ in 0..10 {
        incarnation = register(store, "fra-1", incarnation.0, 0).await;
    }
    assert_eq!(store.leases(&node("fra-1")).await.unwrap().len(), 8);
    let incarnation = register(store, "fra-1", incarnation.0, LONG_MS).await;
    let renewal = renewal(store, "fra-1", incarnation, LONG_MS).await;
    store.renew(renewal.clone()).await.unwrap();
    store.leave(roost_store::operation::Leave { node: node("fra-1"), run: renewal.run, incarnation }).await.unwrap();
    let entry =
        roost_store::operation::SchedulerEntry { id: "a".into(), cluster_url: String::new(), version: String::new() };
    for _ in 0..2 {
        store.enlist(entry.clone(), 1).await.unwrap();
    }
    store.schedulers().await.unwrap();
    let command = roost_proto::command::Command {
        v: 1,
        incarnation: Incarnation(1),
        action: roost_proto::command::Action::ReportAll,
    };
    store.send(&node("fra-1"), command.clone()).await.unwrap();
    assert_eq!(commands.recv().await, Some(command));
}

#[tokio::test]
async fn a_broken_record_is_named_and_harms_no_other_room() {
    let server = Server::start().await;
    let store = client(&server);
    let broken = room("broken");
    let run = run_of(&*store, &broken).await;
    let key = format!("roost:{{b{}}}:room:default/broken", broken.bucket());
    server.command(&["SET", &key, &format!("{} nonsense", run.0)]).await;
    let claim = grant_and_open(&*store, &room("whole"), "fra-1", 1).await;
    let error = store.read(&broken).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { key: named, .. } if *named == key), "{error}");
    let mut events = store.watch().await.unwrap();
    let seen = next(&mut events).await;
    assert!(matches!(seen, roost_proto::event::Event::Claimed { claim: seen, .. } if seen == claim));
}

#[tokio::test]
async fn who_begins_to_watch_is_told_what_was_expected_of_the_rooms_that_were_granted_lately() {
    let server = Server::start().await;
    let store = client(&server);
    let (early, lately) = (room("early"), room("lately"));
    let before = grant_and_open(&*store, &early, "fra-1", 1).await;
    let incarnation = Incarnation(2);
    store.assert(crate::made::assertion(&*store, &early, &before, incarnation.0).await).await.unwrap();
    grant_and_open(&*store, &lately, "fra-1", 1).await;
    let mut events = store.watch().await.unwrap();
    for _ in 0..2 {
        let Event::Claimed { key, claim, expected, .. } = next(&mut events).await else { panic!() };
        assert_eq!(claim.state, ClaimState::Open);
        if key == lately {
            assert_eq!((expected.participants, expected.hint), (12, 15));
            assert!((1..60_000).contains(&expected.age_ms), "{expected:?}");
        } else {
            assert_eq!(expected, Expected::default(), "that was another epoch");
        }
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_used_is_dropped_and_counted_and_the_next_one_is_told() {
    let server = Server::start().await;
    let store = client(&server);
    let incarnation = register(&*store, "fra-1", 0, LONG_MS).await;
    let good = renewal(&*store, "fra-1", incarnation, LONG_MS).await.report;
    let stream = format!("roost:{{b{}}}:reports", node("fra-1").bucket());
    let text = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut report = serde_json::to_value(&good).unwrap();
        change(&mut report);
        report.to_string()
    };
    let unreadable = [
        "garbage".to_owned(),
        "\u{1f642}[[[[".to_owned(),
        "{\"node\":\"fra-1\"}".to_owned(),
        text(&|report| report["participants"] = (-1).into()),
        text(&|report| report["participants"] = serde_json::Value::Null),
        text(&|report| report["streams"] = 1.5.into()),
        text(&|report| report["rooms"] = u64::MAX.into()),
        text(&|report| report["host"]["cpu_permille"] = "NaN".into()),
        text(&|report| report["host"]["memory_used_bytes"] = serde_json::Value::Null),
        text(&|_| ()).replace("\"network_rx_bps\":0", "\"network_rx_bps\":1e999"),
        text(&|_| ()).replace("\"seq\":", "\"seq\":-"),
    ];
    let huge_room = serde_json::json!({
        "namespace": "default", "room": "x", "epoch": 1, "worker": 0, "participants": u32::MAX, "producers": 0, "consumers": 0
    });
    let impossible = [
        text(&|report| report["seq"] = u64::MAX.into()),
        text(&|report| report["incarnation"] = u64::MAX.into()),
        text(&|report| report["changed"] = [huge_room.clone()].into_iter().collect()),
        text(&|report| {
            report["ended"] = serde_json::json!([{"namespace": "default", "room": "x", "epoch": u64::MAX}]);
        }),
    ];
    // One is there before the watch begins.
    server.command(&["SET", &stream.replace("reports", "report:fra-1"), &unreadable[3]]).await;
    let mut events = store.watch().await.unwrap();
    for text in unreadable.iter().chain(&impossible) {
        server.command(&["XADD", &stream, "*", "report", text]).await;
    }
    server.command(&["XADD", &stream, "*", "nonsense", "1"]).await;
    server.command(&["XADD", &stream, "*", "left", "fra-1", "incarnation", &u64::MAX.to_string()]).await;
    server
        .command(&["XADD", &stream, "*", "report", &text(&|report| report["host"]["network_rx_bps"] = u64::MAX.into())])
        .await;
    let roost_proto::event::Event::Reported(seen) = next(&mut events).await else { panic!("a report comes first") };
    assert_eq!(seen.host.network_rx_bps, u64::MAX, "it can be compared, so it is told");
    assert_eq!(store.dropped_reports().counts(), [("unreadable", 13), ("impossible", 4)]);
}

#[tokio::test]
async fn a_watcher_that_fell_behind_is_told_by_the_end_of_its_channel() {
    let server = Server::start().await;
    let store = client(&server);
    let room = room("standup");
    let claim = grant_and_open(&*store, &room, "fra-1", 1).await;
    let mut events = store.watch().await.unwrap();
    let record = format!("{} {} o fra-1 1", claim.run.0, claim.epoch);
    let stream = format!("roost:{{b{}}}:claims", room.bucket());
    let key = format!("roost:{{b{}}}:room:default/standup", room.bucket());
    let mut connection = server.connection().await;
    connection.set_response_timeout(Duration::from_secs(20));
    for _ in 0..60 {
        let mut pipeline = redis::pipe();
        for _ in 0..1_000 {
            pipeline.cmd("XADD").arg(&stream).arg(&["MAXLEN", "~", "10000", "*"]);
            pipeline.arg(&key).arg(format!("{record} 0")).ignore();
        }
        pipeline.query_async::<()>(&mut connection).await.unwrap();
    }
    ended(&mut events).await;
}

#[tokio::test]
async fn a_watcher_that_keeps_up_sees_every_entry_of_a_burst() {
    let server = Server::start().await;
    let store = client(&server);
    let mut events = store.watch().await.unwrap();
    let claim = grant_and_open(&*store, &room("standup"), "fra-1", 1).await;
    let stream = format!("roost:{{b{}}}:claims", room("standup").bucket());
    let mut pipeline = redis::pipe();
    for number in 0..5_000 {
        pipeline.cmd("XADD").arg(&stream).arg("*").arg("roost:{b12}:room:default/standup").arg(number).ignore();
    }
    let mut connection = server.connection().await;
    connection.set_response_timeout(Duration::from_secs(20));
    pipeline.query_async::<()>(&mut connection).await.unwrap();
    let mut seen = 0;
    while seen < 5_000 {
        if let roost_proto::event::Event::Released { epoch, .. } = next(&mut events).await {
            assert_eq!(epoch.0, seen);
            seen += 1;
        }
    }
    assert_eq!(store.read(&room("standup")).await.unwrap(), Some(claim));
}

#[tokio::test]
async fn what_earlier_runs_left_is_forgotten() {
    let mut server = Server::start().await;
    let store = client(&server);
    for number in 0..20 {
        grant_and_open(&*store, &room(&format!("room-{number}")), "fra-1", 1).await;
    }
    server.restart(true).await;
    until("a new run", || async { store.runs().await.is_ok() }).await;
    let claim = grant_and_open(&*store, &room("room-3"), "fra-1", 1).await;
    let mut events = store.watch().await.unwrap();
    let seen = next(&mut events).await;
    assert!(matches!(seen, roost_proto::event::Event::Claimed { claim: seen, .. } if seen == claim));
    until("the void records are gone", || async {
        let keys: Vec<String> = server.ask(&["KEYS", "*:room:*"]).await;
        keys.len() == 1
    })
    .await;
    assert_eq!(store.read(&room("room-3")).await.unwrap(), Some(claim));
}

#[tokio::test]
async fn a_plan_that_a_later_version_wrote_is_replaced_by_who_knows_its_number() {
    let server = Server::start().await;
    let store = client(&server);
    let run = run_of_node(&*store, &node("fra-1")).await;
    let key = format!("roost:{{b{}}}:steer:fra-1", node("fra-1").bucket());
    let steer = |seen_plan| {
        store.steer(Steer { node: node("fra-1"), run: run.clone(), seen_plan, mode: Mode::Maintenance, drain: None })
    };
    let Steered::Yes { steering } = steer(0).await.unwrap() else { panic!("not written") };
    server.command(&["HSET", &key, "steering", r#"{"plan":1,"mode":"asleep"}"#]).await;
    assert_eq!(steer(0).await.unwrap(), Steered::Unreadable { plan: steering.plan });
    let written = steer(steering.plan).await.unwrap();
    assert!(matches!(written, Steered::Yes { steering: now } if now.plan > steering.plan), "{written:?}");
}

#[tokio::test]
async fn racing_clients_on_many_threads_have_one_winner_each_room() {
    let server = Server::start().await;
    let stores: Vec<Arc<dyn Store>> = (0..3).map(|_| client(&server)).collect();
    let threads: Vec<_> = stores
        .into_iter()
        .enumerate()
        .map(|(number, store)| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let mut won = 0u32;
                    for room in 0..200 {
                        let room = crate::made::room(&format!("room-{room}"));
                        let name = format!("node-{number}");
                        won +=
                            u32::from(matches!(try_grant(&*store, &room, None, &name, 1).await, Granted::Yes { .. }));
                    }
                    won
                })
            })
        })
        .collect();
    let mut won = 0;
    for thread in threads {
        won += tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    }
    assert_eq!(won, 200);
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_a_port() {
    let server = Server::start_with(&["--unixsocket", "FOLDER/socket"]).await;
    let url = format!("unix://{}", server.folder().join("socket").display());
    let store = RedisStore::new(&url, &RedisSettings::default()).unwrap();
    grant(&store, &room("standup"), "fra-1", 1).await;
}
