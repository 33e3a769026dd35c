//! Made-up but believable parameters: what a real media stack would say, with nothing behind it.

use roost_proto::media::{MediaError, MediaErrorCode, StreamKind};
use serde_json::{Value, json};

/// The first payload type of codecs that name none.
const FIRST_PAYLOAD_TYPE: u64 = 100;

/// What a router of these codecs can receive.
pub(super) fn router_capabilities(codecs: &Value) -> Result<Value, MediaError> {
    let listed = codecs.as_array().filter(|codecs| !codecs.is_empty());
    let listed = listed.ok_or_else(|| invalid("codecs: expected a list of at least one"))?;
    let mut capabilities = Vec::new();
    for (codec, payload_type) in listed.iter().zip(FIRST_PAYLOAD_TYPE..) {
        let mime_type = codec["mimeType"].as_str().ok_or_else(|| invalid("codec mimeType: expected a text"))?;
        let video = mime_type.to_ascii_lowercase().starts_with("video/");
        let mut capability = codec.clone();
        capability["kind"] = json!(if video { "video" } else { "audio" });
        if capability["preferredPayloadType"].is_null() {
            capability["preferredPayloadType"] = json!(payload_type);
        }
        if capability["parameters"].is_null() {
            capability["parameters"] = json!({});
        }
        capability["rtcpFeedback"] = rtcp_feedback(video);
        capabilities.push(capability);
    }
    Ok(json!({ "codecs": capabilities, "headerExtensions": header_extensions() }))
}

fn rtcp_feedback(video: bool) -> Value {
    if video {
        json!([
            {"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"},
            {"type": "ccm", "parameter": "fir"}, {"type": "goog-remb", "parameter": ""},
            {"type": "transport-cc", "parameter": ""},
        ])
    } else {
        json!([{"type": "nack", "parameter": ""}, {"type": "transport-cc", "parameter": ""}])
    }
}

fn header_extensions() -> Value {
    let extension = |kind: &str, uri: &str, id: u8| json!({"kind": kind, "uri": uri, "preferredId": id, "preferredEncrypt": false, "direction": "sendrecv"});
    json!([
        extension("audio", "urn:ietf:params:rtp-hdrext:sdes:mid", 1),
        extension("video", "urn:ietf:params:rtp-hdrext:sdes:mid", 1),
        extension("audio", "urn:ietf:params:rtp-hdrext:ssrc-audio-level", 10),
        extension("video", "urn:3gpp:video-orientation", 11),
    ])
}

pub(super) fn ice_parameters(secret: &str) -> Value {
    json!({"usernameFragment": format!("synthetic{}", &secret[..8]), "password": &secret[..24], "iceLite": true})
}

/// Nobody listens there.
pub(super) fn ice_candidates(worker: u16, force_tcp: bool) -> Value {
    let candidate = |protocol: &str, priority: u32| {
        let mut candidate = json!({
            "foundation": format!("{protocol}candidate"), "priority": priority, "ip": "127.0.0.1",
            "address": "127.0.0.1", "protocol": protocol, "port": 44_400_u32 + u32::from(worker), "type": "host",
        });
        if protocol == "tcp" {
            candidate["tcpType"] = json!("passive");
        }
        candidate
    };
    if force_tcp {
        json!([candidate("tcp", 1_076_276_479)])
    } else {
        json!([candidate("udp", 1_076_558_079), candidate("tcp", 1_076_276_479)])
    }
}

pub(super) fn dtls_parameters(secret: &str) -> Value {
    let bytes = secret.as_bytes().iter().cycle().take(32);
    let fingerprint: Vec<_> = bytes.map(|byte| format!("{byte:02X}")).collect();
    json!({"role": "auto", "fingerprints": [{"algorithm": "sha-256", "value": fingerprint.join(":")}]})
}

pub(super) fn sctp_parameters() -> Value {
    json!({
        "port": 5000, "OS": 1024, "MIS": 1024, "maxMessageSize": 262_144,
        "isDataChannel": true, "sctpBufferedAmount": 0, "sendBufferSize": 262_144,
    })
}

/// Checks what a participant wants to send, and says its type: `simple`, `simulcast` or `svc`.
pub(super) fn producer_type(kind: StreamKind, rtp: &Value) -> Result<&'static str, MediaError> {
    let codecs = rtp["codecs"].as_array().filter(|codecs| !codecs.is_empty());
    let codecs = codecs.ok_or_else(|| invalid("rtpParameters codecs: expected a list of at least one"))?;
    let prefix = match kind {
        StreamKind::Audio => "audio/",
        StreamKind::Video => "video/",
    };
    if !mime_types(codecs).any(|mime_type| mime_type.starts_with(prefix)) {
        return Err(invalid("rtpParameters codecs: expected one of the producer's kind"));
    }
    let encodings = rtp["encodings"].as_array().map_or(&[][..], Vec::as_slice);
    let mode = encodings.first().and_then(|encoding| encoding["scalabilityMode"].as_str()).unwrap_or("L1T1");
    Ok(match encodings.len() {
        0 | 1 if mode.starts_with("L1") || mode.starts_with("S1") => "simple",
        0 | 1 => "svc",
        _ => "simulcast",
    })
}

/// What a receiver of these capabilities gets of a producer, or that it can't.
pub(super) fn consumer_parameters(producer: &Value, capabilities: &Value) -> Result<Value, MediaError> {
    let offered = producer["codecs"].as_array().map_or(&[][..], Vec::as_slice);
    let able = capabilities["codecs"].as_array().map_or(&[][..], Vec::as_slice);
    let able: Vec<_> = mime_types(able).collect();
    if !mime_types(offered).any(|mime_type| able.contains(&mime_type)) {
        return Err(MediaError::new(MediaErrorCode::CannotConsume, "no codec of the producer is among the receiver's"));
    }
    let mut parameters = producer.clone();
    parameters["encodings"] = json!([{"ssrc": 100_000_001, "rtx": {"ssrc": 100_000_002}}]);
    if parameters["rtcp"].is_null() {
        parameters["rtcp"] = json!({"cname": "synthetic", "reducedSize": true});
    }
    Ok(parameters)
}

fn mime_types(codecs: &[Value]) -> impl Iterator<Item = String> {
    codecs.iter().filter_map(|codec| codec["mimeType"].as_str()).map(str::to_ascii_lowercase)
}

pub(super) fn invalid(message: &str) -> MediaError {
    MediaError::new(MediaErrorCode::Invalid, message)
}
