//! How a server of the store is reached once its address is known: user, database, TLS. And Sentinel, which knows it.

use futures_util::future::{FutureExt, select_ok};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, TlsCertificates, TlsMode};

use super::session::unavailable;
use crate::error::StoreError;

/// What every server of the store takes alike.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    pub(super) settings: RedisConnectionInfo,
    /// With TLS: the certificates that are trusted.
    pub(super) tls: Option<TlsCertificates>,
}

/// Sentinels, and the name by which they know the master.
#[derive(Debug)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<(String, u16)>,
    pub(super) master: String,
    pub(super) reach: Reach,
}

impl Reach {
    pub(super) fn client(&self, host: &str, port: u16) -> RedisResult<Client> {
        let address = self.address(host, port).into_connection_info()?.set_redis_settings(self.settings.clone());
        match &self.tls {
            None => Client::open(address),
            Some(certificates) => Client::build_with_tls(address, certificates.clone()),
        }
    }

    fn address(&self, host: &str, port: u16) -> ConnectionAddr {
        match self.tls {
            None => ConnectionAddr::Tcp(host.to_owned(), port),
            Some(_) => ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None },
        }
    }
}

impl Sentinels {
    /// The master that a sentinel names and that says itself that it is one. All are asked at once: one of them may be
    /// silent. If they disagree, what either master wrote is told apart by its run (rule 1).
    pub(super) async fn master(&self) -> Result<Client, StoreError> {
        let asked = self.addresses.iter().map(|(host, port)| self.ask(host, *port).boxed());
        let (found, _) = select_ok(asked).await.map_err(|error| unavailable(&error))?;
        Ok(found)
    }

    /// Sentinels are asked without user and password, which are for Redis.
    async fn ask(&self, host: &str, port: u16) -> RedisResult<Client> {
        let reach = &self.reach;
        let sentinel = [reach.address(host, port)];
        let mut builder = SentinelClientBuilder::new(sentinel, &self.master, SentinelServerType::Master)?;
        if let Some(user) = reach.settings.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = reach.settings.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(certificates) = &reach.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        let master = builder.build()?.async_get_client().await?;
        match master.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => reach.client(host, *port),
            _ => Ok(master),
        }
    }
}
