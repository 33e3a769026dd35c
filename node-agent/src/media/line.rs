//! Lines of bounded length from a stream.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Reads one line into `line`, without its end. False at the end of the stream.
///
/// A line of more than `limit` bytes is an error: what follows it cannot be trusted to begin a line.
pub(super) async fn read_line<R>(reader: &mut R, line: &mut Vec<u8>, limit: usize) -> io::Result<bool>
where
    R: AsyncBufRead + Unpin + Send,
{
    line.clear();
    let longest = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(longest).read_until(b'\n', line).await?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line of more than {limit} bytes")));
    }
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_too_long_is_an_error_and_others_are_read() {
        let mut reader = tokio::io::BufReader::new(&b"abc\n\nabcd"[..]);
        let mut line = Vec::new();
        assert!(read_line(&mut reader, &mut line, 4).await.expect("short"));
        assert_eq!(line, b"abc");
        assert!(read_line(&mut reader, &mut line, 4).await.expect("empty"));
        assert_eq!(line, b"");
        assert!(read_line(&mut reader, &mut line, 4).await.expect("last, without an end"));
        assert_eq!(line, b"abcd");
        assert!(!read_line(&mut reader, &mut line, 4).await.expect("the end"));
        let mut reader = tokio::io::BufReader::new(&b"abcde\n"[..]);
        assert!(read_line(&mut reader, &mut line, 4).await.is_err());
    }
}
