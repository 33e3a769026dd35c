//! What makes a scenario impossible, although each of its values could be read.

use std::collections::BTreeSet;

use roost_proto::geography;
use roost_proto::id::NodeId;
use roost_proto::report::Mode;
use roost_scheduler_core::time::{DEFAULT_LEASE_MS, REPORT_EVERY_MS};
use roost_server::{ConfigError, Shared};

use super::rows::MOST_PARTICIPANTS;
use super::{Arrivals, Goal, NodeGroup, Scenario};
use crate::plan::MOST_VISITS;

/// The longest run.
const MOST_S: f64 = 7.0 * 24.0 * 3_600.0;
const MOST_NODES: u32 = 100_000;
const MOST_SCHEDULERS: u16 = 1_000;
const MOST_SEEDS: u32 = 10_000;
const MOST_ROOMS: f64 = 5_000_000.0;
const MOST_DELAY_MS: u64 = 60_000;

type Checked = Result<(), ConfigError>;

pub(super) fn check(scenario: &Scenario, shared: &Shared) -> Checked {
    if scenario.title.trim().is_empty() {
        return Err(ConfigError::wrong("title", &scenario.title, "a few words"));
    }
    between("duration_s", scenario.duration_s, (0.001, MOST_S))?;
    // Before a grace is over nothing is placed.
    between("warm_up_s", scenario.warm_up_s, ((DEFAULT_LEASE_MS + 2 * REPORT_EVERY_MS) as f64 / 1_000.0, MOST_S))?;
    between("sample_every_s", scenario.sample_every_s, (0.1, MOST_S))?;
    if let Some(from_s) = scenario.measure_from_s {
        between("measure_from_s", from_s, (0.0, scenario.duration_s))?;
    }
    if scenario.seeds == 0 || scenario.seeds > MOST_SEEDS {
        return Err(ConfigError::wrong("seeds", scenario.seeds, &format!("1 to {MOST_SEEDS}")));
    }
    if scenario.repeats == 0 || scenario.repeats > MOST_SEEDS {
        return Err(ConfigError::wrong("repeats", scenario.repeats, &format!("1 to {MOST_SEEDS}")));
    }
    let each = |key: &str, length: usize| match length {
        0 => Err(ConfigError::wrong(key, [(); 0], "at least one")),
        _ => Ok(()),
    };
    each("schedulers", scenario.schedulers.len())?;
    each("policies", scenario.policies.len())?;
    each("hints", scenario.hints.len())?;
    each("nodes", scenario.nodes.len())?;
    each("clients", scenario.clients.len())?;
    each("arrivals", scenario.arrivals.len())?;
    if let Some(count) = scenario.schedulers.iter().find(|count| !(1..=MOST_SCHEDULERS).contains(count)) {
        return Err(ConfigError::wrong("schedulers", count, &format!("1 to {MOST_SCHEDULERS}")));
    }
    delays(scenario)?;
    nodes(scenario, shared)?;
    clients(scenario, shared)?;
    for (index, arrivals) in scenario.arrivals.iter().enumerate() {
        self::arrivals(&format!("arrivals[{index}]"), arrivals, scenario.duration_s)?;
    }
    participants(scenario)?;
    for (index, goal) in scenario.goals.iter().enumerate() {
        self::goal(&format!("goals[{index}]"), goal, scenario)?;
    }
    between("jicofo.stress_permille", scenario.jicofo.stress_permille, (0.0, 1_000.0))?;
    between("jicofo.within_s", scenario.jicofo.within_s, (0.0, MOST_S))
}

fn delays(scenario: &Scenario) -> Checked {
    let delays = &scenario.delays;
    span("delays.events_ms", delays.events_ms, 0)?;
    span("delays.store_ms", delays.store_ms, 0)?;
    span("delays.client_ms", delays.client_ms, 0)
}

fn nodes(scenario: &Scenario, shared: &Shared) -> Checked {
    let mut names = BTreeSet::new();
    for (index, group) in scenario.nodes.iter().enumerate() {
        let key = format!("nodes[{index}]");
        let most = MOST_NODES.saturating_sub(names.len() as u32);
        if group.count == 0 || group.count > most {
            return Err(ConfigError::wrong(
                &format!("{key}.count"),
                group.count,
                &format!("1 to {MOST_NODES} nodes in all"),
            ));
        }
        for number in 1..=group.count {
            let name = group.name(number);
            if let Err(error) = NodeId::new(&name) {
                return Err(ConfigError::wrong(
                    &format!("{key}.id"),
                    &group.id,
                    &format!("with {{}} for a number: {error}"),
                ));
            }
            if !names.insert(name) {
                return Err(ConfigError::wrong(
                    &format!("{key}.id"),
                    &group.id,
                    "names that no other node has, with {} for a number",
                ));
            }
        }
        node(&key, group, shared, scenario.duration_s)?;
        residents(&key, group, scenario, shared)?;
    }
    Ok(())
}

fn node(key: &str, group: &NodeGroup, shared: &Shared, duration_s: f64) -> Checked {
    geography::check_path(&format!("{key}.region"), &group.region)?;
    for (index, carrier) in group.carriers.iter().enumerate() {
        geography::check_carrier(&format!("{key}.carriers[{index}]"), carrier, &shared.carriers)?;
    }
    for (index, change) in group.mode_changes.iter().enumerate() {
        between(&format!("{key}.mode_changes[{index}].at_s"), change.at_s, (0.0, duration_s))?;
    }
    span(&format!("{key}.report_every_ms"), group.report_every_ms, 100)?;
    let cost = &group.per_participant;
    for (name, value, most) in [
        ("cpu_permille", cost.cpu_permille, 1_000.0),
        ("memory_permille", cost.memory_permille, 1_000.0),
        ("bps", cost.bps, 1e12),
        ("streams", cost.streams, 1e6),
    ] {
        between(&format!("{key}.per_participant.{name}"), value, (0.0, most))?;
    }
    for (name, value) in
        [("cpu_permille", group.capacity.cpu_permille), ("memory_permille", group.capacity.memory_permille)]
    {
        if value > 1_000 {
            return Err(ConfigError::wrong(
                &format!("{key}.capacity.{name}"),
                value,
                "1000 at most: all that the machine has",
            ));
        }
    }
    let (rooms, participants) = (group.initial_rooms, group.initial_participants);
    if participants < rooms || (rooms == 0 && participants > 0) || participants > MOST_PARTICIPANTS {
        let expected = format!("{rooms} to {MOST_PARTICIPANTS}, one for each of the rooms, and none without rooms");
        return Err(ConfigError::wrong(&format!("{key}.initial_participants"), participants, &expected));
    }
    for (name, value, limit) in [
        ("initial_participants", participants, group.capacity.participants),
        ("initial_rooms", rooms, group.capacity.rooms),
    ] {
        if limit > 0 && value > limit {
            return Err(ConfigError::wrong(
                &format!("{key}.{name}"),
                value,
                &format!("{limit} at most, the node's capacity"),
            ));
        }
    }
    Ok(())
}

/// Rooms are there from the beginning only where they could have come to be.
fn residents(key: &str, group: &NodeGroup, scenario: &Scenario, shared: &Shared) -> Checked {
    let refused =
        |expected: &str| Err(ConfigError::wrong(&format!("{key}.initial_rooms"), group.initial_rooms, expected));
    let namespace = group.residents_namespace(&scenario.clients);
    if group.initial_rooms == 0 {
        Ok(())
    } else if matches!(group.mode, Mode::BlockNewParticipants | Mode::Maintenance) {
        refused("0, because the node's mode lets nobody in")
    } else if !shared.namespaces.of(namespace).allows(&group.region) {
        refused(&format!("0, because {} is outside the fence of the namespace {namespace}", group.region))
    } else {
        Ok(())
    }
}

fn clients(scenario: &Scenario, shared: &Shared) -> Checked {
    for (index, group) in scenario.clients.iter().enumerate() {
        let key = format!("clients[{index}]");
        between(&format!("{key}.share"), group.share, (1e-9, 1e9))?;
        if let Some(region) = &group.region {
            geography::check_path(&format!("{key}.region"), region)?;
        }
        if let Some(carrier) = &group.carrier {
            geography::check_carrier(&format!("{key}.carrier"), carrier, &shared.carriers)?;
        }
    }
    Ok(())
}

fn arrivals(key: &str, arrivals: &Arrivals, duration_s: f64) -> Checked {
    let ways = [arrivals.csv.is_some(), arrivals.rooms.is_some(), arrivals.rooms_per_s.is_some()];
    let given = ways.iter().filter(|way| **way).count();
    if given != 1 {
        return Err(ConfigError::wrong(key, format!("{given} of csv, rooms, rooms_per_s"), "one of them"));
    }
    between(&format!("{key}.from_s"), arrivals.from_s, (0.0, duration_s))?;
    let over_s = arrivals.over_s.unwrap_or(duration_s - arrivals.from_s);
    between(&format!("{key}.over_s"), over_s, (0.0, duration_s - arrivals.from_s))?;
    between(&format!("{key}.fill_s"), arrivals.fill_s, (0.0, MOST_S))?;
    if let Some(stay_s) = arrivals.stay_s {
        between(&format!("{key}.stay_s"), stay_s, (0.001, MOST_S))?;
    }
    between(&format!("{key}.size.mean"), arrivals.size.mean, (1.0, MOST_PARTICIPANTS.into()))?;
    between(&format!("{key}.size.sigma2"), arrivals.size.sigma2, (0.0, 10.0))?;
    if let Some(rooms) = arrivals.rooms {
        between(&format!("{key}.rooms"), rooms.into(), (1.0, MOST_ROOMS))?;
    }
    if let Some(rooms_per_s) = arrivals.rooms_per_s {
        between(&format!("{key}.rooms_per_s"), rooms_per_s, (1e-9, MOST_ROOMS / over_s.max(1e-9)))?;
    }
    Ok(())
}

/// Those who are there and those who come are bounded together; rooms of a file are counted when it is read.
fn participants(scenario: &Scenario) -> Checked {
    let mut all = 0.0;
    let mut add = |key: String, value: f64, each: f64, of: &str| {
        all += value * each;
        if all <= MOST_VISITS as f64 {
            return Ok(());
        }
        let expected = format!("{MOST_VISITS} participants at most in one run, with {of} {each}");
        Err(ConfigError::wrong(&key, value, &expected))
    };
    for (index, group) in scenario.nodes.iter().enumerate() {
        let key = format!("nodes[{index}].initial_participants");
        add(key, group.initial_participants.into(), group.count.into(), "count")?;
    }
    for (index, arrivals) in scenario.arrivals.iter().enumerate() {
        let (mean, over_s) = (arrivals.size.mean, arrivals.over_s.unwrap_or(scenario.duration_s - arrivals.from_s));
        let key = |name: &str| format!("arrivals[{index}].{name}");
        add(key("rooms"), arrivals.rooms.unwrap_or(0).into(), mean, "size.mean")?;
        add(key("rooms_per_s"), arrivals.rooms_per_s.unwrap_or(0.0), over_s * mean, "over_s times size.mean")?;
    }
    Ok(())
}

fn goal(key: &str, goal: &Goal, scenario: &Scenario) -> Checked {
    let run = |name: &str, is_run: bool, value: String| match is_run {
        true => Ok(()),
        false => Err(ConfigError::wrong(&format!("{key}.{name}"), value, "one that the scenario runs")),
    };
    run("policy", scenario.policies.contains(&goal.policy), goal.policy.to_string())?;
    run("hint", scenario.hints.contains(&goal.hint), goal.hint.to_string())?;
    if let Some(hint) = goal.no_worse_than {
        run("no_worse_than", scenario.hints.contains(&hint), hint.to_string())?;
    }
    for (name, value) in [
        ("max_mean", goal.max_mean),
        ("over_capacity_percent", goal.over_capacity_percent),
        ("max_share_percent", goal.max_share_percent),
    ] {
        if let Some(value) = value {
            between(&format!("{key}.{name}"), value, (0.0, 1e6))?;
        }
    }
    Ok(())
}

fn between(key: &str, value: f64, (least, most): (f64, f64)) -> Checked {
    // Not a number is between nothing.
    if value >= least && value <= most {
        Ok(())
    } else {
        Err(ConfigError::wrong(key, value, &format!("{least} to {most}")))
    }
}

fn span(key: &str, [least, most]: [u64; 2], lowest: u64) -> Checked {
    if lowest <= least && least <= most && most <= MOST_DELAY_MS {
        return Ok(());
    }
    let expected = format!("the least and the most, from {lowest} to {MOST_DELAY_MS}");
    Err(ConfigError::wrong(key, [least, most], &expected))
}
