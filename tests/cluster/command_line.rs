//! `roost` against a real scheduler: what it prints, and how it ends.

use std::process::Output;

use roost_proto::explain::ExplainReply;
use roost_tests::binaries;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use tokio::process::Command;

use crate::run;

#[test]
fn explain_prints_who_could_take_the_room_and_why_others_cannot() {
    run(async {
        let mut plan = Plan::small();
        plan.nodes.push(NodePlan::new("fra-2", "eu/central").with(&["--priority", "5"]));
        plan.nodes.push(NodePlan::new("acme-1", "eu/central").with(&["--namespace", "acme"]));
        let cluster = Cluster::start(plan).await?;
        let asked =
            ["explain", "default/stand/up", "--region", "eu/central", "--carrier", "telekom", "--expected", "12"];
        let text = printed(&roost(&cluster, &asked).await, 0);
        let said = "default/stand/up, a client in eu/central on telekom: would be placed on fra-2 (region+carrier), \
                counted as 10 participants until they have come";
        assert_eq!(text.lines().next(), Some(said), "{text}");
        let row = |node: &str| -> Vec<String> {
            let cells = |line: &str| {
                line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
            };
            text.lines().map(cells).find(|cells: &Vec<String>| cells.iter().any(|cell| cell == node)).unwrap()
        };
        assert_eq!(row("node")[..7], ["#", "node", "standing", "rung", "region", "carrier", "priority"]);
        assert_eq!(row("fra-2")[..7], ["1", "fra-2", "sound", "region+carrier", "inside", "own", "5"]);
        assert_eq!(row("fra-1")[..7], ["2", "fra-1", "sound", "region+carrier", "inside", "own", "0"]);
        assert_eq!(row("iad-1")[..7], ["3", "iad-1", "sound", "anywhere", "2 above", "own", "0"]);
        assert_eq!(row("acme-1"), ["acme-1", "wrong_namespace"]);
        assert!(text.contains("\n1 refused: 1 wrong_namespace\n"), "{text}");

        let cut = printed(&roost(&cluster, &["explain", "default/x", "--limit", "2"]).await, 0);
        assert!(cut.contains("2 of 4 nodes are shown"), "{cut}");
        let nowhere =
            printed(&roost(&cluster, &["explain", "default/x", "--avoid", "fra-1,fra-2", "--avoid", "iad-1"]).await, 1);
        assert!(nowhere.contains("would be refused with no_node") && nowhere.contains("3 avoided"), "{nowhere}");
        let given = cluster.lookup(0, "default", "x", serde_json::json!({})).await?;
        let lives: ExplainReply =
            serde_json::from_str(&printed(&roost(&cluster, &["explain", "default/x", "--json"]).await, 0)).unwrap();
        assert_eq!((lives.node, lives.outcome), (Some(given.node.id), Some(roost_proto::lookup::Outcome::Existing)));
        cluster.stop().await
    });
}

#[test]
fn what_goes_wrong_is_told_and_has_an_exit_code_of_its_own() {
    run(async {
        let cluster = Cluster::start(Plan { nodes: Vec::new(), ..Plan::small() }).await?;
        let strange = ["--admin", &format!("http://{}", cluster.schedulers[0].public)];
        for (arguments, code, told) in [
            (&["explain", "default"][..], 2, "expected NAMESPACE/ROOM"),
            (&["explain", "Default/x"], 2, "namespace \"Default\""),
            (&["explain", "default/x", "--admin", "ftp://here"], 2, "expected a URL like http://127.0.0.1:7401"),
            (
                &["explain", "default/x", "--expected", "0"],
                3,
                "bad_request: body expected_participants: 0: expected 1 to 10000",
            ),
            (&["explain", "default/x", "--admin", "http://127.0.0.1:1"], 4, "no scheduler answers"),
            (&["explain", "default/x", strange[0], strange[1]], 3, "not_found"),
        ] {
            let output = roost(&cluster, arguments).await;
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{arguments:?}: {errors}");
            assert!(errors.contains(told), "{arguments:?}: {errors}");
        }
        cluster.stop().await
    });
}

async fn roost(cluster: &Cluster, arguments: &[&str]) -> Output {
    let mut command = Command::new(binaries::own("roost").unwrap());
    command.env("ROOST_ADMIN", format!("http://{}", cluster.schedulers[0].admin)).args(arguments);
    command.kill_on_drop(true).output().await.unwrap()
}

fn printed(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*errors), (Some(code), ""));
    String::from_utf8(output.stdout.clone()).unwrap()
}
