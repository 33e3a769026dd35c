//! The agent's three listeners: participants, operators, and the other processes of the cluster.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};

use roost_server::{Readiness, listen, problem, request_id, tls};

use crate::config::Config;
use crate::control::Control;
use crate::error::AgentError;
use crate::link::{self, Link};
use crate::signaling::{self, Signaling};

/// A request's head must have come by then.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Requests under way have this long to end when the process stops.
const STOP_WITHIN_S: u64 = 2;
/// One thread is enough for operators, one for the link.
const SMALL_WORKERS: usize = 1;

/// Bound, but not served yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    signaling: TcpListener,
    control: TcpListener,
    link: TcpListener,
}

/// Where they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) signaling: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) link: SocketAddr,
}

impl Listeners {
    /// Binds all three, before there is a lease: a node that cannot be reached must not be counted on (rule 13).
    pub(crate) fn bind(config: &Config) -> Result<Self, AgentError> {
        Ok(Self {
            signaling: listen::bind("signaling_listen", &config.signaling_listen)?,
            control: listen::bind("control_listen", &config.settings.control_listen)?,
            link: listen::bind("link_listen", &config.link_listen)?,
        })
    }

    pub(crate) fn addresses(&self) -> Result<Addresses, AgentError> {
        let address = |listener: &TcpListener| {
            listener.local_addr().map_err(|source| AgentError::Io { what: "reading a listener's address", source })
        };
        Ok(Addresses {
            signaling: address(&self.signaling)?,
            control: address(&self.control)?,
            link: address(&self.link)?,
        })
    }

    /// Serves all three; signaling first.
    pub(crate) fn serve(
        self,
        config: &Config,
        signaling: Signaling,
        control: Control,
        link: Link,
        readiness: &Readiness,
    ) -> Result<[Server; 3], AgentError> {
        let tls = match (&config.settings.tls_cert, &config.settings.tls_key) {
            (Some(cert), Some(key)) => Some(tls::server_config(cert, key)?),
            _ => None,
        };
        Ok([
            signaling_server(self.signaling, signaling, readiness.clone(), tls.clone())?,
            control_server(self.control, control)?,
            link_server(self.link, link, readiness.clone(), tls)?,
        ])
    }
}

type Tls = Option<Arc<rustls::ServerConfig>>;

fn not_served(source: std::io::Error) -> AgentError {
    AgentError::Io { what: "serving a listener", source }
}

fn signaling_server(
    listener: TcpListener,
    signaling: Signaling,
    readiness: Readiness,
    tls: Tls,
) -> Result<Server, AgentError> {
    let signaling = web::Data::new(signaling);
    let server = HttpServer::new(move || {
        App::new()
            .configure(problem::configure)
            .configure(|config| readiness.routes(config))
            .configure(|config| signaling::configure(config, signaling.clone()))
            .wrap(from_fn(request_id::carry))
    });
    // Two frames in a row must not wait for the first one's acknowledgement, 40 ms as a rule.
    let server = server.tcp_nodelay(true).disable_signals();
    let server = server.client_request_timeout(HEAD_WITHIN).shutdown_timeout(STOP_WITHIN_S);
    Ok(match tls {
        Some(tls) => server.listen_rustls_0_23(listener, (*tls).clone()).map_err(not_served)?.run(),
        None => server.listen(listener).map_err(not_served)?.run(),
    })
}

fn control_server(listener: TcpListener, control: Control) -> Result<Server, AgentError> {
    let server =
        HttpServer::new(move || App::new().configure(|config| control.routes(config)).wrap(from_fn(request_id::carry)));
    let server = server.workers(SMALL_WORKERS).client_request_timeout(HEAD_WITHIN).shutdown_timeout(STOP_WITHIN_S);
    Ok(server.disable_signals().listen(listener).map_err(not_served)?.run())
}

fn link_server(listener: TcpListener, link: Link, readiness: Readiness, tls: Tls) -> Result<Server, AgentError> {
    let link = web::Data::new(link);
    let server = HttpServer::new(move || {
        App::new()
            .configure(problem::configure)
            .configure(|config| readiness.routes(config))
            .configure(|config| link::configure(config, link.clone()))
            .wrap(from_fn(request_id::carry))
    });
    let server = server.workers(SMALL_WORKERS).client_request_timeout(HEAD_WITHIN).shutdown_timeout(STOP_WITHIN_S);
    let server = server.on_connect(link::note_own_end).disable_signals();
    Ok(match tls {
        Some(tls) => server.listen_rustls_0_23(listener, (*tls).clone()).map_err(not_served)?.run(),
        None => server.listen(listener).map_err(not_served)?.run(),
    })
}
