//! What is wanted of nodes, as Redis has it: a plan's number, and JSON beside it.

use redis::Value;

use roost_proto::id::{NUMBER_LIMIT, NodeId};
use roost_proto::room::Run;
use roost_proto::steer::Steering;

use super::script::SCRIPTS;
use super::tail::Entry;
use super::{Answer, RedisStore, number, text as text_at};
use crate::error::StoreError;
use crate::operation::{Purged, Steer, Steered};

/// As it is stored; nothing for none.
pub(super) fn text(steering: Option<&Steering>) -> Result<String, StoreError> {
    let written = steering.map(serde_json::to_string).transpose();
    let written = written.map_err(|error| StoreError::Unavailable { reason: format!("steering: {error}") })?;
    Ok(written.unwrap_or_default())
}

/// What a script answers from `index` on: plan and steering, or nothing. What a later version wrote and we cannot read
/// counts as nothing: a node must keep its lease all the same.
pub(super) fn answered(values: &[Value], index: usize) -> Result<Option<Steering>, StoreError> {
    if values.len() <= index {
        return Ok(None);
    }
    Ok(read(number(values, index)?, text_at(values, index + 1)?))
}

/// What the hash of a node has.
pub(super) fn kept(fields: &Value) -> Option<Steering> {
    let Value::Array(values) = fields else { return None };
    read(text_at(values, 0).ok()?.parse().ok()?, text_at(values, 1).ok()?)
}

/// What an entry of the stream of reports tells of it.
pub(super) fn told(entry: &Entry) -> Option<Steering> {
    read(entry.get("plan")?.parse().ok()?, entry.get("steering")?)
}

pub(super) async fn steer(store: &RedisStore, steer: Steer) -> Result<Steered, StoreError> {
    let keys = &store.sessions.keys;
    let bucket = steer.node.bucket();
    let seen = if steer.seen_plan < NUMBER_LIMIT { steer.seen_plan } else { 0 };
    let mut steering = Steering { plan: seen, mode: steer.mode, drain: steer.drain };
    let fixed = keys.bucket(bucket);
    let mut call = SCRIPTS.steer.call(&[&fixed.meta, &keys.steering(&steer.node), &fixed.reports]);
    call.arg(&*steer.run.0).arg(steer.node.as_str()).arg(seen).arg(text(Some(&steering))?);
    Ok(match store.ask(bucket, &call).await? {
        Answer::Yes(rest) => {
            steering.plan = number(&rest, 0)?;
            Steered::Yes { steering }
        }
        Answer::No(rest) => match answered(&rest, 0)? {
            Some(current) => Steered::No { current },
            None => Steered::Unreadable { plan: number(&rest, 0)? },
        },
        Answer::NewRun(run) => Steered::NewRun { run },
    })
}

pub(super) async fn purge(store: &RedisStore, node: &NodeId, run: &Run) -> Result<Purged, StoreError> {
    let keys = &store.sessions.keys;
    let fixed = keys.bucket(node.bucket());
    let (lease, last, steering) = (keys.lease(node), keys.report(node), keys.steering(node));
    let mut call = SCRIPTS.purge.call(&[&fixed.meta, &lease, &last, &fixed.reports, &steering]);
    call.arg(&*run.0).arg(node.as_str());
    Ok(match store.ask(node.bucket(), &call).await? {
        Answer::Yes(_) => Purged::Yes,
        Answer::No(rest) => Purged::Held { until_store_ms: number(&rest, 0)? },
        Answer::NewRun(run) => Purged::NewRun { run },
    })
}

fn read(plan: u64, text: &str) -> Option<Steering> {
    let steering =
        serde_json::from_str(text).inspect_err(|error| tracing::warn!(%error, "steering cannot be read")).ok();
    steering.map(|steering| Steering { plan, ..steering }).filter(Steering::is_possible)
}
