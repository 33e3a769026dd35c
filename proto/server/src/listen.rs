//! Listeners, and the one line that says they are there.

use std::io::{self, Write as _};
use std::net::TcpListener;

/// How many connections may wait to be accepted: the standard library's 128 is too few when a cluster's clients come back at once.
const BACKLOG: i32 = 4_096;

/// Why a listener is not there.
#[derive(Debug, thiserror::Error)]
#[error("{key} {address:?}: expected an address to listen on, like 127.0.0.1:7400, or :0 for a free port")]
pub struct ListenError {
    /// The setting that named the address.
    pub key: &'static str,
    pub address: String,
    pub source: io::Error,
}

/// Listens on `address` (`IP:port` or `name:port`; port 0 takes a free one) for the setting `key`.
pub fn bind(key: &'static str, address: &str) -> Result<TcpListener, ListenError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        socket2::SockRef::from(&listener).listen(BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| ListenError { key, address: address.to_owned(), source })
}

/// Prints the one line on standard output that tells whoever started the process that it listens, and where.
pub fn ready_line(line: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
