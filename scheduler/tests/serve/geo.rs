//! Clients' addresses: which region and carrier they give, databases that change under load, and `locate`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use futures_util::StreamExt;
use roost_server::ClusterKeys;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::agent::Agent;
use crate::process::{self, Scheduler};
use crate::wait;

/// So many lookups are answered before the file changes again.
const LOOKUPS_BETWEEN: u64 = 200;

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_is_sent_to_its_region() {
    let place = Place::new();
    let (scheduler, _agents) = place.start(&["--trusted-proxy", "127.0.0.1"]).await;
    for (forwarded, ip, region, carrier, node) in [
        ("192.0.2.1", "192.0.2.1", json!("cn/east"), json!("telecom"), Some("sha-1")),
        ("8.8.8.8, 198.51.100.1:4711", "198.51.100.1", json!("eu"), json!("AS3320"), Some("fra-1")),
        ("[2001:db8:1::1]:443, 127.0.0.1", "2001:db8:1::1", json!("cn/east"), json!("telecom"), Some("sha-1")),
        ("::ffff:198.51.100.1", "198.51.100.1", json!("eu"), json!("AS3320"), Some("fra-1")),
        ("192.0.2.1, 203.0.113.225", "203.0.113.225", Value::Null, Value::Null, None),
        ("192.0.2.1, 10.0.0.1", "10.0.0.1", Value::Null, Value::Null, None),
        ("192.0.2.1, garbage", "127.0.0.1", Value::Null, Value::Null, None),
    ] {
        let found = forwarded_lookup(&scheduler, &format!("from-{ip}"), forwarded).await;
        let client = &found["client"];
        assert_eq!((&client["ip"], &client["region"], &client["carrier"]), (&json!(ip), &region, &carrier), "{found}");
        assert!(node.is_none_or(|node| found["node"]["id"] == node), "{forwarded}: {found}");
    }
    let metrics = metrics(&scheduler).await;
    for line in [
        r#"roost_geo_lookups_total{database="city",result="found"} 4"#,
        r#"roost_geo_lookups_total{database="city",result="not_found"} 1"#,
        r#"roost_geo_lookups_total{database="city",result="private"} 2"#,
        r#"roost_geo_lookups_total{database="asn",result="found"} 4"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(metrics.contains(r#"roost_geo_database_built_timestamp_seconds{database="city"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_believed_caller_says_of_its_client_what_it_knows_and_the_address_says_the_rest() {
    let place = Place::new();
    let (scheduler, _agents) = place.start(&[]).await;
    for (body, region, carrier) in [
        (json!({"client_ip": "192.0.2.1"}), json!("cn/east"), json!("telecom")),
        (json!({"client_ip": "192.0.2.1", "region": "eu/central"}), json!("eu/central"), json!("telecom")),
        (json!({"client_ip": "192.0.2.1", "carrier": "AS64500"}), json!("cn/east"), json!("AS64500")),
        (json!({"client_ip": "10.0.0.1", "carrier": "AS4134"}), Value::Null, json!("telecom")),
    ] {
        let found = scheduler.lookup("x", body.clone()).await;
        assert_eq!((&found["client"]["region"], &found["client"]["carrier"]), (&region, &carrier), "{body}");
        let door = format!("http://{}/v1/namespaces/default/rooms/x/lookup", scheduler.cluster);
        let proof = ClusterKeys::dev().proof(SystemTime::now());
        let response = scheduler.http.post(door).bearer_auth(proof).json(&body).send().await.unwrap();
        assert_eq!(response.json::<Value>().await.unwrap()["client"], found["client"], "{body}");
    }
    let url = format!("http://{}/v1/namespaces/default/rooms/x/lookup", scheduler.public);
    let response = scheduler.http.post(url).json(&json!({"carrier": "telekom"})).send().await.unwrap();
    let problem = response.json::<Value>().await.unwrap();
    let detail = "body carrier: \"telekom\": expected AS and a number, or one of telecom";
    assert_eq!((&problem["code"], &problem["detail"]), (&json!("bad_request"), &json!(detail)));
    let said = scheduler.explain("default", "y", &json!({"client_ip": "192.0.2.1"})).await;
    let given = scheduler.lookup("y", json!({"client_ip": "192.0.2.1"})).await;
    assert_eq!((&said["node"], &given["node"]["id"]), (&json!("sha-1"), &json!("sha-1")), "{said} {given}");
}

#[tokio::test]
async fn a_web_socket_is_redirected_by_its_clients_address() {
    let place = Place::new();
    let (scheduler, _agents) = place.start(&["--trusted-proxy", "127.0.0.1"]).await;
    for (forwarded, node) in [("192.0.2.1", "sha-1"), ("198.51.100.1", "fra-1")] {
        let url = format!("ws://{}/?roomId=r-{node}&peerId=p", scheduler.public);
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "protoo".parse().unwrap());
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
        let (mut socket, _) = connect_async(request).await.unwrap();
        let first = socket.next().await.unwrap().unwrap();
        let redirect: Value = serde_json::from_str(first.to_text().unwrap()).unwrap();
        assert_eq!(redirect["data"]["node"], node, "{redirect}");
    }
}

#[tokio::test]
async fn no_lookup_fails_while_databases_come_and_go() {
    let place = Place::new();
    let (scheduler, _agents) = place.start(&["--trusted-proxy", "127.0.0.1"]).await;
    let scheduler = Arc::new(scheduler);
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (scheduler, stop, count) = (scheduler.clone(), stop.clone(), count.clone());
            tokio::spawn(async move {
                let mut regions = BTreeSet::new();
                while !stop.load(Ordering::Relaxed) {
                    let found = forwarded_lookup(&scheduler, "x", "192.0.2.1").await;
                    regions.insert(found["client"]["region"].as_str().expect("a region").to_owned());
                    assert_eq!(found["client"]["carrier"], "telecom");
                    count.fetch_add(1, Ordering::Relaxed);
                }
                regions
            })
        })
        .collect();
    let whole = fs::read(made("city.mmdb")).unwrap();
    let (moved, worn) = (fs::read(made("city-moved.mmdb")).unwrap(), fs::read(made("city-worn.mmdb")).unwrap());
    let (mut read, mut refused) = (0, 0);
    for (content, is_good, region) in [
        (Some(&moved[..]), true, "eu"),
        (Some(&whole[..whole.len() / 2]), false, "eu"),
        (Some(&whole), true, "cn/east"),
        (None, false, "cn/east"),
        (Some(&worn), false, "cn/east"),
    ] {
        place.put("city.mmdb", content);
        let (result, times) = if is_good { ("ok", &mut read) } else { ("failed", &mut refused) };
        *times += 1;
        let line = format!("roost_geo_reloads_total{{database=\"city\",result=\"{result}\"}} {times}\n");
        wait::until(&line, || async { metrics(&scheduler).await.contains(&line).then_some(()) }).await;
        let seen = count.load(Ordering::Relaxed);
        wait::until("it is asked on and on", || async {
            (count.load(Ordering::Relaxed) >= seen + LOOKUPS_BETWEEN).then_some(())
        })
        .await;
        let found = forwarded_lookup(&scheduler, "x", "192.0.2.1").await;
        assert_eq!(found["client"]["region"], region, "after {line}");
    }
    stop.store(true, Ordering::Relaxed);
    for task in asking {
        assert_eq!(task.await.unwrap(), BTreeSet::from(["cn/east", "eu"].map(str::to_owned)));
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_used_stops_the_start() {
    let folder = TempDir::new().unwrap();
    let whole = fs::read(made("asn.mmdb")).unwrap();
    let cut = folder.path().join("cut.mmdb");
    fs::write(&cut, &whole[..whole.len() - 50]).unwrap();
    for (flag, path, expected) in [
        ("--geo-asn", cut, "expected a GeoLite2-ASN or DBIP-ASN-Lite database: it is cut off, broken or"),
        ("--geo-asn", made("city.mmdb"), "it is of the type \"GeoLite2-City\""),
        (
            "--geo-city",
            made("city-worn.mmdb"),
            "expected a GeoLite2-City, GeoIP2-City or DBIP-City-Lite database: it is",
        ),
        ("--geo-city", folder.path().join("none.mmdb"), "it cannot be read: No such file"),
    ] {
        let output = process::run(&["--dev", flag, path.to_str().unwrap()]).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        let key = flag.trim_start_matches('-').replace('-', "_");
        assert!(errors.contains(&format!("roost-scheduler: {key} {}: ", path.display())), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }
}

#[tokio::test]
async fn locate_prints_what_is_known_of_an_address_and_why() {
    let place = Place::new();
    let output = place.locate(&["192.0.2.1", "::ffff:198.51.100.65", "203.0.113.225", "10.0.0.1"]).await;
    let expected = "\
192.0.2.1
  country      CN
  subdivision  CN-SH
  point        31.22, 121.46
  region       cn/east (has CN-SH)
  system       AS4134 Chinanet
  carrier      telecom
::ffff:198.51.100.65
  country      FR
  subdivision  FR-IDF
  point        48.86, 2.35
  region       eu (its point is nearest: 479 km)
  system       AS3320 Deutsche Telekom
  carrier      AS3320
203.0.113.225
  place        unknown (not_found)
  carrier      unknown (not_found)
10.0.0.1
  place        unknown (private)
  carrier      unknown (private)
";
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), expected), "{}", text(&output.stderr));
    let output = place.locate(&["--json", "2001:db8:1::1", "fd00::1"]).await;
    let lines: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["city"]["region_by"], json!({"subdivision": "CN-SH"}));
    assert_eq!((&lines[0]["asn"]["number"], &lines[0]["asn"]["carrier"]), (&json!(4134), &json!("telecom")));
    assert_eq!(lines[1], json!({"ip": "fd00::1", "city": {"unknown": "private"}, "asn": {"unknown": "private"}}));
}

#[tokio::test]
async fn locate_says_what_is_wrong_with_its_arguments() {
    let place = Place::new();
    for (address, status) in [("192.0.2", 1), ("example.org", 1), ("", 1), ("192.0.2.1/24", 1)] {
        let output = place.locate(&["192.0.2.1", address]).await;
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(status), ""));
        let expected = format!("roost-scheduler: address {address:?}: expected an IPv4 or IPv6 address\n");
        assert_eq!(text(&output.stderr), expected);
    }
    let output = locate(&["192.0.2.1"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("geo_city: \"\": expected a database"), "{}", text(&output.stderr));
}

/// A configuration with databases of the test's own.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["city.mmdb", "asn.mmdb"] {
            fs::copy(made(name), folder.path().join(name)).unwrap();
        }
        let tables = format!(
            r#"
            [scheduler]
            geo_city = "{0}/city.mmdb"
            geo_asn = "{0}/asn.mmdb"
            [regions."cn/east"]
            subdivisions = ["CN-SH"]
            [regions.eu]
            countries = ["DE"]
            point = [50.1, 8.7]
            [carriers.telecom]
            asns = [4134]
            "#,
            folder.path().display()
        );
        fs::write(folder.path().join("roost.toml"), tables).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A scheduler with a node in Shanghai and one in Frankfurt.
    async fn start(&self, arguments: &[&str]) -> (Scheduler, [Agent; 2]) {
        let config = self.path("roost.toml");
        let scheduler =
            Scheduler::start_with(&[&["--dev", "--config", &config], arguments].concat()).await.ready().await;
        let agents = [
            Agent::start(&scheduler.cluster, "sha-1", "cn/east/shanghai").await,
            Agent::start(&scheduler.cluster, "fra-1", "eu/central").await,
        ];
        scheduler.knows(2).await;
        (scheduler, agents)
    }

    /// Puts a file in the place of another at once, as one should, or takes it away.
    fn put(&self, name: &str, content: Option<&[u8]>) {
        let path = self.path(name);
        match content {
            None => fs::remove_file(path).unwrap(),
            Some(content) => {
                let fresh = self.path("fresh");
                fs::write(&fresh, content).unwrap();
                fs::rename(fresh, path).unwrap();
            }
        }
    }

    async fn locate(&self, arguments: &[&str]) -> Output {
        let config = self.path("roost.toml");
        locate(&[&["--config", &config], arguments].concat()).await
    }
}

/// A database that docker/geo/make_test.py has made.
fn made(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/geo-test").join(name);
    assert!(path.exists(), "{} is missing: run `.ci/setup geo`", path.display());
    path
}

async fn forwarded_lookup(scheduler: &Scheduler, room: &str, forwarded: &str) -> Value {
    let request = scheduler.lookup_request(room, &json!({})).header("x-forwarded-for", forwarded);
    let response = request.send().await.unwrap();
    let (status, answer) = (response.status(), response.json::<Value>().await.unwrap());
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn metrics(scheduler: &Scheduler) -> String {
    let url = format!("http://{}/metrics", scheduler.admin);
    scheduler.http.get(url).send().await.unwrap().text().await.unwrap()
}

async fn locate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roost-scheduler")).arg("locate").args(arguments).output().await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
