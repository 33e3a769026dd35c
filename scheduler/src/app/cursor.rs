//! Where a list goes on: any text, in hexadecimal, so that it needs no escaping in a URL whatever is in it.

use roost_proto::error::{Code, Problem};

/// The cursor that says `text`.
pub(super) fn of(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// What the cursor says; none if it is no cursor.
pub(super) fn read(cursor: &str) -> Option<String> {
    let pairs = cursor.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}

/// What is answered to one that leads nowhere.
pub(super) fn wrong() -> Problem {
    Problem::new(Code::BadRequest, "query cursor: expected the next_cursor of an earlier page")
}
