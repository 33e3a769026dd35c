//! Pins what an agent without Redis and its scheduler say to each other: `proto/golden/uplink-*.json`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../tests/pin/mod.rs"]
mod pin;

use std::sync::Arc;

use roost_proto::command::{Action, Command};
use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::report::Report;
use roost_proto::room::{Claim, ClaimState, Run};
use roost_proto::uplink::{UplinkMessage, UplinkRequest};
use roost_store::operation::{
    Assert, Asserted, Holding, Leave, NodeAnswer, NodeOperation, Opened, Raise, Raised, Register, Registered, Released,
    Renew, Renewed, Right, SchedulerEntry,
};

use pin::pin;

const INCARNATION: Incarnation = Incarnation(1_790_000_000_000);
const EPOCH: Epoch = Epoch(1_790_000_000_007);

#[test]
fn what_agents_ask_keeps_its_format() {
    let (node, run) = (node(), run());
    let report: Report = serde_json::from_str(include_str!("../../golden/report.json")).unwrap();
    let register = Register {
        node: node.clone(),
        run: run.clone(),
        process: "7f21".into(),
        after: Incarnation(0),
        lease_ms: 4_000,
    };
    let held = Holding { room: room(), run: run.clone(), node: node.clone(), incarnation: INCARNATION, epoch: EPOCH };
    let operations = [
        NodeOperation::Runs,
        NodeOperation::Identity,
        NodeOperation::Register(register),
        NodeOperation::Renew(Box::new(Renew { run: run.clone(), report: report.clone(), buckets: Vec::new() })),
        NodeOperation::Open(held.clone()),
        NodeOperation::Assert(Assert { held: held.clone(), incarnation: INCARNATION, right: Right::Sure }),
        NodeOperation::Assert(Assert { held: held.clone(), incarnation: INCARNATION, right: Right::Provisional }),
        NodeOperation::Release(held),
        NodeOperation::Raise(Raise { bucket: 3, run: run.clone(), epoch: EPOCH }),
        NodeOperation::Leave(Leave { node, run: run.clone(), incarnation: INCARNATION }),
        NodeOperation::Schedulers,
        NodeOperation::Renew(Box::new(Renew { run, report, buckets: vec![3, 9] })),
    ];
    let requests: Vec<_> = (1..).zip(operations).map(|(id, op)| UplinkRequest { v: 1, id, op }).collect();
    pin("uplink-requests", &requests);
}

#[test]
fn what_schedulers_answer_keeps_its_format() {
    let claim = Claim { run: run(), epoch: EPOCH, state: ClaimState::Open, node: node(), incarnation: INCARNATION };
    let scheduler =
        SchedulerEntry { id: "s-1".into(), cluster_url: "http://10.0.0.2:7402".into(), version: "0.1.0".into() };
    let answers = [
        NodeAnswer::Runs(vec![run(), Run(Arc::from("4fd1-2"))]),
        NodeAnswer::Identity("9c1e".into()),
        NodeAnswer::Registered(Registered::Yes {
            incarnation: INCARNATION,
            store_ms: 1_790_000_000_001,
            steering: None,
        }),
        NodeAnswer::Registered(Registered::Taken { until_store_ms: 1_790_000_004_000 }),
        NodeAnswer::Registered(Registered::NewRun { run: run() }),
        NodeAnswer::Renewed(Renewed::Yes { store_ms: 1_790_000_000_002, steering: None, runs: None }),
        NodeAnswer::Renewed(Renewed::Lapsed),
        NodeAnswer::Renewed(Renewed::NewRun { run: run() }),
        NodeAnswer::Opened(Opened::Yes),
        NodeAnswer::Opened(Opened::No { current: Some(claim.clone()) }),
        NodeAnswer::Asserted(Asserted::Yes { epoch: EPOCH, provisional: false }),
        NodeAnswer::Asserted(Asserted::Yes { epoch: EPOCH, provisional: true }),
        NodeAnswer::Asserted(Asserted::No { current: Some(claim) }),
        NodeAnswer::Released(Released::Yes),
        NodeAnswer::Raised(Raised::Yes),
        NodeAnswer::Left,
        NodeAnswer::Schedulers(vec![scheduler]),
        NodeAnswer::Unavailable("the store does not answer".into()),
        NodeAnswer::Unknown("no answer in time".into()),
        NodeAnswer::Renewed(Renewed::Yes { store_ms: 1_790_000_000_003, steering: None, runs: Some(vec![(3, run())]) }),
    ];
    let mut messages: Vec<_> = (1..).zip(answers).map(|(id, answer)| UplinkMessage::Reply { id, answer }).collect();
    messages.push(UplinkMessage::Command(Command { v: 1, incarnation: INCARNATION, action: Action::ReportAll }));
    pin("uplink-messages", &messages);
}

fn node() -> NodeId {
    NodeId::new("fra-1").unwrap()
}

fn room() -> RoomKey {
    RoomKey::new("default", "standup").unwrap()
}

fn run() -> Run {
    Run(Arc::from("4fd1-1"))
}
