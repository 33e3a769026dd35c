//! Makes a participant's consumers, a few at a time: each is offered, and flows once the participant has taken it.

use std::sync::Arc;
use std::time::Duration;

use roost_proto::media::{MediaReply, MediaRequest, Object};
use roost_proto::signaling::Refusal;
use roost_server::request_id;
use tokio::task::JoinSet;

use super::outbox::Asked;
use super::participant::Participant;
use super::state::{MadeConsumer, MadeDataConsumer, Plan};

/// How many offers may wait for the participant's answer.
const OFFERS_WAITING: usize = 16;

/// Works for as long as the participant is there.
pub(super) async fn subscribe(participant: Arc<Participant>) {
    let mut offers = JoinSet::new();
    loop {
        while offers.len() < OFFERS_WAITING {
            let Some(plan) = participant.room.read(|state| state.next_want(participant.id)) else { break };
            let participant = participant.clone();
            let id = request_id::current().unwrap_or_else(request_id::new);
            offers.spawn(request_id::within(id, async move {
                if let Err(refusal) = offer(&participant, plan).await {
                    tracing::debug!(room = %participant.room.key, peer = %participant.peer, %refusal, "not consumed");
                }
            }));
        }
        tokio::select! {
            () = participant.outbox.wanting.notified() => {}
            Some(_) = offers.join_next() => {}
        }
    }
}

async fn offer(participant: &Participant, plan: Plan) -> Result<(), Refusal> {
    match plan {
        Plan::Media { transport, producer, rtp_capabilities } => {
            let rtp_capabilities = (*rtp_capabilities).clone();
            let request =
                MediaRequest::Consume { transport: transport.clone(), producer: producer.clone(), rtp_capabilities };
            let MediaReply::Consumed { id, kind, rtp_parameters, consumer_type, score, .. } =
                participant.room.ask(request).await?
            else {
                return Ok(());
            };
            let made = MadeConsumer { id: id.clone(), transport, producer, kind, rtp_parameters, consumer_type, score };
            offer_consumer(participant, id, made).await
        }
        Plan::Data { transport, producer } => {
            let request = MediaRequest::ConsumeData { transport: transport.clone(), data_producer: producer.clone() };
            let MediaReply::DataConsumed { id, sctp_stream_parameters, label, protocol } =
                participant.room.ask(request).await?
            else {
                return Ok(());
            };
            let made =
                MadeDataConsumer { id: id.clone(), transport, producer, sctp_stream_parameters, label, protocol };
            offer_data_consumer(participant, id, made).await
        }
    }
}

async fn offer_consumer(participant: &Participant, id: String, made: MadeConsumer) -> Result<(), Refusal> {
    let (room, connection) = (&participant.room, participant.id);
    let what = Object::Consumer(id.clone());
    let offered = room.offer(connection, ("newConsumer", &id), |state| state.consumer_made(connection, made));
    if !taken(participant, offered, &what).await? {
        return Ok(());
    }
    let there = room.change(|state| Ok(state.consumer_accepted(connection, &id)))?;
    let declined = || room.read(|state| state.is_declined(&id));
    if there && !declined() {
        room.ask(MediaRequest::Resume { what: what.clone() }).await?;
        if declined() {
            // It was paused while it was resumed, and which came last is not known.
            room.ask(MediaRequest::Pause { what }).await?;
        }
    }
    Ok(())
}

async fn offer_data_consumer(participant: &Participant, id: String, made: MadeDataConsumer) -> Result<(), Refusal> {
    let (room, connection) = (&participant.room, participant.id);
    let what = Object::DataConsumer(id.clone());
    let offered = room.offer(connection, ("newDataConsumer", &id), |state| state.data_consumer_made(connection, made));
    if !taken(participant, offered, &what).await? {
        return Ok(());
    }
    room.change(|state| Ok(((), state.data_consumer_accepted(connection, &id))))
}

/// Waits until the participant has taken what it was offered; false if there was nobody to offer it to.
async fn taken(participant: &Participant, offered: Option<Asked>, what: &Object) -> Result<bool, Refusal> {
    let room = &participant.room;
    let Some(offered) = offered else {
        room.close_media(vec![what.clone()]);
        return Ok(false);
    };
    if let Err(refusal) = offered.answer(limit(participant)).await {
        room.change(|state| Ok(((), state.offer_refused(what))))?;
        return Err(refusal);
    }
    Ok(true)
}

fn limit(participant: &Participant) -> Duration {
    Duration::from_millis(participant.rooms.settings.limits.answer_ms)
}
