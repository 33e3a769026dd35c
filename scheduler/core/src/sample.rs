//! Nodes, reports and claims for the core's own tests.

use roost_proto::event::Event;
use roost_proto::id::{Epoch, Incarnation, NodeId, Region, RoomKey};
use roost_proto::report::{Capacity, Description, Host, MediaKind, Mode, Report, RoomReport, Worker, WorkerState};
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::time::Millis;

use crate::time::{DEFAULT_LEASE_MS, TICK_MS};
use crate::view::View;

pub(crate) fn report(id: &str, region: &str) -> Report {
    Report {
        v: 1,
        node: node(id),
        incarnation: Incarnation(1),
        seq: 1,
        lease_ms: DEFAULT_LEASE_MS,
        description: Description {
            region: Region::new(region).unwrap(),
            carriers: vec![],
            namespaces: vec![],
            priority: 0,
            signaling_url: format!("wss://{id}.example/signaling"),
            link_url: format!("wss://{id}.example/link"),
            media: MediaKind::Synthetic,
            capacity: Capacity { participants: 100, ..Capacity::default() },
            temporary: false,
            version: "0.1.0".into(),
        },
        mode: Mode::Serving,
        steering: None,
        host: Host::default(),
        workers: vec![],
        rooms: 0,
        participants: 0,
        streams: 0,
        full: true,
        changed: vec![],
        ended: vec![],
    }
}

pub(crate) fn worker(index: u16) -> Worker {
    Worker {
        index,
        state: WorkerState::Up,
        restarts: 0,
        cpu_permille: 0,
        memory_bytes: 0,
        rooms: 0,
        participants: 0,
        producers: 0,
        consumers: 0,
    }
}

/// A report that is not full.
pub(crate) fn numbered(id: &str, incarnation: u64, seq: u64) -> Report {
    Report { incarnation: Incarnation(incarnation), seq, full: false, ..report(id, "eu") }
}

pub(crate) fn full(report: Report) -> Report {
    Report { full: true, ..report }
}

pub(crate) fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

pub(crate) fn room(name: &str) -> RoomKey {
    RoomKey::new("default", name).unwrap()
}

pub(crate) fn run(name: &str) -> Run {
    Run(name.into())
}

/// A claim of `id`'s first incarnation in the run `r1`.
pub(crate) fn claim(id: &str, epoch: u64, state: ClaimState) -> Claim {
    Claim { run: run("r1"), epoch: Epoch(epoch), state, node: node(id), incarnation: Incarnation(1) }
}

pub(crate) fn claimed(name: &str, claim: Claim, ttl_ms: u64) -> Event {
    Event::Claimed { key: room(name), claim, ttl_ms, expected: Expected::default(), handed_over: false }
}

pub(crate) fn reported(report: Report) -> Event {
    Event::Reported(Box::new(report))
}

/// A view that listens since 0, with all buckets in the run `r1`, whose grace is over at [`READY`].
pub(crate) fn view(reports: Vec<Report>) -> View {
    let mut view = View::new(Millis(0));
    view.listen(Millis(0));
    for bucket in 0..roost_proto::hash::BUCKETS {
        view.see_run(bucket, &run("r1"), Millis(0));
    }
    pass(&mut view, Millis(0), READY);
    for report in reports {
        view.apply(reported(report), READY);
    }
    view
}

/// Time passes without a stall.
pub(crate) fn pass(view: &mut View, from: Millis, to: Millis) {
    for now in (from.0..to.0).step_by(TICK_MS as usize) {
        view.tick(Millis(now));
    }
    view.tick(to);
}

/// When the grace of [`view`] is over; its nodes reported just then.
pub(crate) const READY: Millis = Millis(5_000);

/// What a report says of a room.
pub(crate) fn held(name: &str, epoch: u64, participants: u32) -> RoomReport {
    RoomReport { key: room(name), epoch: Epoch(epoch), worker: 0, participants, producers: 0, consumers: 0 }
}
