//! Plays the agent: listens on a Unix socket, starts the process, asks and collects events.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use roost_proto::id::RoomKey;
use roost_proto::media::{
    FromMedia, Hello, MediaError, MediaErrorCode, MediaEvent, MediaLoad, MediaReply, MediaRequest, Object, StreamKind,
    ToMedia,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Nothing here takes longer than this, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A running process and the agent's end of its socket.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) hello: Hello,
    pub(crate) child: Child,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    events: VecDeque<MediaEvent>,
    next_id: u64,
}

impl Agent {
    /// Starts the process on a free port.
    pub(crate) async fn start() -> Self {
        Self::start_on(0, &[]).await
    }

    /// Starts the process on `port`, with further arguments, and waits for its hello.
    pub(crate) async fn start_on(port: u16, further: &[&str]) -> Self {
        let path = socket_path();
        let listener = UnixListener::bind(&path).expect("a socket in the temporary folder");
        let child = Command::new(env!("CARGO_BIN_EXE_roost-mediasoup"))
            .args(["--worker", "3", "--listen", "127.0.0.1", "--log-level", "warn"])
            .arg("--socket")
            .arg(&path)
            .args(["--port", &port.to_string()])
            .args(further)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the process starts");
        let (socket, _) = timeout(LIMIT, listener.accept()).await.expect("it connects in time").expect("a connection");
        std::fs::remove_file(&path).expect("the socket's file is there");
        let (reader, writer) = socket.into_split();
        let mut reader = BufReader::new(reader);
        let FromMedia::Hello(hello) = read(&mut reader).await.expect("a first line") else {
            panic!("the first line is no hello")
        };
        Self { hello, child, reader, writer, events: VecDeque::new(), next_id: 1 }
    }

    /// Asks and waits for the answer; events that come in between are kept.
    pub(crate) async fn ask(&mut self, request: MediaRequest) -> Result<MediaReply, MediaError> {
        let id = self.send(request).await;
        self.answer(id).await
    }

    /// Asks without waiting; gives the number of the request.
    pub(crate) async fn send(&mut self, request: MediaRequest) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let line = serde_json::to_string(&ToMedia { v: 1, id, request }).expect("JSON");
        self.send_line(&line).await;
        id
    }

    /// Sends a line as it is.
    pub(crate) async fn send_line(&mut self, line: &str) {
        let line = format!("{line}\n");
        timeout(LIMIT, self.writer.write_all(line.as_bytes())).await.expect("it reads").expect("the socket is open");
    }

    /// Waits for the answer to request `id`.
    pub(crate) async fn answer(&mut self, id: u64) -> Result<MediaReply, MediaError> {
        loop {
            match read(&mut self.reader).await.expect("the socket is open") {
                FromMedia::Reply { id: answered, result } if answered == id => return result,
                FromMedia::Event(event) => self.events.push_back(event),
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    /// Waits for the answers to some requests, whatever their order.
    pub(crate) async fn answers(&mut self, ids: &[u64]) -> Vec<Result<MediaReply, MediaError>> {
        let mut answers = BTreeMap::new();
        while answers.len() < ids.len() {
            match read(&mut self.reader).await.expect("the socket is open") {
                FromMedia::Reply { id, result } if ids.contains(&id) => _ = answers.insert(id, result),
                FromMedia::Event(event) => self.events.push_back(event),
                other => panic!("unexpected: {other:?}"),
            }
        }
        ids.iter().filter_map(|id| answers.remove(id)).collect()
    }

    /// Events of closing and pausing that came so far. An answered request has all those before it.
    pub(crate) fn cascades(&mut self) -> Vec<MediaEvent> {
        let (cascades, others) = self
            .events
            .drain(..)
            .partition(|event| !matches!(event, MediaEvent::ConsumerScore { .. } | MediaEvent::ProducerScore { .. }));
        self.events = others;
        Vec::from_iter::<VecDeque<_>>(cascades)
    }

    /// What the process says it carries.
    pub(crate) async fn describe(&mut self) -> MediaLoad {
        match self.ask(MediaRequest::Describe).await {
            Ok(MediaReply::Described(load)) => load,
            other => panic!("no description: {other:?}"),
        }
    }

    /// Opens a room and gives its capabilities.
    pub(crate) async fn open(&mut self, name: &str) -> Value {
        match self.ask(MediaRequest::OpenRoom { room: room(name), codecs: codecs() }).await {
            Ok(MediaReply::Room { rtp_capabilities }) => rtp_capabilities,
            other => panic!("no room: {other:?}"),
        }
    }

    /// Makes a transport and gives its id.
    pub(crate) async fn transport(&mut self, name: &str) -> String {
        let request =
            MediaRequest::CreateTransport { room: room(name), force_tcp: false, producing: true, consuming: true };
        match self.ask(request).await {
            Ok(MediaReply::Transport { id, .. }) => id,
            other => panic!("no transport: {other:?}"),
        }
    }

    /// Sends Opus or VP8 in three layers and gives the producer's id.
    pub(crate) async fn produce(&mut self, transport: &str, kind: StreamKind, ssrc: u32) -> String {
        let rtp_parameters = match kind {
            StreamKind::Audio => opus(ssrc),
            StreamKind::Video => vp8(ssrc),
        };
        let request = MediaRequest::Produce { transport: transport.to_owned(), kind, rtp_parameters, paused: false };
        match self.ask(request).await {
            Ok(MediaReply::Produced { id, .. }) => id,
            other => panic!("no producer: {other:?}"),
        }
    }

    /// Receives a producer and gives the consumer's id.
    pub(crate) async fn consume(&mut self, transport: &str, producer: &str, capabilities: &Value) -> String {
        let request = MediaRequest::Consume {
            transport: transport.to_owned(),
            producer: producer.to_owned(),
            rtp_capabilities: capabilities.clone(),
        };
        match self.ask(request).await {
            Ok(MediaReply::Consumed { id, .. }) => id,
            other => panic!("no consumer: {other:?}"),
        }
    }

    /// Asks for something that must succeed without data.
    pub(crate) async fn done(&mut self, request: MediaRequest) {
        assert_eq!(self.ask(request).await, Ok(MediaReply::Done));
    }

    /// Asks for something that must fail, and gives the message.
    pub(crate) async fn fails(&mut self, request: MediaRequest, code: MediaErrorCode) -> String {
        let asked = format!("{request:?}");
        match self.ask(request).await {
            Err(error) if error.code == code => error.message,
            other => panic!("expected {code:?} for {asked}, got {other:?}"),
        }
    }

    /// Closes the socket and waits for the process to end.
    pub(crate) async fn hang_up(self) -> ExitStatus {
        let Self { mut child, reader, writer, .. } = self;
        drop((reader, writer));
        timeout(LIMIT, child.wait()).await.expect("it ends in time").expect("a status")
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        timeout(LIMIT, self.child.wait()).await.expect("it ends in time").expect("a status")
    }
}

/// A room of the namespace `default`.
pub(crate) fn room(name: &str) -> RoomKey {
    RoomKey::new("default", name).expect("a valid name")
}

/// What an id names.
pub(crate) fn producer(id: &str) -> Object {
    Object::Producer(id.to_owned())
}

/// What an id names.
pub(crate) fn consumer(id: &str) -> Object {
    Object::Consumer(id.to_owned())
}

/// Opus and VP8.
pub(crate) fn codecs() -> Value {
    json!([
        {"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2, "preferredPayloadType": 100},
        {"kind": "video", "mimeType": "video/VP8", "clockRate": 90000, "preferredPayloadType": 101,
         "parameters": {"x-google-start-bitrate": 1000}},
    ])
}

/// Opus as mediasoup-client sends it.
pub(crate) fn opus(ssrc: u32) -> Value {
    json!({
        "mid": ssrc.to_string(),
        "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2,
            "parameters": {"minptime": 10, "useinbandfec": 1}, "rtcpFeedback": [{"type": "transport-cc", "parameter": ""}]}],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": false, "parameters": {}},
            {"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 1, "encrypt": false, "parameters": {}},
        ],
        "encodings": [{"ssrc": ssrc, "dtx": false}],
        "rtcp": {"cname": "cname", "reducedSize": true},
    })
}

/// VP8 in three layers as Chromium sends it.
pub(crate) fn vp8(ssrc: u32) -> Value {
    let layer =
        |rid: &str, bitrate: u32| json!({"rid": rid, "maxBitrate": bitrate, "scalabilityMode": "L1T3", "active": true});
    json!({
        "mid": ssrc.to_string(),
        "codecs": [
            {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000, "parameters": {},
             "rtcpFeedback": [{"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}, {"type": "goog-remb", "parameter": ""}]},
            {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000, "parameters": {"apt": 96}, "rtcpFeedback": []},
        ],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": false},
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "id": 10, "encrypt": false},
        ],
        "encodings": [layer("r0", 500_000), layer("r1", 1_000_000), layer("r2", 5_000_000)],
        "rtcp": {"cname": "cname", "reducedSize": true},
    })
}

/// Made up, but a valid fingerprint.
pub(crate) fn dtls() -> Value {
    let value = vec!["5A"; 32].join(":");
    json!({"role": "server", "fingerprints": [{"algorithm": "sha-256", "value": value}]})
}

async fn read(reader: &mut BufReader<OwnedReadHalf>) -> Option<FromMedia> {
    let mut line = String::new();
    let bytes = timeout(LIMIT, reader.read_line(&mut line)).await.expect("a line in time").expect("a line");
    (bytes > 0).then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
}

fn socket_path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("roost-mediasoup-{}-{number}.sock", std::process::id()))
}
