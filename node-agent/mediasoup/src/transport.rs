//! WebRTC transports of a room.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mediasoup::prelude::*;
use mediasoup::transport::{TransportTraceEventData, TransportTraceEventType};
use mediasoup::types::data_structures::{DtlsState, IceState};
use roost_proto::media::{MediaError, MediaEvent, MediaReply};
use serde_json::Value;
use tokio::time::Instant;

use crate::event::Outbox;
use crate::parameter::{self, failed, not_found, refused, write};
use crate::room::Room;

/// What a client is thought to be able to receive before it is known, in bits per second.
const INITIAL_OUTGOING_BPS: u64 = 1_000_000;
/// The most that a client is asked to send, in bits per second: enough for all three layers of a stock 720p webcam.
const MAX_INCOMING_BPS: u64 = 8_000_000;
/// The largest message of a data channel, both ways.
const MAX_MESSAGE_BYTES: u32 = 262_144;
/// mediasoup finds out after 30 s that a client's consent to receive is gone; a client that restarts ICE has this long.
const DISCONNECTED_LIMIT: Duration = Duration::from_secs(30);
/// Estimates come many times a second; one is told at most this often.
const ESTIMATE_EVERY: Duration = Duration::from_secs(1);

/// A transport, and what lives on it.
#[derive(Debug)]
pub(crate) struct RoomTransport {
    pub(crate) handle: WebRtcTransport,
    pub(crate) producers: HashSet<String>,
    pub(crate) consumers: HashSet<String>,
    pub(crate) data_producers: HashSet<String>,
    pub(crate) data_consumers: HashSet<String>,
    /// Since when ICE is disconnected.
    disconnected: Option<Instant>,
}

impl Room {
    /// Makes a transport on the worker's port, with SCTP.
    pub(crate) async fn create_transport(
        &mut self,
        force_tcp: bool,
        producing: bool,
        consuming: bool,
    ) -> Result<MediaReply, MediaError> {
        self.settings.names.check_space()?;
        let mut options = WebRtcTransportOptions::new_with_server(self.settings.worker.server().clone());
        options.enable_udp = !force_tcp;
        options.enable_tcp = true;
        options.prefer_udp = !force_tcp;
        options.initial_available_outgoing_bitrate = INITIAL_OUTGOING_BPS;
        options.max_incoming_bitrate = producing.then_some(MAX_INCOMING_BPS);
        options.enable_sctp = true;
        options.max_send_message_size = MAX_MESSAGE_BYTES;
        options.max_receive_message_size = MAX_MESSAGE_BYTES;
        let handle = self.router.create_webrtc_transport(options).await.map_err(failed)?;
        let id = handle.id().to_string();
        if consuming {
            tell_estimates(&handle, self.settings.outbox.clone());
            handle.enable_trace_event(vec![TransportTraceEventType::Bwe]).await.map_err(failed)?;
        }

        let reply = MediaReply::Transport {
            id: id.clone(),
            ice_parameters: write(handle.ice_parameters())?,
            ice_candidates: write(candidates(handle.ice_candidates(), self.settings.worker.also_announced()))?,
            dtls_parameters: write(handle.dtls_parameters())?,
            sctp_parameters: write(handle.sctp_parameters())?,
        };
        self.settings.names.enter(id.clone());
        self.transports.insert(
            id,
            RoomTransport {
                handle,
                producers: HashSet::new(),
                consumers: HashSet::new(),
                data_producers: HashSet::new(),
                data_consumers: HashSet::new(),
                disconnected: None,
            },
        );
        Ok(reply)
    }

    pub(crate) async fn connect_transport(&self, id: &str, dtls: Value) -> Result<MediaReply, MediaError> {
        let transport = self.transport(id)?;
        let remote = WebRtcTransportRemoteParameters { dtls_parameters: parameter::dtls_parameters(dtls)? };
        transport.handle.connect(remote).await.map_err(|error| refused("dtls_parameters", error))?;
        Ok(MediaReply::Done)
    }

    pub(crate) async fn restart_ice(&self, id: &str) -> Result<MediaReply, MediaError> {
        let parameters = self.transport(id)?.handle.restart_ice().await.map_err(failed)?;
        Ok(MediaReply::Parameters(write(parameters)?))
    }

    /// Closes a transport and all that lives on it; consumers elsewhere that live from it are told. False if there is none.
    pub(crate) async fn close_transport(&mut self, id: &str) -> bool {
        let Some(transport) = self.transports.get_mut(id) else { return false };
        let consumers = std::mem::take(&mut transport.consumers);
        let data_consumers = std::mem::take(&mut transport.data_consumers);
        let producers = std::mem::take(&mut transport.producers);
        let data_producers = std::mem::take(&mut transport.data_producers);
        for consumer in consumers {
            self.close_consumer(&consumer);
        }
        for data_consumer in data_consumers {
            self.close_data_consumer(&data_consumer);
        }
        for producer in producers {
            self.close_producer(&producer).await;
        }
        for data_producer in data_producers {
            self.close_data_producer(&data_producer).await;
        }
        self.transports.remove(id);
        self.settings.names.strike(id);
        true
    }

    /// Closes transports whose other side is gone, and tells so.
    pub(crate) async fn close_ended_transports(&mut self, now: Instant) {
        let mut ended = Vec::new();
        for (id, transport) in &mut self.transports {
            if transport.has_ended(now) {
                ended.push(id.clone());
            }
        }
        for id in ended {
            self.close_transport(&id).await;
            self.settings.outbox.tell(MediaEvent::TransportClosed { transport: id }).await;
        }
    }

    pub(crate) fn transport(&self, id: &str) -> Result<&RoomTransport, MediaError> {
        self.transports.get(id).ok_or_else(|| not_found("transport", id))
    }
}

impl RoomTransport {
    fn has_ended(&mut self, now: Instant) -> bool {
        has_ended(self.handle.dtls_state(), self.handle.ice_state(), &mut self.disconnected, now)
    }
}

fn has_ended(dtls: DtlsState, ice: IceState, disconnected: &mut Option<Instant>, now: Instant) -> bool {
    if matches!(dtls, DtlsState::Closed | DtlsState::Failed) {
        return true;
    }
    if ice != IceState::Disconnected {
        *disconnected = None;
        return false;
    }
    now.duration_since(*disconnected.get_or_insert(now)) >= DISCONNECTED_LIMIT
}

/// The worker's candidates, and after them the same ones at each further announced address.
fn candidates(own: &[IceCandidate], also_announced: &[String]) -> Vec<IceCandidate> {
    let mut all = own.to_vec();
    for (number, address) in (1_u32..).zip(also_announced) {
        all.extend(own.iter().map(|candidate| IceCandidate {
            address: address.clone(),
            foundation: format!("{}{number}", candidate.foundation),
            priority: candidate.priority.saturating_sub(number),
            ..candidate.clone()
        }));
    }
    all
}

fn tell_estimates(transport: &WebRtcTransport, outbox: Outbox) {
    let id = transport.id().to_string();
    let told: Mutex<Option<std::time::Instant>> = Mutex::new(None);
    transport
        .on_trace(Arc::new(move |trace| {
            let TransportTraceEventData::Bwe { info, .. } = trace else { return };
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_some_and(|told| told.elapsed() < ESTIMATE_EVERY) {
                return;
            }
            *told = Some(std::time::Instant::now());
            outbox.tell_now(MediaEvent::DownlinkBwe {
                transport: id.clone(),
                available_bitrate_bps: info.available_bitrate,
                desired_bitrate_bps: info.desired_bitrate,
                // This version of mediasoup makes no difference between the two.
                effective_desired_bitrate_bps: info.desired_bitrate,
            });
        }))
        .detach();
}

#[cfg(test)]
mod tests {
    use super::*;
    use mediasoup::types::data_structures::IceCandidateType;

    #[test]
    fn a_transport_ends_with_dtls_or_when_ice_stays_away() {
        let start = Instant::now();
        let mut since = None;
        let mut ended = |dtls, ice, after_s| has_ended(dtls, ice, &mut since, start + Duration::from_secs(after_s));
        assert!(!ended(DtlsState::New, IceState::New, 0));
        assert!(!ended(DtlsState::Connected, IceState::Disconnected, 10));
        assert!(!ended(DtlsState::Connected, IceState::Disconnected, 39));
        // ICE was restarted in time; later it goes away for good.
        assert!(!ended(DtlsState::Connected, IceState::Completed, 40));
        assert!(!ended(DtlsState::Connected, IceState::Disconnected, 100));
        assert!(ended(DtlsState::Connected, IceState::Disconnected, 130));
        assert!(ended(DtlsState::Closed, IceState::Completed, 131));
        assert!(ended(DtlsState::Failed, IceState::Completed, 131));
    }

    #[test]
    fn each_announced_address_gets_candidates_of_its_own() {
        let own = [IceCandidate {
            foundation: "udpcandidate".to_owned(),
            priority: 1000,
            address: "203.0.113.1".to_owned(),
            protocol: Protocol::Udp,
            port: 44400,
            r#type: IceCandidateType::Host,
            tcp_type: None,
        }];
        let all = candidates(&own, &["2001:db8::1".to_owned(), "media.example".to_owned()]);
        let seen: Vec<_> = all.iter().map(|one| (&*one.address, one.priority, one.port)).collect();
        assert_eq!(seen, [("203.0.113.1", 1000, 44400), ("2001:db8::1", 999, 44400), ("media.example", 998, 44400)]);
    }
}
