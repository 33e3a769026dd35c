//! A real PostgreSQL on a free port, with a cluster of its own.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::Process;
use crate::{Trouble, wait};

/// The server refuses to run as root: this is `nobody` on Debian and its kin.
const NOBODY: u32 = 65_534;
const STARTED_WITHIN: Duration = Duration::from_secs(30);

/// A running PostgreSQL. It is killed when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    // After the process, so that it is gone when its data is removed.
    folder: TempDir,
}

impl Postgres {
    /// Makes a cluster in a folder of its own, and starts the server.
    pub async fn start() -> Result<Self, Trouble> {
        let folder = tempfile::Builder::new().prefix("roost-postgres-").tempdir()?;
        if geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
        }
        let mut initdb = as_nobody(&program("initdb")?, folder.path());
        initdb.args(["--auth", "trust", "--username", "roost", "--encoding", "UTF8", "--locale", "C", "--no-sync"]);
        let output = initdb.arg("--pgdata").arg(folder.path().join("data")).output().await?;
        if !output.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = serve(folder.path(), port).await?;
        Ok(Self { process, port, folder })
    }

    /// The URL that the ledger's flag takes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://roost:unused@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// kill -9 of the server; its other processes end when they find that out.
    pub async fn kill(&mut self) -> Result<(), Trouble> {
        self.process.kill().await
    }

    /// Starts it again on its port with its data.
    pub async fn restart(&mut self) -> Result<(), Trouble> {
        self.process = serve(self.folder.path(), self.port).await?;
        Ok(())
    }

    /// Ends it, whoever is connected.
    pub async fn stop(mut self) -> Result<(), Trouble> {
        self.process.signal(Signal::INT)?;
        self.process.stop().await?;
        Ok(())
    }

    /// The process itself.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Starts the server; after a kill it refuses to, until the last process of the one before has gone.
async fn serve(folder: &Path, port: u16) -> Result<Process, Trouble> {
    let postgres = program("postgres")?;
    wait::until("PostgreSQL takes connections", STARTED_WITHIN, || async {
        let mut command = as_nobody(&postgres, folder);
        command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-h", "127.0.0.1", "-F"]);
        command.args(["-p", &port.to_string()]);
        let mut process = Process::start("postgres", folder, command).ok()?;
        let up = wait::until("it answers or ends", STARTED_WITHIN, || {
            let ended = process.has_ended();
            async move {
                let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
                (ended || connected).then_some(!ended)
            }
        });
        up.await.ok()?.then_some(process)
    })
    .await
}

fn as_nobody(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    // The folder that a test runs in may be closed to it.
    command.current_dir(folder);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Debian keeps the server's programs out of the path, each version in a folder of its own.
fn program(name: &str) -> Result<PathBuf, Trouble> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().map_or_else(|| crate::binaries::system(name, "postgresql"), Ok)
}
