//! What participants are told, in shapes that both generations of the demo app read: where the two name a thing
//! differently, both names are there.

use roost_proto::id::PeerId;
use roost_proto::media::StreamKind;
use serde_json::{Map, Value, json};

use super::request::Profile;

/// The router's capabilities: themselves for the older app, under a name for the newer.
pub(super) fn router_capabilities(capabilities: &Value) -> Value {
    with(capabilities.clone(), "routerRtpCapabilities", capabilities.clone())
}

/// A restarted ICE's parameters.
pub(super) fn ice_parameters(parameters: Value) -> Value {
    with(parameters.clone(), "iceParameters", parameters)
}

/// One that was made: its id under the older name and the newer.
pub(super) fn made(newer: &str, id: &str) -> Value {
    with(json!({ "id": id }), newer, json!(id))
}

/// A peer as others see it. The newer app expects an address, which is nobody's business.
pub(super) fn peer(id: &PeerId, profile: &Profile) -> Value {
    json!({
        "id": id, "peerId": id, "displayName": profile.display_name, "device": profile.device, "remoteAddress": "",
    })
}

/// The notification of a peer that joined.
pub(super) fn new_peer(id: &PeerId, profile: &Profile) -> Value {
    let peer = peer(id, profile);
    with(peer.clone(), "peer", peer)
}

/// Statistics: the older app reads an array, the newer an object.
pub(super) fn stats(second_generation: bool, stats: Value) -> Value {
    if second_generation { json!({ "stats": stats }) } else { stats }
}

/// Which layers a consumer gets; none while nothing is sent.
pub(super) fn layers(consumer: &str, layers: &Value) -> Value {
    let mut data = json!({
        "consumerId": consumer, "spatialLayer": layers["spatialLayer"], "temporalLayer": layers["temporalLayer"],
    });
    if !layers.is_null() {
        data["layers"] = layers.clone();
    }
    data
}

/// A consumer's `appData`: the producer's, with what each generation looks for in it.
pub(super) fn consumer_app_data(peer: &PeerId, kind: StreamKind, produced: &Map<String, Value>) -> Value {
    let mut data = produced.clone();
    let share = data.get("share") == Some(&Value::Bool(true));
    if !data.get("source").is_some_and(Value::is_string) {
        let source = match kind {
            StreamKind::Audio => "audio",
            StreamKind::Video if share => "screensharing",
            StreamKind::Video => "video",
        };
        data.insert("source".to_owned(), json!(source));
    }
    if data["source"] == "screensharing" {
        data.insert("share".to_owned(), json!(true));
    }
    data.insert("peerId".to_owned(), json!(peer));
    Value::Object(data)
}

/// A data consumer's `appData`.
pub(super) fn data_consumer_app_data(peer: &PeerId, label: &str, produced: &Map<String, Value>) -> Value {
    let mut data = produced.clone();
    if !data.get("channel").is_some_and(Value::is_string) {
        data.insert("channel".to_owned(), json!(label));
    }
    data.insert("peerId".to_owned(), json!(peer));
    Value::Object(data)
}

fn with(mut data: Value, key: &str, value: Value) -> Value {
    if let Value::Object(map) = &mut data {
        map.insert(key.to_owned(), value);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producers_source_is_known_to_both_generations() {
        let peer = PeerId::new("p").expect("valid");
        for (kind, produced, expected) in [
            (StreamKind::Audio, json!({}), json!({"source": "audio", "peerId": "p"})),
            (StreamKind::Video, json!({"x": 1}), json!({"source": "video", "peerId": "p", "x": 1})),
            (
                StreamKind::Video,
                json!({"share": true}),
                json!({"source": "screensharing", "share": true, "peerId": "p"}),
            ),
            (
                StreamKind::Video,
                json!({"source": "screensharing", "peerId": "forged"}),
                json!({"source": "screensharing", "share": true, "peerId": "p"}),
            ),
        ] {
            let produced = produced.as_object().expect("an object");
            assert_eq!(consumer_app_data(&peer, kind, produced), expected);
        }
    }

    #[test]
    fn layers_are_told_as_numbers_and_as_an_object() {
        let both = json!({"spatialLayer": 2, "temporalLayer": 1});
        let told = json!({"consumerId": "c", "spatialLayer": 2, "temporalLayer": 1, "layers": both});
        assert_eq!(layers("c", &both), told);
        assert_eq!(layers("c", &Value::Null), json!({"consumerId": "c", "spatialLayer": null, "temporalLayer": null}));
    }
}
