//! What a participant asks, checked and understood: one shape for both generations of the demo app.

use roost_proto::media::{Object, StreamKind};
use roost_proto::signaling::Refusal;
use serde_json::{Map, Value};

/// The longest text of a name, a label or an id.
const TEXT_BYTES: usize = 1_024;

/// The longest `appData` and `device` in JSON: what one participant says goes to all others.
const OBJECT_BYTES: usize = 8 * 1_024;

/// The longest `rtpParameters` in JSON.
const RTP_BYTES: usize = 64 * 1_024;

/// One thing that a participant asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    RtcStatsUrl,
    RouterCapabilities,
    CreateTransport(NewTransport),
    ConnectTransport { transport: String, dtls_parameters: Value },
    RestartIce { transport: String },
    Join(Box<Profile>),
    Produce(Box<NewProducer>),
    ProduceData(Box<NewDataProducer>),
    CloseProducer { producer: String },
    PauseProducer { producer: String, paused: bool },
    PauseConsumer { consumer: String, paused: bool },
    SetPreferredLayers { consumer: String, spatial_layer: u8, temporal_layer: Option<u8> },
    SetPriority { consumer: String, priority: u8 },
    RequestKeyFrame { consumer: String },
    ChangeDisplayName { display_name: String },
    Stats(Object),
}

/// `createWebRtcTransport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewTransport {
    pub(super) force_tcp: bool,
    pub(super) producing: bool,
    pub(super) consuming: bool,
    /// Asked for as only the newer generation does.
    pub(super) second_generation: bool,
}

/// `join`: what a peer says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Profile {
    pub(super) display_name: String,
    pub(super) device: Value,
    /// None: consumes nothing.
    pub(super) rtp_capabilities: Option<std::sync::Arc<Value>>,
}

/// `produce`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NewProducer {
    pub(super) transport: String,
    pub(super) kind: StreamKind,
    pub(super) rtp_parameters: Value,
    pub(super) app_data: Map<String, Value>,
    pub(super) paused: bool,
}

/// `produceData`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NewDataProducer {
    pub(super) transport: String,
    pub(super) sctp_stream_parameters: Value,
    pub(super) label: String,
    pub(super) protocol: String,
    pub(super) app_data: Map<String, Value>,
}

/// Understands a request, or says what is wrong with it.
pub(super) fn parse(method: &str, data: Value) -> Result<Ask, Refusal> {
    let Value::Object(data) = data else { return Err(wrong("data", "an object")) };
    let mut data = Data(data);
    Ok(match method {
        "getRtcStatsUrl" => Ask::RtcStatsUrl,
        "getRouterRtpCapabilities" => Ask::RouterCapabilities,
        "createWebRtcTransport" => Ask::CreateTransport(transport(&mut data)?),
        "connectWebRtcTransport" => Ask::ConnectTransport {
            transport: data.id("transportId")?,
            dtls_parameters: data.object("dtlsParameters", RTP_BYTES)?,
        },
        "restartIce" => Ask::RestartIce { transport: data.id("transportId")? },
        "join" => Ask::Join(Box::new(profile(&mut data)?)),
        "produce" => Ask::Produce(Box::new(producer(&mut data)?)),
        "produceData" => Ask::ProduceData(Box::new(data_producer(&mut data)?)),
        "closeProducer" => Ask::CloseProducer { producer: data.id("producerId")? },
        "pauseProducer" => Ask::PauseProducer { producer: data.id("producerId")?, paused: true },
        "resumeProducer" => Ask::PauseProducer { producer: data.id("producerId")?, paused: false },
        "pauseConsumer" => Ask::PauseConsumer { consumer: data.id("consumerId")?, paused: true },
        "resumeConsumer" => Ask::PauseConsumer { consumer: data.id("consumerId")?, paused: false },
        "setConsumerPreferredLayers" => Ask::SetPreferredLayers {
            consumer: data.id("consumerId")?,
            spatial_layer: data.small("spatialLayer")?.ok_or_else(|| wrong("spatialLayer", SMALL))?,
            temporal_layer: data.small("temporalLayer")?,
        },
        "setConsumerPriority" => Ask::SetPriority {
            consumer: data.id("consumerId")?,
            priority: data
                .small("priority")?
                .filter(|priority| *priority > 0)
                .ok_or_else(|| wrong("priority", SMALL))?,
        },
        "requestConsumerKeyFrame" => Ask::RequestKeyFrame { consumer: data.id("consumerId")? },
        "changeDisplayName" => Ask::ChangeDisplayName { display_name: data.text("displayName")? },
        "getTransportStats" => Ask::Stats(Object::Transport(data.id("transportId")?)),
        "getProducerStats" => Ask::Stats(Object::Producer(data.id("producerId")?)),
        "getConsumerStats" => Ask::Stats(Object::Consumer(data.id("consumerId")?)),
        "getDataProducerStats" => Ask::Stats(Object::DataProducer(data.id("dataProducerId")?)),
        "getDataConsumerStats" => Ask::Stats(Object::DataConsumer(data.id("dataConsumerId")?)),
        "applyNetworkThrottle" | "resetNetworkThrottle" | "stopNetworkThrottle" => {
            return Err(Refusal { code: 403, reason: "the network is not throttled for participants".to_owned() });
        }
        other => {
            let shown: String = other.chars().take(64).collect();
            return Err(Refusal { code: 404, reason: format!("method {shown:?}: not known") });
        }
    })
}

fn transport(data: &mut Data) -> Result<NewTransport, Refusal> {
    let force_tcp = data.flag("forceTcp")?;
    let app_data = data.map("appData")?;
    let direction = app_data.get("direction").and_then(Value::as_str);
    Ok(NewTransport {
        force_tcp,
        producing: data.flag("producing")? || direction == Some("producer"),
        consuming: data.flag("consuming")? || direction == Some("consumer"),
        second_generation: direction.is_some(),
    })
}

fn profile(data: &mut Data) -> Result<Profile, Refusal> {
    let rtp_capabilities = match data.0.remove("rtpCapabilities") {
        None | Some(Value::Null) => None,
        Some(capabilities) => {
            // Wrong ones would be noticed with the first consumer only, where nobody waits for an answer.
            let is_list = |field: &str| {
                capabilities[field].is_null()
                    || capabilities[field].as_array().is_some_and(|list| list.iter().all(Value::is_object))
            };
            if !is_list("codecs") || !is_list("headerExtensions") {
                return Err(wrong("rtpCapabilities", "codecs and headerExtensions, lists of objects"));
            }
            Some(checked("rtpCapabilities", capabilities, RTP_BYTES)?.into())
        }
    };
    let device = Value::Object(data.map("device")?);
    Ok(Profile { display_name: data.optional_text("displayName")?.unwrap_or_default(), device, rtp_capabilities })
}

fn producer(data: &mut Data) -> Result<NewProducer, Refusal> {
    let kind = match data.text("kind")?.as_str() {
        "audio" => StreamKind::Audio,
        "video" => StreamKind::Video,
        _ => return Err(wrong("kind", "\"audio\" or \"video\"")),
    };
    Ok(NewProducer {
        transport: data.id("transportId")?,
        kind,
        rtp_parameters: data.object("rtpParameters", RTP_BYTES)?,
        app_data: data.map("appData")?,
        paused: data.flag("paused")?,
    })
}

fn data_producer(data: &mut Data) -> Result<NewDataProducer, Refusal> {
    Ok(NewDataProducer {
        transport: data.id("transportId")?,
        sctp_stream_parameters: data.object("sctpStreamParameters", OBJECT_BYTES)?,
        label: data.optional_text("label")?.unwrap_or_default(),
        protocol: data.optional_text("protocol")?.unwrap_or_default(),
        app_data: data.map("appData")?,
    })
}

const SMALL: &str = "a whole number, 0 to 255";

/// A request's data, from which fields are taken.
struct Data(Map<String, Value>);

impl Data {
    fn id(&mut self, field: &'static str) -> Result<String, Refusal> {
        self.text(field).and_then(|id| if id.is_empty() { Err(wrong(field, "an id")) } else { Ok(id) })
    }

    fn text(&mut self, field: &'static str) -> Result<String, Refusal> {
        self.optional_text(field)?.ok_or_else(|| wrong(field, "a text"))
    }

    fn optional_text(&mut self, field: &'static str) -> Result<Option<String>, Refusal> {
        match self.0.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= TEXT_BYTES => Ok(Some(text)),
            Some(_) => Err(wrong(field, "a text of at most 1024 bytes")),
        }
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, Refusal> {
        match self.0.remove(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(wrong(field, "true or false")),
        }
    }

    fn small(&mut self, field: &'static str) -> Result<Option<u8>, Refusal> {
        match self.0.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
                number.map(Some).ok_or_else(|| wrong(field, SMALL))
            }
        }
    }

    fn object(&mut self, field: &'static str, limit: usize) -> Result<Value, Refusal> {
        checked(field, self.0.remove(field).unwrap_or_default(), limit)
    }

    /// An object; an empty one if it is not there.
    fn map(&mut self, field: &'static str) -> Result<Map<String, Value>, Refusal> {
        match self.0.remove(field) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(value) => match checked(field, value, OBJECT_BYTES)? {
                Value::Object(map) => Ok(map),
                _ => Err(wrong(field, "an object")),
            },
        }
    }
}

fn checked(field: &'static str, value: Value, limit: usize) -> Result<Value, Refusal> {
    if !value.is_object() {
        return Err(wrong(field, "an object"));
    }
    if value.to_string().len() > limit {
        return Err(Refusal { code: 400, reason: format!("{field}: expected at most {limit} bytes of JSON") });
    }
    Ok(value)
}

fn wrong(field: &str, expected: &str) -> Refusal {
    Refusal { code: 400, reason: format!("{field}: expected {expected}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use roost_proto::signaling::Frame;
    use serde_json::json;

    #[test]
    fn both_generations_are_understood() {
        let first = json!({"forceTcp": false, "producing": true, "consuming": false, "sctpCapabilities": {}});
        let second = json!({"forceTcp": true, "appData": {"direction": "consumer"}});
        let (producing, consuming) = (true, true);
        for (data, expected) in [
            (first, NewTransport { force_tcp: false, producing, consuming: false, second_generation: false }),
            (second, NewTransport { force_tcp: true, producing: false, consuming, second_generation: true }),
        ] {
            assert_eq!(parse("createWebRtcTransport", data), Ok(Ask::CreateTransport(expected)));
        }
        let produced =
            parse("produce", json!({"transportId": "t", "kind": "audio", "rtpParameters": {}, "appData": null}));
        assert!(matches!(produced, Ok(Ask::Produce(producer)) if producer.app_data.is_empty()));
    }

    #[test]
    fn what_is_wrong_is_refused_with_the_field() {
        let long = "x".repeat(TEXT_BYTES + 1);
        let much = json!({"a": "x".repeat(OBJECT_BYTES)});
        for (method, data, code, says) in [
            ("join", json!([]), 400, "data: expected an object"),
            ("join", json!({"displayName": 7}), 400, "displayName"),
            ("join", json!({"displayName": long}), 400, "displayName"),
            ("join", json!({"device": []}), 400, "device"),
            ("join", json!({"device": much}), 400, "device: expected at most 8192"),
            ("join", json!({"rtpCapabilities": "all"}), 400, "rtpCapabilities"),
            ("join", json!({"rtpCapabilities": {"codecs": "x"}}), 400, "rtpCapabilities"),
            ("join", json!({"rtpCapabilities": {"headerExtensions": [1]}}), 400, "rtpCapabilities"),
            ("createWebRtcTransport", json!({"forceTcp": 1}), 400, "forceTcp"),
            ("connectWebRtcTransport", json!({"transportId": "t"}), 400, "dtlsParameters"),
            ("connectWebRtcTransport", json!({"dtlsParameters": {}}), 400, "transportId"),
            ("produce", json!({"kind": "both"}), 400, "kind"),
            ("produce", json!({"kind": "audio", "transportId": ""}), 400, "transportId: expected an id"),
            ("setConsumerPriority", json!({"consumerId": "c", "priority": 0}), 400, "priority"),
            ("setConsumerPriority", json!({"consumerId": "c", "priority": 256}), 400, "priority"),
            ("setConsumerPreferredLayers", json!({"consumerId": "c", "spatialLayer": -1}), 400, "spatialLayer"),
            ("applyNetworkThrottle", json!({"secret": "s"}), 403, "throttled"),
            ("stopNetworkThrottle", json!({"secret": "s"}), 403, "throttled"),
            ("closeRoom", json!({}), 404, "\"closeRoom\": not known"),
        ] {
            let refusal = parse(method, data).expect_err(method);
            assert!(refusal.code == code && refusal.reason.contains(says), "{refusal}");
        }
    }

    proptest! {
        #[test]
        fn no_frame_makes_the_parser_panic(text in ".{0,300}", method in "[a-zA-Z]{0,30}", field in "[a-zA-Z]{0,20}") {
            let _ = Frame::parse(&text);
            let _ = parse(&method, json!({field.clone(): text}));
            let _ = parse(&method, json!({field: {"a": [1, null]}}));
        }

        #[test]
        fn no_value_in_a_known_field_makes_it_panic(
            method in proptest::sample::select(METHODS),
            field in proptest::sample::select(FIELDS),
            value in proptest::sample::select(VALUES),
        ) {
            let data = json!({"transportId": "t", "producerId": "p", "consumerId": "c", "kind": "audio"});
            let Value::Object(mut data) = data else { unreachable!() };
            data.insert(field.to_owned(), serde_json::from_str(value).expect("JSON"));
            let _ = parse(method, Value::Object(data));
        }
    }

    const METHODS: &[&str] = &[
        "createWebRtcTransport",
        "connectWebRtcTransport",
        "join",
        "produce",
        "produceData",
        "closeProducer",
        "setConsumerPreferredLayers",
        "setConsumerPriority",
        "changeDisplayName",
        "getTransportStats",
    ];
    const FIELDS: &[&str] = &[
        "transportId",
        "producerId",
        "kind",
        "rtpParameters",
        "appData",
        "sctpStreamParameters",
        "label",
        "protocol",
        "displayName",
        "device",
        "rtpCapabilities",
        "dtlsParameters",
        "forceTcp",
        "producing",
        "spatialLayer",
        "priority",
    ];
    const VALUES: &[&str] = &[
        "null",
        "true",
        "0",
        "-1",
        "1e99",
        "18446744073709551615",
        "\"\"",
        "\"audio\"",
        "[]",
        "[{}]",
        "{}",
        "{\"a\":{}}",
    ];
}
