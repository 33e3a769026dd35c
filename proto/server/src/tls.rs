//! TLS: the server's certificate, read again when its files change, and the roots that outgoing connections trust.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::stamp::{CHECK_EVERY, Stamp};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{key} {}: expected a readable PEM file", path.display())]
    Read { key: &'static str, path: PathBuf, source: PemError },
    #[error("tls_cert {}: expected at least one certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("tls_cert {} and tls_key {}: expected a certificate and its own private key", cert.display(), key.display())]
    Mismatch { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("no TLS version that the provider supports")]
    Versions { source: rustls::Error },
    #[error("no trusted root certificates on this machine")]
    NoRoots { source: Option<rustls_native_certs::Error> },
}

/// For a listener. The files are looked at again at handshakes, at most once a second: new ones count from then on,
/// broken ones are logged once and the old certificate stays.
pub fn server_config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let resolver = Reloading::new(cert, key)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Versions { source })?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    Ok(Arc::new(config))
}

/// For outgoing connections: trusts the machine's roots (or those in `SSL_CERT_FILE`, `SSL_CERT_DIR`).
pub fn client_config() -> Result<Arc<ClientConfig>, TlsError> {
    let mut found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(TlsError::NoRoots { source: found.errors.pop() });
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Versions { source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Makes aws-lc the process's cryptography, for libraries that look for a default. Any number of times.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificate in use, and what its files looked like.
struct Reloading {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    seen: Mutex<Seen>,
}

struct Seen {
    checked: Instant,
    stamps: Stamps,
}

/// Of both files.
type Stamps = [Option<Stamp>; 2];

impl Reloading {
    fn new(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let stamps = stamps(cert, key);
        let current = ArcSwap::from_pointee(read(cert, key)?);
        let seen = Mutex::new(Seen { checked: Instant::now(), stamps });
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), current, seen })
    }

    fn check(&self, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(seen.checked) < CHECK_EVERY {
            return;
        }
        seen.checked = now;
        let stamps = stamps(&self.cert, &self.key);
        if stamps == seen.stamps {
            return;
        }
        seen.stamps = stamps;
        match read(&self.cert, &self.key) {
            Ok(key) => {
                self.current.store(Arc::new(key));
                tracing::info!(cert = %self.cert.display(), "certificate read again");
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the new certificate cannot be used, the old one stays");
            }
        }
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.check(Instant::now());
        Some(self.current.load_full())
    }
}

impl fmt::Debug for Reloading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("cert", &self.cert).field("key", &self.key).finish_non_exhaustive()
    }
}

fn stamps(cert: &Path, key: &Path) -> Stamps {
    [cert, key].map(Stamp::of)
}

fn read(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TlsError::Read { key: "tls_cert", path: cert.to_owned(), source })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: cert.to_owned() });
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Read {
        key: "tls_key",
        path: key.to_owned(),
        source,
    })?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|source| TlsError::Mismatch {
        cert: cert.to_owned(),
        key: key.to_owned(),
        source,
    })
}
