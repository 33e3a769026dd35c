//! What a placement costs, by the number of nodes, and against a scan of all of them.

use std::hint::black_box;
use std::time::Instant;

use roost_proto::event::Event;
use roost_proto::hash::mix;
use roost_proto::id::{Carrier, Incarnation, NodeId, Region, RoomKey};
use roost_proto::policy;
use roost_proto::report::Report;
use roost_proto::time::Millis;
use roost_scheduler_core::filter::{Wish, refusal};
use roost_scheduler_core::index::Points;
use roost_scheduler_core::place::place;
use roost_scheduler_core::request::Request;
use roost_scheduler_core::score::NodeScore;
use roost_scheduler_core::view::View;

use crate::{Trouble, node};

const REGIONS: u64 = 10;
const CARRIERS: u64 = 3;
const FEW: u64 = 100;
const SCANNED: u64 = 10_000;
const MANY: u64 = 100_000;
/// Rounds, of which the median counts: short ones, so that few are interrupted.
const ROUNDS: usize = 201;
const PLACEMENTS: usize = 200;
const SCANS: usize = 1;
const CLIENTS: u64 = 5_000;

/// How loaded the nodes are.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// Anything up to nine tenths of the capacity.
    Mixed,
    /// Nothing at all: those of a region are equals.
    Idle,
}

/// Measures and prints everything.
pub(crate) fn print() -> Result<(), Trouble> {
    println!("placement: {REGIONS} regions, {CARRIERS} carriers, clients of all of them; medians of {ROUNDS} rounds\n");
    let clients = clients()?;
    for (name, used) in [("nodes in use", Use::Mixed), ("idle nodes", Use::Idle)] {
        let [few, scanned, many] = [view(FEW, used)?, view(SCANNED, used)?, view(MANY, used)?];
        let place_of = |view, round| per_call_ns(PLACEMENTS, &clients, round, |request| place(view, request).is_ok());
        let scan_of = |view, round| per_call_ns(SCANS, &clients, round, |request| scan(view, request).is_some());
        let (few_ns, many_ns) = alternately(|round| place_of(&few, round), |round| place_of(&many, round));
        let (place_ns, scan_ns) = alternately(|round| place_of(&scanned, round), |round| scan_of(&scanned, round));
        println!("{name}: {few_ns:.0} ns of {FEW}, {place_ns:.0} ns of {SCANNED}, {many_ns:.0} ns of {MANY}");
        println!("{name}: a scan of {SCANNED} takes {scan_ns:.0} ns");
        ratio(&format!("{name}: {MANY} against {FEW}"), many_ns / few_ns, "≤ 2");
        ratio(&format!("{name}: index against scan"), place_ns / scan_ns, "≤ 0.01");
        println!();
    }
    Ok(())
}

fn ratio(name: &str, value: f64, goal: &str) {
    println!("{name:<38} {value:>8.4}   goal {goal}");
}

/// The medians of two measures that take turns.
fn alternately(one: impl Fn(usize) -> f64, other: impl Fn(usize) -> f64) -> (f64, f64) {
    let (ones, others) = (0..ROUNDS).map(|round| (one(round), other(round))).unzip();
    (median(ones), median(others))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn per_call_ns(calls: usize, clients: &[Client], round: usize, call: impl Fn(&Request<'_>) -> bool) -> f64 {
    let asking = clients.chunks_exact(calls).nth(round % (clients.len() / calls)).unwrap_or_default();
    let began = Instant::now();
    for client in asking {
        let request = Request::new(&client.room, &policy::DEFAULT);
        black_box(call(&Request { region: Some(&client.region), carrier: Some(&client.carrier), ..request }));
    }
    began.elapsed().as_nanos() as f64 / calls as f64
}

/// What a placement would do without an index.
fn scan(view: &View, request: &Request<'_>) -> Option<NodeScore> {
    let points = Points::of(request, 0);
    let eligible = view.nodes(None).filter(|(_, node)| refusal(node, Wish::NewRoom, request).is_none());
    eligible.map(|(_, node)| NodeScore::of(node, request, &points)).min()
}

/// Who asks for which room.
struct Client {
    room: RoomKey,
    region: Region,
    carrier: Carrier,
}

fn clients() -> Result<Vec<Client>, Trouble> {
    let client = |n| {
        let room = RoomKey::new("default", format!("room-{:016x}", mix(n)))?;
        Ok(Client { room, region: region(mix(n))?, carrier: carrier(mix(n) >> 32)? })
    };
    (0..CLIENTS).map(client).collect()
}

fn view(nodes: u64, used: Use) -> Result<View, Trouble> {
    let now = Millis(0);
    let mut view = View::new(now);
    view.listen(now);
    for n in 0..nodes {
        view.apply(Event::Reported(Box::new(report(n, used)?)), now);
    }
    Ok(view)
}

fn region(n: u64) -> Result<Region, Trouble> {
    Ok(Region::new(format!("area-{}/region-{}", n % REGIONS % 3, n % REGIONS))?)
}

fn carrier(n: u64) -> Result<Carrier, Trouble> {
    Ok(Carrier::new(format!("carrier-{}", n % CARRIERS))?)
}

fn report(n: u64, used: Use) -> Result<Report, Trouble> {
    let mut report = node::report(NodeId::new(format!("node-{n}"))?, Incarnation(1))?;
    report.description.region = region(n)?;
    report.description.carriers = vec![carrier(n / REGIONS)?];
    report.description.capacity.participants = 1_000;
    report.participants = match used {
        Use::Idle => 0,
        Use::Mixed => (mix(n) % 900) as u32,
    };
    Ok(report)
}
