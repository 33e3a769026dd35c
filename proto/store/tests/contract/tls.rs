//! TLS to every server of the store, with an authority and a certificate made for the test.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use roost_store::operation::Opened;
use roost_store::{NodeStore, RedisSettings, RedisStore, StoreError};

use crate::cluster::Cluster;
use crate::made::{grant, grant_and_open, holding, room, run_of};
use crate::redis::{documented, everything};
use crate::server::{SENTINEL, Server};
use crate::stage::until;

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_only() {
    let authority = Authority::new();
    let server = Server::start_with(&words(&authority.options())).await;
    let url = format!("rediss://localhost:{}", server.tls_port());
    grant(&authority.trusted(&url), &room("standup"), "fra-1", 1).await;
    is_not_trusted(&url).await;
}

#[tokio::test]
async fn sentinels_and_the_masters_that_they_name_are_trusted_by_their_authority_only() {
    let authority = Authority::new();
    let mut master = Server::start_with(&words(&authority.options())).await;
    let mut options = authority.options();
    options
        .extend(["--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", master.tls_port()].map(str::to_owned));
    let replica = Server::start_with(&words(&options)).await;
    for server in [&master, &replica] {
        server.command(&user("Sentinel")).await;
    }
    let sentinel = authority.sentinel(master.tls_port()).await;
    until("the sentinel knows the replica", || async {
        let known: Vec<std::collections::HashMap<String, String>> = sentinel.ask(&["SENTINEL", "MASTERS"]).await;
        known[0]["num-slaves"] == "1"
    })
    .await;
    let url = format!("rediss+sentinel://roost:secret@localhost:{}/main", sentinel.tls_port());
    let store = authority.trusted(&url);
    everything(&store).await;
    is_not_trusted(&url).await;
    let plain = RedisStore::new(&url.replace("rediss", "redis"), &RedisSettings::default()).unwrap();
    assert!(matches!(plain.runs().await.unwrap_err(), StoreError::Unavailable { .. }));
    let claim = grant_and_open(&store, &room("retro"), "fra-1", 1).await;
    // Impatient only now: on a busy machine it would take a living master for dead.
    sentinel.command(&["SENTINEL", "SET", "main", "down-after-milliseconds", "500"]).await;
    master.kill();
    until("the replica is found", || async {
        store.open(holding(&room("retro"), &claim)).await.is_ok_and(|answer| matches!(answer, Opened::NewRun { .. }))
    })
    .await;
    assert_ne!(run_of(&store, &room("retro")).await, claim.run);
}

#[tokio::test]
async fn the_servers_of_a_cluster_are_trusted_by_their_authority_only() {
    let authority = Authority::new();
    let cluster = Cluster::start_with(|| [authority.options(), words_of("--tls-cluster yes")].concat()).await;
    for server in &cluster.servers {
        server.command(&user("Cluster")).await;
    }
    // One is named, and names the others by the ports that take TLS.
    let url = format!("rediss+cluster://roost:secret@localhost:{}", cluster.servers[0].tls_port());
    let store = authority.trusted(&url);
    everything(&store).await;
    for number in 0..30 {
        grant(&store, &room(&format!("room-{number}")), "fra-1", 1).await;
    }
    is_not_trusted(&url).await;
}

async fn is_not_trusted(url: &str) {
    let store = RedisStore::new(url, &RedisSettings::default()).unwrap();
    assert!(matches!(store.runs().await.unwrap_err(), StoreError::Unavailable { .. }));
}

/// What makes a user with the documented commands, and no more.
fn user(kind: &str) -> Vec<&'static str> {
    let user = ["ACL", "SETUSER", "roost", "on", ">secret", "resetkeys", "~roost:*", "-@all"];
    [user.to_vec(), documented(kind)].concat()
}

/// An authority that nobody knows, and a certificate of it for loopback.
struct Authority {
    folder: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let folder = crate::server::folder();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        // A certificate whose issuer has its own name would pass for its own issuer.
        params.distinguished_name.push(rcgen::DnType::CommonName, "authority");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        for (name, text) in
            [("authority.pem", authority.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            std::fs::write(folder.join(name), text).unwrap();
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// The options of a server that takes TLS on a port of its own, and speaks it to others.
    fn options(&self) -> Vec<String> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (certificate, key, authority) = (self.file("cert.pem"), self.file("key.pem"), self.file("authority.pem"));
        words_of(&format!(
            "--tls-port {port} --tls-replication yes --tls-auth-clients no --tls-cert-file {certificate} \
             --tls-key-file {key} --tls-ca-cert-file {authority}"
        ))
    }

    /// The only one, which needs nobody to agree that the master at `port` is gone.
    async fn sentinel(&self, port: &str) -> Server {
        let options = self.options().join(" ").replace(" --", "\n").replace("--", "");
        let wishes = format!("sentinel monitor main 127.0.0.1 {port} 1\nsentinel failover-timeout main 2000\n");
        Server::start_with(&[SENTINEL, &format!("{options}\n{wishes}")]).await
    }

    fn trusted(&self, url: &str) -> RedisStore {
        let ca_file = Some(self.folder.join("authority.pem"));
        let settings = RedisSettings { ca_file, timeout: Duration::from_secs(3), ..RedisSettings::default() };
        RedisStore::new(url, &settings).unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _kept = std::fs::remove_dir_all(&self.folder);
    }
}

fn words_of(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn words(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}
