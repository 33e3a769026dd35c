//! `replay`: what a scheduler recorded comes out as it was, and otherwise with another configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use roost_proto::id::{Epoch, RoomKey};
use roost_proto::report::RoomReport;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::process::Scheduler;
use crate::wait;

const ROOMS: u32 = 36;

#[tokio::test]
async fn a_recording_is_replayed_as_it_was_or_with_another_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    // With their own names rooms are spread in the same way once more.
    let mut scheduler =
        Scheduler::start_with(&["--dev", "--record", trace.to_str().unwrap(), "--record-names"]).await.ready().await;
    let placed = talk(&scheduler).await;
    scheduler.stop().await;

    let same = replay(&[trace.to_str().unwrap(), "--json"]);
    let (recorded, replayed) = (&same["recorded"], &same["replayed"]);
    assert_eq!(recorded["placed"], ROOMS);
    for figure in ["joins", "placed", "rungs", "refusals"] {
        assert_eq!(recorded[figure], replayed[figure], "{figure}: {same}");
    }
    for (node, rooms) in placed {
        assert_eq!(same["nodes"][&node]["recorded"]["placed"], rooms, "{same}");
        for (figure, apart) in [("placed", 4), ("most", 10)] {
            let [then, now] = ["recorded", "replayed"].map(|run| same["nodes"][&node][run][figure].as_i64().unwrap());
            assert!((then - now).abs() <= apart, "{figure} of {node}: {same}");
        }
    }
    let balance = |outcome: &Value| outcome["max_mean"].as_f64().unwrap();
    assert!((balance(recorded) - balance(replayed)).abs() < 0.4, "{same}");

    let fenced = folder.path().join("fenced.toml");
    std::fs::write(&fenced, "[namespaces.default]\nfence = ['us']\n[scheduler]\nstore = 'embedded'\n").unwrap();
    let plots = folder.path().join("plots");
    let arguments = [trace.as_path(), Path::new("--config"), &fenced, Path::new("--plot"), &plots, Path::new("--json")];
    let changed = replay(&arguments.map(|argument| argument.to_str().unwrap()));
    assert_eq!(changed["nodes"]["iad-1"]["replayed"]["placed"], ROOMS, "{changed}");
    assert_eq!(changed["recorded"], *recorded);
    for picture in ["recorded.svg", "replayed.svg"] {
        assert!(std::fs::read_to_string(plots.join(picture)).unwrap().contains("capacity 100"), "{picture}");
    }
}

#[test]
fn a_trace_that_cannot_be_read_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let file = path.to_str().unwrap();
    let told = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_roost-scheduler")).arg("replay").args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(told(&[file]).contains(&format!("{file}: expected a readable trace: No such file")), "{}", told(&[file]));
    std::fs::write(&path, "{\"line\":\"header\",\"v\":1,\"version\":\"0.1.0\"}\nwhat?\n").unwrap();
    assert!(told(&[file]).contains(&format!("{file}:2: expected a line of a trace")), "{}", told(&[file]));
}

#[test]
fn the_namespaces_of_another_configuration_hold_and_what_has_no_effect_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, config) = (folder.path().join("trace"), folder.path().join("config.toml"));
    std::fs::write(&trace, TRACE).unwrap();
    let text = "[scheduler]\nallow_unknown_namespaces = false\n[namespaces.other]\n[carriers.telekom]\nasns = [3320]\n";
    std::fs::write(&config, text).unwrap();
    let [trace, config] = [&trace, &config].map(|path| path.to_str().unwrap());
    let (figures, warning) = replay_and_warn(&[trace, "--config", config, "--json"]);
    assert_eq!(figures["recorded"]["refused"], json!({ "no_node": 1 }));
    assert_eq!(figures["replayed"]["refused"], json!({ "namespace_not_allowed": 1 }));
    assert_eq!(warning.lines().count(), 1);
    assert!(warning.starts_with(&format!("{config}: regions and carriers have no effect")), "{warning}");
    std::fs::write(config, text.replace("false", "true").replace("[carriers.telekom]\nasns = [3320]\n", "")).unwrap();
    let (figures, warning) = replay_and_warn(&[trace, "--config", config, "--json"]);
    assert_eq!((&figures["replayed"]["refused"], warning.as_str()), (&json!({ "no_node": 1 }), ""));
    assert!(figures["decisions_per_second"].as_f64().unwrap() > 0.0, "{figures}");
}

#[test]
fn a_folder_that_cannot_be_is_named_and_a_closed_pipe_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    std::fs::write(&path, TRACE).unwrap();
    let file = path.to_str().unwrap();
    let replay = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roost-scheduler"));
        command.args(["replay", file]).stderr(Stdio::piped());
        command
    };
    let output = replay().args(["--plot", file]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let expected = format!("--plot {file}: expected a folder that can be written to: File exists");
    assert!(errors.contains(&expected), "{errors}");
    let mut child = replay().stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

/// Somebody who was refused because no node was known.
const TRACE: &str = r#"{"line":"header","v":1,"version":"0.1.0"}
{"line":"lookup","at_ms":9000,"namespace":"default","room":"x","code":"no_node"}
"#;

/// Two thirds of the clients are in `eu/central`, with two nodes, the others in `us/east`, with one. How many rooms each
/// node got.
async fn talk(scheduler: &Scheduler) -> BTreeMap<String, u32> {
    let mut agents = BTreeMap::new();
    for (id, region) in [("fra-1", "eu/central"), ("fra-2", "eu/central"), ("iad-1", "us/east")] {
        agents.insert(id.to_owned(), Agent::start(&scheduler.cluster, id, region).await);
    }
    scheduler.knows(3).await;
    let mut placed = BTreeMap::new();
    let mut all = 0;
    for number in 0..ROOMS {
        let (name, region) = (format!("room-{number}"), if number % 3 < 2 { "eu/central" } else { "us/east" });
        let found = scheduler.lookup_from(region, &name).await;
        let (node, epoch) = (found["node"]["id"].as_str().unwrap().to_owned(), found["epoch"].as_u64().unwrap());
        agents[&node].open(&name, epoch).await;
        let participants = 1 + number % 4;
        agents[&node].say(|report| {
            let key = RoomKey::new("default", &name).unwrap();
            let epoch = Epoch(epoch);
            report.changed.push(RoomReport { key, epoch, worker: 0, participants, producers: 0, consumers: 0 });
            report.rooms += 1;
            report.participants += participants;
        });
        *placed.entry(node).or_default() += 1;
        all += participants;
    }
    wait::until("everybody is known of", || async {
        (scheduler.admin("/v1/cluster").await["participants"] == all).then_some(())
    })
    .await;
    placed
}

fn replay(arguments: &[&str]) -> Value {
    replay_and_warn(arguments).0
}

/// The figures, and what is told besides.
fn replay_and_warn(arguments: &[&str]) -> (Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_roost-scheduler")).arg("replay").args(arguments).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    (serde_json::from_slice(&output.stdout).unwrap(), errors)
}
