//! The rooms, as a list.

use roost_proto::admin::{Page, RoomFilter};
use roost_proto::error::Problem;
use roost_proto::id::RoomKey;
use roost_proto::room::RoomView;

use super::{Scheduler, cursor};

impl Scheduler {
    /// `limit` rooms in order, those after the one that the cursor `after` names.
    pub(crate) fn rooms(
        &self,
        filter: &RoomFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RoomView>, Problem> {
        let after = after.map(read_cursor).transpose()?;
        let now = self.clock.now();
        let (items, next) = self.view().rooms.page(filter, after.as_ref(), limit, now);
        Ok(Page { items, next_cursor: next.map(|key| cursor::of(&key.to_string())) })
    }
}

fn read_cursor(text: &str) -> Result<RoomKey, Problem> {
    let read = || {
        let text = cursor::read(text)?;
        let (namespace, room) = text.split_once('/')?;
        RoomKey::new(namespace, room).ok()
    };
    read().ok_or_else(cursor::wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_room() {
        for room in ["a", "a/b", "Überraum & 7"] {
            let key = RoomKey::new("acme", room).unwrap();
            assert_eq!(read_cursor(&cursor::of(&key.to_string())).unwrap(), key);
        }
        for bad in ["", "x", "61", "zz", "612f", "ffff2f61", "ä"] {
            assert!(read_cursor(bad).is_err(), "{bad:?}");
        }
    }
}
