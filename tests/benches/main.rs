//! `make bench`: placements by an index against a scan, and a scheduler's lookups against bare handlers, in one run, as
//! ratios. Rates on a shared machine are noisy: both sides take turns, and CPU per request comes from /proc.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod bare;
mod clients;
mod cpu;
mod dry_run;
mod load;
mod node;
mod placement;
mod store;
mod table;
mod view;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use mimalloc::MiMalloc;
use tokio::process::Command;
use tokio::task::JoinSet;

use roost_proto::id::{Incarnation, NodeId};
use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, Plan};
use roost_tests::connection::post;
use roost_tests::process::Process;

use crate::clients::Clients;
use crate::load::{MakeRequest, Measured};

const ROUNDS: usize = 24;
const ROUND: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_secs(1);
const LIVING_ROOMS: usize = 200;

/// The scheduler's: what is measured against it has the same.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// One server under one kind of load.
struct Side {
    name: &'static str,
    address: String,
    pid: u32,
    request: MakeRequest,
    counter: Arc<AtomicU64>,
    /// One for each round.
    rounds: Vec<Measured>,
    cpu_us: u64,
    redis_cpu_us: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bare", redis] => actix_web::rt::System::new().block_on(bare::serve(redis)),
        ["rooms", kind, order] => view::rooms(kind, order).map(|bytes| println!("{bytes}")),
        ["view"] => view::print(),
        ["placement"] => placement::print(),
        ["dry-run"] => run(dry_run::print()),
        ["lookups"] => run(bench()),
        [] => view::print()
            .and_then(|()| placement::print())
            .and_then(|()| run(dry_run::print()))
            .and_then(|()| run(bench())),
        _ => Err("usage: roost-bench [view | placement | dry-run | lookups]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            println!("the bench failed: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn run(section: impl Future<Output = Result<(), Trouble>>) -> Result<(), Trouble> {
    tokio::runtime::Runtime::new()?.block_on(section)
}

async fn bench() -> Result<(), Trouble> {
    let mut plan = Plan::small().with_redis(1);
    plan.nodes.clear();
    let clients = Clients::new()?;
    plan.scheduler_arguments.clone_from(&clients.scheduler_arguments);
    let mut cluster = Cluster::start(plan).await?;
    let redis_url = cluster.redis.as_ref().ok_or("no Redis")?.url();
    let store = store::open(&redis_url, "roost")?;
    let mut nodes = JoinSet::new();
    node::start(&mut nodes, store.clone(), node::report(NodeId::new("bench-0")?, Incarnation(0))?).await?;
    roost_tests::wait::until("the node is alive", Duration::from_secs(15), || async {
        let nodes = cluster.admin(&cluster.schedulers[0], "/v1/nodes").await.ok()?;
        let ready = cluster.http.get(format!("http://{}/readyz", cluster.schedulers[0].public)).send().await.ok()?;
        (nodes["items"][0]["state"] == "alive" && ready.status().is_success()).then_some(())
    })
    .await?;
    node::open_rooms(&cluster, &store, LIVING_ROOMS).await?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare", &redis_url]);
    let mut bare = Process::start("bare", cluster.folder(), command)?;
    let bare_address = bare.ready().await?["listeners"]["public"].as_str().ok_or("no address")?.to_owned();
    let scheduler = &cluster.schedulers[0];
    let roost = (scheduler.public.clone(), scheduler.process.pid().ok_or("the scheduler ended")?);
    let bare = (bare_address, bare.pid().ok_or("the bare server ended")?);
    let redis = cluster.redis.as_mut().and_then(|redis| redis.process().pid()).ok_or("Redis ended")?;

    println!("64 connections, {ROUNDS} rounds of {ROUND:?} each, in turn; client, servers and Redis share the CPUs");
    println!("each client at an address of its own, by the databases in target/{}\n", clients.databases);
    let room = |n: u64| format!("living-{:07}", n as usize % LIVING_ROOMS);
    let [a, b, c, d] = [(); 4].map(|()| clients.body());
    let mut living = [
        side("bare handler", &bare, move |n| post(&format!("/bare/{}", room(n)), &a(n))),
        side("lookup of a living room", &roost, move |n| lookup(&room(n), &b(n))),
    ];
    measure(&mut living, redis).await?;
    let mut first = [
        side("bare claim", &bare, move |n| post(&format!("/claim/new-{n:07}"), &c(n))),
        side("first assignment", &roost, move |n| lookup(&format!("new-{n:07}"), &d(n))),
    ];
    measure(&mut first, redis).await?;
    table::print(&mut living, &mut first);
    nodes.shutdown().await;
    cluster.stop().await
}

fn lookup(room: &str, body: &str) -> Vec<u8> {
    post(&format!("/v1/namespaces/default/rooms/{room}/lookup"), body)
}

fn side(
    name: &'static str,
    (address, pid): &(String, u32),
    request: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
) -> Side {
    Side {
        name,
        address: address.clone(),
        pid: *pid,
        request: Arc::new(request),
        counter: Arc::default(),
        rounds: Vec::new(),
        cpu_us: 0,
        redis_cpu_us: 0,
    }
}

/// Warms both sides up, then loads them in turn.
async fn measure(sides: &mut [Side; 2], redis: u32) -> Result<(), Trouble> {
    for side in sides.iter_mut() {
        load::drive(&side.address, &side.request, &side.counter, WARM_UP).await?;
    }
    for _ in 0..ROUNDS {
        for side in sides.iter_mut() {
            let (server_before, redis_before) = (cpu::used_us(side.pid)?, cpu::used_us(redis)?);
            side.rounds.push(load::drive(&side.address, &side.request, &side.counter, ROUND).await?);
            side.cpu_us += cpu::used_us(side.pid)? - server_before;
            side.redis_cpu_us += cpu::used_us(redis)? - redis_before;
        }
    }
    Ok(())
}
