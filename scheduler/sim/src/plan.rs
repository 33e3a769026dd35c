//! What one run is about: nodes, rooms and visits with their times, made of a scenario and a seed.

use rand::RngExt as _;
use rand::distr::Distribution as _;
use rand_distr::{Exp, LogNormal, StandardNormal};
use rand_pcg::Pcg64;
use roost_proto::id::{NamespaceId, NodeId, RoomKey, RoomName};
use roost_proto::policy::Policies;
use roost_proto::report::{Description, Host, MediaKind, Mode};
use roost_proto::time::Millis;

use crate::random::stream;
use crate::scenario::{
    Arrivals, ClientGroup, Delays, Hint, Jicofo, Loaded, ModeChange, NodeGroup, PerParticipant, Size,
};

/// The most participants who come in one run: each takes some hundred bytes while it runs.
pub const MOST_VISITS: u64 = 20_000_000;

/// The most participants that a caller expects.
const MOST_HINT: f64 = 10_000.0;

/// All that happens by itself in a run. Times count from the run's beginning, warm-up included.
#[derive(Debug, Clone)]
pub struct Plan {
    pub nodes: Vec<NodePlan>,
    pub clients: Vec<ClientGroup>,
    pub rooms: Vec<RoomPlan>,
    /// In order of time.
    pub visits: Vec<Visit>,
    pub residents: Vec<Resident>,
    pub namespaces: Policies,
    /// Lookups in namespaces without a policy of their own are refused.
    pub known_namespaces_only: bool,
    pub delays: Delays,
    pub jicofo: Jicofo,
    pub warm_up: Millis,
    pub end: Millis,
    /// Load is looked at from here on, and at the end.
    pub measure_from: Millis,
    pub sample_ms: u64,
}

/// A node and what it will do.
#[derive(Debug, Clone)]
pub struct NodePlan {
    pub id: NodeId,
    pub description: Description,
    pub mode: Mode,
    pub mode_changes: Vec<(Millis, Mode)>,
    pub report_every_ms: [u64; 2],
    pub per_participant: PerParticipant,
    pub frozen_load: bool,
    /// What the machine does besides its participants, from a time on.
    pub background: Vec<(Millis, Host)>,
    /// When it is there, from and until; in order.
    pub spells: Vec<(Millis, Millis)>,
}

/// A room that will begin.
#[derive(Debug, Clone)]
pub struct RoomPlan {
    pub key: RoomKey,
    /// How many participants come in all.
    pub size: u32,
    pub hint: Option<u32>,
}

/// A participant who comes to a room.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// Of a room that is there from the beginning: 0, and the participant is inside from then on.
    pub at: Millis,
    pub room: u32,
    pub client: u32,
    /// None: to the end. Who leaves at once only looks the room up.
    pub leaves_at: Option<Millis>,
}

/// A room that is open on a node from the beginning.
#[derive(Debug, Clone, Copy)]
pub struct Resident {
    pub node: u32,
    pub room: u32,
}

impl Plan {
    /// The scenario's run with this seed, in which callers know so much.
    #[must_use]
    pub fn of(loaded: &Loaded, seed: u64, hint: Hint) -> Self {
        let scenario = &loaded.scenario;
        let warm_up = millis(scenario.warm_up_s);
        let end = warm_up.plus(millis(scenario.duration_s).0);
        let mut plan = Self {
            nodes: Vec::new(),
            clients: scenario.clients.clone(),
            rooms: Vec::new(),
            visits: Vec::new(),
            residents: Vec::new(),
            namespaces: loaded.shared.namespaces.clone(),
            known_namespaces_only: false,
            delays: scenario.delays,
            jicofo: scenario.jicofo,
            warm_up,
            end,
            measure_from: scenario.measure_from_s.map_or(end, |from_s| warm_up.plus(millis(from_s).0)),
            sample_ms: millis(scenario.sample_every_s).0.max(1),
        };
        let mut residents = stream(seed, "residents");
        for group in &scenario.nodes {
            plan.add_nodes(group, seed, &mut residents);
        }
        for (index, arrivals) in scenario.arrivals.iter().enumerate() {
            let mut begin = stream(seed, &format!("arrivals {index}"));
            let listed = loaded.rows.get(index).and_then(Option::as_ref);
            let rooms: Vec<(Millis, u32, Option<f64>)> = match listed {
                Some(rows) => {
                    let row = |row| (row, rows.hint(row, hint));
                    rows.of(seed).iter().map(row).map(|(row, hint)| (Millis(row.at_ms), row.size, hint)).collect()
                }
                None => generated(arrivals, hint, scenario.duration_s, &mut begin),
            };
            let mut joins = stream(seed, &format!("joins {index}"));
            for (number, (at, size, hint)) in rooms.into_iter().enumerate() {
                let hint = hint.map(|hint| hint.round().clamp(1.0, MOST_HINT) as u32);
                plan.add_room(format!("room-{seed}-{index}-{number}"), (at, size, hint), arrivals, &mut joins);
            }
        }
        plan.visits.retain(|visit| visit.at < end);
        plan.visits.sort_by_key(|visit| visit.at);
        plan
    }

    fn add_nodes(&mut self, group: &NodeGroup, seed: u64, random: &mut Pcg64) {
        for number in 1..=group.count {
            let node = self.nodes.len() as u32;
            self.nodes.push(group.node(number, self));
            for (room, participants) in shares(group, random).into_iter().enumerate() {
                let key = room_key(group.residents_namespace(&self.clients), &format!("resident-{seed}-{node}-{room}"));
                let room = self.rooms.len() as u32;
                self.rooms.push(RoomPlan { key, size: participants, hint: None });
                self.residents.push(Resident { node, room });
                let inside = Visit { at: Millis(0), room, client: 0, leaves_at: None };
                self.visits.extend(std::iter::repeat_n(inside, participants as usize));
            }
        }
    }

    fn add_room(
        &mut self,
        name: String,
        (at, size, hint): (Millis, u32, Option<u32>),
        arrivals: &Arrivals,
        random: &mut Pcg64,
    ) {
        let first = pick(&self.clients, |_| true, random);
        let namespace = self.clients[first as usize].namespace.clone();
        let room = self.rooms.len() as u32;
        self.rooms.push(RoomPlan { key: room_key(&namespace, &name), size, hint });
        let at = self.warm_up.plus(at.0);
        for participant in 0..size {
            let (client, later_ms) = match participant {
                0 => (first, 0),
                _ => {
                    let client = pick(&self.clients, |client| client.namespace == namespace, random);
                    (client, (random.random::<f64>() * arrivals.fill_s * 1_000.0) as u64)
                }
            };
            let at = at.plus(later_ms);
            let mut stay = |stay_s: f64| Exp::new(1.0 / stay_s).expect("it was checked").sample(random);
            let leaves_at = arrivals.stay_s.map(|stay_s| at.plus(millis(stay(stay_s)).0));
            self.visits.push(Visit { at, room, client, leaves_at });
        }
    }
}

impl NodeGroup {
    /// The name of the group's node of this number.
    #[must_use]
    pub fn name(&self, number: u32) -> String {
        let width = self.count.to_string().len();
        self.id.replace("{}", &format!("{number:0width$}"))
    }

    /// Whose rooms are there from the beginning. A node that serves only some namespaces has rooms of the first of them.
    pub(crate) fn residents_namespace<'a>(&'a self, clients: &'a [ClientGroup]) -> &'a NamespaceId {
        self.namespaces.first().unwrap_or(&clients[0].namespace)
    }

    fn node(&self, number: u32, plan: &Plan) -> NodePlan {
        let id = NodeId::new(self.name(number)).expect("it was checked");
        let change = |change: &ModeChange| (plan.warm_up.plus(millis(change.at_s).0), change.mode);
        NodePlan {
            description: Description {
                region: self.region.clone(),
                carriers: self.carriers.clone(),
                namespaces: self.namespaces.clone(),
                priority: self.priority,
                signaling_url: format!("wss://{id}.example/signaling"),
                link_url: format!("wss://{id}.example/link"),
                media: MediaKind::Synthetic,
                capacity: self.capacity.into(),
                temporary: false,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            id,
            mode: self.mode,
            mode_changes: self.mode_changes.iter().map(change).collect(),
            report_every_ms: self.report_every_ms,
            per_participant: self.per_participant,
            frozen_load: self.frozen_load,
            background: Vec::new(),
            spells: vec![(Millis(0), plan.end.plus(1))],
        }
    }
}

/// Seconds as ms.
pub(crate) fn millis(seconds: f64) -> Millis {
    Millis((seconds * 1_000.0).round() as u64)
}

fn room_key(namespace: &NamespaceId, name: &str) -> RoomKey {
    RoomKey { namespace: namespace.clone(), room: RoomName::new(name).expect("it is short and plain") }
}

/// When rooms begin, how large they get, and what callers say of that.
fn generated(arrivals: &Arrivals, hint: Hint, duration_s: f64, random: &mut Pcg64) -> Vec<(Millis, u32, Option<f64>)> {
    let over_s = arrivals.over_s.unwrap_or(duration_s - arrivals.from_s);
    let mut times: Vec<f64> = match arrivals.rooms_per_s {
        Some(rate) => {
            let gap = Exp::new(rate).expect("it was checked");
            let mut at = 0.0;
            std::iter::from_fn(|| {
                at += gap.sample(random);
                (at < over_s).then_some(at)
            })
            .collect()
        }
        None => (0..arrivals.rooms.unwrap_or(0)).map(|_| random.random::<f64>() * over_s).collect(),
    };
    times.sort_by(f64::total_cmp);
    let room = |at: f64| {
        let size = arrivals.size.draw(random);
        // Drawn in any case, so that the same seed gives the same rooms whatever callers know.
        let off: f64 = StandardNormal.sample(random);
        let hint = match hint {
            Hint::None => None,
            Hint::Off { percent } => Some(f64::from(size) * (f64::from(percent) / 100.0 * off).exp()),
        };
        (millis(arrivals.from_s + at), size, hint)
    };
    times.into_iter().map(room).collect()
}

impl Size {
    /// The size of one room.
    fn draw(self, random: &mut Pcg64) -> u32 {
        self.draw_exactly(random).round().clamp(1.0, 100_000.0) as u32
    }

    fn draw_exactly(self, random: &mut Pcg64) -> f64 {
        let mu = self.mean.ln() - self.sigma2 / 2.0;
        LogNormal::new(mu, self.sigma2.sqrt()).expect("it was checked").sample(random)
    }
}

/// How the participants of a node's first rooms are divided: each has at least one, the others as sizes of rooms are.
fn shares(group: &NodeGroup, random: &mut Pcg64) -> Vec<u32> {
    let weights: Vec<f64> = (0..group.initial_rooms).map(|_| Size::default().draw_exactly(random)).collect();
    let total: f64 = weights.iter().sum();
    let rest = f64::from(group.initial_participants.saturating_sub(group.initial_rooms));
    let (mut cumulated, mut given) = (0.0, 0);
    weights
        .into_iter()
        .map(|weight| {
            cumulated += weight;
            let due = (cumulated / total * rest).round() as u32;
            let share = 1 + due - given;
            given = due;
            share
        })
        .collect()
}

/// One of the groups that are fit, each as often as its share says.
fn pick(clients: &[ClientGroup], is_fit: impl Fn(&ClientGroup) -> bool, random: &mut Pcg64) -> u32 {
    let fit = || clients.iter().enumerate().filter(|(_, client)| is_fit(client));
    let mut left = random.random::<f64>() * fit().map(|(_, client)| client.share).sum::<f64>();
    for (index, client) in fit() {
        left -= client.share;
        if left <= 0.0 {
            return index as u32;
        }
    }
    fit().last().map_or(0, |(index, _)| index as u32)
}
