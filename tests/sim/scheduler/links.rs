//! Watch connections to agents, as scheduler/src/outbound/watch.rs has them (rule 13).

use roost_proto::time::Millis;

use super::Scheduler;
use crate::agent::node_id;
use crate::message::Body;
use crate::plan::MOST_NODES;
use crate::wire::{Place, Wire};

const PING_MS: u64 = 5_000;
const GONE_AFTER_MS: u64 = 15_000;
const CONNECT_WITHIN_MS: u64 = 2_000;

/// The connection to one agent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Link {
    #[default]
    Down,
    Dialling {
        id: u64,
        since: Millis,
    },
    Up {
        id: u64,
        heard: Millis,
        pinged: Millis,
    },
}

impl Scheduler {
    /// Connects, asks for a sign of life, and gives up, as time says.
    pub(super) fn tend_links(&mut self, wire: &mut Wire) {
        let now = self.now(wire);
        for number in 0..MOST_NODES {
            let node = node_id(number);
            if self.view.node(&node).is_none() {
                continue;
            }
            match self.links[number] {
                Link::Dialling { since, .. } if now.since(since) < CONNECT_WITHIN_MS => {}
                Link::Down | Link::Dialling { .. } => {
                    let id = wire.id();
                    self.links[number] = Link::Dialling { id, since: now };
                    wire.send(self.place, Place::Agent(number), id, Body::Dial);
                }
                Link::Up { heard, .. } if now.since(heard) > GONE_AFTER_MS => self.link_broke(number),
                Link::Up { id, heard, pinged } if now.since(pinged) >= PING_MS => {
                    self.links[number] = Link::Up { id, heard, pinged: now };
                    wire.send(self.place, Place::Agent(number), id, Body::Ping);
                }
                Link::Up { .. } => {}
            }
        }
    }

    /// What was said on the connection of this number. False if it is not that of the agent.
    pub(super) fn hear_link(&mut self, from: Place, id: u64, body: &Body, wire: &Wire) -> bool {
        let Place::Agent(number) = from else { return false };
        let (node, now) = (node_id(number), self.now(wire));
        match (self.links[number], body) {
            (Link::Dialling { id: dialled, .. }, Body::Pong) if dialled == id => {
                self.links[number] = Link::Up { id, heard: now, pinged: now };
            }
            (Link::Dialling { id: dialled, .. }, Body::Refused) if dialled == id => {
                self.links[number] = Link::Down;
                self.view.agent_refused(&node);
            }
            (Link::Up { id: own, pinged, .. }, Body::Pong) if own == id => {
                self.links[number] = Link::Up { id, heard: now, pinged };
            }
            (Link::Up { id: own, pinged, .. }, Body::Acting(incarnation)) if own == id => {
                self.links[number] = Link::Up { id, heard: now, pinged };
                self.view.agent_named(&node, *incarnation);
            }
            (Link::Up { id: own, .. }, Body::Hangup) if own == id => self.link_broke(number),
            _ => return false,
        }
        true
    }

    fn link_broke(&mut self, number: usize) {
        self.links[number] = Link::Down;
        self.view.agent_broke(&node_id(number));
    }
}
