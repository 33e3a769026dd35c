//! A keep-alive HTTP connection that asks, waits for the answer, and asks again, at little cost to the machine.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Trouble;

const MOST_BYTES: usize = 16 * 1024;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a str,
}

/// A POST of a JSON body.
#[must_use]
pub fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(address: &str) -> Result<Self, Trouble> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: vec![0; MOST_BYTES] })
    }

    /// Whether the server has not closed it since the last answer.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let mut byte = [0];
        self.socket.try_read(&mut byte).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a request and reads its answer. After an error the connection is of no more use.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer<'_>, Trouble> {
        self.socket.write_all(request).await?;
        let mut filled = 0;
        let (status, body) = loop {
            let read = self.socket.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err("the server closed the connection, or its answer is too long".into());
            }
            filled += read;
            let text = std::str::from_utf8(&self.buffer[..filled])?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .ok_or("an answer without Content-Length")?;
            if body.len() >= length.1.trim().parse::<usize>()? {
                let status = head.split(' ').nth(1).ok_or("an answer without status")?;
                break (status.parse()?, head.len() + 4);
            }
        };
        Ok(Answer { status, body: std::str::from_utf8(&self.buffer[body..filled])? })
    }
}
