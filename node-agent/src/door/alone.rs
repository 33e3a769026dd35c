//! Where rooms live when there is no scheduler: here. The node grants itself what it is asked for.

use std::sync::Arc;

use async_trait::async_trait;

use roost_agent_core::hold::Offer;
use roost_proto::error::{Code, Problem};
use roost_proto::id::{NamespaceId, RoomKey};
use roost_proto::room::{Claim, ClaimState, Expected};
use roost_store::operation::{Grant, Granted};
use roost_store::{EmbeddedStore, Store, StoreError};

use super::lookup::{Directory, Found, Wanted};
use crate::node::Node;

/// How long a grant waits for the participant who is at the door already.
const GRANT_TTL_MS: u64 = 30_000;

/// The directory of a node that stands alone.
#[derive(Debug)]
pub(crate) struct Alone {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<EmbeddedStore>,
    /// None: all.
    pub(crate) namespaces: Vec<NamespaceId>,
}

impl Alone {
    async fn claim(&self, room: &RoomKey) -> Result<Option<Offer>, StoreError> {
        let seen = self.store.read(room).await?;
        let (incarnation, run) = self.node.with(|state, _| (state.lease.incarnation(), state.run(room.bucket())));
        let (Some(incarnation), Some(run)) = (incarnation, run) else { return Ok(None) };
        match &seen {
            Some(Claim { incarnation: of, epoch, .. }) if *of == incarnation => {
                return Ok(Some(Offer { incarnation, epoch: *epoch }));
            }
            // An earlier incarnation's: it is being asserted again.
            Some(Claim { state: ClaimState::Open, .. }) => return Ok(None),
            Some(_) | None => {}
        }
        let grant = Grant {
            room: room.clone(),
            run,
            seen,
            node: self.node.id.clone(),
            incarnation,
            ttl_ms: GRANT_TTL_MS,
            // Nobody else is there to whom it would matter.
            expected: Expected::default(),
        };
        Ok(match self.store.grant(grant).await? {
            Granted::Yes { epoch, .. } => Some(Offer { incarnation, epoch }),
            // Somebody else at the door was quicker.
            Granted::No { current: Some(current) } => {
                Some(Offer { incarnation: current.incarnation, epoch: current.epoch })
            }
            Granted::No { current: None } | Granted::NewRun { .. } => None,
        })
    }
}

#[async_trait]
impl Directory for Alone {
    async fn find(&self, wanted: Wanted<'_>) -> Result<Found, Problem> {
        let namespace = &wanted.room.namespace;
        if !self.namespaces.is_empty() && !self.namespaces.contains(namespace) {
            let detail = format!("namespace {namespace}: expected one that this node serves");
            return Err(Problem::new(Code::NamespaceNotAllowed, detail));
        }
        let offer = self.claim(wanted.room).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the store in memory failed");
            None
        });
        let not_yet = || Problem::new(Code::StoreUnavailable, "the node has no lease at the moment");
        let offer = offer.ok_or_else(not_yet)?;
        Ok(Found {
            node: self.node.id.clone(),
            signaling_url: String::new(),
            epoch: offer.epoch,
            ticket: String::new(),
            offer: Some(offer),
        })
    }
}
