//! A real Redis on a free port.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::Process;
use crate::{Trouble, binaries, namespace, wait};

const LOOPBACK: &str = "127.0.0.1";
/// Redis's own, where nobody else is.
const PORT: u16 = 6379;

/// A running Redis without persistence.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    host: String,
    port: u16,
}

impl Redis {
    /// Starts Redis in `folder`.
    pub async fn start(folder: &Path) -> Result<Self, Trouble> {
        Self::start_at(folder, LOOPBACK).await
    }

    /// Starts Redis in `folder`, listening at an address of this machine.
    pub async fn start_at(folder: &Path, host: &str) -> Result<Self, Trouble> {
        let port = TcpListener::bind((host, 0))?.local_addr()?.port();
        Self::launch(folder, (None, host), port).await
    }

    /// Starts Redis in `folder`, in a network namespace in which it has this address.
    pub async fn start_in(folder: &Path, namespace: &Path, host: &str) -> Result<Self, Trouble> {
        Self::launch(folder, (Some(namespace), host), PORT).await
    }

    /// Starts Redis in `folder` on a port that was its before.
    pub async fn start_on(folder: &Path, port: u16) -> Result<Self, Trouble> {
        Self::launch(folder, (None, LOOPBACK), port).await
    }

    async fn launch(folder: &Path, (apart, host): (Option<&Path>, &str), port: u16) -> Result<Self, Trouble> {
        let server = binaries::system("redis-server", "redis-server")?;
        let mut command = apart.map_or_else(|| Command::new(&server), |apart| namespace::inside(apart, &server));
        command.args(["--bind", host, "--protected-mode", "no", "--port", &port.to_string()]);
        command.args(["--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(folder);
        let process = Process::start("redis", folder, command)?;
        wait::until("redis takes connections", Duration::from_secs(10), || async move {
            TcpStream::connect((host, port)).await.ok()
        })
        .await?;
        Ok(Self { process, host: host.to_owned(), port })
    }

    /// The URL that the store flags take.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}:{}", self.host, self.port)
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
