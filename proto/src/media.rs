//! The media protocol: JSON lines over a Unix socket between an agent (which listens) and its media servers.
//!
//! A media server says `hello` first; then the agent sends requests, and the server answers each and tells events as
//! they come. What belongs to the media stack (RTP, ICE, DTLS, SCTP parameters, statistics) passes through as it is.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::RoomKey;
use crate::report::MediaKind;

/// The longest line either side may send.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Media server to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromMedia {
    Hello(Hello),
    /// `result` is `{"ok": …}` or `{"error": …}`.
    Reply {
        id: u64,
        #[serde(with = "outcome")]
        result: Result<MediaReply, MediaError>,
    },
    Event(MediaEvent),
}

/// The first line: who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Wire version.
    #[serde(default = "crate::wire_version")]
    pub v: u16,
    pub media: MediaKind,
    /// Which of the node's workers it is.
    pub worker: u16,
    pub pid: u32,
    /// The one port of all its WebRTC transports, UDP and TCP.
    pub media_port: u16,
    /// Software and version of the media stack, for example `mediasoup 0.33.1`.
    pub version: String,
}

/// Agent to media server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToMedia {
    /// Wire version.
    #[serde(default = "crate::wire_version")]
    pub v: u16,
    pub id: u64,
    #[serde(flatten)]
    pub request: MediaRequest,
}

/// What the agent asks for. Ids are the media server's, unique within it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "data", rename_all = "snake_case")]
pub enum MediaRequest {
    /// Makes the room's router; answered with `Room`. A room that is open already is answered the same.
    OpenRoom {
        room: RoomKey,
        codecs: Value,
    },
    /// Closes the router and everything in it.
    CloseRoom {
        room: RoomKey,
    },
    /// Answered with `Transport`. SCTP is always on.
    CreateTransport {
        room: RoomKey,
        force_tcp: bool,
        producing: bool,
        consuming: bool,
    },
    ConnectTransport {
        transport: String,
        dtls_parameters: Value,
    },
    /// Answered with `Parameters`: the new iceParameters.
    RestartIce {
        transport: String,
    },
    CloseTransport {
        transport: String,
    },
    /// Answered with `Produced`.
    Produce {
        transport: String,
        kind: StreamKind,
        rtp_parameters: Value,
        paused: bool,
    },
    /// Answered with `Consumed`; `cannot_consume` if the capabilities do not fit. Made paused.
    Consume {
        transport: String,
        producer: String,
        rtp_capabilities: Value,
    },
    /// Answered with `DataProduced`.
    ProduceData {
        transport: String,
        sctp_stream_parameters: Value,
        label: String,
        protocol: String,
    },
    /// Answered with `DataConsumed`.
    ConsumeData {
        transport: String,
        data_producer: String,
    },
    Close {
        what: Object,
    },
    Pause {
        what: Object,
    },
    Resume {
        what: Object,
    },
    SetPreferredLayers {
        consumer: String,
        spatial_layer: u8,
        temporal_layer: Option<u8>,
    },
    SetPriority {
        consumer: String,
        priority: u8,
    },
    RequestKeyFrame {
        consumer: String,
    },
    /// Answered with `Stats`.
    GetStats {
        what: Object,
    },
    /// Answered with `Described`.
    Describe,
}

/// Something in a media server that can be named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    Transport(String),
    Producer(String),
    Consumer(String),
    DataProducer(String),
    DataConsumer(String),
}

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    Audio,
    Video,
}

/// The answer to a request that succeeded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", content = "data", rename_all = "snake_case")]
pub enum MediaReply {
    Done,
    Room {
        rtp_capabilities: Value,
    },
    Transport {
        id: String,
        ice_parameters: Value,
        ice_candidates: Value,
        dtls_parameters: Value,
        sctp_parameters: Value,
    },
    Parameters(Value),
    Produced {
        id: String,
        producer_type: String,
    },
    Consumed {
        id: String,
        kind: StreamKind,
        rtp_parameters: Value,
        /// `simple`, `simulcast`, `svc` or `pipe`.
        consumer_type: String,
        producer_paused: bool,
        score: Value,
    },
    DataProduced {
        id: String,
    },
    DataConsumed {
        id: String,
        sctp_stream_parameters: Value,
        label: String,
        protocol: String,
    },
    /// As the media stack gives them, an array.
    Stats(Value),
    Described(MediaLoad),
}

/// What a media server carries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MediaLoad {
    /// CPU time that its media thread has used since it started.
    pub cpu_ms: u64,
    pub memory_bytes: u64,
    pub rooms: Vec<RoomLoad>,
}

/// What one room carries on a media server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomLoad {
    pub room: RoomKey,
    pub transports: u32,
    pub producers: u32,
    pub consumers: u32,
}

/// What happens in a media server without being asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", content = "data", rename_all = "snake_case")]
pub enum MediaEvent {
    ProducerScore {
        producer: String,
        score: Value,
    },
    ConsumerScore {
        consumer: String,
        score: Value,
    },
    /// `layers`: `{spatialLayer, temporalLayer}`, or null when none is sent.
    ConsumerLayers {
        consumer: String,
        layers: Value,
    },
    /// The producer behind it was paused.
    ConsumerPaused {
        consumer: String,
    },
    ConsumerResumed {
        consumer: String,
    },
    /// The producer behind it is gone; the consumer is closed.
    ConsumerClosed {
        consumer: String,
    },
    DataConsumerClosed {
        data_consumer: String,
    },
    /// The loudest first; none when all are silent. `volume` is in dBov, -127 to 0.
    Volumes {
        room: RoomKey,
        volumes: Vec<Volume>,
    },
    ActiveSpeaker {
        room: RoomKey,
        producer: Option<String>,
    },
    /// What can be sent down a transport, in bits per second.
    DownlinkBwe {
        transport: String,
        available_bitrate_bps: u64,
        desired_bitrate_bps: u64,
        effective_desired_bitrate_bps: u64,
    },
    /// The other side closed DTLS, or ICE gave up.
    TransportClosed {
        transport: String,
    },
    /// The room's router ended without being asked to.
    RoomClosed {
        room: RoomKey,
    },
}

/// One speaking producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub producer: String,
    pub volume: i8,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct MediaError {
    pub code: MediaErrorCode,
    pub message: String,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaErrorCode {
    /// No such room, transport, producer or consumer.
    NotFound,
    /// The parameters are wrong.
    Invalid,
    /// The receiver's capabilities do not fit the producer.
    CannotConsume,
    /// The media server does not do this.
    Unsupported,
    /// The worker is gone, or failed.
    Failed,
}

impl MediaError {
    /// An error of this code.
    pub fn new(code: MediaErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Writes a result with the lower-case names of the rest of the protocol.
mod outcome {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{MediaError, MediaReply};

    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Written<'a> {
        Ok(&'a MediaReply),
        Error(&'a MediaError),
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Read {
        Ok(MediaReply),
        Error(MediaError),
    }

    pub(super) fn serialize<S: Serializer>(
        result: &Result<MediaReply, MediaError>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match result {
            Ok(reply) => Written::Ok(reply),
            Err(error) => Written::Error(error),
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Result<MediaReply, MediaError>, D::Error> {
        Ok(match Read::deserialize(deserializer)? {
            Read::Ok(reply) => Ok(reply),
            Read::Error(error) => Err(error),
        })
    }
}
