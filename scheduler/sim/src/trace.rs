//! The trace of a live scheduler, as `serve --record` writes it and `replay` takes it: lines of JSON, the first a header.
//!
//! Times are ms since the recording began, on the scheduler's own monotonic clock, and never go back. Rooms carry a hash
//! instead of their name; users and addresses are not in it.
//!
//! Nor is what happens at the nodes' doors, which no scheduler sees: whoever a door turned away is in it as a lookup that
//! nobody came from. So what is counted as refused, or over capacity, in a recording are lookups.

use std::io::{self, BufRead};

use roost_proto::error::{Code, ReasonCount};
use roost_proto::id::{Carrier, NamespaceId, NodeId, Region, RoomName};
use roost_proto::lookup::Outcome;
use roost_proto::policy::{Policies, Rung};
use roost_proto::report::{Description, Host, MOST_IN_ROOM, Mode};
use serde::{Deserialize, Serialize};

/// The version of the lines below. A trace of another one is refused.
pub const TRACE_VERSION: u16 = 1;
/// The longest line, in bytes.
pub const MOST_LINE_BYTES: u64 = 1 << 20;
/// The most lines that are read.
pub const MOST_LINES: usize = 20_000_000;

/// The longest time that is replayed: 31 days.
pub const MOST_MS: u64 = 31 * 24 * 3_600 * 1_000;

/// One line of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    Header(Header),
    Node(Box<NodeLine>),
    Gone(GoneLine),
    Lookup(Box<LookupLine>),
    Room(RoomLine),
    Ended(EndedLine),
}

/// The first line, and no other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub v: u16,
    /// The version of the scheduler that recorded.
    pub version: String,
    /// What held for its namespaces.
    #[serde(default)]
    pub namespaces: Policies,
}

/// A node: at the beginning, when one is heard of first, and whenever something of it has changed (its load, at most
/// once a report).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeLine {
    pub at_ms: u64,
    pub node: NodeId,
    pub description: Description,
    pub mode: Mode,
    pub host: Host,
    pub participants: u32,
    pub streams: u32,
}

/// A node that is lost, or has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneLine {
    pub at_ms: u64,
    pub node: NodeId,
}

/// A lookup that was answered, be it with a node or with a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupLine {
    pub at_ms: u64,
    pub namespace: NamespaceId,
    /// A hash of the room's name, the same one in the whole trace.
    pub room: RoomName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_participants: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<NodeId>,
    /// Absent when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// How near the node was; absent for a room that lived already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rung: Option<Rung>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejection_counts: Vec<ReasonCount>,
}

/// A room that is open: at the beginning, and whenever its node reports another number of participants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomLine {
    pub at_ms: u64,
    pub namespace: NamespaceId,
    pub room: RoomName,
    pub node: NodeId,
    pub participants: u32,
}

/// A room that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedLine {
    pub at_ms: u64,
    pub namespace: NamespaceId,
    pub room: RoomName,
}

/// Why a trace cannot be replayed, and where in it.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("{file}: expected a readable trace")]
    Unreadable { file: String, source: io::Error },
    #[error("{file}:{line}: expected a line of a trace")]
    Garbage { file: String, line: usize, source: serde_json::Error },
    #[error("{file}:{line}: {problem}")]
    Wrong { file: String, line: usize, problem: String },
}

impl Line {
    /// When it was written; 0 for the header.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        match self {
            Self::Header(_) => 0,
            Self::Node(node) => node.at_ms,
            Self::Gone(gone) => gone.at_ms,
            Self::Lookup(lookup) => lookup.at_ms,
            Self::Room(room) => room.at_ms,
            Self::Ended(ended) => ended.at_ms,
        }
    }

    /// What of it is too much to be replayed.
    fn excess(&self) -> Option<String> {
        match self {
            Self::Room(RoomLine { participants, .. }) if *participants > MOST_IN_ROOM => {
                Some(format!("participants {participants}: expected {MOST_IN_ROOM} at most"))
            }
            _ if self.at_ms() > MOST_MS => {
                let at_ms = self.at_ms();
                Some(format!("at_ms {at_ms}: expected {MOST_MS} at most, 31 days; the lines before can be replayed"))
            }
            _ => None,
        }
    }
}

/// A whole trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Its name in errors.
    pub file: String,
    pub header: Header,
    /// Without the header; at least one.
    pub lines: Vec<Line>,
}

/// Reads a whole trace. `file` is its name in errors.
pub fn read(mut from: impl BufRead, file: &str) -> Result<Trace, TraceError> {
    let wrong = |line, problem: String| Err(TraceError::Wrong { file: file.to_owned(), line, problem });
    let (mut header, mut lines, mut buffer) = (None, Vec::<Line>::new(), Vec::new());
    for number in 1.. {
        buffer.clear();
        let read = io::Read::take(&mut from, MOST_LINE_BYTES).read_until(b'\n', &mut buffer);
        let length = read.map_err(|source| TraceError::Unreadable { file: file.to_owned(), source })?;
        if length == 0 {
            break;
        }
        if buffer.last() != Some(&b'\n') {
            return wrong(number, cut_off(length));
        }
        let line: Line = serde_json::from_slice(&buffer).map_err(|source| TraceError::Garbage {
            file: file.to_owned(),
            line: number,
            source,
        })?;
        if let Some(problem) = line.excess() {
            return wrong(number, problem);
        }
        match (line, &header, lines.last()) {
            (Line::Header(Header { v, .. }), None, _) if v != TRACE_VERSION => {
                return wrong(number, format!("v {v}: expected a trace of version {TRACE_VERSION}"));
            }
            (Line::Header(found), None, _) => header = Some(found),
            (Line::Header(_), Some(_), _) => {
                return wrong(number, "a second header: expected one trace in the file".to_owned());
            }
            (_, None, _) => return wrong(number, "expected the header of a trace first".to_owned()),
            (line, _, Some(before)) if line.at_ms() < before.at_ms() => {
                let (at_ms, before_ms) = (line.at_ms(), before.at_ms());
                return wrong(number, format!("at_ms {at_ms}: expected {before_ms} or later, as in the line before"));
            }
            _ if lines.len() == MOST_LINES => return wrong(number, format!("expected {MOST_LINES} lines at most")),
            (line, ..) => lines.push(line),
        }
    }
    match header {
        Some(header) if !lines.is_empty() => Ok(Trace { file: file.to_owned(), header, lines }),
        _ => wrong(1, "expected a header, and lines after it".to_owned()),
    }
}

fn cut_off(length: usize) -> String {
    if length as u64 == MOST_LINE_BYTES {
        format!("expected a line of {MOST_LINE_BYTES} bytes at most")
    } else {
        "the last line is cut off: expected a line break; without that line the trace can be replayed".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    const HEADER: &str = "{\"line\":\"header\",\"v\":1,\"version\":\"0.1.0\"}\n";
    const ENDED: &str = "{\"line\":\"ended\",\"at_ms\":5,\"namespace\":\"default\",\"room\":\"a1b2\"}\n";

    #[test]
    fn what_is_written_reads_back() {
        let lookup = Line::Lookup(Box::new(LookupLine {
            at_ms: 7,
            namespace: NamespaceId::new("default").unwrap(),
            room: RoomName::new("a1b2").unwrap(),
            region: Some(Region::new("cn/east").unwrap()),
            carrier: None,
            expected_participants: Some(12),
            avoid: vec![],
            outcome: Some(Outcome::Placed),
            node: Some(NodeId::new("sha-1").unwrap()),
            rung: Some(Rung::RegionCarrier),
            code: None,
            rejection_counts: vec![],
        }));
        let text = format!("{HEADER}{ENDED}{}\n", serde_json::to_string(&lookup).unwrap());
        let Trace { header, lines, .. } = read(text.as_bytes(), "t").unwrap();
        assert_eq!((header.version.as_str(), lines.len(), &lines[1]), ("0.1.0", 2, &lookup));
        assert_eq!(serde_json::to_string(&lines[0]).unwrap() + "\n", ENDED);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let long = format!("{HEADER}{}\n", "x".repeat(MOST_LINE_BYTES as usize));
        let other = HEADER.replace("\"v\":1", "\"v\":2");
        let much = r#"{"line":"room","at_ms":5,"namespace":"a","room":"b","node":"c","participants":4000000000}"#;
        let late = ENDED.replace("\"at_ms\":5", "\"at_ms\":4");
        for (text, expected) in [
            (String::new(), "t:1: expected a header"),
            (HEADER.to_owned(), "t:1: expected a header, and lines after it"),
            (ENDED.to_owned(), "t:1: expected the header of a trace first"),
            (other, "t:1: v 2: expected a trace of version 1"),
            (format!("{HEADER}{HEADER}"), "t:2: a second header"),
            (format!("{HEADER}{ENDED}{HEADER}"), "t:3: a second header"),
            (format!("{HEADER}{ENDED}{late}"), "t:3: at_ms 4: expected 5 or later"),
            (format!("{HEADER}{ENDED}garbage\n"), "t:3: expected a line of a trace"),
            (format!("{HEADER}{}", ENDED.replace("5,", "-5,")), "t:2: expected a line of a trace"),
            (format!("{HEADER}{ENDED}{much}\n"), "t:3: participants 4000000000: expected 1000000 at most"),
            (
                format!("{HEADER}{}", ENDED.replace("5,", "2678400001,")),
                "t:2: at_ms 2678400001: expected 2678400000 at",
            ),
            (format!("{HEADER}{ENDED}{}", &ENDED[..20]), "t:3: the last line is cut off"),
            (long, "t:2: expected a line of 1048576 bytes at most"),
        ] {
            let error = read(text.as_bytes(), "t").unwrap_err();
            assert!(error.to_string().starts_with(expected), "{expected}: {error}");
            assert_eq!(matches!(error, TraceError::Garbage { .. }), error.source().is_some());
        }
    }
}
