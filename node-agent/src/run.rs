//! From configuration to a running agent, and its end.

use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use roost_server::signals::Signals;
use roost_server::{ClientAddress, config as configuration, listen, telemetry, tls};

use crate::assembly::Parts;
use crate::config::Config;
use crate::config::flags::Flags;
use crate::error::AgentError;
use crate::leaving::Leaving;
use crate::listeners::{Addresses, Listeners};
use crate::signaling::Signaling;

/// How many rooms may end at once before those that tell it have to wait.
const ENDED_WAITING: usize = 1_024;
/// What ends by itself in time is waited for; no longer than this.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Serves until it is told to stop.
pub(crate) fn serve(flags: &Flags) -> Result<(), AgentError> {
    let config = Config::load(flags)?;
    if flags.print_config {
        return Ok(configuration::print("agent", &config.settings, &config.shared)?);
    }
    telemetry::init(config.settings.log_format, &config.settings.log_level)?;
    tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| AgentError::Io { what: "starting the runtime", source })?;
    let end = runtime.block_on(run(config));
    // What hangs in a system call must not keep the process.
    runtime.shutdown_timeout(STOP_WITHIN);
    end
}

async fn run(config: Config) -> Result<(), AgentError> {
    let mut signals = Signals::new().map_err(|source| AgentError::Io { what: "listening to signals", source })?;
    let listeners = Listeners::bind(&config)?;
    let addresses = listeners.addresses()?;
    let (ended, ends) = mpsc::channel(ENDED_WAITING);
    let parts = Parts::assemble(config, &addresses, ended)?;
    let (mut serving, handles) = start_serving(&parts, listeners)?;
    announce(&parts, &addresses)?;
    let mut tasks = parts.spawn_tasks(ends);
    let mut renewal = tokio::spawn(parts.renewal().run());
    let why = tokio::select! {
        ended = &mut renewal => return Err(fatal(ended)),
        ended = serving.join_next() => return Err(not_serving(ended)),
        why = signals.next() => why,
    };
    tracing::info!(why, "stopping");
    parts.readiness.set_ready(false);
    let leaving = parts.leaving();
    let stop = async {
        tokio::select! {
            // The lease is kept until the rooms are handed over.
            ended = &mut renewal => return Err(fatal(ended)),
            () = hand_over(&leaving, parts.config.settings.leave_s) => {}
        }
        renewal.abort();
        // It is only waited for so that nothing renews a lease that is being ended.
        let _ = renewal.await;
        tasks.shutdown().await;
        leaving.end().await;
        stop_serving(serving, handles).await;
        tracing::info!("stopped");
        Ok(())
    };
    tokio::select! {
        stopped = stop => stopped,
        why = signals.next() => {
            tracing::warn!(why, "told to stop again: ending at once");
            Ok(())
        }
    }
}

fn start_serving(
    parts: &Parts,
    listeners: Listeners,
) -> Result<(JoinSet<std::io::Result<()>>, Vec<ServerHandle>), AgentError> {
    let settings = &parts.config.settings;
    let signaling = Signaling {
        rooms: parts.rooms.clone(),
        origins: settings.cors_origin.clone(),
        client_address: ClientAddress { trusted: settings.trusted_proxy.clone(), header: settings.trusted_header },
    };
    let servers = listeners.serve(&parts.config, signaling, parts.control(), parts.link(), &parts.readiness)?;
    let handles = servers.iter().map(Server::handle).collect();
    let mut serving = JoinSet::new();
    for server in servers {
        serving.spawn(server);
    }
    Ok((serving, handles))
}

async fn stop_serving(mut serving: JoinSet<std::io::Result<()>>, handles: Vec<ServerHandle>) {
    for handle in &handles {
        // The servers' own tasks do the stopping.
        drop(handle.stop(true));
    }
    let all = async { while serving.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
        tracing::warn!("the listeners did not end in time");
    }
}

/// Empties the node within `leave_s`.
async fn hand_over(leaving: &Leaving, leave_s: u64) {
    leaving.announce();
    leaving.empty(Instant::now() + Duration::from_secs(leave_s)).await;
}

fn announce(parts: &Parts, addresses: &Addresses) -> Result<(), AgentError> {
    let node = &parts.node.id;
    tracing::info!(
        %node,
        version = env!("CARGO_PKG_VERSION"),
        media = ?parts.description.media,
        signaling_url = parts.description.signaling_url,
        dev = parts.config.settings.dev,
        "started"
    );
    listen::ready_line(&json!({
        "ready": true,
        "node": node,
        "listeners": {
            "signaling": addresses.signaling.to_string(),
            "control": addresses.control.to_string(),
            "link": addresses.link.to_string(),
        },
    }))
    .map_err(|source| AgentError::Io { what: "printing the ready line", source })
}

fn fatal(ended: Result<AgentError, JoinError>) -> AgentError {
    ended.unwrap_or_else(|error| AgentError::Io { what: "renewing the lease", source: std::io::Error::other(error) })
}

fn not_serving(ended: Option<Result<std::io::Result<()>, JoinError>>) -> AgentError {
    let source = match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => std::io::Error::other(error),
        Some(Ok(Ok(()))) | None => std::io::Error::other("it ended unasked"),
    };
    AgentError::Io { what: "serving a listener", source }
}
