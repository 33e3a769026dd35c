//! Producers, consumers and data: made, paused, closed, and what the others are told.

use std::collections::BTreeSet;

use roost_proto::media::{MediaErrorCode, MediaEvent, MediaReply, MediaRequest, Object, StreamKind};
use serde_json::{Value, json};

use crate::agent::{Agent, consumer, opus, producer};

#[tokio::test]
async fn a_consumer_is_made_paused_and_fits_its_producer() {
    let mut agent = Agent::start().await;
    let capabilities = agent.open("a").await;
    let (sends, receives) = (agent.transport("a").await, agent.transport("a").await);
    let video = agent.produce(&sends, StreamKind::Video, 10).await;
    let audio = agent.produce(&sends, StreamKind::Audio, 20).await;

    let ask = |from: &str| MediaRequest::Consume {
        transport: receives.clone(),
        producer: from.to_owned(),
        rtp_capabilities: capabilities.clone(),
    };
    let Ok(MediaReply::Consumed { id, kind, rtp_parameters, consumer_type, producer_paused, score }) =
        agent.ask(ask(&video)).await
    else {
        panic!("no consumer")
    };
    assert_eq!((kind, &*consumer_type, producer_paused), (StreamKind::Video, "simulcast", false));
    assert_eq!(rtp_parameters["codecs"][0]["mimeType"], "video/VP8");
    assert_eq!(rtp_parameters["encodings"][0]["scalabilityMode"], "L3T3");
    assert_eq!(score["producerScores"], json!([0, 0, 0]));

    let Ok(MediaReply::Consumed { consumer_type, kind, .. }) = agent.ask(ask(&audio)).await else {
        panic!("no consumer")
    };
    assert_eq!((kind, &*consumer_type), (StreamKind::Audio, "simple"));

    let layers = |spatial_layer, temporal_layer| MediaRequest::SetPreferredLayers {
        consumer: id.clone(),
        spatial_layer,
        temporal_layer,
    };
    agent.done(layers(1, Some(2))).await;
    agent.done(layers(200, None)).await;
    agent.done(MediaRequest::SetPriority { consumer: id.clone(), priority: 5 }).await;
    agent.done(MediaRequest::RequestKeyFrame { consumer: id.clone() }).await;
    agent.done(MediaRequest::Resume { what: consumer(&id) }).await;
    agent.done(MediaRequest::Pause { what: consumer(&id) }).await;

    let stats = statistics(&mut agent, consumer(&id)).await;
    assert_eq!(stats[0]["type"], "outbound-rtp");
    assert_eq!(statistics(&mut agent, producer(&video)).await, json!([]), "nothing was sent yet");
}

#[tokio::test]
async fn a_producer_that_pauses_or_closes_is_told_to_its_consumers_once() {
    let mut agent = Agent::start().await;
    let capabilities = agent.open("a").await;
    let sends = agent.transport("a").await;
    let voice = agent.produce(&sends, StreamKind::Audio, 1).await;
    let mut consumers = BTreeSet::new();
    for _ in 0..3 {
        let receives = agent.transport("a").await;
        consumers.insert(agent.consume(&receives, &voice, &capabilities).await);
    }

    agent.done(MediaRequest::Pause { what: producer(&voice) }).await;
    agent.done(MediaRequest::Pause { what: producer(&voice) }).await;
    let told = agent.cascades().into_iter().map(|event| match event {
        MediaEvent::ConsumerPaused { consumer } => consumer,
        other => panic!("unexpected: {other:?}"),
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 3);
    assert_eq!(BTreeSet::from_iter(told), consumers);

    let late = agent.transport("a").await;
    let request =
        MediaRequest::Consume { transport: late, producer: voice.clone(), rtp_capabilities: capabilities.clone() };
    let Ok(MediaReply::Consumed { id, producer_paused: true, .. }) = agent.ask(request).await else {
        panic!("it was not said that the producer is paused")
    };
    agent.done(MediaRequest::Close { what: consumer(&id) }).await;

    agent.done(MediaRequest::Resume { what: producer(&voice) }).await;
    let resumed = agent.cascades();
    assert_eq!(resumed.len(), 3);
    assert!(resumed.iter().all(|event| matches!(event, MediaEvent::ConsumerResumed { .. })), "{resumed:?}");

    agent.done(MediaRequest::Close { what: producer(&voice) }).await;
    let closed = agent.cascades().into_iter().map(|event| match event {
        MediaEvent::ConsumerClosed { consumer } => consumer,
        other => panic!("unexpected: {other:?}"),
    });
    assert_eq!(closed.collect::<BTreeSet<_>>(), consumers);
    agent.fails(MediaRequest::Close { what: producer(&voice) }, MediaErrorCode::NotFound).await;
    for id in &consumers {
        agent.fails(MediaRequest::Resume { what: consumer(id) }, MediaErrorCode::NotFound).await;
    }
    let load = agent.describe().await;
    assert_eq!((load.rooms[0].transports, load.rooms[0].producers, load.rooms[0].consumers), (5, 0, 0));
}

#[tokio::test]
async fn a_transport_takes_with_it_what_lives_on_it_and_from_it() {
    let mut agent = Agent::start().await;
    let capabilities = agent.open("a").await;
    let (one, other) = (agent.transport("a").await, agent.transport("a").await);
    let from_one = agent.produce(&one, StreamKind::Video, 10).await;
    let from_other = agent.produce(&other, StreamKind::Video, 20).await;
    let at_one = agent.consume(&one, &from_other, &capabilities).await;
    let at_other = agent.consume(&other, &from_one, &capabilities).await;
    let chat = produce_data(&mut agent, &one, json!({"streamId": 1, "ordered": true})).await;
    let at_other_chat = consume_data(&mut agent, &other, &chat).await;

    agent.done(MediaRequest::CloseTransport { transport: one.clone() }).await;
    let told = agent.cascades();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.contains(&MediaEvent::ConsumerClosed { consumer: at_other }));
    assert!(told.contains(&MediaEvent::DataConsumerClosed { data_consumer: at_other_chat }));
    agent.fails(MediaRequest::RequestKeyFrame { consumer: at_one }, MediaErrorCode::NotFound).await;
    agent.fails(MediaRequest::Close { what: producer(&from_one) }, MediaErrorCode::NotFound).await;
    agent.fails(MediaRequest::Close { what: Object::Transport(one) }, MediaErrorCode::NotFound).await;
    let load = agent.describe().await;
    assert_eq!((load.rooms[0].transports, load.rooms[0].producers, load.rooms[0].consumers), (1, 1, 0));

    // What lived from nothing of it goes on, and the same RTP streams may come again on a new transport.
    let back = agent.transport("a").await;
    agent.consume(&back, &from_other, &capabilities).await;
    agent.produce(&back, StreamKind::Video, 10).await;
}

#[tokio::test]
async fn data_channels_pause_and_close_with_their_producer() {
    let mut agent = Agent::start().await;
    agent.open("a").await;
    let (sends, receives) = (agent.transport("a").await, agent.transport("a").await);
    let chat = produce_data(&mut agent, &sends, json!({"streamId": 4, "maxRetransmits": 1})).await;
    let asked = MediaRequest::ConsumeData { transport: receives.clone(), data_producer: chat.clone() };
    let Ok(MediaReply::DataConsumed { id, sctp_stream_parameters, label, protocol }) = agent.ask(asked).await else {
        panic!("no data consumer")
    };
    assert_eq!(sctp_stream_parameters, json!({"streamId": 0, "ordered": false, "maxRetransmits": 1}));
    assert_eq!((&*label, &*protocol), ("chat", "text"));
    for what in [Object::DataProducer(chat.clone()), Object::DataConsumer(id.clone())] {
        agent.done(MediaRequest::Pause { what: what.clone() }).await;
        agent.done(MediaRequest::Resume { what: what.clone() }).await;
        let stats = statistics(&mut agent, what).await;
        assert_eq!(stats[0]["label"], "chat");
    }
    agent.done(MediaRequest::Close { what: Object::DataProducer(chat) }).await;
    assert_eq!(agent.cascades(), [MediaEvent::DataConsumerClosed { data_consumer: id.clone() }]);
    agent.fails(MediaRequest::Close { what: Object::DataConsumer(id) }, MediaErrorCode::NotFound).await;
}

#[tokio::test]
async fn a_receiver_that_knows_no_fitting_codec_is_told_so() {
    let mut agent = Agent::start().await;
    agent.open("a").await;
    let transport = agent.transport("a").await;
    let voice = agent.produce(&transport, StreamKind::Audio, 1).await;
    let vp8_only = json!({"codecs": [{"kind": "video", "mimeType": "video/VP8", "clockRate": 90000}]});
    let request = MediaRequest::Consume { transport, producer: voice, rtp_capabilities: vp8_only };
    agent.fails(request, MediaErrorCode::CannotConsume).await;
}

#[tokio::test]
async fn a_producer_made_paused_is_paused_and_its_kind_is_told() {
    let mut agent = Agent::start().await;
    let capabilities = agent.open("a").await;
    let transport = agent.transport("a").await;
    let request = MediaRequest::Produce {
        transport: transport.clone(),
        kind: StreamKind::Audio,
        rtp_parameters: opus(5),
        paused: true,
    };
    let Ok(MediaReply::Produced { id, producer_type }) = agent.ask(request).await else { panic!("no producer") };
    assert_eq!(producer_type, "simple");
    let from = MediaRequest::Consume { transport, producer: id, rtp_capabilities: capabilities };
    assert!(matches!(agent.ask(from).await, Ok(MediaReply::Consumed { producer_paused: true, .. })));
}

async fn statistics(agent: &mut Agent, what: Object) -> Value {
    match agent.ask(MediaRequest::GetStats { what }).await {
        Ok(MediaReply::Stats(stats)) => stats,
        other => panic!("no statistics: {other:?}"),
    }
}

async fn produce_data(agent: &mut Agent, transport: &str, sctp_stream_parameters: Value) -> String {
    let request = MediaRequest::ProduceData {
        transport: transport.to_owned(),
        sctp_stream_parameters,
        label: "chat".to_owned(),
        protocol: "text".to_owned(),
    };
    match agent.ask(request).await {
        Ok(MediaReply::DataProduced { id }) => id,
        other => panic!("no data producer: {other:?}"),
    }
}

async fn consume_data(agent: &mut Agent, transport: &str, data_producer: &str) -> String {
    let request =
        MediaRequest::ConsumeData { transport: transport.to_owned(), data_producer: data_producer.to_owned() };
    match agent.ask(request).await {
        Ok(MediaReply::DataConsumed { id, .. }) => id,
        other => panic!("no data consumer: {other:?}"),
    }
}
