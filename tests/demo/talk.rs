//! Two scripted Chromium participants who talk in one room, and the page to join them.

use serde_json::Value;

use roost_tests::Trouble;
use roost_tests::browsers::{Browsers, Page};
use roost_tests::cluster::Cluster;

const ROOM: &str = "standup";

/// The page's server and the browsers. They end when this is dropped: the driver closes its browsers, and itself, when
/// its input ends.
#[derive(Debug)]
pub(crate) struct Talk {
    page: Page,
    browsers: Browsers,
    scheduler: String,
}

/// Starts both, and prints what each participant receives.
pub(crate) async fn start(cluster: &Cluster) -> Result<Talk, Trouble> {
    let page = Page::serve(cluster).await?;
    println!("\nTwo Chromium participants join the room {ROOM} …");
    let browsers = Browsers::meet(cluster, &page, ROOM, &["--names", "anna,ben"]).await?;
    print(&browsers.result)?;
    let scheduler = cluster.schedulers.first().ok_or("no scheduler")?.public.clone();
    Ok(Talk { page, browsers, scheduler })
}

impl Talk {
    /// What to open to join.
    pub(crate) fn url(&self) -> String {
        format!("{}/?scheduler=http://{}&room={ROOM}", self.page.url, self.scheduler)
    }

    /// Ends the browsers, and waits for it.
    pub(crate) async fn end(self) -> Result<(), Trouble> {
        self.browsers.close().await
    }
}

fn print(result: &Value) -> Result<(), Trouble> {
    println!("{:<12} {:<8} {:<18} {:<11} {:>11}", "participant", "node", "receives", "resolution", "bitrate");
    for participant in result["participants"].as_array().ok_or("no participants")? {
        for stream in participant["received"].as_array().ok_or("nothing received")? {
            let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
            let resolution = match (stream["width"].as_u64(), stream["height"].as_u64()) {
                (Some(width), Some(height)) => format!("{width}x{height}"),
                _ => String::new(),
            };
            println!(
                "{:<12} {:<8} {:<18} {resolution:<11} {:>4.0} kbit/s",
                text(&participant["peer"]),
                text(&participant["node"]),
                format!("{} of {}", text(&stream["kind"]), text(&stream["from"])),
                stream["bitrate_bps"].as_f64().unwrap_or_default() / 1000.0,
            );
        }
    }
    Ok(())
}
