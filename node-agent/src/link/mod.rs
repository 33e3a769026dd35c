//! The link listener: what schedulers and other agents want of this one.

mod watch;
pub(crate) mod watchers;

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::web;
use roost_server::ClusterKeys;
use roost_server::problem::other_methods;
use tokio::net::TcpStream;

use crate::node::Node;
use watchers::Watchers;

/// What the link listener serves from.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) node: Arc<Node>,
    /// None: the node is alone, and nobody is let in.
    pub(crate) keys: Option<ClusterKeys>,
    pub(crate) watchers: Watchers,
}

/// Our end of a connection.
#[derive(Debug, Clone, Copy)]
struct OwnEnd(SocketAddr);

/// Mounts its paths.
pub(crate) fn configure(config: &mut web::ServiceConfig, link: web::Data<Link>) {
    config
        .app_data(link)
        .service(web::resource("/v1/watch").route(web::get().to(watch::watch)).default_service(other_methods("GET")));
}

/// Notes of a new connection where our end of it is.
pub(crate) fn note_own_end(connection: &dyn Any, data: &mut Extensions) {
    let plain = connection.downcast_ref::<TcpStream>();
    let socket = plain.or_else(|| connection.downcast_ref::<TlsStream<TcpStream>>().map(|tls| tls.get_ref().0));
    if let Some(Ok(own)) = socket.map(TcpStream::local_addr) {
        data.insert(OwnEnd(own));
    }
}
