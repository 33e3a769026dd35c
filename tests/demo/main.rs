//! `make demo`: starts a cluster with real media on loopback, shows the main job, and leaves it running.
#![expect(clippy::print_stdout, reason = "its output is for the person at the terminal")]

mod show;
mod talk;

use std::process::ExitCode;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, Media, NodePlan, Plan, StoreKind};

use crate::talk::Talk;

const USAGE: &str = "usage: roost-demo [--store embedded|redis] [--once]";

/// What was asked for on the command line.
#[derive(Debug)]
struct Wish {
    store: StoreKind,
    /// End when everything was shown, instead of waiting for Ctrl-C.
    once: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let wish = match wish(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(trouble) => {
            println!("{trouble}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match demo(&wish).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            println!("\nThe demo failed: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn wish(mut arguments: impl Iterator<Item = String>) -> Result<Wish, Trouble> {
    let mut wish = Wish { store: StoreKind::Embedded, once: false };
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), argument.as_str() == "--store") {
            ("--once", _) => wish.once = true,
            (_, true) => {
                wish.store = match arguments.next().as_deref() {
                    Some("embedded") => StoreKind::Embedded,
                    Some("redis") => StoreKind::Redis,
                    other => return Err(format!("--store {other:?}: expected embedded or redis").into()),
                };
            }
            _ => return Err(format!("{argument}: unknown").into()),
        }
    }
    Ok(wish)
}

async fn demo(wish: &Wish) -> Result<(), Trouble> {
    // Before anything is started, so that no Ctrl-C leaves something behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut asked_to_end = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    let (cluster, talk) = tokio::select! {
        shown = show_all(wish, Instant::now()) => shown?,
        () = asked_to_end() => return Ok(()),
    };
    if !wish.once {
        show::urls(&cluster, &talk.url());
        println!("Ctrl-C ends all of it.");
        asked_to_end().await;
        println!("\nEnding all of it.");
    }
    talk.end().await?;
    cluster.stop().await
}

/// Starts everything and prints what it does; what it started ends when it is dropped.
async fn show_all(wish: &Wish, started: Instant) -> Result<(Cluster, Talk), Trouble> {
    let redis = wish.store == StoreKind::Redis;
    println!("Starting {}.", if redis { "Redis, two schedulers, three nodes" } else { "one scheduler, three nodes" });
    let cluster = Cluster::start(Plan {
        store: wish.store,
        schedulers: if redis { 2 } else { 1 },
        nodes: vec![
            NodePlan::new("fra-1", "eu/central"),
            NodePlan::new("fra-2", "eu/central"),
            NodePlan::new("iad-1", "us/east"),
        ],
        media: Media::Mediasoup(1),
        ..Plan::small()
    })
    .await?;
    println!("The cluster is up after {:.1} s.\n", started.elapsed().as_secs_f64());
    show::lookups(&cluster).await?;
    let talk = talk::start(&cluster).await?;
    println!("\nShown in {:.1} s.\n", started.elapsed().as_secs_f64());
    Ok((cluster, talk))
}
