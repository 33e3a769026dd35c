//! What Prometheus reads is what Prometheus accepts.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use roost_tests::Trouble;
use roost_tests::binaries;
use roost_tests::cluster::{Cluster, Plan};
use roost_tests::participant::Participant;

use crate::run;

#[test]
fn promtool_has_no_complaint_about_the_metrics_of_either_process() {
    run(async {
        let cluster = Cluster::start(Plan::small().with_redis(1)).await?;
        let room = cluster.lookup_from("eu/central", "standup").await?;
        let mut anna = Participant::connect(&cluster.door("fra-1", "standup", "anna", &room.ticket)?).await?;
        anna.join("Anna").await?;
        for listener in [&cluster.schedulers[0].admin, &cluster.node("fra-1")?.control] {
            let metrics = cluster.http.get(format!("http://{listener}/metrics")).send().await?.text().await?;
            assert!(metrics.contains("roost_build_info"), "{metrics}");
            assert!(!metrics.contains("standup") && !metrics.contains("anna"), "a label names a room or a peer");
            check(&metrics).await?;
        }
        cluster.stop().await
    });
}

async fn check(metrics: &str) -> Result<(), Trouble> {
    let mut promtool = Command::new(binaries::system("promtool", "prometheus")?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = promtool.stdin.take().ok_or("no stdin")?;
    stdin.write_all(metrics.as_bytes()).await?;
    drop(stdin);
    let output = promtool.wait_with_output().await?;
    let complaints = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    if output.status.success() && complaints.trim().is_empty() {
        Ok(())
    } else {
        Err(format!("promtool: {complaints}").into())
    }
}
