//! The keys in Redis. All keys of one bucket carry the same hash tag, so that a script touches one slot only.
//!
//! | key | what |
//! |---|---|
//! | `P:{bN}:meta` | hash: `server` (its run id), `run`, `given` (last epoch since it closed), `known` (highest besides) |
//! | `P:{bN}:room:NAMESPACE/ROOM` | one claim, see [`super::record`]; a granted one expires |
//! | `P:{bN}:lease:NODE` | hash: `run`, `process`, `last`, and each incarnation's deadline (negative once over) |
//! | `P:{bN}:steer:NODE` | hash: `plan`, and `steering`: what an operator wants of the node, as JSON |
//! | `P:{bN}:claims` | stream of what happened to claims |
//! | `P:{bN}:report:NODE` | the node's last report, kept some minutes longer than its lease |
//! | `P:{bN}:reports` | stream of reports, of nodes that left or were purged, and of what is wanted of them |
//! | `P:{bN}:cmd:NODE` | stream of commands, gone a minute after the last |
//! | `P:{b0}:schedulers` | hash: the schedulers and until when each is on the list |
//! | `P:{b0}:identity` | names the data as a whole |

use roost_proto::hash::BUCKETS;
use roost_proto::id::{NodeId, RoomKey};

use crate::error::StoreError;

/// All keys under one prefix.
#[derive(Debug)]
pub(super) struct Keys {
    buckets: Vec<BucketKeys>,
    pub(super) schedulers: String,
    pub(super) identity: String,
    /// Matches every key of ours in a SCAN.
    pub(super) pattern: String,
}

/// The keys of one bucket that need no name.
#[derive(Debug)]
pub(super) struct BucketKeys {
    /// `P:{bN}:`
    base: String,
    pub(super) meta: String,
    pub(super) claims: String,
    pub(super) reports: String,
}

/// What a key that a SCAN found holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Room(RoomKey),
    Report,
    Other,
}

impl Keys {
    /// `prefix` was checked to have no character that means something in a pattern or a hash tag.
    pub(super) fn new(prefix: &str) -> Self {
        let bucket = |number: u8| {
            let base = format!("{prefix}:{{b{number}}}:");
            BucketKeys {
                meta: format!("{base}meta"),
                claims: format!("{base}claims"),
                reports: format!("{base}reports"),
                base,
            }
        };
        Self {
            buckets: (0..BUCKETS).map(bucket).collect(),
            schedulers: format!("{prefix}:{{b0}}:schedulers"),
            identity: format!("{prefix}:{{b0}}:identity"),
            pattern: format!("{prefix}:{{b*}}:r*"),
        }
    }

    pub(super) fn bucket(&self, bucket: u8) -> &BucketKeys {
        &self.buckets[usize::from(bucket % BUCKETS)]
    }

    pub(super) fn room(&self, room: &RoomKey) -> String {
        let namespace = room.namespace.as_str();
        [&self.bucket(room.bucket()).base, "room:", namespace, "/", room.room.as_str()].concat()
    }

    pub(super) fn lease(&self, node: &NodeId) -> String {
        [&self.bucket(node.bucket()).base, "lease:", node.as_str()].concat()
    }

    pub(super) fn report(&self, node: &NodeId) -> String {
        [&self.bucket(node.bucket()).base, "report:", node.as_str()].concat()
    }

    pub(super) fn steering(&self, node: &NodeId) -> String {
        [&self.bucket(node.bucket()).base, "steer:", node.as_str()].concat()
    }

    /// Where is kept what is wanted of the node whose last report is at `key`; none if no report is.
    pub(super) fn steering_beside(key: &str) -> Option<String> {
        let (base, rest) = key.split_once("}:")?;
        Some([base, "}:steer:", rest.strip_prefix("report:")?].concat())
    }

    pub(super) fn commands(&self, node: &NodeId) -> String {
        [&self.bucket(node.bucket()).base, "cmd:", node.as_str()].concat()
    }

    /// What `key` names; an error if it should name a room and does not.
    pub(super) fn found(key: &str) -> Result<Found, StoreError> {
        let Some((_, rest)) = key.split_once("}:") else {
            return Ok(Found::Other);
        };
        if rest.starts_with("report:") {
            return Ok(Found::Report);
        }
        let Some(name) = rest.strip_prefix("room:") else {
            return Ok(Found::Other);
        };
        let broken = |reason: String| StoreError::Corrupt { key: key.to_owned(), reason };
        let (namespace, room) = name.split_once('/').ok_or_else(|| broken("no room name".to_owned()))?;
        RoomKey::new(namespace, room).map(Found::Room).map_err(|invalid| broken(invalid.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_found_again_by_its_key_whatever_its_name() {
        let keys = Keys::new("roost");
        for name in ["standup", "a/b", "{b3}:room:x/y", "}:report:z", "Überraum 7"] {
            let room = RoomKey::new("default", name).expect("valid");
            let key = keys.room(&room);
            assert!(key.starts_with(&format!("roost:{{b{}}}:room:default/", room.bucket())), "{key}");
            assert_eq!(Keys::steering_beside(&key), None);
            assert_eq!(Keys::found(&key).expect("a room's key"), Found::Room(room));
        }
        assert_eq!(Keys::found("roost:{b3}:report:fra-1").expect("a report's key"), Found::Report);
        let node = NodeId::new("fra-1").expect("valid");
        assert_eq!(Keys::steering_beside(&keys.report(&node)), Some(keys.steering(&node)));
        assert_eq!(Keys::found("roost:{b3}:meta").expect("another key"), Found::Other);
        assert!(Keys::found("roost:{b3}:room:standup").is_err());
    }
}
