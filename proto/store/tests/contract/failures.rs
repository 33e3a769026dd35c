//! Each way in which Redis fails, and what a call then says. The table is in the package's README.

use std::sync::Arc;
use std::time::Duration;

use roost_store::operation::Opened;
use roost_store::{NodeStore, RedisSettings, RedisStore, Store, StoreError};

use crate::made::{LONG_MS, grant, grant_and_open, holding, node, register, renewal, room, run_of};
use crate::proxy::{Passage, Proxy};
use crate::server::Server;
use crate::stage::{client, ended, until};

#[tokio::test]
async fn a_server_restored_from_an_old_copy_is_in_a_new_run_above_all_its_epochs() {
    let mut server = Server::start().await;
    let store = client(&server);
    let (early, late) = (room("early"), room("late"));
    let kept = grant_and_open(&*store, &early, "fra-1", 1).await;
    let incarnation = register(&*store, "fra-1", 0, LONG_MS).await;
    let old_renewal = renewal(&*store, "fra-1", incarnation, LONG_MS).await;
    server.command(&["SAVE"]).await;
    let lost = grant_and_open(&*store, &late, "fra-1", 1).await;
    server.kill();
    server.start_again().await;
    until("a new run", || async { store.runs().await.is_ok() }).await;
    assert_ne!(run_of(&*store, &early).await, kept.run, "the copy's names are not the run's");
    assert_eq!(store.read(&early).await.unwrap(), None, "what the copy has is void");
    assert_eq!(store.leases(&node("fra-1")).await.unwrap(), [], "also its leases");
    let renewed = store.renew(old_renewal).await.unwrap();
    assert!(matches!(renewed, roost_store::operation::Renewed::NewRun { .. }), "{renewed:?}");
    assert!(grant(&*store, &late, "fra-2", 1).await.epoch > lost.epoch, "also above what the copy does not know");
}

#[tokio::test]
async fn a_server_that_refuses_connections_at_its_own_address_is_down() {
    let mut server = Server::start().await;
    let by_address = client(&server);
    let by_name = Arc::new(RedisStore::new(&server.url().replace("127.0.0.1", "localhost"), &settings()).unwrap());
    let never = client(&server);
    for store in [&*by_address, &*by_name as &dyn Store] {
        store.runs().await.unwrap();
    }
    server.kill();
    until("the end was noticed", || async { is_refused(by_address.now_ms().await) }).await;
    for _ in 0..5 {
        assert!(is_refused(by_address.now_ms().await), "each call asks anew, without a pause that hides the answer");
    }
    until("the end was noticed", || async { is_unavailable(by_name.now_ms().await) }).await;
    assert!(is_unavailable(by_name.now_ms().await), "a name may stand for another host");
    assert!(is_unavailable(never.now_ms().await), "nobody knows whose address it is");
    server.start_again().await;
    until("all are back", || async { by_address.runs().await.is_ok() && by_name.runs().await.is_ok() }).await;
}

#[tokio::test]
async fn a_proxy_that_refuses_proves_nothing_of_the_server_behind() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = RedisStore::new(&proxy.url(), &settings()).unwrap();
    let claim = grant(&store, &room("standup"), "fra-1", 1).await;
    drop(proxy);
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    until("the proxy refuses", || async { is_unavailable(store.now_ms().await) }).await;
    let refused = store.open(holding(&room("standup"), &claim)).await;
    assert!(is_unavailable(refused));
}

#[tokio::test]
async fn while_a_server_is_silent_calls_are_unknown_then_unavailable_and_never_refused() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = RedisStore::new(&proxy.url(), &settings()).unwrap();
    let claim = grant(&store, &room("standup"), "fra-1", 1).await;
    let mut events = store.watch().await.unwrap();
    proxy.set(Passage::Silent);
    let first = store.open(holding(&room("standup"), &claim)).await;
    assert!(matches!(first, Err(StoreError::Unknown { .. })), "{first:?}");
    for _ in 0..3 {
        assert!(is_unavailable(store.now_ms().await), "no new connection is answered");
    }
    ended(&mut events).await;
    proxy.set(Passage::Open);
    until("the store is back", || async { store.runs().await.is_ok() }).await;
    assert_eq!(store.open(holding(&room("standup"), &claim)).await.unwrap(), Opened::Yes, "in the same run");
}

#[tokio::test]
async fn a_connection_that_breaks_before_it_is_ready_is_made_once_more() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = RedisStore::new(&proxy.url(), &settings()).unwrap();
    proxy.break_next();
    store.runs().await.unwrap();
}

#[tokio::test]
async fn half_open_connections_are_given_up_and_made_anew() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = RedisStore::new(&proxy.url(), &settings()).unwrap();
    let claim = grant(&store, &room("standup"), "fra-1", 1).await;
    let mut events = store.watch().await.unwrap();
    // The server's side ends, and nobody tells ours.
    proxy.set(Passage::Silent);
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    let first = store.open(holding(&room("standup"), &claim)).await;
    assert!(matches!(first, Err(StoreError::Unknown { .. })), "{first:?}");
    ended(&mut events).await;
    proxy.set(Passage::Open);
    until("on new connections", || async { store.watch().await.is_ok() }).await;
    assert_eq!(store.open(holding(&room("standup"), &claim)).await.unwrap(), Opened::Yes);
}

#[tokio::test]
async fn what_a_slow_server_does_late_is_unknown_and_seen_when_it_is_quick_again() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = RedisStore::new(&proxy.url(), &RedisSettings::default()).unwrap();
    let claim = grant(&store, &room("standup"), "fra-1", 1).await;
    proxy.set(Passage::Slow(Duration::from_secs(1)));
    let late = store.open(holding(&room("standup"), &claim)).await;
    assert!(matches!(late, Err(StoreError::Unknown { .. })), "{late:?}");
    proxy.set(Passage::Open);
    until("it was done", || async {
        let read = store.read(&room("standup")).await;
        read.is_ok_and(|read| read.is_some_and(|read| read.state == roost_proto::room::ClaimState::Open))
    })
    .await;
    assert_eq!(store.open(holding(&room("standup"), &claim)).await.unwrap(), Opened::Yes, "asking again is harmless");
}

#[tokio::test]
async fn a_server_that_still_reads_its_data_is_unavailable_until_it_has() {
    let options = ["--loading-process-events-interval-bytes", "1024", "--key-load-delay", "2000"];
    let mut server = Server::start_with(&options).await;
    let store = client(&server);
    grant_and_open(&*store, &room("standup"), "fra-1", 1).await;
    let fill = "for i = 1, 1000 do redis.call('SET', 'filler' .. i, string.rep('x', 100)) end";
    server.command(&["EVAL", fill, "0"]).await;
    server.command(&["SAVE"]).await;
    server.kill();
    server.start_again().await;
    let said = until_said(&*store).await;
    assert!(said.to_lowercase().contains("loading"), "{said}");
    until("it has read its data again", || async { store.runs().await.is_ok() }).await;
    grant(&*store, &room("another"), "fra-1", 1).await;
}

#[tokio::test]
async fn a_server_that_may_drop_claims_is_not_used() {
    let server = Server::start().await;
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let store = client(&server);
    let refused = store.runs().await.unwrap_err();
    assert!(refused.to_string().contains("expected noeviction"), "{refused}");
    for policy in ["volatile-ttl", "noeviction"] {
        server.command(&["CONFIG", "SET", "maxmemory-policy", policy]).await;
        until("it is used", || async { store.runs().await.is_ok() }).await;
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    }
}

/// What the first call says that fails on a connection to a living server.
async fn until_said(store: &dyn Store) -> String {
    let said = std::sync::Mutex::new(String::new());
    until("a call says what it is waiting for", || async {
        let Err(StoreError::Unavailable { reason }) = store.runs().await else { return false };
        *said.lock().unwrap() = reason;
        true
    })
    .await;
    said.into_inner().unwrap()
}

fn settings() -> RedisSettings {
    RedisSettings { timeout: Duration::from_millis(200), connections: 1, ..RedisSettings::default() }
}

fn is_refused<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Refused { .. }))
}

fn is_unavailable<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable { .. }))
}
