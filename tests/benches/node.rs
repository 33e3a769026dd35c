//! A node that only holds its lease and its rooms, played by the bench itself: nothing beside the scheduler, Redis and
//! the load uses the CPU.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::interval;

use roost_proto::id::{Incarnation, NodeId};
use roost_proto::report::{Capacity, Description, Host, MediaKind, Mode, Report, RoomReport};
use roost_store::Store;
use roost_store::operation::{Holding, Opened, Register, Registered, Renew, Renewed};
use roost_tests::Trouble;
use roost_tests::cluster::Cluster;

const LEASE_MS: u64 = 4_000;

/// Registers the report's node, and renews its lease each second as one of these tasks.
pub(crate) async fn start(nodes: &mut JoinSet<()>, store: Arc<dyn Store>, mut report: Report) -> Result<(), Trouble> {
    let run = store.runs().await?[usize::from(report.node.bucket())].clone();
    let register = Register {
        node: report.node.clone(),
        run: run.clone(),
        process: "bench".into(),
        after: Incarnation(0),
        lease_ms: report.lease_ms,
    };
    let Registered::Yes { incarnation, .. } = store.register(register).await? else {
        return Err(format!("{} could not be registered", report.node).into());
    };
    report.incarnation = incarnation;
    nodes.spawn(async move {
        let mut tick = interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            report.seq += 1;
            let renewed = store.renew(Renew { run: run.clone(), report: report.clone(), buckets: Vec::new() }).await;
            assert!(matches!(renewed, Ok(Renewed::Yes { .. })), "{} lost its lease: {renewed:?}", report.node);
            // Only the first report says that it is complete: rooms that are opened later come by the claims' stream.
            report.full = false;
        }
    });
    Ok(())
}

/// Looks `count` rooms up at the cluster's scheduler and opens them, as their first participants would.
pub(crate) async fn open_rooms(
    cluster: &Cluster,
    store: &Arc<dyn Store>,
    count: usize,
) -> Result<Vec<RoomReport>, Trouble> {
    let runs = store.runs().await?;
    let mut rooms = Vec::new();
    for index in 0..count {
        let reply = cluster.lookup(0, "default", &format!("living-{index:07}"), json!({})).await?;
        let room = roost_proto::id::RoomKey { namespace: reply.namespace, room: reply.room };
        let bucket = usize::from(room.bucket());
        let leases = store.leases(&reply.node.id).await?;
        let incarnation = leases.last().ok_or("the node has no lease")?.incarnation;
        let holding = Holding {
            room: room.clone(),
            run: runs[bucket].clone(),
            node: reply.node.id,
            incarnation,
            epoch: reply.epoch,
        };
        if store.open(holding).await? != Opened::Yes {
            return Err(format!("{room} could not be opened").into());
        }
        rooms.push(RoomReport {
            key: room,
            epoch: reply.epoch,
            worker: 0,
            participants: 1,
            producers: 2,
            consumers: 0,
        });
    }
    Ok(rooms)
}

/// An idle node in eu/central with room for a million participants.
pub(crate) fn report(node: NodeId, incarnation: Incarnation) -> Result<Report, Trouble> {
    Ok(Report {
        v: roost_proto::WIRE_VERSION,
        node,
        incarnation,
        seq: 0,
        lease_ms: LEASE_MS,
        description: Description {
            region: "eu/central".parse()?,
            carriers: Vec::new(),
            namespaces: Vec::new(),
            priority: 0,
            signaling_url: "ws://127.0.0.1:44444/signaling".into(),
            link_url: "ws://127.0.0.1:44445".into(),
            media: MediaKind::Synthetic,
            capacity: Capacity { participants: 1_000_000, ..Capacity::default() },
            temporary: false,
            version: "bench".into(),
        },
        mode: Mode::Serving,
        steering: None,
        host: Host::default(),
        workers: Vec::new(),
        rooms: 0,
        participants: 0,
        streams: 0,
        full: true,
        changed: Vec::new(),
        ended: Vec::new(),
    })
}
