//! Looks at a WebSocket's bytes before they are gathered into frames, and stops at a message that is too long.
//!
//! The decoder behind it checks a frame's length only when all of the frame is there: without this, one header that
//! announces gigabytes makes the server keep whatever the client sends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::sync::Notify;

/// A client's bytes. After a message that is too long nothing comes out any more: the rest is read and dropped, so that
/// the client can still read why it is closed.
pub struct Guard {
    payload: Payload,
    scanner: Scanner,
    too_long: Arc<Notify>,
    over: bool,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Guard").field("scanner", &self.scanner).field("over", &self.over).finish()
    }
}

impl Guard {
    /// Lets messages of at most `limit` bytes pass, counted over all fragments of one; `too_long` is notified at the
    /// first longer one, as soon as its header announces it.
    #[must_use]
    pub fn new(payload: Payload, limit: usize, too_long: Arc<Notify>) -> Self {
        Self { payload, scanner: Scanner::new(limit), too_long, over: false }
    }
}

impl Stream for Guard {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match ready!(Pin::new(&mut this.payload).poll_next(context)) {
                Some(Ok(bytes)) if this.over || !this.scanner.passes(&bytes) => {
                    if !std::mem::replace(&mut this.over, true) {
                        this.too_long.notify_one();
                    }
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

/// Follows the framing of RFC 6455, without keeping any payload.
#[derive(Debug)]
struct Scanner {
    limit: u64,
    /// Bytes of the message so far, over all its fragments.
    message: u64,
    /// Bytes of payload until the next header.
    left: u64,
    header: [u8; LONGEST_HEADER],
    read: usize,
}

const LONGEST_HEADER: usize = 14;
const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;

impl Scanner {
    fn new(limit: usize) -> Self {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        Self { limit, message: 0, left: 0, header: [0; LONGEST_HEADER], read: 0 }
    }

    /// False as soon as a header announces more than the limit.
    fn passes(&mut self, mut bytes: &[u8]) -> bool {
        while let Some(&byte) = bytes.first() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            self.header[self.read] = byte;
            self.read += 1;
            bytes = &bytes[1..];
            if let Some(length) = self.length() {
                self.read = 0;
                self.left = length;
                let opcode = self.header[0] & OPCODE;
                if opcode & CONTROL == 0 {
                    self.message = if opcode == 0 { self.message.saturating_add(length) } else { length };
                }
                if length > self.limit || self.message > self.limit {
                    return false;
                }
            }
        }
        true
    }

    /// The payload's length, once the header is complete.
    fn length(&self) -> Option<u64> {
        let header = &self.header[..self.read];
        let second = *header.get(1)?;
        let extended = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & MASKED == 0 { 0 } else { 4 };
        let length = match header.get(2..2 + extended)? {
            [] => u64::from(second & !MASKED),
            more => more.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        (header.len() == 2 + extended + mask).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_that_announces_too_much_stops_at_once() {
        let rows: [(&[u8], bool); 8] = [
            (&[0x81, 0x85, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0x89, 0x80, 1, 2, 3, 4], true),
            (&[0x81, 0xfe, 0, 200, 1, 2, 3, 4], true),
            (&[0x81, 0xfe, 0, 201, 1, 2, 3], true),
            (&[0x81, 0xfe, 0, 201, 1, 2, 3, 4], false),
            (&[0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4], false),
            (&[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4], false),
            (&[0x81, 0x7e, 0, 201], false),
            (&[0x81, 0x00, 0x81, 0x7e, 0, 201], false),
        ];
        for (bytes, passes) in rows {
            assert_eq!(Scanner::new(200).passes(bytes), passes, "{bytes:x?}");
        }
    }

    #[test]
    fn fragments_count_together_and_messages_one_by_one() {
        let fragment = |first: u8| {
            let mut bytes = vec![first, 100];
            bytes.resize(102, 0);
            bytes
        };
        let mut scanner = Scanner::new(200);
        for first in [0x01, 0x89, 0x80, 0x81, 0x01, 0x00] {
            assert!(scanner.passes(&fragment(first)));
        }
        assert!(!scanner.passes(&fragment(0x80)));
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_where_the_bytes_are_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400,
        ) {
            let whole = Scanner::new(300).passes(&bytes);
            let mut scanner = Scanner::new(300);
            let (one, other) = bytes.split_at(cut.min(bytes.len()));
            let parts = scanner.passes(one) && scanner.passes(other);
            prop_assert_eq!(whole, parts);
        }
    }
}
