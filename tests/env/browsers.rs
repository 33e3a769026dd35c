//! The programs of tests/browser: the page's server, the browsers' driver, the independent clients.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::process::Process;
use crate::{Trouble, binaries};

const ANSWERS_WITHIN: Duration = Duration::from_secs(90);

/// The page on a server of its own.
#[derive(Debug)]
pub struct Page {
    pub url: String,
    _server: Process,
}

impl Page {
    /// Serves what `npm run build` made of dashboards/room.
    pub async fn serve(cluster: &Cluster) -> Result<Self, Trouble> {
        let mut command = Command::new(binaries::system("node", "nodejs")?);
        command.arg(binaries::tree().join("dashboards/room/serve.mjs"));
        let mut server = Process::start("page", cluster.folder(), command)?;
        let ready = server.ready().await?;
        let url =
            format!("http://{}", ready["listeners"]["page"].as_str().ok_or("the page's server names no listener")?);
        Ok(Self { url, _server: server })
    }
}

/// Two browsers' participants in a room, who stay until this is dropped or closed.
#[derive(Debug)]
pub struct Browsers {
    /// What both received when they had arrived.
    pub result: Value,
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Browsers {
    /// Lets them join `room`, and checks that each receives the other; `arguments` say by which way.
    pub async fn meet(cluster: &Cluster, page: &Page, room: &str, arguments: &[&str]) -> Result<Self, Trouble> {
        let schedulers: Vec<_> = cluster.schedulers.iter().map(|s| format!("http://{}", s.public)).collect();
        let mut child = Command::new(binaries::system("node", "nodejs")?)
            .arg(binaries::tree().join("tests/browser/drive.mjs"))
            .args(["--page", &page.url, "--scheduler", &schedulers.join(","), "--room", room])
            .args(["--seconds", "3", "--timeout", "45", "--json", "--hold"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut browsers = Self { result: Value::Null, child, input, lines };
        browsers.result = browsers.answer().await?;
        passed(&browsers.result)?;
        Ok(browsers)
    }

    /// Says a command, and waits until the driver is at it; `answer` gives what came of it.
    pub async fn expect(&mut self, command: &str) -> Result<(), Trouble> {
        let input = self.input.as_mut().ok_or("the driver has no input")?;
        input.write_all(format!("{command}\n").as_bytes()).await?;
        let line = self.answer().await?;
        if line["event"] == "expecting" { Ok(()) } else { Err(format!("{command}: {line}").into()) }
    }

    /// The driver's next line.
    pub async fn answer(&mut self) -> Result<Value, Trouble> {
        let line =
            timeout(ANSWERS_WITHIN, self.lines.next_line()).await.map_err(|_| "the driver does not answer")??;
        Ok(serde_json::from_str(&line.ok_or("the driver ended")?)?)
    }

    /// The node that all participants are at.
    pub fn node(&self) -> Result<&str, Trouble> {
        self.result["participants"][0]["node"].as_str().ok_or_else(|| format!("no node: {}", self.result).into())
    }

    /// Closes the browsers.
    pub async fn close(mut self) -> Result<(), Trouble> {
        self.input = None;
        timeout(Duration::from_secs(20), self.child.wait()).await.map_err(|_| "the browsers do not end")??;
        Ok(())
    }
}

/// Runs aiortc in `room` until it heard enough.
pub async fn aiortc(cluster: &Cluster, room: &str) -> Result<Value, Trouble> {
    let tree = binaries::tree();
    let python = tree.join("target/venv/bin/python3");
    if !python.exists() {
        return Err(format!("{} is missing: run `make setup`", python.display()).into());
    }
    let mut command = Command::new(python);
    command.arg(tree.join("tests/browser/aiortc_client.py"));
    command.args(["--scheduler", &format!("http://{}", cluster.schedulers[0].public), "--room", room]);
    one_line(command).await
}

/// Runs the unmodified protoo-client: against its own server, or against `socket`.
pub async fn stock(socket: Option<&str>, room: &str) -> Result<Value, Trouble> {
    let mut command = Command::new(binaries::system("node", "nodejs")?);
    command.arg(binaries::tree().join("tests/browser/stock.mjs"));
    command.args(["--room", room]);
    if let Some(socket) = socket {
        command.args(["--ws", socket]);
    }
    one_line(command).await
}

/// Runs the unmodified protoo-client at the right node: once it is in, `cut` does what makes the node close it with 4503,
/// and it must come back.
pub async fn stock_comes_back(
    socket: &str,
    room: &str,
    cut: impl FnOnce() -> Result<(), Trouble>,
) -> Result<Value, Trouble> {
    let mut child = Command::new(binaries::system("node", "nodejs")?)
        .arg(binaries::tree().join("tests/browser/stock.mjs"))
        .args(["--ws", socket, "--room", room, "--back"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let mut line = async || -> Result<Value, Trouble> {
        let line = timeout(ANSWERS_WITHIN, lines.next_line()).await.map_err(|_| "the client does not answer")??;
        Ok(serde_json::from_str(&line.ok_or("the client ended")?)?)
    };
    let open = line().await?;
    if open["event"] != "open" {
        return Err(open.to_string().into());
    }
    cut()?;
    let result = line().await?;
    passed(&result)?;
    Ok(result)
}

async fn one_line(mut command: Command) -> Result<Value, Trouble> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(ANSWERS_WITHIN, command.output()).await.map_err(|_| "the client does not end")??;
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let result: Value =
        result.ok_or_else(|| format!("no result: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    passed(&result)?;
    Ok(result)
}

fn passed(result: &Value) -> Result<(), Trouble> {
    if result["ok"] == true { Ok(()) } else { Err(result.to_string().into()) }
}
