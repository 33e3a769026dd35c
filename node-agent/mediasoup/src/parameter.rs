//! Parameters from outside: read with the defaults that the Node.js library gives them, and refused with their field's
//! name. The crate's own readers are stricter, and some panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mediasoup::prelude::*;
use mediasoup::types::rtp_parameters::MimeType;
use mediasoup::worker::RequestError;
use roost_proto::media::{MediaError, MediaErrorCode, StreamKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Simulcast streams of one producer. Browsers send up to three; the crate panics at a hundred.
const MAX_ENCODINGS: usize = 16;

/// The codecs of a router.
pub(crate) fn codecs(mut value: Value) -> Result<Vec<RtpCodecCapability>, MediaError> {
    tidy(&mut value);
    for_each(Some(&mut value), |codec| {
        codec_defaults(codec);
        true
    });
    read("codecs", value)
}

/// The remote side's DTLS parameters.
pub(crate) fn dtls_parameters(mut value: Value) -> Result<DtlsParameters, MediaError> {
    const FIELD: &str = "dtls_parameters";
    tidy(&mut value);
    default(&mut value, "role", json!("auto"));
    let mut all_ascii = true;
    for_each(value.get_mut("fingerprints"), |fingerprint| {
        all_ascii &= fingerprint["value"].as_str().is_none_or(str::is_ascii);
        true
    });
    if !all_ascii {
        // The crate's reader panics where it cuts a character.
        return Err(invalid(FIELD, "a fingerprint is written in hexadecimal digits and colons"));
    }
    read(FIELD, value)
}

/// What a sender will send.
pub(crate) fn rtp_parameters(kind: StreamKind, mut value: Value) -> Result<RtpParameters, MediaError> {
    const FIELD: &str = "rtp_parameters";
    tidy(&mut value);
    default(&mut value, "headerExtensions", json!([]));
    default(&mut value, "encodings", json!([]));
    default(&mut value, "rtcp", json!({}));
    if let Some(rtcp) = value.get_mut("rtcp") {
        default(rtcp, "reducedSize", json!(true));
    }
    for_each(value.get_mut("codecs"), |codec| {
        codec_defaults(codec);
        true
    });
    for_each(value.get_mut("headerExtensions"), |extension| {
        default(extension, "encrypt", json!(false));
        true
    });
    let parameters: RtpParameters = read(FIELD, value)?;
    if parameters.encodings.len() > MAX_ENCODINGS {
        return Err(invalid(FIELD, format!("more than {MAX_ENCODINGS} encodings")));
    }
    let fits = |codec: &RtpCodecParameters| match codec.mime_type() {
        MimeType::Audio(_) => kind == StreamKind::Audio,
        MimeType::Video(_) => kind == StreamKind::Video,
    };
    match parameters.codecs.iter().find(|codec| !fits(codec)) {
        Some(codec) => Err(invalid(FIELD, format!("codec {} does not fit kind {kind:?}", codec.mime_type().as_str()))),
        None => Ok(parameters),
    }
}

/// What a receiver can receive. Codecs and header extensions that mediasoup does not know can't be consumed anyway and
/// are left out.
pub(crate) fn rtp_capabilities(mut value: Value) -> Result<RtpCapabilities, MediaError> {
    tidy(&mut value);
    default(&mut value, "headerExtensions", json!([]));
    for_each(value.get_mut("codecs"), |codec| {
        codec_defaults(codec);
        codec["mimeType"].as_str().is_none_or(|mime_type| mime_type.parse::<MimeType>().is_ok())
    });
    for_each(value.get_mut("headerExtensions"), |extension| {
        default(extension, "preferredEncrypt", json!(false));
        default(extension, "direction", json!("sendrecv"));
        extension["uri"].as_str().is_none_or(|uri| uri.parse::<RtpHeaderExtensionUri>().is_ok())
    });
    read("rtp_capabilities", value)
}

/// How reliable a data channel is.
pub(crate) fn sctp_stream_parameters(mut value: Value) -> Result<SctpStreamParameters, MediaError> {
    const FIELD: &str = "sctp_stream_parameters";
    tidy(&mut value);
    let limited = value.get("maxPacketLifeTime").is_some() || value.get("maxRetransmits").is_some();
    default(&mut value, "ordered", json!(!limited));
    let parameters: SctpStreamParameters = read(FIELD, value)?;
    match (parameters.ordered(), parameters.max_packet_life_time(), parameters.max_retransmits()) {
        (true, None, None) | (false, None, _) | (false, Some(_), None) => Ok(parameters),
        (true, ..) => Err(invalid(FIELD, "ordered goes with neither maxPacketLifeTime nor maxRetransmits")),
        (false, ..) => Err(invalid(FIELD, "maxPacketLifeTime and maxRetransmits exclude each other")),
    }
}

/// What the crate gives, as JSON.
pub(crate) fn write<T: Serialize>(value: T) -> Result<Value, MediaError> {
    serde_json::to_value(value).map_err(|error| MediaError::new(MediaErrorCode::Failed, error.to_string()))
}

/// The parameters in `field` are wrong.
pub(crate) fn invalid(field: &str, why: impl std::fmt::Display) -> MediaError {
    MediaError::new(MediaErrorCode::Invalid, format!("{field}: {why}"))
}

/// There is no such thing in the room, or none at all.
pub(crate) fn not_found(what: &str, id: &str) -> MediaError {
    let id: String = id.chars().take(64).collect();
    MediaError::new(MediaErrorCode::NotFound, format!("{what} {id:?} not found"))
}

/// A request to the worker failed that can only fail by its parameters, or because the worker is gone.
pub(crate) fn refused(field: &str, error: RequestError) -> MediaError {
    match error {
        RequestError::Response { reason } => invalid(field, reason),
        other => failed(other),
    }
}

/// A request to the worker failed.
pub(crate) fn failed(error: impl std::fmt::Display) -> MediaError {
    MediaError::new(MediaErrorCode::Failed, error.to_string())
}

fn read<T: DeserializeOwned>(field: &str, value: Value) -> Result<T, MediaError> {
    // No panic of the crate's readers is known that comes this far; should there be one, it costs this request only.
    match catch_unwind(AssertUnwindSafe(|| serde_path_to_error::deserialize(value))) {
        Ok(Ok(parameters)) => Ok(parameters),
        Ok(Err(error)) if error.path().iter().next().is_none() => Err(invalid(field, error.inner())),
        Ok(Err(error)) => Err(invalid(&format!("{field}.{}", error.path()), error.inner())),
        Err(_) => Err(invalid(field, "not readable")),
    }
}

/// Drops nulls: what JavaScript clients mean by them is that the field is not there.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn default(value: &mut Value, field: &str, missing: Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.entry(field).or_insert(missing);
    }
}

/// Goes through the objects of a list; those that `keep` turns down are left out.
fn for_each(value: Option<&mut Value>, mut keep: impl FnMut(&mut Value) -> bool) {
    if let Some(items) = value.and_then(Value::as_array_mut) {
        items.retain_mut(|item| !item.is_object() || keep(item));
    }
}

fn codec_defaults(codec: &mut Value) {
    let mime_type = codec["mimeType"].as_str().unwrap_or_default().to_ascii_lowercase();
    let Some(fields) = codec.as_object_mut() else { return };
    let kind = mime_type.split('/').next().unwrap_or_default();
    if kind == "audio" || kind == "video" {
        fields.entry("kind").or_insert(json!(kind));
    }
    if kind == "audio" {
        fields.entry("channels").or_insert(json!(1));
    }
    if let Some(feedback) = fields.get_mut("rtcpFeedback").and_then(Value::as_array_mut) {
        feedback.iter_mut().filter_map(Value::as_object_mut).for_each(known_feedback_fields);
    }
}

/// The crate refuses a feedback with any field more.
fn known_feedback_fields(feedback: &mut Map<String, Value>) {
    feedback.retain(|field, _| field == "type" || field == "parameter");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_fields_get_the_defaults_of_the_node_library() {
        let opus = json!({"codecs": [{"mimeType": "audio/opus", "payloadType": 100, "clockRate": 48000,
            "channels": 2, "rtcpFeedback": [{"type": "nack", "parameter": null, "more": 1}]}], "encodings": [{"ssrc": 1, "rid": null}]});
        let parameters = rtp_parameters(StreamKind::Audio, opus).expect("valid");
        assert!(parameters.rtcp.reduced_size);
        assert_eq!(parameters.codecs[0].rtcp_feedback(), [RtcpFeedback::Nack]);

        let dtls = dtls_parameters(json!({"fingerprints": []})).expect("valid");
        assert_eq!(write(dtls.role), Ok(json!("auto")));
        assert!(sctp_stream_parameters(json!({"streamId": 1})).expect("valid").ordered());
        assert!(!sctp_stream_parameters(json!({"streamId": 1, "maxRetransmits": 2})).expect("valid").ordered());
    }

    #[test]
    fn capabilities_that_nobody_knows_are_left_out() {
        let capabilities = rtp_capabilities(json!({
            "codecs": [
                {"mimeType": "audio/lyra", "clockRate": 16000},
                {"mimeType": "video/VP8", "clockRate": 90000, "preferredPayloadType": 101},
            ],
            "headerExtensions": [{"kind": "audio", "uri": "urn:new", "preferredId": 1}],
        }))
        .expect("valid");
        assert_eq!((capabilities.codecs.len(), capabilities.header_extensions.len()), (1, 0));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field_and_never_panics() {
        let fingerprint = |value: &str| json!({"fingerprints": [{"algorithm": "sha-1", "value": value}]});
        let cut_character = format!("A\u{e9}:{}", "AA:".repeat(18)) + "A";
        let many: Vec<_> = (1..=100).map(|ssrc| json!({"ssrc": ssrc})).collect();
        let vp8 = json!({"mimeType": "video/VP8", "payloadType": 101, "clockRate": 90000});
        let errors = [
            ("codecs", codecs(json!("opus")).map(drop)),
            ("codecs", codecs(json!([{"kind": "audio", "mimeType": "audio/opus", "clockRate": 0}])).map(drop)),
            ("dtls_parameters", dtls_parameters(json!(null)).map(drop)),
            ("dtls_parameters", dtls_parameters(fingerprint("AA")).map(drop)),
            ("dtls_parameters", dtls_parameters(fingerprint(&cut_character)).map(drop)),
            ("rtp_parameters", rtp_parameters(StreamKind::Video, json!({})).map(drop)),
            ("rtp_parameters", rtp_parameters(StreamKind::Video, json!([1, 2])).map(drop)),
            ("rtp_parameters", rtp_parameters(StreamKind::Audio, json!({"codecs": [&vp8]})).map(drop)),
            (
                "rtp_parameters",
                rtp_parameters(StreamKind::Video, json!({"codecs": [&vp8], "encodings": many})).map(drop),
            ),
            ("rtp_capabilities", rtp_capabilities(json!({"codecs": 7})).map(drop)),
            ("sctp_stream_parameters", sctp_stream_parameters(json!({"streamId": 70_000})).map(drop)),
            (
                "sctp_stream_parameters",
                sctp_stream_parameters(json!({"streamId": 1, "ordered": true, "maxRetransmits": 1})).map(drop),
            ),
        ];
        for (field, result) in errors {
            let error = result.expect_err(field);
            assert_eq!(error.code, MediaErrorCode::Invalid, "{error}");
            assert!(error.message.starts_with(field), "{error}");
        }
    }
}
