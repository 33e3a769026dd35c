//! The media protocol on the agent's Unix socket: one JSON message a line, bounded both ways.

use std::io;

use roost_proto::media::{FromMedia, MAX_LINE_BYTES, MediaError, MediaErrorCode, ToMedia};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};

use crate::event::Letters;
use crate::rooms::Rooms;

/// Hands the agent's requests to the rooms until the socket closes.
pub(crate) async fn read<R: AsyncRead + Unpin>(socket: R, rooms: &mut Rooms) -> io::Result<()> {
    let mut socket = BufReader::with_capacity(64 * 1024, socket);
    let mut line = Vec::new();
    while let Some(read) = next_line(&mut socket, &mut line).await? {
        match read {
            Line::Whole => match parse(&line) {
                Ok(message) => rooms.take(message).await,
                Err(Unreadable { id: Some(id), error }) => rooms.refuse(id, error).await,
                Err(Unreadable { id: None, error }) => tracing::error!(%error, "a line that is no request"),
            },
            Line::TooLong => tracing::error!("a line of more than {MAX_LINE_BYTES} bytes was skipped"),
        }
        // A line of a megabyte must not be kept for ever.
        line.clear();
        line.shrink_to(64 * 1024);
    }
    Ok(())
}

/// Writes `first` and then what comes, until the socket breaks. It does not time out: an agent that stands still for a
/// while must not cost its rooms, and what waits is bounded.
pub(crate) async fn write<W: AsyncWrite + Unpin>(socket: W, first: FromMedia, mut letters: Letters) -> io::Result<()> {
    let mut socket = BufWriter::with_capacity(64 * 1024, socket);
    let mut next = Some(first);
    while let Some(message) = next {
        socket.write_all(&line_of(message)).await?;
        next = letters.waiting();
        if next.is_none() {
            socket.flush().await?;
            let dropped = letters.dropped();
            if dropped > 0 {
                tracing::warn!(dropped, "the agent reads too slowly, events were dropped");
            }
            next = letters.next().await;
        }
    }
    Ok(())
}

enum Line {
    Whole,
    TooLong,
}

/// Reads up to the next newline into `line`, without it. A line that is too long is skipped. None at the end.
async fn next_line<R: AsyncBufReadExt + Unpin>(socket: &mut R, line: &mut Vec<u8>) -> io::Result<Option<Line>> {
    let mut too_long = false;
    loop {
        let part = socket.fill_buf().await?;
        if part.is_empty() {
            return Ok(None);
        }
        let newline = part.iter().position(|byte| *byte == b'\n');
        let text = &part[..newline.unwrap_or(part.len())];
        too_long |= line.len() + text.len() >= MAX_LINE_BYTES;
        if !too_long {
            line.extend_from_slice(text);
        }
        let used = text.len() + usize::from(newline.is_some());
        socket.consume(used);
        if newline.is_some() {
            return Ok(Some(if too_long { Line::TooLong } else { Line::Whole }));
        }
    }
}

#[derive(Debug)]
struct Unreadable {
    id: Option<u64>,
    error: MediaError,
}

fn parse(line: &[u8]) -> Result<ToMedia, Unreadable> {
    serde_json::from_slice(line).map_err(|error| {
        #[derive(Deserialize)]
        struct Numbered {
            id: u64,
        }
        let id = serde_json::from_slice::<Numbered>(line).ok().map(|numbered| numbered.id);
        let message = error.to_string();
        // An agent that is newer than this process may ask for what this one has never heard of.
        let code = if message.starts_with("unknown variant") && message.contains("`open_room`") {
            MediaErrorCode::Unsupported
        } else {
            MediaErrorCode::Invalid
        };
        Unreadable { id, error: MediaError::new(code, message) }
    })
}

fn line_of(message: FromMedia) -> Vec<u8> {
    let mut line = serde_json::to_vec(&message).unwrap_or_default();
    if line.is_empty() || line.len() >= MAX_LINE_BYTES {
        tracing::error!(bytes = line.len(), "a message that is too long was not sent");
        let FromMedia::Reply { id, .. } = message else { return Vec::new() };
        let result = Err(MediaError::new(MediaErrorCode::Failed, "the answer is too long"));
        line = serde_json::to_vec(&FromMedia::Reply { id, result }).unwrap_or_default();
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_proto::media::{MediaEvent, MediaRequest};

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_next_one_is_read() {
        let mut input = vec![b'x'; MAX_LINE_BYTES];
        input.extend_from_slice(b"\nshort\nunfinished");
        let mut socket = BufReader::with_capacity(1000, input.as_slice());
        let mut line = Vec::new();
        assert!(matches!(next_line(&mut socket, &mut line).await, Ok(Some(Line::TooLong))));
        line.clear();
        assert!(matches!(next_line(&mut socket, &mut line).await, Ok(Some(Line::Whole))));
        assert_eq!(line, b"short");
        line.clear();
        assert!(matches!(next_line(&mut socket, &mut line).await, Ok(None)));
    }

    #[test]
    fn a_request_that_cannot_be_read_is_refused_by_its_number() {
        let good = parse(br#"{"v":1,"id":3,"method":"describe"}"#).expect("a request");
        assert_eq!(good.request, MediaRequest::Describe);
        let unknown = parse(br#"{"v":1,"id":4,"method":"create_pipe","data":{}}"#).expect_err("unknown");
        assert_eq!((unknown.id, unknown.error.code), (Some(4), MediaErrorCode::Unsupported));
        let missing = parse(br#"{"v":1,"id":5,"method":"produce","data":{}}"#).expect_err("fields are missing");
        assert_eq!((missing.id, missing.error.code), (Some(5), MediaErrorCode::Invalid));
        assert!(missing.error.message.contains("transport"), "{}", missing.error.message);
        let thing =
            parse(br#"{"v":1,"id":6,"method":"close","data":{"what":{"sink":"x"}}}"#).expect_err("no such thing");
        assert_eq!((thing.id, thing.error.code), (Some(6), MediaErrorCode::Invalid));
        assert_eq!(parse(b"no json").expect_err("no json").id, None);
    }

    #[test]
    fn an_answer_that_is_too_long_becomes_an_error_and_such_an_event_is_dropped() {
        let long = "x".repeat(MAX_LINE_BYTES);
        let reply = line_of(FromMedia::Reply { id: 9, result: Err(MediaError::new(MediaErrorCode::Invalid, &*long)) });
        let text = String::from_utf8(reply).expect("JSON");
        assert!(text.len() < 200 && text.contains(r#""id":9"#) && text.contains("too long"), "{text}");
        assert!(line_of(FromMedia::Event(MediaEvent::ConsumerClosed { consumer: long })).is_empty());
    }
}
