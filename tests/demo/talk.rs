//! Two scripted Chromium participants who talk in one room, and the page to join them.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use roost_tests::cluster::Cluster;
use roost_tests::process::Process;
use roost_tests::{Trouble, binaries};

const TALKING_WITHIN: Duration = Duration::from_secs(60);

/// The page's server and the browsers. They end when this is dropped: the driver closes its browsers, and itself, when
/// its input ends.
#[derive(Debug)]
pub(crate) struct Talk {
    page: String,
    _server: Process,
    driver: Child,
}

/// Starts both, and prints what each participant receives.
pub(crate) async fn start(cluster: &Cluster) -> Result<Talk, Trouble> {
    let tree = binaries::tree();
    let mut serve = Command::new(binaries::system("node", "nodejs")?);
    serve.arg(tree.join("dashboards/room/serve.mjs"));
    let mut server = Process::start("page", cluster.folder(), serve)?;
    let ready = server.ready().await?;
    let url = format!("http://{}", ready["listeners"]["page"].as_str().ok_or("the page's server names no listener")?);
    let schedulers: Vec<String> = cluster.schedulers.iter().map(|s| format!("http://{}", s.public)).collect();
    let page = format!("{url}/?scheduler={}&room=standup", schedulers[0]);
    println!("\nTwo Chromium participants join the room standup …");
    let mut driver = Command::new(binaries::system("node", "nodejs")?)
        .arg(tree.join("tests/browser/drive.mjs"))
        .args(["--page", &url, "--scheduler", &schedulers.join(","), "--room", "standup"])
        .args(["--mode", "lookup", "--seconds", "4", "--json", "--hold"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let stdout = driver.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let result = timeout(TALKING_WITHIN, lines.next_line()).await.map_err(|_| "the browsers took too long")??;
    let result: Value = serde_json::from_str(&result.ok_or("the browsers ended without a result")?)?;
    print(&result)?;
    Ok(Talk { page, _server: server, driver })
}

impl Talk {
    /// What to open to join.
    pub(crate) fn page(&self) -> &str {
        &self.page
    }

    /// Ends the browsers, and waits for it.
    pub(crate) async fn end(mut self) {
        drop(self.driver.stdin.take());
        if !matches!(timeout(Duration::from_secs(10), self.driver.wait()).await, Ok(Ok(_))) {
            println!("The browsers did not end by themselves.");
        }
    }
}

fn print(result: &Value) -> Result<(), Trouble> {
    if result["ok"] != true {
        return Err(format!("the participants did not receive each other: {result}").into());
    }
    println!("{:<12} {:<8} {:<7} {:<12} bitrate", "participant", "node", "kind", "resolution");
    for participant in result["participants"].as_array().ok_or("no participants")? {
        for stream in participant["received"].as_array().ok_or("nothing received")? {
            let resolution = match (stream["width"].as_u64(), stream["height"].as_u64()) {
                (Some(width), Some(height)) if width > 0 => format!("{width}x{height}"),
                _ => "–".to_owned(),
            };
            let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
            println!(
                "{:<12} {:<8} {:<7} {resolution:<12} {} kbit/s",
                text(&participant["peer"]),
                text(&participant["node"]),
                text(&stream["kind"]),
                stream["bitrate_bps"].as_f64().unwrap_or_default() as u64 / 1000,
            );
        }
    }
    Ok(())
}
