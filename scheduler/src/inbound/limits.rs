//! What a lookup may ask for, wherever it comes from.

use std::ops::RangeInclusive;

use roost_proto::error::{Code, Problem};
use roost_proto::id::RoomKey;
use roost_proto::lookup::{Client, LookupRequest, MOST_ALTERNATIVES, MOST_AVOIDED, MOST_EXPECTED};

use crate::app::lookup::Asked;

/// What a body asks for the room and this client.
pub(super) fn checked(key: RoomKey, body: LookupRequest, client: Client) -> Result<Asked, Problem> {
    let alternatives = usize::from(body.alternatives);
    within("avoid", body.avoid.len(), 0..=MOST_AVOIDED)?;
    within("alternatives", alternatives, 0..=MOST_ALTERNATIVES)?;
    // Who expects nobody says nothing.
    if let Some(expected) = body.expected_participants {
        within("expected_participants", expected, 1..=MOST_EXPECTED)?;
    }
    Ok(Asked { key, client, expected_participants: body.expected_participants, avoid: body.avoid, alternatives })
}

fn within<T: PartialOrd + std::fmt::Display>(field: &str, value: T, allowed: RangeInclusive<T>) -> Result<(), Problem> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let detail = format!("body {field}: {value}: expected {} to {}", allowed.start(), allowed.end());
    Err(Problem::new(Code::BadRequest, detail))
}
