//! What `[media]` says: the routers' codecs, the same on every node, and the ICE servers that clients are given.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The table `[media]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediaSettings {
    /// A list of codecs as mediasoup writes its `RtpCodecCapability` in JSON.
    #[serde(deserialize_with = "codecs")]
    pub codecs: Value,
    /// Objects as browsers take them in `RTCConfiguration.iceServers`: `urls`, `username`, `credential`.
    #[serde(deserialize_with = "ice_servers")]
    pub ice_servers: Vec<Value>,
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self { codecs: default_codecs(), ice_servers: Vec::new() }
    }
}

/// The list of mediasoup-demo. Payload types are fixed, so that every node's routers agree on them; the numbers left
/// out are those that mediasoup takes for retransmission.
fn default_codecs() -> Value {
    let video = |name: &str, payload_type: u8, parameters: Value| {
        let mut parameters = parameters;
        parameters["x-google-start-bitrate"] = json!(1000);
        json!({
            "kind": "video", "mimeType": format!("video/{name}"), "preferredPayloadType": payload_type,
            "clockRate": 90_000, "parameters": parameters, "rtcpFeedback": [],
        })
    };
    let h264 =
        |profile: &str| json!({ "packetization-mode": 1, "profile-level-id": profile, "level-asymmetry-allowed": 1 });
    json!([
        {
            "kind": "audio", "mimeType": "audio/opus", "preferredPayloadType": 100,
            "clockRate": 48_000, "channels": 2, "parameters": {}, "rtcpFeedback": [],
        },
        video("VP8", 101, json!({})),
        video("VP9", 103, json!({ "profile-id": 2 })),
        video("H264", 105, h264("4d0032")),
        video("H264", 107, h264("42e01f")),
    ])
}

fn codecs<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let mut list = Vec::<Value>::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom("expected at least one codec"));
    }
    let mut taken = Vec::new();
    for (index, codec) in list.iter_mut().enumerate() {
        check_codec(codec, &mut taken)
            .map_err(|expected| serde::de::Error::custom(format!("codec {index}: expected {expected}")))?;
    }
    Ok(Value::Array(list))
}

/// What mediasoup 0.33 routes (`supported_rtp_capabilities.rs`). With another one no room could be opened.
const MIME_TYPES: [&str; 14] = [
    "audio/opus",
    "audio/multiopus",
    "audio/PCMU",
    "audio/PCMA",
    "audio/ISAC",
    "audio/G722",
    "audio/iLBC",
    "audio/SILK",
    "audio/CN",
    "audio/telephone-event",
    "video/VP8",
    "video/VP9",
    "video/H264",
    "video/AV1",
];

/// Checks one codec and fills in what mediasoup wants to find there; else says what was expected.
fn check_codec(codec: &mut Value, taken: &mut Vec<u64>) -> Result<(), &'static str> {
    const KEYS: [&str; 7] =
        ["kind", "mimeType", "preferredPayloadType", "clockRate", "channels", "parameters", "rtcpFeedback"];
    let codec = codec.as_object_mut().ok_or("a table")?;
    if codec.keys().any(|key| !KEYS.contains(&key.as_str())) {
        return Err("no keys but kind, mimeType, preferredPayloadType, clockRate, channels, parameters, rtcpFeedback");
    }
    let kind = codec.get("kind").and_then(Value::as_str).unwrap_or_default();
    if !matches!(kind, "audio" | "video") {
        return Err("kind \"audio\" or \"video\"");
    }
    let mime_type = codec.get("mimeType").and_then(Value::as_str).unwrap_or_default();
    if !mime_type.split_once('/').is_some_and(|(family, _)| family.eq_ignore_ascii_case(kind)) {
        return Err("mimeType of its kind, like \"video/VP8\"");
    }
    if !MIME_TYPES.iter().any(|known| known.eq_ignore_ascii_case(mime_type)) {
        return Err(
            "a mimeType that mediasoup routes: audio/ opus, multiopus, PCMU, PCMA, ISAC, G722, iLBC, SILK, CN, \
                    telephone-event; video/ VP8, VP9, H264, AV1",
        );
    }
    if !codec.get("clockRate").and_then(Value::as_u64).is_some_and(|rate| (1..=u64::from(u32::MAX)).contains(&rate)) {
        return Err("clockRate, a number like 90000");
    }
    if kind == "audio" && !codec.get("channels").and_then(Value::as_u64).is_some_and(|n| (1..=255).contains(&n)) {
        return Err("channels, a number like 2");
    }
    let payload_type = codec.get("preferredPayloadType").and_then(Value::as_u64).unwrap_or(0);
    if !(96..=127).contains(&payload_type) || taken.contains(&payload_type) {
        return Err("preferredPayloadType from 96 to 127, of no other codec: it must be the same on all nodes");
    }
    taken.push(payload_type);
    if !codec.entry("parameters").or_insert_with(|| json!({})).is_object() {
        return Err("parameters, a table");
    }
    if !codec.entry("rtcpFeedback").or_insert_with(|| json!([])).is_array() {
        return Err("rtcpFeedback, a list");
    }
    Ok(())
}

fn ice_servers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    let list = Vec::<Value>::deserialize(deserializer)?;
    for (index, server) in list.iter().enumerate() {
        let url = |url: &Value| {
            url.as_str().is_some_and(|url| ["stun:", "stuns:", "turn:", "turns:"].iter().any(|s| url.starts_with(s)))
        };
        let fits = match &server["urls"] {
            Value::Array(urls) => !urls.is_empty() && urls.iter().all(url),
            one => url(one),
        };
        if !fits {
            let expected = "urls, one or a list of stun:, stuns:, turn: or turns: URLs";
            return Err(serde::de::Error::custom(format!("ICE server {index}: expected {expected}")));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_codecs_pass_their_own_check() {
        let defaults = MediaSettings::default();
        let written = serde_json::to_value(&defaults).expect("string keys");
        assert_eq!(serde_json::from_value::<MediaSettings>(written).expect("valid"), defaults);
        let payload_types: Vec<_> =
            defaults.codecs.as_array().expect("a list").iter().map(|c| c["preferredPayloadType"].clone()).collect();
        assert_eq!(payload_types, [100, 101, 103, 105, 107]);
    }

    #[test]
    fn a_codec_gets_what_mediasoup_wants_to_find() {
        let codec = json!({ "kind": "video", "mimeType": "video/AV1", "clockRate": 90000, "preferredPayloadType": 96 });
        let read = serde_json::from_value::<MediaSettings>(json!({ "codecs": [codec] })).expect("valid");
        assert_eq!(read.codecs[0]["parameters"], json!({}));
        assert_eq!(read.codecs[0]["rtcpFeedback"], json!([]));
    }

    #[test]
    fn a_wrong_codec_is_named_with_what_was_expected() {
        let good = json!({
            "kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2, "preferredPayloadType": 100,
        });
        for (key, value, expected) in [
            ("kind", json!("text"), "kind"),
            ("mimeType", json!("video/VP8"), "mimeType"),
            ("mimeType", json!("audio/foo"), "a mimeType that mediasoup routes"),
            ("clockRate", json!(0), "clockRate"),
            ("channels", json!(null), "channels"),
            ("preferredPayloadType", json!(95), "preferredPayloadType"),
            ("parameters", json!(1), "parameters"),
            ("rtcpFeedback", json!({}), "rtcpFeedback"),
            ("payloadType", json!(100), "no keys but"),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            let error = serde_json::from_value::<MediaSettings>(json!({ "codecs": [bad] })).expect_err(key);
            assert!(error.to_string().starts_with(&format!("codec 0: expected {expected}")), "{error}");
        }
        let twice = json!({ "codecs": [good.clone(), good] });
        assert!(serde_json::from_value::<MediaSettings>(twice).is_err());
        assert!(serde_json::from_value::<MediaSettings>(json!({ "codecs": [] })).is_err());
    }

    #[test]
    fn an_ice_server_has_urls_of_its_schemes() {
        let read = |servers: Value| serde_json::from_value::<MediaSettings>(json!({ "ice_servers": servers }));
        assert!(read(json!([{ "urls": "stun:a.example" }])).is_ok());
        assert!(
            read(json!([{ "urls": ["turn:a.example", "turns:a.example"], "username": "u", "credential": "c" }]))
                .is_ok()
        );
        for bad in [json!([{}]), json!([{ "urls": [] }]), json!([{ "urls": "http://a" }]), json!(["stun:a"])] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
