//! A TLS listener whose certificate is replaced while it runs.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{App, HttpServer};
use roost_server::{Readiness, listen, tls};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

#[actix_web::test]
async fn new_handshakes_get_the_new_certificate_and_broken_files_change_nothing() {
    let files = Files::new();
    let (first, second) = (Made::new(), Made::new());
    files.write(&first.cert_pem, &first.key_pem);
    let config = tls::server_config(&files.cert, &files.key).unwrap();
    let listener = listen::bind("signaling_listen", "127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = HttpServer::new(|| App::new().configure(|config| Readiness::new().routes(config)))
        .workers(1)
        .disable_signals()
        .listen_rustls_0_23(listener, (*config).clone())
        .unwrap()
        .run();
    let handle = server.handle();
    actix_web::rt::spawn(server);

    let both = Arc::new(vec![first.der.clone(), second.der.clone()]);
    assert_eq!(shown(address, both.clone()).await, first.der);

    files.write(&second.cert_pem, "broken");
    let deadline = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < deadline {
        assert_eq!(shown(address, both.clone()).await, first.der, "the old one stays");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    files.write(&second.cert_pem, &second.key_pem);
    let deadline = Instant::now() + Duration::from_secs(20);
    while shown(address, both.clone()).await != second.der {
        assert!(Instant::now() < deadline, "the new certificate was not taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    handle.stop(false).await;
}

#[test]
fn what_is_no_pair_stops_the_start() {
    let files = Files::new();
    let (first, second) = (Made::new(), Made::new());
    for (cert, key, expected) in [
        (first.cert_pem.as_str(), second.key_pem.as_str(), "expected a certificate and its own private key"),
        ("", first.key_pem.as_str(), "expected at least one certificate"),
        (&first.cert_pem, "", "tls_key"),
        (&first.cert_pem, &first.cert_pem, "tls_key"),
    ] {
        files.write(cert, key);
        let error = tls::server_config(&files.cert, &files.key).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = tls::server_config(Path::new("/nonexistent"), &files.key).unwrap_err();
    assert_eq!(error.to_string(), "tls_cert /nonexistent: expected a readable PEM file");
}

#[test]
fn outgoing_connections_trust_the_machines_roots() {
    tls::client_config().unwrap();
}

struct Made {
    cert_pem: String,
    key_pem: String,
    der: CertificateDer<'static>,
}

impl Made {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        Self { cert_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
    }
}

struct Files {
    folder: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("roost-tls-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { cert: folder.join("cert.pem"), key: folder.join("key.pem"), folder }
    }

    fn write(&self, cert: &str, key: &str) {
        std::fs::write(&self.cert, cert).unwrap();
        std::fs::write(&self.key, key).unwrap();
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The certificate that a new connection is shown; `/healthz` is read over it as well.
async fn shown(address: SocketAddr, trusted: Arc<Vec<CertificateDer<'static>>>) -> CertificateDer<'static> {
    let shown = move || {
        let mut roots = RootCertStore::empty();
        trusted.iter().for_each(|cert| roots.add(cert.clone()).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
    };
    tokio::task::spawn_blocking(shown).await.unwrap()
}
