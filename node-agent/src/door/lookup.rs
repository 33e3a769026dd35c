//! Asks where a room lives: a scheduler, over its cluster listener, with the participant's address.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use reqwest::{Client, Url};

use roost_agent_core::hold::Offer;
use roost_proto::error::{Code, Problem};
use roost_proto::id::{Epoch, NodeId, Region, RequestId, RoomKey};
use roost_proto::lookup::{LookupReply, LookupRequest, MOST_EXPECTED};
use roost_server::ClusterKeys;
use roost_store::NodeStore;
use roost_store::operation::SchedulerEntry;

use roost_server::telemetry::causes;

/// How long one scheduler may take. A participant waits meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How many schedulers are asked for one participant.
const SCHEDULERS_ASKED: usize = 3;
/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Knows where rooms live.
#[async_trait]
pub(crate) trait Directory: Debug + Send + Sync + 'static {
    /// The room's node; if it lived nowhere it has one now.
    async fn find(&self, wanted: Wanted<'_>) -> Result<Found, Problem>;
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    pub(crate) room: &'a RoomKey,
    /// The participant's address, if the question is for one of them.
    pub(crate) client: Option<IpAddr>,
    /// Where participants are, if the question is for several of them.
    pub(crate) region: Option<&'a Region>,
    /// How many participants are about to come; 0: nobody knows.
    pub(crate) expected: u32,
    pub(crate) avoid: &'a [NodeId],
    pub(crate) request_id: Option<&'a RequestId>,
}

/// Where the room lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) node: NodeId,
    pub(crate) signaling_url: String,
    pub(crate) epoch: Epoch,
    pub(crate) ticket: String,
    /// The claim that the ticket proves; none if it can't be read here.
    pub(crate) offer: Option<Offer>,
}

/// The cluster's schedulers.
#[derive(Debug)]
pub(crate) struct Schedulers {
    http: Client,
    keys: ClusterKeys,
    store: Arc<dyn NodeStore>,
    /// The uplink, if that is a scheduler.
    uplink: Option<String>,
    /// The cluster URLs as last read from the store, the one that answered last in front.
    known: Mutex<Vec<String>>,
}

/// What came of asking one scheduler.
enum Outcome {
    Found(Box<LookupReply>),
    /// It decided: nobody else would say otherwise.
    Refused(Problem),
    /// Another one may know.
    Failed(Problem),
}

impl Schedulers {
    pub(crate) fn new(http: Client, keys: ClusterKeys, store: Arc<dyn NodeStore>, uplink: Option<String>) -> Self {
        let known = Mutex::new(uplink.iter().cloned().collect());
        Self { http, keys, store, uplink, known }
    }

    fn known(&self) -> Vec<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn prefer(&self, url: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = known.iter().position(|other| other == url) {
            known.swap(0, at);
        }
    }

    /// Reads the list from the store; the uplink stays on it. Without the store the old list is as good as any.
    async fn refresh(&self) -> Vec<String> {
        match self.store.schedulers().await {
            Ok(entries) => {
                let urls = entries.into_iter().map(|entry: SchedulerEntry| entry.cluster_url);
                let mut urls: Vec<String> = urls.map(|url| url.trim_end_matches('/').to_owned()).collect();
                urls.extend(self.uplink.iter().filter(|uplink| !urls.contains(uplink)).cloned().collect::<Vec<_>>());
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = urls.clone();
                urls
            }
            Err(error) => {
                tracing::debug!(error = %causes(&error), "the list of schedulers cannot be read");
                self.known()
            }
        }
    }

    async fn ask(&self, base: &str, wanted: &Wanted<'_>) -> Outcome {
        match self.try_ask(base, wanted).await {
            Ok(outcome) => outcome,
            Err(reason) => {
                tracing::warn!(scheduler = base, reason, room = %wanted.room, "a scheduler did not answer a lookup");
                Outcome::Failed(Problem::new(Code::StoreUnavailable, "no scheduler answers"))
            }
        }
    }

    async fn try_ask(&self, base: &str, wanted: &Wanted<'_>) -> Result<Outcome, String> {
        let url = lookup_url(base, wanted.room).ok_or("its URL is no http:// URL")?;
        let body = body(wanted);
        let proof = self.keys.proof(SystemTime::now());
        let request = self.http.post(url).timeout(ANSWER_WITHIN).bearer_auth(proof).json(&body);
        let mut response = request.send().await.map_err(|error| causes(&error))?;
        let is_found = response.status().is_success();
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| causes(&error))? {
            if text.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err("its answer is too long".to_owned());
            }
            text.extend_from_slice(&chunk);
        }
        if is_found {
            return serde_json::from_slice(&text)
                .map(|reply| Outcome::Found(Box::new(reply)))
                .map_err(|error| causes(&error));
        }
        let problem: Problem = serde_json::from_slice(&text).map_err(|error| causes(&error))?;
        Ok(match problem.code {
            // Its own trouble; another scheduler may be better off.
            Code::Starting | Code::StoreUnavailable | Code::Internal | Code::RateLimited => Outcome::Failed(problem),
            // Ours, not the participant's.
            Code::ClusterKeyInvalid => {
                tracing::error!(scheduler = base, detail = problem.detail, "the scheduler refuses our cluster key");
                Outcome::Failed(Problem::new(Code::StoreUnavailable, "no scheduler answers"))
            }
            _ => Outcome::Refused(problem),
        })
    }

    fn found(&self, reply: LookupReply) -> Found {
        // Its expiry is for whoever brings it later.
        let ticket = self.keys.check_ticket(&reply.ticket, 0).ok();
        let offer = ticket.map(|ticket| Offer { incarnation: ticket.incarnation, epoch: ticket.epoch });
        let (node, signaling_url) = (reply.node.id, reply.node.signaling_url);
        Found { node, signaling_url, epoch: reply.epoch, ticket: reply.ticket, offer }
    }
}

#[async_trait]
impl Directory for Schedulers {
    async fn find(&self, wanted: Wanted<'_>) -> Result<Found, Problem> {
        let mut asked: Vec<String> = Vec::new();
        let mut problem = Problem::new(Code::StoreUnavailable, "no scheduler is known");
        let mut urls = self.known();
        for is_fresh in [false, true] {
            if is_fresh {
                urls = self.refresh().await;
            }
            for url in &urls {
                if asked.contains(url) || asked.len() >= SCHEDULERS_ASKED {
                    continue;
                }
                asked.push(url.clone());
                match self.ask(url, &wanted).await {
                    Outcome::Found(reply) => {
                        self.prefer(url);
                        return Ok(self.found(*reply));
                    }
                    Outcome::Refused(problem) => return Err(problem),
                    Outcome::Failed(failed) => problem = failed,
                }
            }
        }
        Err(problem)
    }
}

fn body(wanted: &Wanted<'_>) -> LookupRequest {
    LookupRequest {
        client_ip: wanted.client,
        region: wanted.region.cloned(),
        expected_participants: (wanted.expected > 0).then_some(wanted.expected.min(MOST_EXPECTED)),
        avoid: wanted.avoid.to_vec(),
        request_id: wanted.request_id.cloned(),
        ..LookupRequest::default()
    }
}

fn lookup_url(base: &str, room: &RoomKey) -> Option<Url> {
    let mut url = Url::parse(base).ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().extend([
        "v1",
        "namespaces",
        room.namespace.as_str(),
        "rooms",
        room.room.as_str(),
        "lookup",
    ]);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_rooms_size_is_told_as_far_as_a_lookup_takes_it() {
        let room = RoomKey::new("acme", "x").expect("valid");
        for (expected, told) in [(0, None), (1, Some(1)), (MOST_EXPECTED, Some(10_000)), (u32::MAX, Some(10_000))] {
            let wanted = Wanted { room: &room, client: None, region: None, expected, avoid: &[], request_id: None };
            assert_eq!(body(&wanted).expected_participants, told);
        }
    }

    #[test]
    fn a_rooms_name_is_one_segment_of_the_path() {
        let room = RoomKey::new("acme", "a/b ?%").expect("valid");
        let url = lookup_url("http://10.0.0.1:7402", &room).expect("a URL");
        assert_eq!(url.as_str(), "http://10.0.0.1:7402/v1/namespaces/acme/rooms/a%2Fb%20%3F%25/lookup");
    }
}
