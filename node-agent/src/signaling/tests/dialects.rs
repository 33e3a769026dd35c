//! Both generations of the demo app, alone and mixed: what they ask, what they are told, and in which order.

use roost_proto::media::{MediaEvent, Volume};

use super::client::Generation::{First, Second};
use super::*;
use crate::media::Notice;

#[actix_web::test]
async fn peers_of_both_generations_meet_and_receive_each_other_in_the_right_order() {
    let node = node().await;
    for (one, other) in [(First, First), (Second, Second), (First, Second), (Second, First)] {
        let room = format!("room{}{}", one as u8, other as u8);
        let mut ann = node.client(&room, "ann").await;
        assert_eq!(ann.join(one, "Ann").await, json!({"peers": []}));
        let audio = ann.produce("audio", json!({})).await;
        let mut bob = node.client(&room, "bob").await;
        let peers = bob.join(other, "Bob").await["peers"].clone();
        assert_eq!(
            (&peers[0]["id"], &peers[0]["peerId"], &peers[0]["displayName"]),
            (&"ann".into(), &"ann".into(), &"Ann".into())
        );
        // What was produced before.
        let consumer = bob.told("newConsumer").await;
        assert_eq!((&consumer["producerId"], &consumer["kind"]), (&audio.into(), &"audio".into()));
        assert_eq!(consumer["id"], consumer["consumerId"]);
        assert_eq!(consumer["appData"], json!({"peerId": "ann", "source": "audio"}));
        assert!(consumer["transportId"].is_string() && consumer["consumerScore"].is_object());
        assert_eq!(consumer["producerPaused"], false);
        let joined = bob.log.iter().position(|frame| frame["data"]["peers"].is_array()).expect("joined");
        assert!(joined < bob.position("newConsumer"), "the answer to join comes first");
        // What is produced afterwards.
        let video = bob.produce("video", json!({"share": true})).await;
        let consumer = ann.told("newConsumer").await;
        assert_eq!((&consumer["producerId"], &consumer["type"]), (&video.into(), &"simulcast".into()));
        assert_eq!(consumer["appData"], json!({"peerId": "bob", "source": "screensharing", "share": true}));
        let peer = ann.told("newPeer").await;
        assert_eq!((&peer["id"], &peer["peer"]["peerId"]), (&"bob".into(), &"bob".into()));
        assert!(ann.position("newPeer") < ann.position("newConsumer"), "the peer comes before its consumers");
        // The consumer flows once it was taken.
        let layers = ann.told("consumerLayersChanged").await;
        assert_eq!((&layers["spatialLayer"], &layers["layers"]["temporalLayer"]), (&2.into(), &2.into()));
        assert!(ann.told("consumerScore").await["score"].is_object());
        assert!(bob.told("producerScore").await["score"].is_array());
        for method in ["mediasoup-version", "mediasoupVersion"] {
            let place = json!({"version": "synthetic", "node": "fra-1", "region": "eu/central", "epoch": 12});
            assert_eq!(ann.told(method).await, place);
        }
    }
}

#[actix_web::test]
async fn answers_carry_the_names_of_both_generations() {
    let node = node().await;
    let mut client = node.client("room", "ann").await;
    let capabilities = client.ask("getRouterRtpCapabilities", json!({})).await;
    assert_eq!(capabilities["codecs"], capabilities["routerRtpCapabilities"]["codecs"]);
    let data = json!({"forceTcp": true, "producing": true, "consuming": false});
    let made = client.ask("createWebRtcTransport", data).await;
    for part in ["iceParameters", "dtlsParameters", "sctpParameters"] {
        assert!(made[part].is_object(), "{part}");
    }
    assert_eq!(made["iceServers"], json!([{"urls": "stun:stun.example"}]));
    assert!(made["iceCandidates"].as_array().expect("a list").iter().all(|candidate| candidate["protocol"] == "tcp"));
    let transport = made["id"].clone();
    let connect = json!({"transportId": transport, "dtlsParameters": {"fingerprints": []}});
    assert_eq!(client.ask("connectWebRtcTransport", connect.clone()).await, json!({}));
    assert_eq!(client.refused("connectWebRtcTransport", connect).await, 400, "a second time");
    let restarted = client.ask("restartIce", json!({"transportId": transport})).await;
    assert_eq!(restarted["usernameFragment"], restarted["iceParameters"]["usernameFragment"]);
    assert_ne!(restarted["usernameFragment"], made["iceParameters"]["usernameFragment"]);
    assert!(client.ask("getTransportStats", json!({"transportId": transport})).await[0]["synthetic"] == true);
    client.ask("getRtcStatsUrl", json!({})).await;
    let stats = client.ask("getTransportStats", json!({"transportId": transport})).await;
    assert!(stats["stats"][0]["synthetic"] == true, "{stats}");
}

#[actix_web::test]
async fn what_happens_to_a_producer_is_told_to_its_consumers_whichever_way_it_was_asked_for() {
    let node = node().await;
    let (mut ann, mut bob) = (node.client("room", "ann").await, node.client("room", "bob").await);
    ann.join(First, "Ann").await;
    bob.join(Second, "Bob").await;
    let video = ann.produce("video", json!({})).await;
    let consumer = bob.told("newConsumer").await["consumerId"].clone();
    bob.told("consumerScore").await;
    assert_eq!(ann.ask("pauseProducer", json!({"producerId": video})).await, json!({}));
    assert_eq!(bob.told("consumerPaused").await, json!({"consumerId": consumer}));
    ann.notify("resumeProducer", json!({"producerId": video})).await;
    assert_eq!(bob.told("consumerResumed").await, json!({"consumerId": consumer}));
    bob.notify("pauseConsumer", json!({"consumerId": consumer})).await;
    bob.ask("resumeConsumer", json!({"consumerId": consumer})).await;
    bob.ask("setConsumerPreferredLayers", json!({"consumerId": consumer, "spatialLayer": 0})).await;
    bob.frame(|frame| frame["method"] == "consumerLayersChanged" && frame["data"]["spatialLayer"] == 0).await;
    bob.ask("setConsumerPriority", json!({"consumerId": consumer, "priority": 2})).await;
    bob.notify("requestConsumerKeyFrame", json!({"consumerId": consumer})).await;
    let stats = bob.ask("getConsumerStats", json!({"consumerId": consumer})).await;
    assert!(stats["stats"].is_array());
    assert!(ann.ask("getProducerStats", json!({"producerId": video})).await.is_array());
    ann.notify("closeProducer", json!({"producerId": video})).await;
    assert_eq!(bob.told("consumerClosed").await, json!({"consumerId": consumer}));
    // A webcam that is turned on again is a new producer on the same transport.
    ann.produce("video", json!({})).await;
    let again = bob.frame(|frame| frame["method"] == "newConsumer" && frame["data"]["consumerId"] != consumer).await;
    assert!(again["data"]["appData"].is_object());
    assert_eq!(bob.count("consumerClosed"), 1);
}

#[actix_web::test]
async fn peers_hear_of_names_and_of_who_leaves() {
    let node = node().await;
    let (mut ann, mut bob) = (node.client("room", "ann").await, node.client("room", "bob").await);
    ann.join(First, "Ann").await;
    bob.join(Second, "Bob").await;
    bob.produce("audio", json!({"source": "audio"})).await;
    ann.told("newConsumer").await;
    bob.notify("changeDisplayName", json!({"displayName": "Rob"})).await;
    let renamed = json!({"peerId": "bob", "displayName": "Rob", "oldDisplayName": "Bob"});
    assert_eq!(ann.told("peerDisplayNameChanged").await, renamed);
    drop(bob);
    assert_eq!(ann.told("peerClosed").await, json!({"peerId": "bob"}));
    ann.told("consumerClosed").await;
    until("one participant", || node.rooms.participants() == 1).await;
}

#[actix_web::test]
async fn chat_reaches_all_and_what_is_meant_for_a_bot_reaches_nobody() {
    let node = node().await;
    let (mut ann, mut bob) = (node.client("room", "ann").await, node.client("room", "bob").await);
    ann.join(First, "Ann").await;
    bob.join(Second, "Bob").await;
    let stream = json!({"streamId": 1, "ordered": true});
    let transport = ann.sending();
    for label in ["bot", "chat"] {
        let data = json!({"transportId": transport, "sctpStreamParameters": stream, "label": label, "protocol": "", "appData": {"info": "x"}});
        let made = ann.ask("produceData", data).await;
        assert_eq!(made["id"], made["dataProducerId"]);
    }
    let transport = bob.sending();
    let data =
        json!({"transportId": transport, "sctpStreamParameters": stream, "label": "x", "appData": {"channel": "bot"}});
    bob.ask("produceData", data).await;
    let offered = bob.told("newDataConsumer").await;
    assert_eq!((&offered["label"], &offered["peerId"]), (&"chat".into(), &"ann".into()));
    assert_eq!(offered["id"], offered["dataConsumerId"]);
    assert_eq!(offered["appData"], json!({"info": "x", "channel": "chat", "peerId": "ann"}));
    assert_eq!(offered["sctpStreamParameters"], stream);
    let id = offered["id"].clone();
    assert!(bob.ask("getDataConsumerStats", json!({"dataConsumerId": id})).await["stats"].is_array());
    ann.settle().await;
    assert_eq!((ann.count("newDataConsumer"), bob.count("newDataConsumer")), (0, 1));
    drop(ann);
    assert_eq!(bob.told("dataConsumerClosed").await, json!({"dataConsumerId": id}));
}

#[actix_web::test]
async fn who_speaks_is_told_to_all() {
    let node = node().await;
    let mut ann = node.client("room", "ann").await;
    ann.join(First, "Ann").await;
    let producer = ann.produce("audio", json!({})).await;
    let room = RoomKey::new("default", "room").expect("valid");
    let volumes = vec![Volume { producer: producer.clone(), volume: -40 }];
    let worker = node.rooms.snapshot()[0].worker;
    let tell = async |event| node.media.tell(worker, Notice::Event(event)).await;
    tell(MediaEvent::Volumes { room: room.clone(), volumes }).await;
    assert_eq!(ann.told("activeSpeaker").await, json!({"peerId": "ann", "volume": -40}));
    assert_eq!(ann.told("speakingPeers").await, json!({"peerVolumes": [{"peerId": "ann", "volume": -40}]}));
    tell(MediaEvent::Volumes { room: room.clone(), volumes: vec![] }).await;
    ann.frame(|frame| frame["method"] == "activeSpeaker" && frame["data"]["peerId"].is_null()).await;
    tell(MediaEvent::ActiveSpeaker { room, producer: Some(producer) }).await;
    ann.frame(|frame| frame["data"] == json!({"peerId": "ann"})).await;
    tell(MediaEvent::DownlinkBwe {
        transport: ann.sending(),
        available_bitrate_bps: 1,
        desired_bitrate_bps: 2,
        effective_desired_bitrate_bps: 3,
    })
    .await;
    let told = json!({"availableBitrate": 1, "desiredBitrate": 2, "effectiveDesiredBitrate": 3});
    assert_eq!(ann.told("downlinkBwe").await, told);
}

#[actix_web::test]
async fn a_newcomer_gets_all_of_a_large_room_and_a_silent_one_only_loses_its_offers() {
    let limits = Limits { answer_ms: 300, ..Limits::default() };
    let node = node_with(limits, 60_000).await;
    let mut ann = node.client("room", "ann").await;
    ann.join(First, "Ann").await;
    for _ in 0..30 {
        ann.produce("audio", json!({})).await;
    }
    let mut mute = node.client("room", "mute").await;
    mute.polite = false;
    mute.join(First, "Mute").await;
    let mut bob = node.client("room", "bob").await;
    bob.join(First, "Bob").await;
    bob.told_times("newConsumer", 30).await;
    until("offers that nobody answers are taken back", || node.rooms.snapshot()[0].consumers == 30).await;
    assert!(mute.log.len() < 60);
}
