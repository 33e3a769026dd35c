//! Scenarios that cannot be are refused with file, key, value and what was expected.

use std::fs;
use std::path::Path;

use roost_sim::scenario;

use crate::folder;

const GOOD: &str = r#"
title = "t"
duration_s = 10
[[nodes]]
id = "n-{}"
count = 2
region = "cn/east"
capacity = { participants = 10 }
[[arrivals]]
rooms = 3
"#;

#[test]
fn every_scenario_that_is_shipped_can_be_run() {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let scenarios: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(scenarios.len() >= 5, "{scenarios:?}");
    for path in scenarios {
        scenario::load(&path).unwrap();
    }
}

#[test]
fn a_scenario_that_cannot_be_is_refused_with_key_value_and_reason() {
    let (change, add) = (|from: &str, to: &str| GOOD.replace(from, to), |more: &str| format!("{GOOD}{more}"));
    assert_eq!(refused(GOOD, ""), None);
    for (text, expected) in [
        (String::new(), "title: \"\": expected a few words"),
        (change("title", "titel"), "titel: unknown field `titel`, expected one of `title`"),
        (change("10\n", "-10\n"), "duration_s: -10.0: expected 0.001 to 604800"),
        (change("10\n", "nan\n"), "duration_s: NaN: expected 0.001 to 604800"),
        (change("10\n", "'long'\n"), "duration_s: invalid type: string \"long\", expected f64"),
        (format!("seeds = 0\n{GOOD}"), "seeds: 0: expected 1 to 10000"),
        (format!("schedulers = [1, 0]\n{GOOD}"), "schedulers: 0: expected 1 to 1000"),
        (format!("schedulers = []\n{GOOD}"), "schedulers: []: expected at least one"),
        (format!("warm_up_s = 1\n{GOOD}"), "warm_up_s: 1.0: expected 6 to"),
        (format!("policies = ['best']\n{GOOD}"), "policies[0]: \"best\": expected one of roost, "),
        (format!("hints = ['30']\n{GOOD}"), "hints[0]: \"30\": expected none, or how far hints are off"),
        (add("[delays]\nevents_ms = [9, 3]"), "delays.events_ms: [9, 3]: expected the least and the most"),
        (change("n-{}", "n"), "nodes[0].id: \"n\": expected names that no other node has, with {} for a number"),
        (change("n-{}", "N-{}"), "nodes[0].id: \"N-{}\": expected with {} for a number: node \"N-1\""),
        (change("count = 2", "count = 200000"), "nodes[0].count: 200000: expected 1 to 100000 nodes in all"),
        (change("cn/east", "cn/east/cn"), "nodes[0].region: \"cn/east/cn\": expected the label cn once"),
        (change("participants = 10", "participant = 10"), "nodes[0].capacity.participant: unknown field"),
        (change("capacity", "mode = 'asleep'\ncapacity"), "nodes[0].mode: unknown variant `asleep`"),
        (change("capacity", "initial_rooms = 3\ncapacity"), "nodes[0].initial_participants: 0: expected 3 to"),
        (
            change("capacity", "initial_rooms = 1\ninitial_participants = 11\ncapacity"),
            "nodes[0].initial_participants: 11: expected 10 at most",
        ),
        (
            change("capacity", "per_participant = { cpu_permille = -1 }\ncapacity"),
            "nodes[0].per_participant.cpu_permille: -1.0: expected 0 to 1000",
        ),
        (change("capacity", "report_every_ms = [0, 5]\ncapacity"), "nodes[0].report_every_ms: [0, 5]: expected"),
        (
            change("rooms = 3", "rooms = 3\nrooms_per_s = 1"),
            "arrivals[0]: \"2 of csv, rooms, rooms_per_s\": expected one",
        ),
        (change("rooms = 3", "rooms = 3\nfrom_s = 20"), "arrivals[0].from_s: 20.0: expected 0 to 10"),
        (change("rooms = 3", "rooms = 3\nsize = { mean = 0 }"), "arrivals[0].size.mean: 0.0: expected 1 to"),
        (change("rooms = 3", "csv = 'none.csv'"), "arrivals[0].csv: "),
        (add("[[clients]]\nshare = 0"), "clients[0].share: 0.0: expected"),
        (
            add("[carriers.a]\nasns = [1]\n[[clients]]\ncarrier = 'b'"),
            "clients[0].carrier: \"b\": expected AS and a number",
        ),
        (add("[carriers.a]\nasns = [1]\n[carriers.b]\nasns = [1]"), "carriers.b.asns[0]: 1: expected it in one place"),
        (
            add("[namespaces.a]\nladder = ['anywhere', 'region']"),
            "namespaces.a.ladder: region after anywhere: expected",
        ),
        (
            add("[namespaces.a]\nfence = ['cn', 'cn/east']"),
            "namespaces.a.fence[1]: \"cn/east\": expected a region outside",
        ),
        (add("[regions.'cn/cn']"), "regions.cn/cn: \"cn/cn\": expected the label cn once"),
        (add("[[goals]]\npolicy = 'oracle'"), "goals[0].policy: \"oracle\": expected one that the scenario runs"),
        (add("[scheduler]"), "scheduler: unknown field `scheduler`"),
        (add("[media]"), "media: unknown field `media`"),
        ("title".to_owned(), "expected TOML"),
    ] {
        let error = refused(&text, "").unwrap_or_default();
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}

#[test]
fn rooms_that_could_not_be_there_are_refused() {
    let change = |from: &str, to: &str| GOOD.replace(from, to);
    for (text, expected) in [
        (
            change("capacity", "mode = 'maintenance'\ninitial_rooms = 1\ninitial_participants = 2\ncapacity"),
            "nodes[0].initial_rooms: 1: expected 0, because the node's mode lets nobody in",
        ),
        (
            change("capacity", "initial_rooms = 1\ninitial_participants = 2\ncapacity")
                + "[namespaces.default]\nfence = ['eu']",
            "nodes[0].initial_rooms: 1: expected 0, because cn/east is outside the fence of the namespace default",
        ),
    ] {
        let error = refused(&text, "").unwrap_or_default();
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    let draining = change("capacity", "mode = 'draining'\ninitial_rooms = 1\ninitial_participants = 2\ncapacity");
    assert_eq!(refused(&draining, ""), None, "its rooms may stay");
}

#[test]
fn more_participants_than_a_run_takes_are_refused() {
    let change = |from: &str, to: &str| GOOD.replace(from, to);
    for (text, expected) in [
        (
            change("rooms = 3", "rooms = 5000000\nsize = { mean = 100000 }"),
            "arrivals[0].rooms: 5000000.0: expected 20000000 participants at most in one run, with size.mean 100000",
        ),
        (
            change("rooms = 3", "rooms_per_s = 100000\nsize = { mean = 100 }"),
            "arrivals[0].rooms_per_s: 100000.0: expected 20000000 participants at most in one run, with over_s times",
        ),
        (
            format!("{}[[arrivals]]\nrooms = 1999990\nsize = {{ mean = 10 }}", change("rooms = 3", "rooms = 9")),
            "arrivals[1].rooms: 1999990.0: expected 20000000 participants",
        ),
        (
            change("count = 2", "count = 1000\ninitial_rooms = 1\ninitial_participants = 50000")
                .replace("= 10 }", "= 0 }"),
            "nodes[0].initial_participants: 50000.0: expected 20000000 participants at most in one run, with count 1000",
        ),
    ] {
        let error = refused(&text, "").unwrap_or_default();
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    let rows = format!("seed,at_ms,size\n{}", "0,1,100000\n".repeat(201));
    let listed = format!("seeds = 1\n{}", change("rooms = 3", "csv = 'rooms.csv'"));
    let error = refused(&listed, &rows).unwrap_or_default();
    assert!(error.contains("rooms.csv: line 202: size 100000: expected 20000000 participants at most"), "{error}");
}

#[test]
fn rooms_that_cannot_be_are_refused_with_file_line_and_reason() {
    let scenario = format!("seeds = 2\nhints = ['none', '30%']\n{}", GOOD.replace("rooms = 3", "csv = 'rooms.csv'"));
    let good = "seed,at_ms,size,hint_30\n0,1,5,4.5\n0,7,1,1\n1,2,3,3\n";
    assert_eq!(refused(&scenario, good), None);
    for (rows, expected) in [
        (good.replace("seed,", "sead,"), "rooms.csv: line 1: column \"sead\": expected seed,at_ms,size"),
        (good.replace("hint_30", "hint_x"), "rooms.csv: line 1: column \"hint_x\": expected hint_ and"),
        (good.replace("hint_30", "hint_40"), "rooms.csv: arrivals[0].csv: no column hint_30"),
        (good.replace("0,1,5,", "0,1,0,"), "rooms.csv: line 2: size 0: expected at least 1"),
        (good.replace("0,1,5,", "0,1,-5,"), "rooms.csv: line 2: size \"-5\": expected a whole number"),
        (good.replace("4.5", "nan"), "rooms.csv: line 2: hint \"nan\": expected a number of 0 or more"),
        (good.replace("0,1,5,4.5", "0,1,5"), "rooms.csv: line 2: "),
        (good.replace("0,1,", "0,9,"), "rooms.csv: line 3: at_ms 7: expected the rooms of a seed in order of time"),
        (good.replace("1,2,3,3\n", ""), "rooms.csv: arrivals[0].csv: no rooms for seed 1"),
    ] {
        let error = refused(&scenario, &rows).unwrap_or_default();
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}

#[test]
fn every_key_of_a_scenario_is_explained() {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let tables = ["", "delays", "nodes", "nodes.mode_changes", "nodes.capacity", "nodes.per_participant"];
    for table in tables.into_iter().chain(["clients", "arrivals", "arrivals.size", "goals", "jicofo"]) {
        let lists = ["nodes", "clients", "arrivals", "goals"];
        let named = match table {
            "" => "x = 1".to_owned(),
            "nodes.mode_changes" => "[[nodes]]\nmode_changes = [{ x = 1 }]".to_owned(),
            _ => match (table.split_once('.'), lists.contains(&table)) {
                (Some((list, inner)), _) => format!("[[{list}]]\n{inner} = {{ x = 1 }}"),
                (None, true) => format!("[[{table}]]\nx = 1"),
                (None, false) => format!("[{table}]\nx = 1"),
            },
        };
        let error = refused(&named, "").unwrap();
        let (_, keys) = error.split_once("unknown field `x`, expected ").unwrap_or_else(|| panic!("{table}: {error}"));
        for key in keys.split('`').skip(1).step_by(2) {
            let path = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
            let is_explained = readme.contains(&format!("| `{path}` |")) || readme.contains(&format!("| `{path}."));
            assert!(is_explained, "{path} is not in the table of keys");
        }
    }
}

/// Why the scenario is refused, with `rows` beside it; the error begins with the file.
fn refused(scenario: &str, rows: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    fs::write(&path, scenario).unwrap();
    fs::write(folder.path().join("rooms.csv"), rows).unwrap();
    let error = scenario::load(&path).err()?.to_string();
    assert!(error.starts_with(&*folder.path().to_string_lossy()), "{error}");
    assert!(Path::new(&path).exists());
    Some(error)
}
