//! Listeners, and the one line that says they are there.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::time::Duration;

/// How many connections may wait to be accepted. The standard library's 128 is too few when all clients come back.
const BACKLOG: i32 = 4_096;

/// A client that reads nothing, or is cut off, keeps a connection for so long at most while something waits to be sent to
/// it. The system's own limit is a quarter of an hour for one that is cut off; one that lives and does not read has none.
const UNREAD_WITHIN: Duration = Duration::from_secs(30);

/// Why a listener is not there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Wrong configuration.
    #[error("{key}: {address:?}: expected an address to listen on, like 127.0.0.1:7400, or port 0 for a free one")]
    Address { key: &'static str, address: String, source: io::Error },
    /// Taken, or not an address of this machine.
    #[error("{key}: {address:?}: cannot be listened on")]
    Unavailable { key: &'static str, address: String, source: io::Error },
}

/// Listens on `address` (`IP:port` or `name:port`; port 0 takes a free one) for the setting `key`.
pub fn bind(key: &'static str, address: &str) -> Result<TcpListener, ListenError> {
    let owned = || address.to_owned();
    let found: Vec<_> =
        address.to_socket_addrs().map_err(|source| ListenError::Address { key, address: owned(), source })?.collect();
    listen(&found).map_err(|source| ListenError::Unavailable { key, address: owned(), source })
}

/// Prints the one line on standard output that tells whoever started the process that it listens, and where.
pub fn ready_line(line: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn listen(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addresses)?;
    let socket = socket2::SockRef::from(&listener);
    // Connections inherit it.
    socket.set_tcp_user_timeout(Some(UNREAD_WITHIN))?;
    socket.listen(BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_0_takes_a_free_port_and_a_taken_one_is_refused() {
        let first = bind("listen", "127.0.0.1:0").expect("a port is free");
        let address = first.local_addr().expect("it is bound").to_string();
        let error = bind("listen", &address).expect_err("it is taken");
        assert!(matches!(error, ListenError::Unavailable { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("listen: {address:?}: cannot be listened on"));
    }

    #[test]
    fn connections_inherit_how_long_they_wait_for_one_who_does_not_read() {
        let listener = bind("listen", "127.0.0.1:0").expect("a port is free");
        let _client = std::net::TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let (accepted, _) = listener.accept().expect("it is there");
        let limit = socket2::SockRef::from(&accepted).tcp_user_timeout().expect("it is read");
        assert_eq!(limit, Some(UNREAD_WITHIN));
    }

    #[test]
    fn what_is_no_address_is_named_with_what_was_expected() {
        for address in ["", "here", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"] {
            let error = bind("admin_listen", address).expect_err(address);
            assert!(matches!(error, ListenError::Address { .. }), "{error:?}");
            assert!(error.to_string().starts_with(&format!("admin_listen: {address:?}: expected ")), "{error}");
        }
    }
}
