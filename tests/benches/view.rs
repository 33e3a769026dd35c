//! What a scheduler's picture of its cluster costs: bytes for each room, CPU for each second of reports.

use std::process::Command;

use roost_proto::event::Event;
use roost_proto::hash::{BUCKETS, stable_hash};
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::report::{Report, RoomReport, Worker, WorkerState};
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::time::Millis;
use roost_scheduler_core::time::{GRANT_TTL_MS, REPORT_EVERY_MS, TICK_MS};
use roost_scheduler_core::view::View;
use roost_tests::Trouble;

use crate::{cpu, node};

const ROOMS: u64 = 1_000_000;
const BYTES_PER_ROOM: f64 = 250.0;
const NODES: u64 = 10_000;
const ROOMS_PER_NODE: u64 = 30;
const CHANGED_PER_REPORT: u64 = 2;
const WORKERS: u16 = 4;
const SECONDS: u64 = 5;

/// Prints the section. Each kind of memory is measured in a process of its own, whose heap holds nothing else.
pub(crate) fn print() -> Result<(), Trouble> {
    println!("{ROOMS} rooms with names of 20 bytes; {NODES} nodes of {ROOMS_PER_NODE} rooms that report each second");
    for (kind, order) in [("granted", "sorted"), ("granted", "mixed"), ("settled", "sorted"), ("settled", "mixed")] {
        let measured = Command::new(std::env::current_exe()?).args(["rooms", kind, order]).output()?;
        let bytes: f64 = String::from_utf8_lossy(&measured.stdout).trim().parse()?;
        println!(
            "{:<40} {bytes:>6.0} B   goal ≤ {BYTES_PER_ROOM} B",
            format!("memory per room, {kind}, {order} names")
        );
    }
    println!("{:<40} {:>6.1} %   goal < 15 %", "folding reports: share of one core", folding()? * 100.0);
    println!();
    Ok(())
}

/// Resident bytes for each room of a view that knows [`ROOMS`]: just granted, or long open and no more expected.
pub(crate) fn rooms(kind: &str, order: &str) -> Result<f64, Trouble> {
    let run = Run("run".into());
    let mut view = view(&run);
    for index in 0..NODES / 10 {
        view.apply(Event::Reported(Box::new(report(index, 1)?)), Millis(0));
    }
    let before = resident_bytes()?;
    let mut now = Millis(0);
    for index in 0..ROOMS {
        let claim = |state| claim(&run, index % (NODES / 10), index, state);
        let expected = Expected { participants: 15, hint: 12, age_ms: 0 };
        let granted = Event::Claimed {
            key: key(index, order)?,
            claim: claim(ClaimState::Granted)?,
            ttl_ms: GRANT_TTL_MS,
            expected,
            handed_over: false,
        };
        view.apply(granted, now);
        if kind == "settled" {
            let opened = Event::Claimed {
                key: key(index, order)?,
                claim: claim(ClaimState::Open)?,
                ttl_ms: 0,
                expected: Expected::default(),
                handed_over: false,
            };
            view.apply(opened, now);
        }
        // A thousand lookups a second.
        if index % 250 == 0 && kind == "settled" {
            now = now.plus(TICK_MS);
            view.tick(now);
        }
    }
    while kind == "settled" && now < Millis(ROOMS + 200_000) {
        now = now.plus(TICK_MS);
        view.tick(now);
    }
    let after = resident_bytes()?;
    if view.rooms.len() as u64 != ROOMS {
        return Err(format!("{} rooms are left", view.rooms.len()).into());
    }
    Ok(after.saturating_sub(before) as f64 / ROOMS as f64)
}

/// The share of one core that it takes to read and fold one report a second of [`NODES`] nodes.
fn folding() -> Result<f64, Trouble> {
    let run = Run("run".into());
    let mut view = view(&run);
    for index in 0..NODES {
        let mut full = report(index, 1)?;
        full.changed = (0..ROOMS_PER_NODE).map(|room| held(index, room, 1)).collect::<Result<_, _>>()?;
        for room in &full.changed {
            let claim = claim(&run, index, room.epoch.0, ClaimState::Open)?;
            view.apply(
                Event::Claimed {
                    key: room.key.clone(),
                    claim,
                    ttl_ms: 0,
                    expected: Expected::default(),
                    handed_over: false,
                },
                Millis(0),
            );
        }
        view.apply(Event::Reported(Box::new(full)), Millis(0));
    }
    let mut used_us = 0;
    for second in 1..=SECONDS {
        let mut texts = Vec::new();
        for index in 0..NODES {
            let mut partial = report(index, 1 + second)?;
            let changed = (0..CHANGED_PER_REPORT)
                .map(|n| held(index, (second * CHANGED_PER_REPORT + n) % ROOMS_PER_NODE, second));
            partial.changed = changed.collect::<Result<_, _>>()?;
            partial.full = false;
            texts.push(serde_json::to_string(&partial)?);
        }
        let before = cpu::used_us(std::process::id())?;
        for (index, text) in (0..).zip(&texts) {
            let now = Millis(second * REPORT_EVERY_MS + index * REPORT_EVERY_MS / NODES);
            let report: Report = serde_json::from_str(text)?;
            view.apply(Event::Reported(Box::new(report)), now);
            if index % (NODES * TICK_MS / REPORT_EVERY_MS) == 0 {
                view.tick(now);
            }
        }
        used_us += cpu::used_us(std::process::id())? - before;
    }
    Ok(used_us as f64 / 1e6 / SECONDS as f64)
}

fn view(run: &Run) -> View {
    let mut view = View::new(Millis(0));
    view.listen(Millis(0));
    for bucket in 0..BUCKETS {
        view.see_run(bucket, run, Millis(0));
    }
    view
}

fn key(index: u64, order: &str) -> Result<RoomKey, Trouble> {
    let number = if order == "sorted" { index } else { stable_hash(&[&index.to_be_bytes()]) };
    Ok(RoomKey::new("default", format!("room{number:016x}"))?)
}

fn node(index: u64) -> Result<NodeId, Trouble> {
    Ok(NodeId::new(format!("shanghai-{index:05}"))?)
}

fn claim(run: &Run, node_index: u64, epoch: u64, state: ClaimState) -> Result<Claim, Trouble> {
    Ok(Claim {
        run: run.clone(),
        epoch: Epoch(1_800_000_000_000 + epoch),
        state,
        node: node(node_index)?,
        incarnation: Incarnation(1),
    })
}

fn held(node: u64, room: u64, second: u64) -> Result<RoomReport, Trouble> {
    let index = node * ROOMS_PER_NODE + room;
    let participants = 5 + (second % 7) as u32;
    let key = key(index, "mixed")?;
    Ok(RoomReport {
        key,
        epoch: Epoch(1_800_000_000_000 + index),
        worker: 1,
        participants,
        producers: 10,
        consumers: 90,
    })
}

/// A report as an agent with four workers writes it.
fn report(index: u64, seq: u64) -> Result<Report, Trouble> {
    let mut report = node::report(node(index)?, Incarnation(1))?;
    let worker = |index| Worker {
        index,
        state: WorkerState::Up,
        restarts: 0,
        cpu_permille: 312,
        memory_bytes: 412_000_000,
        rooms: 8,
        participants: 63,
        producers: 120,
        consumers: 1_100,
    };
    report.seq = seq;
    report.workers = (0..WORKERS).map(worker).collect();
    report.description.carriers = vec!["telecom".parse()?, "unicom".parse()?];
    (report.rooms, report.participants, report.streams) = (30, 250, 5_000);
    report.host.cpu_permille = 300 + (seq % 50) as u32;
    report.host.memory_used_bytes = 7_123_456_789;
    report.host.memory_total_bytes = 33_123_456_789;
    (report.host.network_rx_bps, report.host.network_tx_bps) = (123_456_789, 1_123_456_789);
    (report.host.disk_used_bytes, report.host.disk_total_bytes) = (12_345_678_901, 123_456_789_012);
    Ok(report)
}

fn resident_bytes() -> Result<u64, Trouble> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).ok_or("an empty statm")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}
