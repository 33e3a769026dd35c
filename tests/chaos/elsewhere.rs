//! Clients who want rooms of a node that is no longer there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use roost_tests::Trouble;

use crate::caller::{Caller, Told};
use crate::crowd::patience;

/// How many clients share the rooms.
const CALLERS: usize = 8;

/// When each room was first answered with another node than before, and under which epoch.
pub(crate) async fn elsewhere(
    addresses: &Arc<[String]>,
    rooms: &BTreeMap<String, Told>,
    gone: Instant,
) -> Result<BTreeMap<String, (Instant, u64)>, Trouble> {
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let mine = rooms.iter().skip(number).step_by(CALLERS).map(|(room, told)| (room.clone(), told.clone()));
        callers.spawn(find(Caller::new(addresses), number, mine.collect(), gone));
    }
    let mut all = BTreeMap::new();
    while let Some(done) = callers.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}

/// Asks for all rooms in turn until each is elsewhere, one round at one scheduler, the next at the next.
async fn find(
    mut caller: Caller,
    mut at: usize,
    mut rooms: Vec<(String, Told)>,
    gone: Instant,
) -> Result<Vec<(String, (Instant, u64))>, Trouble> {
    let mut found = Vec::new();
    while !rooms.is_empty() {
        let mut left = Vec::new();
        for (room, before) in rooms {
            match caller.look_up_once(at, &room, "{}").await {
                Ok(told) if told.node != before.node => found.push((room, (Instant::now(), told.epoch))),
                Ok(_) | Err(_) => left.push((room, before)),
            }
        }
        rooms = left;
        at += 1;
        if let Some((room, _)) = rooms.first() {
            patience(gone, &format!("{room} stays").into()).await?;
        }
    }
    Ok(found)
}
