//! The rooms, as a list.

use roost_proto::admin::{Page, RoomFilter};
use roost_proto::error::{Code, Problem};
use roost_proto::id::RoomKey;
use roost_proto::room::RoomView;

use super::Scheduler;

impl Scheduler {
    /// `limit` rooms in order, those after the one that `cursor` names.
    pub(crate) fn rooms(
        &self,
        filter: &RoomFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<RoomView>, Problem> {
        let after = cursor.map(read_cursor).transpose()?;
        let now = self.clock.now();
        let (items, next) = self.view().rooms.page(filter, after.as_ref(), limit, now);
        Ok(Page { items, next_cursor: next.as_ref().map(cursor_of) })
    }
}

/// Hexadecimal, so that a cursor needs no escaping whatever the room is called.
fn cursor_of(key: &RoomKey) -> String {
    key.to_string().bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn read_cursor(cursor: &str) -> Result<RoomKey, Problem> {
    let read = || {
        let pairs = cursor.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> =
            pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
        let text = String::from_utf8(bytes?).ok()?;
        let (namespace, room) = text.split_once('/')?;
        RoomKey::new(namespace, room).ok()
    };
    read().ok_or_else(|| Problem::new(Code::BadRequest, "query cursor: expected the next_cursor of an earlier page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_room() {
        for room in ["a", "a/b", "Überraum & 7"] {
            let key = RoomKey::new("acme", room).unwrap();
            assert_eq!(read_cursor(&cursor_of(&key)).unwrap(), key);
        }
        for bad in ["", "x", "61", "zz", "612f", "ffff2f61", "ä"] {
            assert!(read_cursor(bad).is_err(), "{bad:?}");
        }
    }
}
