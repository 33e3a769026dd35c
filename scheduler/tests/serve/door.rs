//! How the process is started, trusted and stopped.

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::process::{Scheduler, run};

#[tokio::test]
async fn it_says_its_version_and_refuses_a_wrong_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roost.toml");
    let path = file.to_str().unwrap();
    for (toml, arguments, says) in [
        ("", vec![], "cluster_key_file"),
        ("", vec!["--cluster-key-file", "/none", "--cluster-url", "http://x"], "/none"),
        ("", vec!["--dev", "--listen", "0.0.0.0:0"], "loopback"),
        ("", vec!["--dev", "--listen", "here"], "listen"),
        ("", vec!["--dev", "--tls-cert", "/c.pem"], "tls_key"),
        ("", vec!["--dev", "--cluster-url", "ftp://x"], "cluster_url"),
        ("", vec!["--dev", "--log-level", "a=b=c"], "log_level"),
        ("", vec!["--dev", "--trusted-proxy", "10.0.0.0/40"], "trusted_proxy"),
        ("", vec!["--dev", "--store", "mysql://x"], "store"),
        ("", vec!["--dev", "--tls-cert", "/none", "--tls-key", "/none"], "tls_cert"),
        ("[scheduler]\nlistem = 1", vec!["--dev"], "listem"),
        ("[other]", vec!["--dev"], "other"),
        ("[agent]\nanything = 1", vec!["--dev", "--cors-origin", "nonsense"], "cors_origin"),
    ] {
        std::fs::write(&file, toml).unwrap();
        let ended = run(&[&["--config", path], arguments.as_slice()].concat()).await;
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?} does not say {says}: {said}");
    }
    let printed = run(&["--dev", "--store", "redis://u:secret@h", "--print-config"]).await;
    let text = String::from_utf8_lossy(&printed.stdout);
    assert!(text.contains("***") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_signal_ends_it_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let mut scheduler = Scheduler::start().await;
        let _agent = Agent::start(&scheduler.cluster, "a", "eu").await;
        let pid = scheduler.child.id().unwrap().to_string();
        let sent = tokio::process::Command::new("kill").args([signal, &pid]).status().await.unwrap();
        assert!(sent.success());
        let ended = tokio::time::timeout(std::time::Duration::from_secs(8), scheduler.child.wait()).await;
        assert_eq!(ended.expect("in time").unwrap().code(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn hints_count_only_with_an_api_key_of_the_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("roost.toml"), folder.path().join("key"));
    // The key of development mode, so that the test's agents are trusted here too.
    std::fs::write(&key, "roost-dev-cluster-key-not-for-production\n").unwrap();
    std::fs::write(&file, CONFIGURATION).unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--cluster-key-file", key.to_str().unwrap()];
    let scheduler = Scheduler::start_with(&arguments).await.ready().await;
    let _fra = Agent::start(&scheduler.cluster, "fra-1", "eu").await;
    let _iad = Agent::start(&scheduler.cluster, "iad-1", "us").await;
    scheduler.knows(2).await;
    let hints = json!({"client_ip": "203.0.113.9", "region": "us"});
    let told = json!({"ip": "203.0.113.9", "region": "us"});
    let seen = json!({"ip": "198.51.100.7"});
    for (namespace, token, client) in [
        ("default", Some("backend-key"), &told),
        ("default", Some("wrong"), &seen),
        ("default", None, &seen),
        ("acme", Some("backend-key"), &seen),
    ] {
        let url = format!("http://{}/v1/namespaces/{namespace}/rooms/x/lookup", scheduler.public);
        let mut request = scheduler.http.post(url).json(&hints).header("x-forwarded-for", "10.9.9.9, 198.51.100.7");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(&answer["client"], client, "{namespace} {token:?}: {answer}");
    }
    let url = format!("http://{}/v1/namespaces/other/rooms/x/lookup", scheduler.public);
    let refused = scheduler.http.post(url).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "namespace_not_allowed");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call() {
    let scheduler = Scheduler::start_with(&["--dev", "--cors-origin", "https://app.example"]).await;
    for (origin, allowed) in [("https://app.example", true), ("https://evil.example", false)] {
        let url = format!("http://{}/v1/namespaces/default/rooms/x/lookup", scheduler.public);
        let preflight = scheduler
            .http
            .request(reqwest::Method::OPTIONS, &url)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,authorization");
        let answered = preflight.send().await.unwrap();
        let header = |response: &reqwest::Response, name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let expected = allowed.then(|| origin.to_owned());
        assert_eq!(header(&answered, "access-control-allow-origin"), expected, "{origin}");
        // A refusal must be readable for the page too.
        let refused = scheduler.http.post(&url).header("origin", origin).body("{").send().await.unwrap();
        assert_eq!(refused.status(), 400);
        assert_eq!(header(&refused, "access-control-allow-origin"), expected, "{origin}");
    }
}

#[tokio::test]
async fn the_public_listener_speaks_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let arguments = ["--dev", "--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let scheduler = Scheduler::start_with(&arguments).await;
    let response = scheduler.http.get(format!("https://{}/healthz", scheduler.public)).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

/// The hash is that of `backend-key`.
const CONFIGURATION: &str = r#"
[scheduler]
cluster_url = "http://127.0.0.1:7402"
trusted_proxy = ["127.0.0.1/32"]
allow_unknown_namespaces = false

[namespaces.default]
[namespaces.acme]

[api_keys.backend]
sha256 = "26e5026bae501dfb3ca603d61c961884aed8e12c1eb49ee8d03a11071df0f4a7"
namespaces = ["default"]
"#;
