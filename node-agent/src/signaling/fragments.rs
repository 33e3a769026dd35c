//! Joins the fragments of a WebSocket message.

use actix_ws::Item;
use roost_proto::signaling::MAX_FRAME_BYTES;

/// The fragments of a message so far.
#[derive(Debug, Default)]
pub(super) struct Fragments(Vec<u8>);

/// Why fragments make no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    TooLong,
    Binary,
    NotUtf8,
}

impl Fragments {
    /// The whole text, with its last fragment.
    pub(super) fn gather(&mut self, item: Item) -> Result<Option<String>, Unfit> {
        let (bytes, last) = match item {
            Item::FirstBinary(_) => return Err(Unfit::Binary),
            Item::FirstText(bytes) => {
                self.0.clear();
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        if self.0.len() + bytes.len() > MAX_FRAME_BYTES {
            return Err(Unfit::TooLong);
        }
        self.0.extend_from_slice(&bytes);
        if !last {
            return Ok(None);
        }
        String::from_utf8(std::mem::take(&mut self.0)).map(Some).map_err(|_| Unfit::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::web::Bytes;

    use super::*;

    #[test]
    fn fragments_are_joined_up_to_the_limit() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.gather(Item::FirstText(Bytes::from_static(b"a"))), Ok(None));
        assert_eq!(fragments.gather(Item::Continue(Bytes::from_static(b"b"))), Ok(None));
        assert_eq!(fragments.gather(Item::Last(Bytes::from_static(b"c"))), Ok(Some("abc".to_owned())));
        let half = Bytes::from(vec![b'x'; MAX_FRAME_BYTES / 2 + 1]);
        assert_eq!(fragments.gather(Item::FirstText(half.clone())), Ok(None));
        assert_eq!(fragments.gather(Item::Last(half)), Err(Unfit::TooLong));
        assert_eq!(fragments.gather(Item::FirstBinary(Bytes::new())), Err(Unfit::Binary));
        assert_eq!(fragments.gather(Item::FirstText(Bytes::from_static(b"\xff"))), Ok(None));
        assert_eq!(fragments.gather(Item::Last(Bytes::new())), Err(Unfit::NotUtf8));
    }
}
