//! Whatever comes in from outside: parsers answer with a value or an error, and never panic.

use proptest::prelude::*;

use roost_proto::id::{NodeId, PeerId, Region, RoomKey, RoomName};
use roost_proto::lookup::LookupRequest;
use roost_proto::media::{FromMedia, ToMedia};
use roost_proto::redirect::{MAX_REDIRECTS, SignalingQuery, SoraClient, location};
use roost_proto::report::Report;
use roost_proto::signaling::Frame;

/// JSON-like text: far more of it gets past the first character than of any text.
fn json_like() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        "[\\[\\]{}:,]",
        "\"(request|response|notification|id|method|data|ok|type|node|room|v)\"",
        "(true|false|null|-?[0-9]{1,20}(\\.[0-9]{1,3})?)",
        "\"[^\"\\\\]{0,8}\"",
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in prop_oneof![any::<String>(), json_like()]) {
        let _ = Frame::parse(&text);
        let _ = serde_json::from_str::<LookupRequest>(&text);
        let _ = serde_json::from_str::<Report>(&text);
        let _ = serde_json::from_str::<FromMedia>(&text);
        let _ = serde_json::from_str::<ToMedia>(&text);
        let _ = serde_json::from_str::<SoraClient>(&text);
        let query = SignalingQuery::parse(&text);
        let _ = (query.room(), query.peer());
    }

    #[test]
    fn a_frame_that_was_written_is_read_back(id: u32, method in "[a-zA-Z]{1,30}", key: String, value: i64) {
        let data = serde_json::json!({ key: value });
        for frame in [
            Frame::Request { id, method: method.clone(), data: data.clone() },
            Frame::Response { id, result: Ok(data.clone()) },
            Frame::notification(method, data),
        ] {
            prop_assert_eq!(Frame::parse(&frame.to_text()).expect("it was written by us"), frame);
        }
    }

    #[test]
    fn any_valid_room_and_peer_survive_a_location(room in "[^\\p{Cc}]{1,60}", peer in "[^\\p{Cc}]{1,60}", count in 0..3u8) {
        prop_assume!(!matches!(room.as_str(), "undefined" | "null") && !matches!(peer.as_str(), "undefined" | "null"));
        let key = RoomKey::new("default", &room).expect("valid");
        let peer = PeerId::new(&peer).expect("valid");
        let url = location("wss://a.example/signaling", &key, Some(&peer), "a.b.c", count);
        let query = SignalingQuery::parse(url.split_once('?').expect("a query").1);
        prop_assert_eq!(query.room().expect("valid"), key);
        prop_assert_eq!(query.peer().expect("valid"), peer);
        prop_assert_eq!(query.redirects, count);
    }

    #[test]
    fn a_count_of_redirects_that_is_none_counts_as_too_many(text in "[^0-9&=%+]{1,10}") {
        prop_assume!(!matches!(text.as_str(), "undefined" | "null"));
        prop_assert_eq!(SignalingQuery::parse(&format!("redirects={text}")).redirects, MAX_REDIRECTS);
    }

    #[test]
    fn identifiers_keep_what_they_accept(text: String) {
        if let Ok(id) = NodeId::new(&text) {
            prop_assert_eq!(id.as_str(), &text);
        }
        if let Ok(name) = RoomName::new(&text) {
            prop_assert!(name.as_str() == text && !text.is_empty() && text.len() <= 255);
        }
        if let Ok(region) = Region::new(&text) {
            prop_assert!(region.is_within(&region) && region.common_depth(&region) == region.depth());
        }
    }
}
