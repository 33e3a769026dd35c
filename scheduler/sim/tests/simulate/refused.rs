//! Who gets no place is counted once, for what kept them out, and never makes figures look good.

use roost_sim::goals::judge;
use roost_sim::runner::{Choice, simulate};
use roost_sim::scenario::{self, Loaded};
use roost_sim::table;

const NODES: &str = r#"
title = "t"
duration_s = 30
seeds = 1
[[nodes]]
id = "n-{}"
count = 2
region = "eu"
capacity = { participants = 20 }
[[arrivals]]
rooms = 10
over_s = 5
size = { mean = 3, sigma2 = 0 }
fill_s = 5
[[goals]]
max_mean = 1.2
over_capacity_percent = 1
max_share_percent = 100
"#;

#[test]
fn goals_are_missed_where_nobody_gets_a_place() {
    let loaded = load(&format!("{NODES}[namespaces.default]\nladder = ['anywhere']\nfence = ['cn']\n"));
    let rows = simulate(&loaded, &Choice::default(), &|_, _| {});
    let figures = &rows[0].figures;
    assert_eq!((figures.joins, figures.admitted, figures.max_mean), (30, 0, None));
    assert_eq!(figures.refused, [("outside_fence".to_owned(), 30)].into());
    let verdicts = judge(&loaded.scenario, &rows);
    let missed: Vec<_> = verdicts.iter().filter(|verdict| !verdict.met).map(|verdict| verdict.what).collect();
    assert_eq!(missed, ["max/mean", "over capacity %", "fullest node %"], "{verdicts:?}");
    let text = table::figures(&loaded.scenario, &rows);
    assert!(text.contains("100.0 %") && text.contains("outside_fence"), "{text}");
    assert_eq!(table::verdicts(&verdicts).matches("MISSED").count(), 3);
}

#[test]
fn who_gets_no_place_is_counted_once_for_what_the_nearest_node_said() {
    // Some nodes are abroad, one serves others: what keeps people out is that the two in reach are full.
    let others = r#"
[namespaces.default]
ladder = ["region", "anywhere"]
fence = ["eu"]
[[nodes]]
id = "abroad-{}"
count = 5
region = "us"
capacity = { participants = 20 }
[[nodes]]
id = "other"
region = "eu"
namespaces = ["other"]
capacity = { participants = 20 }
"#;
    let loaded =
        load(&format!("{}{others}", NODES.replace("rooms = 10", "rooms = 100").replace("mean = 3", "mean = 1")));
    let rows = simulate(&loaded, &Choice::default(), &|_, _| {});
    let figures = &rows[0].figures;
    assert_eq!((figures.joins, figures.admitted), (100, 40));
    assert_eq!(figures.refused.values().sum::<u64>(), 60, "{figures:?}");
    let (most, count) = figures.refused.iter().max_by_key(|(_, count)| **count).unwrap();
    assert!(most == "full_participants" && *count > 40, "{figures:?}");
    assert!(figures.refusals["outside_fence"] > 40 && figures.refusals["wrong_namespace"] > 40, "{figures:?}");
    let text = table::figures(&loaded.scenario, &rows);
    assert!(text.contains(" 60.0 %") && text.contains("full_participants"), "{text}");
}

fn load(text: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    std::fs::write(&path, text).unwrap();
    scenario::load(&path).unwrap()
}
