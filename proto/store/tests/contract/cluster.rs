//! A Redis Cluster of three masters on loopback: the whole contract, a slot that moves, a master that dies.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use roost_proto::id::RoomKey;
use roost_store::operation::{Opened, Renew, Renewed};
use roost_store::{NodeStore, RedisSettings, RedisStore, Store, StoreError};
use tokio::sync::Mutex;

use crate::made::{LONG_MS, grant, grant_and_open, holding, node, register, renewal, room, run_of};
use crate::redis::{documented, everything};
use crate::server::Server;
use crate::stage::{ended, next, until};

#[tokio::test]
async fn the_contract_holds_in_a_cluster() {
    let cluster = Arc::new(Mutex::new(Cluster::start(0).await));
    crate::store::all_in(&cluster).await;
}

#[tokio::test]
async fn a_slot_that_moves_is_a_new_run_for_its_bucket_only() {
    let cluster = Cluster::start(0).await;
    let store = cluster.store();
    let moving = room("standup");
    let claim = grant_and_open(&*store, &moving, "fra-1", 1).await;
    let before = store.runs().await.unwrap();
    let mut events = store.watch().await.unwrap();
    next(&mut events).await;
    let slot = cluster.slot(&moving).await;
    let from = Cluster::owner(&slot);
    let to = (from + 1) % 3;
    let ids = [cluster.id(from).await, cluster.id(to).await];
    let (source, target) = (&cluster.servers[from], &cluster.servers[to]);
    target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]).await;
    source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]).await;
    let keys: Vec<String> = source.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await;
    let port = target.port().to_string();
    let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
    migrate.extend(keys.iter().map(String::as_str));
    source.command(&migrate).await;
    let asked = store.open(holding(&moving, &claim)).await.unwrap_err();
    assert!(matches!(&asked, StoreError::Unavailable { .. }), "certainly not done while it moves: {asked}");
    for server in [target, source] {
        server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]).await;
    }
    ended(&mut events).await;
    until("the slot's master is found", || async {
        store.open(holding(&moving, &claim)).await.is_ok_and(|answer| matches!(answer, Opened::NewRun { .. }))
    })
    .await;
    let after = store.runs().await.unwrap();
    let moved: Vec<usize> = (0..16).filter(|bucket| before[*bucket] != after[*bucket]).collect();
    assert_eq!(moved, [usize::from(moving.bucket())], "the others go on");
    assert_eq!(store.read(&moving).await.unwrap(), None, "a record of another run");
    let mut events = store.watch().await.unwrap();
    let granted = grant(&*store, &moving, "fra-2", 1).await;
    assert!(granted.epoch > claim.epoch);
    let seen = next(&mut events).await;
    assert!(matches!(seen, roost_proto::event::Event::Claimed { claim: seen, .. } if seen == granted));
}

#[tokio::test]
async fn while_a_master_fails_over_the_buckets_of_the_others_go_on() {
    let mut cluster = Cluster::start(1).await;
    let store = cluster.store();
    let rooms = cluster.rooms().await;
    let of = |wanted: bool| &rooms.iter().find(|(_, owner)| (*owner == 0) == wanted).unwrap().0;
    let (lost, other) = (of(true), of(false));
    let claim = grant_and_open(&*store, lost, "fra-1", 1).await;
    let kept = grant(&*store, other, "fra-1", 1).await;
    assert_eq!(store.replaced_ms(), 2_000, "the node timeout and a second");
    // A node whose lease is with the other room, and which has both.
    let named = (0..1_000).map(|number| format!("node-{number}"));
    let name = named.into_iter().find(|name| node(name).bucket() == other.bucket()).unwrap();
    let incarnation = register(&*store, &name, 0, LONG_MS).await;
    let renewal =
        Renew { buckets: vec![lost.bucket(), other.bucket()], ..renewal(&*store, &name, incarnation, LONG_MS).await };
    let told = async || match store.renew(renewal.clone()).await.unwrap() {
        Renewed::Yes { runs, .. } => runs.unwrap().into_iter().collect::<BTreeMap<_, _>>(),
        answer => panic!("the lease goes on: {answer:?}"),
    };
    let both = BTreeMap::from([(lost.bucket(), claim.run.clone()), (other.bucket(), kept.run.clone())]);
    assert_eq!(told().await, both);
    cluster.servers[0].command(&["WAIT", "1", "5000"]).await;
    cluster.servers[0].kill();
    assert_eq!(told().await, BTreeMap::from([(other.bucket(), kept.run.clone())]), "nobody speaks for the lost one");
    until("the end was noticed", || async {
        let result = store.open(holding(lost, &claim)).await;
        assert!(!matches!(result, Err(StoreError::Refused { .. })), "a replica may take over");
        matches!(result, Err(StoreError::Unavailable { .. }))
    })
    .await;
    assert_eq!(store.open(holding(other, &kept)).await.unwrap(), Opened::Yes, "in the same run");
    until("the replica has taken over", || async {
        store.open(holding(lost, &claim)).await.is_ok_and(|answer| matches!(answer, Opened::NewRun { .. }))
    })
    .await;
    let now = run_of(&*store, lost).await;
    assert_ne!(now, claim.run);
    assert_eq!(told().await, BTreeMap::from([(lost.bucket(), now), (other.bucket(), kept.run.clone())]));
    assert_eq!(run_of(&*store, other).await, kept.run);
    assert!(grant(&*store, lost, "fra-2", 1).await.epoch > claim.epoch);
    until("all is watched again", || async { store.watch().await.is_ok() }).await;
}

#[tokio::test]
async fn while_a_master_is_dead_the_buckets_of_the_others_are_watched() {
    let mut cluster = Cluster::start(0).await;
    let store = cluster.store();
    let rooms = cluster.rooms().await;
    let of = |wanted: bool| &rooms.iter().find(|(_, owner)| (*owner == 0) == wanted).unwrap().0;
    let (lost, other) = (of(true), of(false));
    let claim = grant_and_open(&*store, other, "fra-1", 1).await;
    let (buckets, mut events) = store.watch_some().await.unwrap();
    assert_eq!(buckets.len(), 16);
    next(&mut events).await;
    cluster.servers[0].kill();
    ended(&mut events).await;
    let (buckets, mut events) = store.watch_some().await.unwrap();
    for (room, owner) in &rooms {
        assert_eq!(buckets.contains(&room.bucket()), *owner != 0, "{room}");
    }
    let seen = next(&mut events).await;
    assert!(matches!(seen, roost_proto::event::Event::Claimed { claim: seen, .. } if seen == claim));
    let all = store.watch().await.unwrap_err();
    assert!(matches!(all, StoreError::Unavailable { .. }), "{all}");
    store.release(holding(other, &claim)).await.unwrap();
    let seen = next(&mut events).await;
    assert!(matches!(seen, roost_proto::event::Event::Released { epoch, .. } if epoch == claim.epoch));
    cluster.servers[0].start_again().await;
    ended(&mut events).await;
    until("all is watched again", || async { store.watch().await.is_ok() }).await;
    until("the dead one's rooms are granted again", || async { store.read(lost).await.is_ok() }).await;
}

#[tokio::test]
async fn a_user_with_the_documented_commands_can_do_everything() {
    let cluster = Cluster::start(0).await;
    let mut words = vec!["ACL", "SETUSER", "roost", "on", ">secret", "resetkeys", "~roost:*", "-@all"];
    words.extend(documented("Cluster"));
    for server in &cluster.servers {
        server.command(&words).await;
    }
    let url = cluster.url().replace("redis+cluster://", "redis+cluster://roost:secret@");
    let store = RedisStore::new(&url, &RedisSettings::default()).unwrap();
    everything(&store).await;
    assert_eq!(store.replaced_ms(), 16_000, "it may read the bound");
}

#[tokio::test]
async fn one_server_of_a_cluster_is_no_store() {
    let cluster = Cluster::start(0).await;
    let store = RedisStore::new(&cluster.servers[0].url(), &RedisSettings::default()).unwrap();
    let refused = store.runs().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
}

/// Three masters, then replicas of the first.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    pub(crate) async fn start(replicas: usize) -> Self {
        Self::start_all(replicas, Vec::new).await
    }

    /// Without replicas; each server with further options of its own, by which they speak TLS to each other.
    pub(crate) async fn start_with(options: impl Fn() -> Vec<String>) -> Self {
        Self::start_all(0, options).await
    }

    async fn start_all(replicas: usize, further: impl Fn() -> Vec<String>) -> Self {
        // Without a replica nothing is won by haste.
        let patience = if replicas > 0 { "1000" } else { "15000" };
        let mut servers = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..3 + replicas {
            let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", patience, "--cluster-port", &bus];
            let partly = ["--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"];
            let further = further();
            let further: Vec<&str> = further.iter().map(String::as_str).collect();
            let server = Server::start_with(&[&options[..], &partly, &further].concat()).await;
            // By this port they know each other.
            let port = if further.is_empty() { server.port().to_string() } else { server.tls_port().to_owned() };
            servers.push(server);
            buses.push((port, bus));
        }
        for (number, (first, last)) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")].into_iter().enumerate() {
            servers[number].command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
            servers[number].command(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
        }
        for (port, bus) in &buses[1..] {
            servers[0].command(&["CLUSTER", "MEET", "127.0.0.1", port, bus]).await;
        }
        let cluster = Self { servers };
        cluster.is_whole().await;
        for replica in &cluster.servers[3..] {
            replica.command(&["CLUSTER", "REPLICATE", &cluster.id(0).await]).await;
            until("it replicates", || async {
                let info: String = cluster.servers[0].ask(&["INFO", "replication"]).await;
                info.contains("state=online")
            })
            .await;
        }
        cluster
    }

    /// Rooms of all its masters, each with the number of its own.
    async fn rooms(&self) -> Vec<(RoomKey, usize)> {
        let mut rooms = Vec::new();
        for number in 0..100 {
            let room = room(&format!("room-{number}"));
            let owner = Self::owner(&self.slot(&room).await);
            rooms.push((room, owner));
        }
        rooms
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> = self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        let settings = RedisSettings { timeout: Duration::from_secs(3), ..RedisSettings::default() };
        Arc::new(RedisStore::new(&self.url(), &settings).unwrap())
    }

    pub(crate) async fn restart(&mut self) {
        for server in &mut self.servers {
            server.restart(true).await;
        }
        self.is_whole().await;
    }

    /// Until every server knows every other and takes calls.
    async fn is_whole(&self) {
        let all = format!("cluster_known_nodes:{}\r", self.servers.len());
        for server in &self.servers {
            until("the cluster is whole", || async {
                let info: String = server.ask(&["CLUSTER", "INFO"]).await;
                let nodes: String = server.ask(&["CLUSTER", "NODES"]).await;
                info.contains("cluster_state:ok")
                    && info.contains("cluster_slots_ok:16384")
                    && info.contains(&all)
                    && !nodes.contains("handshake")
                    && !nodes.contains("fail")
            })
            .await;
        }
    }

    async fn slot(&self, room: &RoomKey) -> String {
        let slot: u16 = self.servers[0].ask(&["CLUSTER", "KEYSLOT", &format!("{{b{}}}", room.bucket())]).await;
        slot.to_string()
    }

    /// The number of the master that had the slot when the cluster was made.
    fn owner(slot: &str) -> usize {
        [5_461, 10_923].iter().filter(|first| slot.parse::<u16>().unwrap() >= **first).count()
    }

    async fn id(&self, number: usize) -> String {
        self.servers[number].ask(&["CLUSTER", "MYID"]).await
    }
}
