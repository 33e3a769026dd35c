//! What scenarios come to.

use roost_sim::goals::judge;
use roost_sim::plan::Plan;
use roost_sim::policies::PolicyName;
use roost_sim::runner::{Choice, simulate};
use roost_sim::scenario::Hint;
use roost_sim::world::{Figures, Setting, run};

use crate::{figures, shipped};

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let loaded = shipped("national.toml");
    let bytes = |seed| {
        let plan = Plan::of(&loaded, seed, Hint::Off { percent: 30 });
        let setting = Setting { policy: PolicyName::Roost, schedulers: 3, seed, keep_samples: true };
        let outcome = run(&plan, setting, |_| {});
        (serde_json::to_string(&outcome.figures).unwrap(), outcome.samples)
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
}

#[test]
fn rows_do_not_depend_on_who_was_faster() {
    let loaded = shipped("jicofo.toml");
    let choice = Choice { seeds: Some(4), schedulers: vec![1, 3], ..Choice::default() };
    let rows = || serde_json::to_string(&simulate(&loaded, &choice, &|_, _| {})).unwrap();
    assert_eq!(rows(), rows());
}

/// The figures that were measured elsewhere, with other random numbers, in their order and roughly in size.
#[test]
fn restated_rules_come_to_what_is_known_of_them() {
    let loaded = shipped("a.toml");
    let of = |policy, schedulers| figures(&loaded, policy, schedulers, Hint::None, 3);
    let near = |figures: Figures, max_mean: f64, over: f64| {
        assert!((figures.max_mean.unwrap() / max_mean - 1.0).abs() < 0.15, "{max_mean}: {figures:?}");
        assert!((figures.over_capacity - over).abs() < 0.03, "{over}: {figures:?}");
    };
    near(of(PolicyName::LivekitRandom, 1), 1.53, 0.06);
    near(of(PolicyName::LivekitTwoChoiceRooms, 1), 1.43, 0.04);
    near(of(PolicyName::LivekitTwoChoiceCpu, 1), 1.39, 0.033);
    near(of(PolicyName::JicofoCorrected, 1), 1.33, 0.028);
    near(of(PolicyName::Oracle, 5), 1.11, 0.002);
    assert!(of(PolicyName::LivekitLowestRooms, 1).max_mean > Some(2.5));
    assert!(of(PolicyName::JicofoCorrected, 50).max_mean > Some(1.8), "a correction that others do not know of");
}

/// `make sim` holds it to the goals with all seeds; a few of them are off by chance.
#[test]
fn few_seeds_come_near_the_goals_of_all() {
    for name in ["a.toml", "b.toml"] {
        let loaded = shipped(name);
        let choice = Choice {
            seeds: Some(3),
            repeats: Some(1),
            schedulers: vec![2],
            policies: vec![PolicyName::Roost],
            ..Choice::default()
        };
        let verdicts = judge(&loaded.scenario, &simulate(&loaded, &choice, &|_, _| {}));
        assert_eq!(verdicts.len(), 2 + 2 + 2 + 3, "{verdicts:?}");
        for verdict in verdicts {
            let allowed = match verdict.what {
                "max/mean" => verdict.goal * 1.08,
                "over capacity %" => verdict.goal + 1.0,
                _ => verdict.goal,
            };
            assert!(verdict.figure.unwrap() <= allowed, "{name}: {verdict:?}");
        }
    }
}

#[test]
fn joins_that_no_report_tells_of_do_not_pile_up_on_one_node() {
    let loaded = shipped("jicofo.toml");
    for schedulers in [1, 5, 50] {
        let of = |policy| figures(&loaded, policy, schedulers, Hint::None, 3).max_share;
        assert!(of(PolicyName::Roost) <= 0.25, "{schedulers}");
        assert!(of(PolicyName::Roost) <= of(PolicyName::JicofoCorrected), "{schedulers}");
    }
}

#[test]
fn everybody_who_comes_is_somewhere_in_the_end() {
    let loaded = shipped("b.toml");
    let plan = Plan::of(&loaded, 0, Hint::None);
    let setting = Setting { policy: PolicyName::Roost, schedulers: 2, seed: 0, keep_samples: true };
    let outcome = run(&plan, setting, |_| {});
    let last = outcome.samples.last().unwrap();
    assert_eq!(last.demand.iter().sum::<u32>(), plan.visits.len() as u32);
    assert_eq!((outcome.figures.joins, outcome.figures.placed), (plan.visits.len() as u64 - 19 * 250, 200));
}
