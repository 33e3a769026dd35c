//! A master with two replicas and three sentinels: what a failover is for who uses the store.

use std::sync::Arc;
use std::time::Duration;

use roost_store::operation::Opened;
use roost_store::{NodeStore, RedisSettings, RedisStore, Store, StoreError};

use crate::made::{grant, grant_and_open, holding, room, run_of};
use crate::redis::{documented, everything};
use crate::server::Server;
use crate::stage::{ended, next, until};

#[tokio::test]
async fn a_failover_is_a_new_run_and_nothing_of_the_old_one_is_accepted() {
    let mut set = Set::start().await;
    let store = set.store("127.0.0.1");
    until("the master is found", || async { store.runs().await.is_ok() }).await;
    assert_eq!(store.replaced_ms(), 6_000, "five seconds of lag, and one to judge it");
    let claim = grant_and_open(&*store, &room("standup"), "fra-1", 1).await;
    let mut events = store.watch().await.unwrap();
    next(&mut events).await;
    set.master.command(&["WAIT", "2", "5000"]).await;
    set.judge_silence_after("500").await;
    set.master.kill();
    until("the end was noticed", || async {
        let result = store.open(holding(&room("standup"), &claim)).await;
        assert!(!matches!(result, Err(StoreError::Refused { .. })), "another may have taken over");
        matches!(result, Err(StoreError::Unavailable { .. }))
    })
    .await;
    ended(&mut events).await;
    until("another master is found", || async { store.runs().await.is_ok() }).await;
    set.judge_silence_after("60000").await;
    let run = run_of(&*store, &room("standup")).await;
    assert_ne!(run, claim.run);
    let answer = store.open(holding(&room("standup"), &claim)).await.unwrap();
    assert_eq!(answer, Opened::NewRun { run: run.clone() }, "of the old run nothing is accepted");
    assert_eq!(store.read(&room("standup")).await.unwrap(), None, "though the replica had it");
    let mut events = watch(&*store).await;
    let after = grant(&*store, &room("standup"), "fra-2", 1).await;
    assert!(after.epoch > claim.epoch);
    let seen = next(&mut events).await;
    assert!(
        matches!(seen, roost_proto::event::Event::Claimed { claim: seen, .. } if seen == after),
        "the watch begins again"
    );
    set.master.start_again().await;
    until("the old master is a replica", || async {
        // It ends its connections when it is told.
        let role: Option<Vec<redis::Value>> = set.master.try_ask(&["ROLE"]).await.ok();
        role.is_some_and(|role| role.first() == Some(&redis::Value::BulkString(b"slave".to_vec())))
    })
    .await;
    // While it does not know yet that it was replaced it may be named, and refuses, as it has no replica.
    until("the other one is listened to", || async {
        store.read(&room("standup")).await.is_ok_and(|read| read.as_ref() == Some(&after))
    })
    .await;
}

#[tokio::test]
async fn a_silent_sentinel_keeps_nobody_from_the_others() {
    let set = Set::start().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let store = set.store(&silent.local_addr().unwrap().to_string());
    until("the master is found", || async { store.runs().await.is_ok() }).await;
    grant(&*store, &room("standup"), "fra-1", 1).await;
}

#[tokio::test]
async fn a_user_with_the_documented_commands_can_do_everything() {
    let set = Set::start().await;
    let mut words = vec!["ACL", "SETUSER", "roost", "on", ">se:cret", "resetkeys", "~roost:*", "-@all"];
    words.extend(documented("Sentinel"));
    set.master.command(&words).await;
    let url = format!("redis+sentinel://roost:se%3Acret@127.0.0.1:{}/main", set.sentinels[0].port());
    let store = RedisStore::new(&url, &RedisSettings::default()).unwrap();
    everything(&store).await;
    assert_eq!(store.replaced_ms(), 6_000, "it may read the bound");
}

#[tokio::test]
async fn a_name_that_no_sentinel_knows_is_said() {
    let set = Set::start().await;
    let url = format!("redis+sentinel://127.0.0.1:{}/other", set.sentinels[0].port());
    let store = RedisStore::new(&url, &RedisSettings::default()).unwrap();
    let error = store.runs().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(error.to_string().to_lowercase().contains("master"), "{error}");
}

/// What a test needs of it, each on a port of its own.
struct Set {
    master: Server,
    _replicas: [Server; 2],
    sentinels: Vec<Server>,
}

impl Set {
    async fn start() -> Self {
        let bounded = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "5"];
        let master = Server::start_with(&bounded).await;
        let port = master.port().to_string();
        let replica = [&bounded[..], &["--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", &port]].concat();
        let replicas = [Server::start_with(&replica).await, Server::start_with(&replica).await];
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Server::start_sentinel(master.port()).await);
        }
        let set = Self { master, _replicas: replicas, sentinels };
        until("the master has replicas", || async { set.master.try_ask::<()>(&["SET", "x", "1"]).await.is_ok() }).await;
        for sentinel in &set.sentinels {
            until("the sentinel knows all others", || async {
                let known: Vec<std::collections::HashMap<String, String>> =
                    sentinel.ask(&["SENTINEL", "MASTERS"]).await;
                known[0]["num-slaves"] == "2" && known[0]["num-other-sentinels"] == "2"
            })
            .await;
        }
        set
    }

    /// How many ms a server may be silent before the sentinels take it for dead.
    async fn judge_silence_after(&self, ms: &str) {
        for sentinel in &self.sentinels {
            sentinel.command(&["SENTINEL", "SET", "main", "down-after-milliseconds", ms]).await;
        }
    }

    /// A store whose URL has another host before the sentinels.
    fn store(&self, first: &str) -> Arc<dyn Store> {
        let ports = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port()));
        let hosts: Vec<String> = std::iter::once(first.to_owned()).chain(ports).collect();
        let settings = RedisSettings { timeout: Duration::from_millis(800), ..RedisSettings::default() };
        Arc::new(RedisStore::new(&format!("redis+sentinel://{}/main", hosts.join(",")), &settings).unwrap())
    }
}

async fn watch(store: &dyn Store) -> tokio::sync::mpsc::Receiver<roost_proto::event::Event> {
    let found = std::sync::Mutex::new(None);
    until("it is watched again", || async {
        let watch = store.watch().await.ok();
        let is_found = watch.is_some();
        *found.lock().unwrap() = watch;
        is_found
    })
    .await;
    found.into_inner().unwrap().unwrap()
}
