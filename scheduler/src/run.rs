//! From configuration to a running process, and its end.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use roost_scheduler_core::geography::Geography;
use roost_server::signals::Signals;
use roost_server::{ConfigError, config, listen, request_id, telemetry, tls};
use roost_store::Store;
use roost_store::operation::SchedulerEntry;
use rustls::ServerConfig;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::app::{Kept, Rules, Scheduler, drain, follow, orphans};
use crate::config::{Flags, Settings};
use crate::error::Failure;
use crate::geo::{self, Geo};
use crate::inbound::{admin, agents, public};
use crate::ledger::Ledger;
use crate::outbound::commands::{self, Commands};
use crate::outbound::store;
use crate::outbound::watch::watch_all;
use crate::record::Recorder;

/// Connections that wait for the next request are kept this long.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A request's head must have come by then.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Requests under way have this long to end when the process stops.
const STOP_WITHIN_S: u64 = 5;
/// One thread is enough for operators, two are for agents.
pub(crate) const ADMIN_WORKERS: usize = 1;
pub(crate) const CLUSTER_WORKERS: usize = 2;

/// Serves until it is told to stop.
pub(crate) fn serve(flags: &Flags) -> Result<(), Failure> {
    let (settings, shared) = crate::config::load(flags)?;
    let rules = Rules {
        dev: settings.dev,
        allow_unknown_namespaces: settings.allow_unknown_namespaces,
        trust_refused: settings.trust_refused,
        brake: settings.brake(),
        client_address: settings.client_address(),
        origins: settings.cors_origin.clone(),
        keys: settings.keys()?,
        shared,
    };
    tls::install_provider();
    // All that may be wrong with the configuration is found before anything is listened on.
    let store = store::open(&settings)?;
    let geography = Geography::new(&rules.shared.regions, &rules.shared.carriers).map_err(ConfigError::from)?;
    let geo = Geo::open(geography, settings.geo_city.as_deref(), settings.geo_asn.as_deref())?;
    let tls = match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert), Some(key)) => Some(tls::server_config(cert, key)?),
        _ => None,
    };
    if flags.print_config {
        return Ok(config::print("scheduler", &settings, &rules.shared)?);
    }
    telemetry::init(settings.log_format, &settings.log_level)?;
    actix_web::rt::System::new().block_on(run(&settings, rules, geo, store, tls))
}

/// Says on standard error why the process ends.
pub(crate) fn complain(failure: &Failure) {
    // Nobody listens on standard error: there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "roost-scheduler: {}", telemetry::causes(failure));
}

async fn run(
    settings: &Settings,
    rules: Rules,
    geo: Geo,
    store: Arc<dyn Store>,
    tls: Option<Arc<ServerConfig>>,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let [public, admin, cluster] =
        settings.listeners().map(|(key, address)| Ok::<_, Failure>(listen::bind(key, address)?));
    let (public, admin, cluster) = (public?, admin?, cluster?);
    let addresses = [&public, &admin, &cluster].map(TcpListener::local_addr);
    let [public_at, admin_at, cluster_at] = addresses;
    let (public_at, admin_at, cluster_at) = (public_at?, admin_at?, cluster_at?);
    let cluster_url = settings.cluster_url.clone().unwrap_or_else(|| format!("http://{cluster_at}"));
    let entry = SchedulerEntry { id: new_id(), cluster_url, version: env!("CARGO_PKG_VERSION").to_owned() };
    let (stop, stopping) = watch::channel(false);
    let recorder = Recorder::start(settings, &rules.keys, &rules.shared.namespaces)?;
    let ledger =
        settings.ledger()?.map(|address| Ledger::start(address, settings.ledger_retention_days)).transpose()?;
    let kept = Kept { recorder, ledger };
    let scheduler = Arc::new(Scheduler::new(entry, rules, geo, store, kept, stopping));
    let servers = [
        public_server(public, tls, &scheduler)?,
        inner_server(admin, &scheduler, admin::configure, ADMIN_WORKERS)?,
        inner_server(cluster, &scheduler, agents::configure, CLUSTER_WORKERS)?,
    ];
    let handles: Vec<ServerHandle> = servers.iter().map(Server::handle).collect();
    let mut serving = JoinSet::new();
    for server in servers {
        serving.spawn_local(server);
    }
    let mut tasks = spawn_tasks(&scheduler)?;
    announce(&scheduler, public_at, admin_at, cluster_at)?;
    let reason = tokio::select! {
        reason = signals.next() => reason,
        // They end with the process. Without one of them it would answer, but from an ever older view.
        _ = tasks.join_next() => return Err(Failure::Ended),
        ended = serving.join_next() => {
            if let Some(Ok(ended)) = ended {
                ended?;
            }
            return Err(Failure::Ended);
        }
    };
    tracing::info!(reason, "stopping");
    // Nobody listens any more if this fails.
    let _ = stop.send(true);
    actix_web::rt::spawn(async move {
        signals.next().await;
        // It does what it was told to.
        std::process::exit(0);
    });
    for handle in &handles {
        actix_web::rt::spawn(handle.stop(true));
    }
    while let Some(ended) = serving.join_next().await {
        // One that panics while it stops has stopped.
        if let Ok(ended) = ended {
            ended?;
        }
    }
    scheduler.kept.finish();
    tracing::info!("stopped");
    Ok(())
}

fn announce(
    scheduler: &Scheduler,
    public: SocketAddr,
    admin: SocketAddr,
    cluster: SocketAddr,
) -> Result<(), std::io::Error> {
    tracing::info!(
        scheduler = scheduler.entry.id,
        version = scheduler.entry.version,
        store = scheduler.store.kind(),
        dev = scheduler.rules.dev,
        "started"
    );
    listen::ready_line(&json!({
        "ready": true,
        "scheduler": scheduler.entry.id,
        "listeners": {
            "public": public.to_string(),
            "admin": admin.to_string(),
            "cluster": cluster.to_string(),
        },
    }))
}

/// What goes on beside the listeners.
fn spawn_tasks(scheduler: &Arc<Scheduler>) -> Result<JoinSet<()>, Failure> {
    let (commands, waiting) = Commands::new();
    let look = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    tasks.spawn_local(follow::follow(scheduler.clone(), commands, look.clone()));
    tasks.spawn_local(follow::beat(scheduler.clone(), look));
    tasks.spawn_local(follow::tick(scheduler.clone()));
    tasks.spawn_local(commands::send_all(scheduler.clone(), waiting));
    tasks.spawn_local(orphans::end_all(scheduler.clone()));
    tasks.spawn_local(drain::carry_on(scheduler.clone()));
    tasks.spawn_local(geo::follow(scheduler.clone()));
    tasks.spawn_local(watch_all(scheduler.clone(), tls::client_config()?));
    Ok(tasks)
}

fn public_server(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    scheduler: &Arc<Scheduler>,
) -> Result<Server, Failure> {
    let data = web::Data::from(scheduler.clone());
    let server = HttpServer::new(move || {
        App::new()
            .configure(|config| public::configure(config, &data))
            .wrap(public::cors(&data.rules.origins))
            .wrap(from_fn(request_id::carry))
    })
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(HEAD_WITHIN)
    .shutdown_timeout(STOP_WITHIN_S)
    .disable_signals();
    Ok(match tls {
        Some(config) => server.listen_rustls_0_23(listener, (*config).clone())?.run(),
        None => server.listen(listener)?.run(),
    })
}

/// A listener for operators or agents: no TLS, no pages of other origins.
fn inner_server(
    listener: TcpListener,
    scheduler: &Arc<Scheduler>,
    configure: fn(&mut web::ServiceConfig, &web::Data<Scheduler>),
    workers: usize,
) -> Result<Server, Failure> {
    let data = web::Data::from(scheduler.clone());
    let server = HttpServer::new(move || {
        App::new().configure(|config| configure(config, &data)).wrap(from_fn(request_id::carry))
    });
    let server = server.workers(workers).keep_alive(KEEP_ALIVE).client_request_timeout(HEAD_WITHIN);
    Ok(server.shutdown_timeout(STOP_WITHIN_S).disable_signals().listen(listener)?.run())
}

/// Tells this run of this scheduler from all others.
fn new_id() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}
