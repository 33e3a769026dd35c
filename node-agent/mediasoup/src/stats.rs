//! Statistics as the Node.js library gives them: arrays of objects, each with its `type`.

use mediasoup::consumer::ConsumerRtpStreamStat;
use mediasoup::prelude::*;
use roost_proto::media::{MediaError, MediaReply, Object};
use serde::Serialize;
use serde_json::{Value, json};

use crate::parameter::{failed, write};
use crate::room::Room;

impl Room {
    pub(crate) async fn stats(&self, what: &Object) -> Result<MediaReply, MediaError> {
        let stats = match what {
            Object::Transport(id) => {
                typed("webrtc-transport", self.transport(id)?.handle.get_stats().await.map_err(failed)?)?
            }
            Object::Producer(id) => typed("inbound-rtp", self.producer(id)?.handle.get_stats().await.map_err(failed)?)?,
            Object::Consumer(id) => {
                let streams = self.consumer(id)?.handle.get_stats().await.map_err(failed)?;
                streams.into_iter().map(stream).collect::<Result<_, _>>()?
            }
            Object::DataProducer(id) => {
                typed("data-producer", self.data_producer(id)?.handle.get_stats().await.map_err(failed)?)?
            }
            Object::DataConsumer(id) => {
                typed("data-consumer", self.data_consumer(id)?.handle.get_stats().await.map_err(failed)?)?
            }
        };
        Ok(MediaReply::Stats(Value::Array(stats)))
    }
}

/// A consumer's statistics hold the producer's stream as well.
fn stream(stat: ConsumerRtpStreamStat) -> Result<Value, MediaError> {
    match stat {
        ConsumerRtpStreamStat::Inbound(stat) => with_type("inbound-rtp", stat),
        ConsumerRtpStreamStat::Outbound(stat) => with_type("outbound-rtp", stat),
    }
}

fn typed<T: Serialize>(kind: &str, stats: Vec<T>) -> Result<Vec<Value>, MediaError> {
    stats.into_iter().map(|stat| with_type(kind, stat)).collect()
}

/// The crate leaves `type` out, and clients tell the entries apart by it.
fn with_type<T: Serialize>(kind: &str, stat: T) -> Result<Value, MediaError> {
    let mut stat = write(stat)?;
    if let Some(fields) = stat.as_object_mut() {
        fields.insert("type".to_owned(), json!(kind));
    }
    Ok(stat)
}
