//! `--record`: what happened is in the trace, and nothing that names a person or a room.

use std::path::Path;

use roost_proto::error::Code;
use roost_proto::id::{Epoch, RoomKey};
use roost_proto::lookup::Outcome;
use roost_proto::policy::Rung;
use roost_proto::report::RoomReport;
use roost_sim::trace::{self, Line};
use serde_json::json;

use crate::agent::Agent;
use crate::process::{Scheduler, run};
use crate::wait;

#[tokio::test]
async fn a_trace_has_the_nodes_the_lookups_and_the_rooms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let mut scheduler = Scheduler::start_with(&["--dev", "--record", path.to_str().unwrap()]).await.ready().await;
    let fra = Agent::start(&scheduler.cluster, "fra-1", "eu/central").await;
    scheduler.knows(1).await;
    let body = json!({"region": "eu/central", "carrier": "telekom", "expected_participants": 12, "user_id": "anna",
        "client_ip": "203.0.113.9"});
    let placed = scheduler.lookup("secret", body).await;
    let epoch = placed["epoch"].as_u64().unwrap();
    fra.open("secret", epoch).await;
    fra.say(|report| {
        let key = RoomKey::new("default", "secret").unwrap();
        (report.participants, report.host.cpu_permille) = (3, 500);
        let epoch = Epoch(epoch);
        report.changed = vec![RoomReport { key, epoch, worker: 0, participants: 3, producers: 0, consumers: 0 }];
    });
    wait::until("the room is open", || async {
        let room: serde_json::Value = scheduler.get("/v1/namespaces/default/rooms/secret").await.json().await.unwrap();
        (room["participants"] == 3).then_some(())
    })
    .await;
    scheduler.lookup("secret", json!({})).await;
    assert_eq!(scheduler.lookup_in("default", "other", &json!({"avoid": ["fra-1"]})).await["code"], "no_node");
    fra.say(|report| report.changed.clear());
    fra.release("secret", epoch).await;
    fra.leave().await;
    wait::until("the node has left", || async {
        scheduler.admin("/v1/cluster").await["nodes"]["lost"].as_u64().filter(|lost| *lost == 1)
    })
    .await;
    scheduler.stop().await;

    let lines = read(&path);
    let lookups: Vec<_> =
        lines.iter().filter_map(|line| if let Line::Lookup(l) = line { Some(l) } else { None }).collect();
    let [first, second, third] = lookups[..] else { panic!("{lookups:?}") };
    assert_eq!(
        (first.outcome, first.rung, first.expected_participants),
        (Some(Outcome::Placed), Some(Rung::RegionCarrier), Some(12))
    );
    assert_eq!(
        (first.region.as_ref().unwrap().as_str(), first.carrier.as_ref().unwrap().as_str()),
        ("eu/central", "telekom")
    );
    assert_eq!((second.outcome, second.rung, &second.room), (Some(Outcome::Existing), None, &first.room));
    assert_eq!((third.code, third.rejection_counts[0].count, third.avoid.len()), (Some(Code::NoNode), 1, 1));
    assert_ne!(third.room, first.room);
    let kinds: String = lines
        .iter()
        .filter_map(|line| match line {
            Line::Node(node) if node.host.cpu_permille == 500 => Some('N'),
            Line::Node(_) => Some('n'),
            Line::Room(room) if room.room == first.room && room.participants == 3 => Some('r'),
            Line::Ended(ended) if ended.room == first.room => Some('e'),
            Line::Gone(_) => Some('g'),
            _ => None,
        })
        .collect();
    assert!(kinds.starts_with("nN") && kinds.contains('r') && kinds.ends_with("eg"), "{kinds}: {lines:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    for private in ["secret", "anna", "203.0.113.9", "127.0.0.1", "fra-1.example"] {
        assert!(!text.contains(private), "{private} is in {text}");
    }
}

#[tokio::test]
async fn an_earlier_trace_is_kept_and_a_file_that_cannot_be_written_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    std::fs::write(&path, "yesterday").unwrap();
    let arguments = ["--dev", "--record", path.to_str().unwrap(), "--record-names"];
    let mut scheduler = Scheduler::start_with(&arguments).await.ready().await;
    assert_eq!(scheduler.lookup_in("default", "named", &json!({})).await["code"], "no_node");
    scheduler.stop().await;
    assert!(matches!(&read(&path)[0], Line::Lookup(lookup) if lookup.room.as_str() == "named"));
    assert_eq!(std::fs::read_to_string(folder.path().join("trace.1")).unwrap(), "yesterday");
    for (file, told) in [("/dev/full", "No space left"), ("/nowhere/trace", "No such file")] {
        let listeners = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--cluster-listen", "127.0.0.1:0"];
        let output = run(&[&["--dev", "--record", file], &listeners[..]].concat()).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(&format!("record {file}: expected a file that can be written: {told}")), "{errors}");
    }
    let output = run(&["--dev", "--record-max-mb", "0"]).await;
    assert!(String::from_utf8(output.stderr).unwrap().contains("record_max_mb: 0: expected 1 or more"));
}

fn read(path: &Path) -> Vec<Line> {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    trace::read(file, "trace").unwrap().lines
}
