//! Identifiers, checked when they are made: one that exists is valid.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::hash;

/// Why a text is no identifier. The message names the field, the value (cut) and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?}: expected {expected}")]
pub struct InvalidId {
    /// What the text was meant to be, for example `node`.
    pub field: &'static str,
    /// The text, cut to 64 characters.
    pub value: String,
    /// What would have been valid.
    pub expected: &'static str,
}

const LABEL: &str = "1 to 63 characters a-z, 0-9 and -, neither first nor last a -";
const PATH: &str = "labels of a-z, 0-9 and - joined by /, 255 bytes at most";
const CARRIER: &str = "1 to 63 characters A-Z, a-z, 0-9 and -, neither first nor last a -";
const TEXT: &str = "1 to 255 bytes of UTF-8 without control characters";

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

fn is_path(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_label)
}

fn is_carrier(text: &str) -> bool {
    is_label(&text.to_ascii_lowercase())
}

fn is_text(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:ident, $expected:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
        #[schema(value_type = String)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier that `text` is, or what is wrong with it.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                if $check(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(InvalidId { field: $field, value: text.chars().take(64).collect(), expected: $expected })
                }
            }

            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A tenant. Rooms of two namespaces never meet.
    NamespaceId, "namespace", is_label, LABEL
);
id!(
    /// One machine or pod with one agent.
    NodeId, "node", is_label, LABEL
);
id!(
    /// Where a node or client is, from the largest part to the smallest: `cn/east/shanghai`.
    Region, "region", is_path, PATH
);
id!(
    /// Who carries a node's or client's traffic: a configured name, or `AS` and a number.
    Carrier, "carrier", is_carrier, CARRIER
);
id!(
    /// A room's name inside its namespace.
    RoomName, "room", is_text, TEXT
);
id!(
    /// A participant, inside its room.
    PeerId, "peer", is_text, TEXT
);
id!(
    /// The person or machine behind a participant, as the caller names it.
    UserId, "user_id", is_text, TEXT
);
id!(
    /// Names one request in every log line it causes.
    RequestId, "request_id", is_text, TEXT
);

impl Region {
    /// The region that this one is part of; none at the top.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(Arc::from(parent)))
    }

    /// Whether `self` is `other` or lies inside it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.strip_prefix(&*other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// How many labels the two have in common from the top.
    #[must_use]
    pub fn common_depth(&self, other: &Self) -> usize {
        self.0.split('/').zip(other.0.split('/')).take_while(|(a, b)| a == b).count()
    }

    /// How many labels it has.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.split('/').count()
    }
}

impl NodeId {
    /// The bucket that holds the node's lease.
    #[must_use]
    pub fn bucket(&self) -> u8 {
        hash::bucket(&[self.0.as_bytes()])
    }
}

/// A room among all rooms: its namespace and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct RoomKey {
    pub namespace: NamespaceId,
    pub room: RoomName,
}

impl RoomKey {
    /// Checks both parts.
    pub fn new(namespace: impl AsRef<str>, room: impl AsRef<str>) -> Result<Self, InvalidId> {
        Ok(Self { namespace: NamespaceId::new(namespace)?, room: RoomName::new(room)? })
    }

    /// The bucket that holds the room's claim.
    #[must_use]
    pub fn bucket(&self) -> u8 {
        hash::bucket(&[self.namespace.as_str().as_bytes(), self.room.as_str().as_bytes()])
    }
}

impl fmt::Display for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.room)
    }
}

/// Epochs, incarnations and the numbers of reports count only below this: all arithmetic on them stays exact, in Lua too.
pub const NUMBER_LIMIT: u64 = 1 << 52;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, ToSchema,
        )]
        #[serde(transparent)]
        #[schema(value_type = u64)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A room's generation: only grows, also over a lost store. At least the store's time in ms when it was given.
    Epoch
);
number!(
    /// One run of an agent on a node. A later one of the same node is a larger number.
    Incarnation
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_checked_when_it_is_made() {
        for good in ["a", "fra-1", "0", &"x".repeat(63)] {
            assert!(NodeId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "ä", &"x".repeat(64)] {
            assert!(NodeId::new(bad).is_err(), "{bad}");
        }
        for good in ["cn", "cn/east/shanghai"] {
            assert!(Region::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "cn/", "/cn", "cn//east", "CN"] {
            assert!(Region::new(bad).is_err(), "{bad}");
        }
        for good in ["a", "Überraum 7", "a/b", "🙂", &"é".repeat(127)] {
            assert!(RoomName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "\u{7f}", "\u{85}", &"é".repeat(128)] {
            assert!(RoomName::new(bad).is_err(), "{bad:?}");
        }
        assert!(Carrier::new("AS64500").is_ok());
    }

    #[test]
    fn a_wrong_identifier_is_named_with_its_value_and_what_was_expected() {
        let error = serde_json::from_str::<NamespaceId>("\"No\"").expect_err("upper case");
        assert!(error.to_string().starts_with("namespace \"No\": expected 1 to 63 characters"), "{error}");
    }

    #[test]
    fn regions_form_a_tree() {
        let region = |text| Region::new(text).expect("valid");
        assert_eq!(region("cn/east/sh").parent(), Some(region("cn/east")));
        assert_eq!(region("cn").parent(), None);
        assert!(region("cn/east").is_within(&region("cn")));
        assert!(region("cn").is_within(&region("cn")));
        assert!(!region("cn").is_within(&region("cn/east")));
        assert!(!region("cn-x/east").is_within(&region("cn")));
        assert_eq!(region("cn/east/sh").common_depth(&region("cn/east/hz")), 2);
    }
}
