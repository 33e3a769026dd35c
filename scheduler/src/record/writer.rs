//! Writes the lines of a trace: what is new in them, without names, and never more than is allowed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use roost_proto::id::{NamespaceId, NodeId, RoomName};
use roost_proto::policy::Policies;
use roost_server::ClusterKeys;
use roost_server::telemetry::causes;
use roost_sim::trace::{Header, Line, NodeLine, TRACE_VERSION};

/// What was noted is in the file after so long.
const WRITTEN_WITHIN: Duration = Duration::from_millis(500);
/// The writer looks for lines this often when there are none.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How many bytes are written at once.
const CHUNK: usize = 64 * 1024;
/// A node's load is written when a resource has moved by so much of its capacity: one band of placement's.
const STEP_PERMILLE: u64 = 8;

/// One trace.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    /// Whole lines only, so that a process that is killed leaves no half of one.
    buffer: Vec<u8>,
    written: u64,
    most_bytes: u64,
    /// What names are hidden by; none: they are not.
    hidden_by: Option<ClusterKeys>,
    /// The last line of each node.
    nodes: BTreeMap<NodeId, NodeLine>,
    last_ms: u64,
}

/// Why the trace ends before the process does.
enum End {
    Full,
    Failed(io::Error),
}

impl Writer {
    /// Creates the file, with the header in it.
    pub(super) fn begin(
        path: &Path,
        most_bytes: u64,
        hidden_by: Option<ClusterKeys>,
        policies: &Policies,
    ) -> io::Result<Self> {
        let file = File::create(path)?;
        let (buffer, nodes) = (Vec::with_capacity(2 * CHUNK), BTreeMap::new());
        let mut writer =
            Self { path: path.to_owned(), file, buffer, written: 0, most_bytes, hidden_by, nodes, last_ms: 0 };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let header = Line::Header(Header { v: TRACE_VERSION, version, namespaces: policies.clone() });
        writer.append(&header);
        writer.flush()?;
        Ok(writer)
    }

    /// Writes until it is over, or until there is no more to come.
    pub(super) fn write_all(mut self, lines: &Receiver<Line>, is_over: &AtomicBool) {
        let mut flushed = Instant::now();
        let end = loop {
            let received = match lines.try_recv() {
                Ok(line) => self.write(line),
                // Not waited for: whoever notes a line would have to wake this thread.
                Err(TryRecvError::Empty) if !is_over.load(Ordering::Relaxed) => {
                    thread::park_timeout(LOOK_AGAIN);
                    Ok(())
                }
                Err(_) => {
                    let failed = self.flush().err();
                    return self.tell(failed.map(End::Failed));
                }
            };
            if let Err(end) = received {
                break end;
            }
            if self.buffer.len() >= CHUNK || flushed.elapsed() >= WRITTEN_WITHIN {
                if let Err(error) = self.flush() {
                    break End::Failed(error);
                }
                flushed = Instant::now();
            }
        };
        is_over.store(true, Ordering::Relaxed);
        let failed = matches!(end, End::Full).then(|| self.flush().err()).flatten();
        self.tell(Some(failed.map_or(end, End::Failed)));
    }

    fn tell(&self, end: Option<End>) {
        let (file, bytes) = (self.path.display(), self.written);
        match end {
            None => tracing::info!(%file, bytes, "recorded"),
            Some(End::Full) => {
                tracing::warn!(%file, bytes, "the trace is as large as record_max_mb allows: it ends here")
            }
            Some(End::Failed(error)) => {
                tracing::error!(%file, bytes, error = causes(&error), "the trace cannot be written: it ends here");
            }
        }
    }

    fn write(&mut self, mut line: Line) -> Result<(), End> {
        if !self.is_news(&mut line) {
            return Ok(());
        }
        let at_ms = match &mut line {
            Line::Header(_) => return Ok(()),
            Line::Node(node) => &mut node.at_ms,
            Line::Gone(gone) => &mut gone.at_ms,
            Line::Lookup(lookup) => {
                self.hide(&lookup.namespace, &mut lookup.room);
                &mut lookup.at_ms
            }
            Line::Room(room) => {
                self.hide(&room.namespace, &mut room.room);
                &mut room.at_ms
            }
            Line::Ended(ended) => {
                self.hide(&ended.namespace, &mut ended.room);
                &mut ended.at_ms
            }
        };
        // Threads note side by side: their clock may read one ms less than that of the line before.
        self.last_ms = self.last_ms.max(*at_ms);
        *at_ms = self.last_ms;
        let before = self.buffer.len();
        self.append(&line);
        if self.written + self.buffer.len() as u64 > self.most_bytes {
            self.buffer.truncate(before);
            return Err(End::Full);
        }
        Ok(())
    }

    /// Whether a line about a node says something that the last one did not.
    fn is_news(&mut self, line: &mut Line) -> bool {
        match line {
            Line::Node(node) => {
                // They are addresses.
                node.description.signaling_url.clear();
                node.description.link_url.clear();
                let is_news = self.nodes.get(&node.node).is_none_or(|last| has_moved(last, node));
                if is_news {
                    self.nodes.insert(node.node.clone(), (**node).clone());
                }
                is_news
            }
            Line::Gone(gone) => self.nodes.remove(&gone.node).is_some(),
            _ => true,
        }
    }

    fn hide(&self, namespace: &NamespaceId, room: &mut RoomName) {
        if let Some(keys) = &self.hidden_by {
            let hidden = keys.alias(&[namespace.as_str(), room.as_str()]);
            *room = RoomName::new(hidden).expect("digits are a name");
        }
    }

    fn append(&mut self, line: &Line) {
        serde_json::to_writer(&mut self.buffer, line).expect("lines have string keys only");
        self.buffer.push(b'\n');
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Whether the node is another than it was, or its load has moved by a step.
fn has_moved(last: &NodeLine, next: &NodeLine) -> bool {
    let capacity = &next.description.capacity;
    let by_a_step = |one: u64, other: u64, whole: u64| {
        whole > 0 && one.abs_diff(other) >= (whole.saturating_mul(STEP_PERMILLE) / 1_000).max(1)
    };
    last.description != next.description
        || last.mode != next.mode
        || by_a_step(last.host.cpu_permille.into(), next.host.cpu_permille.into(), 1_000)
        || by_a_step(last.host.memory_used_bytes, next.host.memory_used_bytes, next.host.memory_total_bytes)
        || by_a_step(last.host.network_rx_bps, next.host.network_rx_bps, capacity.bandwidth_bps)
        || by_a_step(last.host.network_tx_bps, next.host.network_tx_bps, capacity.bandwidth_bps)
        || by_a_step(last.participants.into(), next.participants.into(), capacity.participants.into())
        || by_a_step(last.streams.into(), next.streams.into(), capacity.streams.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_proto::report::{Capacity, Description, Host, MediaKind, Mode};
    use roost_sim::trace::{self, EndedLine, GoneLine};
    use std::sync::mpsc;

    #[test]
    fn a_node_is_written_when_it_has_moved_by_a_step() {
        let lines = written(|write| {
            for cpu_permille in [100, 107, 108, 110, 117] {
                write(node(cpu_permille));
            }
            let Line::Node(mut other) = node(117) else { panic!() };
            other.mode = Mode::Draining;
            write(Line::Node(other));
        });
        let cpus: Vec<u32> = lines.iter().map(cpu).collect();
        assert_eq!(cpus, [100, 108, 117, 117]);
        let Line::Node(first) = &lines[0] else { panic!() };
        assert!(first.description.signaling_url.is_empty() && first.description.link_url.is_empty());
    }

    #[test]
    fn a_node_is_gone_once_and_comes_back_as_a_whole() {
        let gone = || Line::Gone(GoneLine { at_ms: 1, node: NodeId::new("a").unwrap() });
        let lines = written(|write| [gone(), node(100), gone(), gone(), node(100)].into_iter().for_each(write));
        assert!(matches!(lines[..], [Line::Node(_), Line::Gone(_), Line::Node(_)]), "{lines:?}");
    }

    #[test]
    fn a_room_has_one_hash_and_time_never_goes_back() {
        let lines = written(|write| {
            for (at_ms, room) in [(5, "standup"), (4, "standup"), (6, "other")] {
                write(ended(at_ms, room));
            }
        });
        let rooms: Vec<(u64, &str)> = lines
            .iter()
            .map(|line| match line {
                Line::Ended(ended) => (ended.at_ms, ended.room.as_str()),
                other => panic!("{other:?}"),
            })
            .collect();
        let hashes = ["standup", "other"].map(|room| ClusterKeys::dev().alias(&["default", room]));
        assert_eq!(rooms, [(5, &*hashes[0]), (5, &*hashes[0]), (6, &*hashes[1])]);
    }

    #[test]
    fn a_trace_ends_with_a_whole_line_where_it_is_as_large_as_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let writer = Writer::begin(&path, 1_000, None, &Policies::default()).unwrap();
        let (lines, waiting) = mpsc::sync_channel(100);
        for at_ms in 0..100 {
            lines.send(ended(at_ms, "standup")).unwrap();
        }
        let is_over = AtomicBool::new(false);
        writer.write_all(&waiting, &is_over);
        assert!(is_over.load(Ordering::Relaxed));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!((900..=1_000).contains(&text.len()), "{}", text.len());
        let lines = trace::read(text.as_bytes(), "t").unwrap().lines;
        assert!(matches!(&lines[0], Line::Ended(ended) if ended.room.as_str() == "standup"));
    }

    /// What is in a trace into which these lines were written.
    fn written(write: impl FnOnce(&mut dyn FnMut(Line))) -> Vec<Line> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let writer = Writer::begin(&path, 1_000_000, Some(ClusterKeys::dev()), &Policies::default()).unwrap();
        let (lines, waiting) = mpsc::sync_channel(100);
        write(&mut |line| lines.send(line).unwrap());
        drop(lines);
        writer.write_all(&waiting, &AtomicBool::new(false));
        trace::read(&*std::fs::read(&path).unwrap(), "t").unwrap().lines
    }

    fn ended(at_ms: u64, room: &str) -> Line {
        let (namespace, room) = (NamespaceId::new("default").unwrap(), RoomName::new(room).unwrap());
        Line::Ended(EndedLine { at_ms, namespace, room })
    }

    fn cpu(line: &Line) -> u32 {
        let Line::Node(node) = line else { panic!("{line:?}") };
        node.host.cpu_permille
    }

    fn node(cpu_permille: u32) -> Line {
        let description = Description {
            region: "eu".parse().unwrap(),
            carriers: vec![],
            namespaces: vec![],
            priority: 0,
            signaling_url: "ws://10.0.0.1".into(),
            link_url: "ws://10.0.0.1".into(),
            media: MediaKind::Synthetic,
            capacity: Capacity::default(),
            temporary: false,
            version: "0.1.0".into(),
        };
        let host = Host { cpu_permille, ..Host::default() };
        let node = NodeId::new("a").unwrap();
        Line::Node(Box::new(NodeLine {
            at_ms: 1,
            node,
            description,
            mode: Mode::Serving,
            host,
            participants: 0,
            streams: 0,
        }))
    }
}
