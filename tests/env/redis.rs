//! A real Redis on a free port.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::Process;
use crate::{Trouble, binaries, wait};

/// A running Redis without persistence.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
}

impl Redis {
    /// Starts Redis in `folder`.
    pub async fn start(folder: &Path) -> Result<Self, Trouble> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Self::start_on(folder, port).await
    }

    /// Starts Redis in `folder` on a port that was its before.
    pub async fn start_on(folder: &Path, port: u16) -> Result<Self, Trouble> {
        let mut command = Command::new(binaries::system("redis-server", "redis-server")?);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(folder);
        let process = Process::start("redis", folder, command)?;
        wait::until("redis takes connections", Duration::from_secs(10), || async move {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await?;
        Ok(Self { process, port })
    }

    /// The URL that the store flags take.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
