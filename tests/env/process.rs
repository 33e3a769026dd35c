//! One process that we started: its ready line, its log, its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::Trouble;

const READY_WITHIN: Duration = Duration::from_secs(20);
const STOPPED_WITHIN: Duration = Duration::from_secs(40);

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    stdout: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    /// Starts `command`; its standard error goes to `<folder>/<name>.log`.
    ///
    /// It gets a process group of its own, so that a Ctrl-C in the terminal reaches it by our word only.
    pub fn start(name: &str, folder: &Path, mut command: Command) -> Result<Self, Trouble> {
        let log = folder.join(format!("{name}.log"));
        let errors = File::options().create(true).append(true).open(&log)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{name}: cannot start {:?}: {error}", command.as_std().get_program()))?;
        let stdout = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Ok(Self { name: name.to_owned(), child, log, stdout })
    }

    /// Waits for the line of JSON that says that the process is ready, and gives it.
    pub async fn ready(&mut self) -> Result<Value, Trouble> {
        let mut lines = self.stdout.take().ok_or("the ready line was read already")?;
        let line = timeout(READY_WITHIN, lines.next_line()).await;
        let line = match line {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return Err(format!("{} ended before it was ready: {}", self.name, self.log_tail()).into()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                return Err(format!("{} was not ready in {READY_WITHIN:?}: {}", self.name, self.log_tail()).into());
            }
        };
        // Whatever else it prints must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        serde_json::from_str(&line).map_err(|error| format!("{}: ready line {line:?}: {error}", self.name).into())
    }

    /// Its process id; none when it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended; none while it runs.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }

    /// Whether it has ended, by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Where its standard error goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Sends a signal, by its id.
    pub fn signal(&self, signal: Signal) -> Result<(), Trouble> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).ok_or("the process has ended")?;
        Ok(kill_process(pid, signal)?)
    }

    /// kill -9, and waits for the end.
    pub async fn kill(&mut self) -> Result<(), Trouble> {
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }

    /// SIGTERM, and waits for the end; gives the exit code.
    pub async fn stop(&mut self) -> Result<Option<i32>, Trouble> {
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        match timeout(STOPPED_WITHIN, self.child.wait()).await {
            Ok(status) => Ok(status?.code()),
            Err(_) => {
                self.kill().await?;
                Err(format!("{} did not stop in {STOPPED_WITHIN:?} and was killed", self.name).into())
            }
        }
    }
}
