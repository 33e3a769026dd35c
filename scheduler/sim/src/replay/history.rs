//! The trace read line by line: who came to which room when, and what was decided then.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use roost_proto::error::Code;
use roost_proto::id::{Carrier, NamespaceId, NodeId, Region, RoomKey};
use roost_proto::lookup::Outcome as Answered;
use roost_proto::report::{Description, Mode};
use roost_proto::time::Millis;
use roost_scheduler_core::time::GRANT_TTL_MS;

use super::cost::{self, Use};
use super::{Outcome, Replay};
use crate::plan::{NodePlan, Plan, Resident, RoomPlan, Visit};
use crate::scenario::{ClientGroup, Delays, Jicofo};
use crate::trace::{EndedLine, GoneLine, Line, LookupLine, NodeLine, RoomLine, Trace, TraceError};
use crate::world::{Figures, NodeFigures, Sample, is_full, max_mean, share};

/// How long simulated nodes report before the traffic begins.
const WARM_UP: Millis = Millis(10_000);
/// A room that is told of so early, without a lookup, was there before the recording.
const SETTLED_MS: u64 = 5_000;
/// How long it takes at most until schedulers have heard of a node that begins.
const KNOWN_WITHIN_MS: u64 = 100;
/// How long whoever was refused would have stayed, if nobody left so that it could be known.
const STAY_MS: u64 = 600_000;
/// How long the run goes on after the last line, so that who came last gets in.
const COMES_IN_WITHIN_MS: u64 = 1_000;
/// The load is looked at each second, but not more often than this in all.
const MOST_SAMPLES: u64 = 4_000;

/// Reads the trace, with the policies of its header, if no more than so many participants are in it.
pub(super) fn read(trace: &Trace, most_visits: u64) -> Result<Replay, TraceError> {
    let end_ms = trace.lines.last().map_or(0, Line::at_ms);
    let sample_ms = (end_ms / MOST_SAMPLES).max(1_000);
    let mut history = History::default();
    let mut next_sample = 0;
    // The header is line 1.
    for (number, line) in (2..).zip(&trace.lines) {
        while next_sample < line.at_ms() {
            history.sample(next_sample);
            next_sample += sample_ms;
        }
        match line {
            Line::Header(_) => {}
            Line::Node(node) => history.node(node),
            Line::Gone(gone) => history.gone(gone),
            Line::Lookup(lookup) => history.lookup(lookup),
            Line::Room(room) => history.room(room),
            Line::Ended(ended) => history.ended(ended),
        }
        if history.visits.len() as u64 > most_visits {
            let problem =
                format!("expected {most_visits} participants at most in all; the lines before can be replayed");
            return Err(TraceError::Wrong { file: trace.file.clone(), line: number, problem });
        }
    }
    history.sample(end_ms);
    Ok(history.finish(end_ms, sample_ms))
}

#[derive(Debug, Default)]
struct History {
    nodes: Vec<Node>,
    numbers: BTreeMap<NodeId, usize>,
    clients: Vec<ClientGroup>,
    known_clients: BTreeMap<(NamespaceId, Option<Region>, Option<Carrier>), u32>,
    rooms: Vec<RoomPlan>,
    living: BTreeMap<RoomKey, Room>,
    visits: Vec<Visit>,
    /// Those who were refused: how long they would have stayed is not known.
    refused: Vec<usize>,
    residents: Vec<Resident>,
    figures: Figures,
    over: u64,
    placed: BTreeMap<usize, u64>,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Node {
    description: Description,
    uses: Vec<Use>,
    mode: Mode,
    mode_changes: Vec<(Millis, Mode)>,
    spells: Vec<(Millis, Option<Millis>)>,
    inside: u32,
}

#[derive(Debug)]
struct Room {
    number: u32,
    node: Option<usize>,
    /// The visits of those inside, who came first first.
    inside: VecDeque<usize>,
    /// Lookups of participants who have not come in yet. Who has not within a grant's time never came.
    asked: VecDeque<(Millis, u32)>,
}

impl History {
    fn node(&mut self, line: &NodeLine) {
        let at = when(line.at_ms);
        let number = *self.numbers.entry(line.node.clone()).or_insert_with(|| {
            self.nodes.push(Node {
                description: line.description.clone(),
                uses: Vec::new(),
                mode: line.mode,
                mode_changes: Vec::new(),
                spells: Vec::new(),
                inside: 0,
            });
            self.nodes.len() - 1
        });
        let node = &mut self.nodes[number];
        if node.spells.last().is_none_or(|(_, until)| until.is_some()) {
            // Who reports at once was there before; others are to be known when they were.
            let from = if line.at_ms < SETTLED_MS { Millis(0) } else { at.minus(KNOWN_WITHIN_MS) };
            node.spells.push((from, None));
        }
        if line.mode != node.mode_changes.last().map_or(node.mode, |(_, mode)| *mode) {
            node.mode_changes.push((at, line.mode));
        }
        let NodeLine { participants, streams, host, .. } = *line;
        node.uses.push(Use { at, participants, streams, host });
    }

    fn gone(&mut self, line: &GoneLine) {
        let Some(number) = self.numbers.get(&line.node).copied() else { return };
        if let Some((_, until)) = self.nodes[number].spells.last_mut() {
            until.get_or_insert(when(line.at_ms));
        }
        for room in self.living.values_mut().filter(|room| room.node == Some(number)) {
            for visit in room.inside.drain(..) {
                self.visits[visit].leaves_at = Some(when(line.at_ms));
            }
        }
        self.nodes[number].inside = 0;
    }

    fn lookup(&mut self, line: &LookupLine) {
        let key = RoomKey { namespace: line.namespace.clone(), room: line.room.clone() };
        let at = when(line.at_ms);
        let client = self.client(&line.namespace, line.region.clone(), line.carrier.clone());
        let room = self.living_room(key);
        let number = room.number;
        let is_answered = line.outcome.is_some();
        if is_answered {
            room.asked.push_back((at, client));
        } else {
            self.refused.push(self.visits.len());
            self.visits.push(Visit { at, room: number, client, leaves_at: None });
        }
        let plan = &mut self.rooms[number as usize];
        plan.hint = plan.hint.or(line.expected_participants);
        self.count(line);
    }

    /// What was decided then.
    fn count(&mut self, line: &LookupLine) {
        if line.outcome == Some(Answered::Placed) {
            self.figures.placed += 1;
            if let Some(rung) = line.rung {
                *self.figures.rungs.entry(rung).or_default() += 1;
            }
            let node = line.node.as_ref().and_then(|node| self.numbers.get(node));
            if let Some(node) = node {
                *self.placed.entry(*node).or_default() += 1;
            }
        }
        if line.outcome.is_none() {
            self.figures.count_refused(&line.rejection_counts, line.code.unwrap_or(Code::NoNode));
        }
        self.over += u64::from(line.rejection_counts.iter().any(|counted| is_full(counted.reason)));
    }

    fn room(&mut self, line: &RoomLine) {
        let key = RoomKey { namespace: line.namespace.clone(), room: line.room.clone() };
        let Some(number) = self.numbers.get(&line.node).copied() else { return };
        let is_resident = !self.living.contains_key(&key) && line.at_ms < SETTLED_MS && line.participants > 0;
        let place = self.nodes[number].description.region.clone();
        let stranger = self.client(&line.namespace, Some(place), None);
        let room = self.living_room(key.clone());
        if is_resident {
            let (node, room) = (number as u32, room.number);
            self.residents.push(Resident { node, room });
        }
        let Some(room) = self.living.get_mut(&key) else { return };
        let since = when(line.at_ms).minus(GRANT_TTL_MS);
        while let Some((at, client)) = room.asked.pop_front_if(|(at, _)| *at < since) {
            self.visits.push(only_asked(at, room.number, client));
        }
        let before = room.inside.len() as u32;
        for _ in before..line.participants {
            let (at, client) = match room.asked.pop_front() {
                _ if is_resident => (Millis(0), stranger),
                Some(asked) => asked,
                None => (when(line.at_ms), stranger),
            };
            self.figures.admitted += u64::from(!is_resident);
            room.inside.push_back(self.visits.len());
            self.visits.push(Visit { at, room: room.number, client, leaves_at: None });
        }
        for _ in line.participants..before {
            if let Some(visit) = room.inside.pop_front() {
                self.visits[visit].leaves_at = Some(when(line.at_ms));
            }
        }
        if let Some(home) = room.node.replace(number) {
            self.nodes[home].inside -= before.min(self.nodes[home].inside);
        }
        self.nodes[number].inside += line.participants;
    }

    fn ended(&mut self, line: &EndedLine) {
        let key = RoomKey { namespace: line.namespace.clone(), room: line.room.clone() };
        let Some(mut room) = self.living.remove(&key) else { return };
        if let Some(home) = room.node {
            let inside = room.inside.len() as u32;
            self.nodes[home].inside -= inside.min(self.nodes[home].inside);
        }
        for visit in room.inside.drain(..) {
            self.visits[visit].leaves_at = Some(when(line.at_ms));
        }
        self.forget_asked(room);
    }

    /// Those who looked a room up and never came do so again.
    fn forget_asked(&mut self, room: Room) {
        self.visits.extend(room.asked.into_iter().map(|(at, client)| only_asked(at, room.number, client)));
    }

    fn living_room(&mut self, key: RoomKey) -> &mut Room {
        self.living.entry(key).or_insert_with_key(|key| {
            self.rooms.push(RoomPlan { key: key.clone(), size: 0, hint: None });
            let number = self.rooms.len() as u32 - 1;
            Room { number, node: None, inside: VecDeque::new(), asked: VecDeque::new() }
        })
    }

    fn client(&mut self, namespace: &NamespaceId, region: Option<Region>, carrier: Option<Carrier>) -> u32 {
        let next = self.clients.len() as u32;
        let known = (namespace.clone(), region, carrier);
        *self.known_clients.entry(known).or_insert_with_key(|(namespace, region, carrier)| {
            let (namespace, region, carrier) = (namespace.clone(), region.clone(), carrier.clone());
            self.clients.push(ClientGroup { share: 1.0, namespace, region, carrier });
            next
        })
    }

    fn sample(&mut self, at_ms: u64) {
        self.samples.push(Sample { at: when(at_ms), demand: self.nodes.iter().map(|node| node.inside).collect() });
    }

    fn finish(mut self, end_ms: u64, sample_ms: u64) -> Replay {
        for (_, room) in std::mem::take(&mut self.living) {
            self.forget_asked(room);
        }
        let stay_ms = self.stay_ms();
        for visit in std::mem::take(&mut self.refused) {
            self.visits[visit].leaves_at = Some(self.visits[visit].at.plus(stay_ms));
        }
        for visit in &self.visits {
            self.rooms[visit.room as usize].size += 1;
        }
        self.visits.sort_by_key(|visit| visit.at);
        let end = when(end_ms).plus(COMES_IN_WITHIN_MS);
        let numbers: BTreeMap<usize, NodeId> = self.numbers.iter().map(|(id, number)| (*number, id.clone())).collect();
        let nodes: Vec<NodePlan> =
            self.nodes.iter().zip(numbers.into_values()).map(|(node, id)| node.plan(id, end)).collect();
        let recorded = self.recorded(&nodes);
        let plan = Plan {
            nodes,
            clients: self.clients,
            rooms: self.rooms,
            visits: self.visits,
            residents: self.residents,
            namespaces: Default::default(),
            known_namespaces_only: false,
            delays: Delays::default(),
            jicofo: Jicofo::default(),
            warm_up: WARM_UP,
            end,
            measure_from: when(SETTLED_MS),
            sample_ms,
        };
        Replay { plan, recorded }
    }

    /// How long participants stayed, on average, of those who left.
    fn stay_ms(&self) -> u64 {
        let stays = self.visits.iter().filter_map(|visit| Some(visit.leaves_at?.since(visit.at)).filter(|ms| *ms > 0));
        let (count, total) = stays.fold((0, 0), |(count, total), ms| (count + 1, total + ms));
        total.checked_div(count).unwrap_or(STAY_MS)
    }

    fn recorded(&mut self, nodes: &[NodePlan]) -> Outcome {
        let mut figures = std::mem::take(&mut self.figures);
        let mut found: Vec<NodeFigures> = vec![NodeFigures::default(); nodes.len()];
        let mut measured = Vec::new();
        // A node that came later was empty before.
        for sample in &mut self.samples {
            sample.demand.resize(nodes.len(), 0);
            for ((node, figure), demand) in nodes.iter().zip(&mut found).zip(&sample.demand) {
                figure.most = figure.most.max(*demand);
                figures.max_share = figures.max_share.max(share(node, *demand));
            }
            if let Some(max_mean) = max_mean(&sample.demand).filter(|_| sample.at >= when(SETTLED_MS)) {
                measured.push(max_mean);
            }
        }
        for (node, placed) in &self.placed {
            found[*node].placed = *placed;
        }
        figures.max_mean = (!measured.is_empty()).then(|| measured.iter().sum::<f64>() / measured.len() as f64);
        let residents = self.visits.iter().filter(|visit| visit.at == Millis(0)).count() as u64;
        figures.joins = self.visits.len() as u64 - residents;
        figures.over_capacity = self.over as f64 / self.visits.len().max(1) as f64;
        let samples = std::mem::take(&mut self.samples);
        Outcome { figures, nodes: found, deciding: Duration::ZERO, samples }
    }
}

impl Node {
    fn plan(&self, id: NodeId, end: Millis) -> NodePlan {
        let (per_participant, background) = cost::fit(&self.uses);
        let mut description = self.description.clone();
        // They are not recorded.
        description.signaling_url = format!("wss://{id}.example/signaling");
        description.link_url = format!("wss://{id}.example/link");
        NodePlan {
            id,
            description,
            mode: self.mode,
            mode_changes: self.mode_changes.clone(),
            report_every_ms: [1_000, 1_000],
            per_participant,
            frozen_load: false,
            background,
            spells: self.spells.iter().map(|(from, until)| (*from, until.unwrap_or(end.plus(1)))).collect(),
        }
    }
}

/// Somebody who looked the room up and never came.
fn only_asked(at: Millis, room: u32, client: u32) -> Visit {
    Visit { at, room, client, leaves_at: Some(at) }
}

/// The moment of a trace in the time of the run.
fn when(at_ms: u64) -> Millis {
    WARM_UP.plus(at_ms)
}

#[cfg(test)]
mod tests {
    use crate::trace;

    #[test]
    fn more_participants_than_a_run_takes_are_refused_with_the_line() {
        let lookup = "{\"line\":\"lookup\",\"at_ms\":1,\"namespace\":\"a\",\"room\":\"b\",\"code\":\"no_node\"}\n";
        let header = "{\"line\":\"header\",\"v\":1,\"version\":\"0.1.0\"}\n";
        let trace = trace::read([header, &lookup.repeat(4)].concat().as_bytes(), "t").unwrap();
        let error = super::read(&trace, 2).unwrap_err().to_string();
        assert!(error.starts_with("t:4: expected 2 participants at most in all"), "{error}");
        assert_eq!(super::read(&trace, 4).unwrap().recorded.figures.joins, 4);
    }
}
