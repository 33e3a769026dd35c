//! Ends claims without a holder, as scheduler/src/app/orphans.rs has it; every scheduler does so here.

use roost_proto::id::RoomKey;
use roost_proto::room::Claim;
use roost_store::operation::{Holding, Lease, NodeOperation};

use super::{Answer, Purpose, Scheduler};
use crate::message::{Ask, Said};
use crate::wire::Wire;

impl Scheduler {
    pub(super) fn clear_orphans(&mut self, wire: &mut Wire) {
        for (room, claim) in self.view.take_orphans() {
            self.ask(Ask::Leases(claim.node.clone()), Purpose::Orphan(room, claim), wire);
        }
    }

    /// Rule 12: we heard nothing for long, and the store says that the lease is over.
    pub(super) fn orphan_answered(&mut self, room: RoomKey, claim: Claim, answer: Answer, wire: &mut Wire) {
        let Ok(Said::Leases(leases)) = answer else { return };
        let Claim { run, epoch, node, incarnation, .. } = claim;
        let known = |lease: &&Lease| lease.incarnation == incarnation;
        if leases.iter().find(known).is_none_or(|lease| lease.lapsed) {
            let holding = Holding { room, run, node, incarnation, epoch };
            self.ask(Ask::Node(NodeOperation::Release(holding)), Purpose::OrphanEnded, wire);
        }
    }
}
