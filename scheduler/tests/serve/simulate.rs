//! `simulate`: the figures of scenarios for people and programs.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SCENARIO: &str = r#"
title = "few"
duration_s = 10
seeds = 1
[[nodes]]
id = "n-{}"
count = 2
region = "eu"
capacity = { participants = 20 }
[[arrivals]]
rooms = 5
over_s = 5
size = { mean = 1, sigma2 = 0 }
[[goals]]
max_mean = 2
"#;

#[test]
fn figures_for_programs_differ_in_the_pace_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    std::fs::write(&path, SCENARIO).unwrap();
    let figures = || {
        let output = simulate(&[&path, Path::new("--json")]);
        assert!(output.status.success(), "{output:?}");
        let mut figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        let pace = figures[0].as_object_mut().unwrap().remove("decisions_per_second").unwrap();
        assert!(pace.as_f64().unwrap() > 0.0, "{pace}");
        figures.to_string()
    };
    assert_eq!(figures(), figures());
}

#[test]
fn a_goal_that_is_missed_and_a_folder_that_cannot_be_are_failures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    std::fs::write(&path, format!("{SCENARIO}[namespaces.default]\nfence = ['cn']\n")).unwrap();
    let output = simulate(&[&path]);
    let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(text.contains("MISSED") && text.contains("outside_fence"), "{text}");
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("goals missed: 1"), "{errors}");
    let output = simulate(&[&path, Path::new("--plot"), &path]);
    let (errors, told) = (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
    let expected = format!("--plot {}: expected a folder that can be written to", path.display());
    assert!(errors.contains(&expected) && told.is_empty(), "{errors}{told}");
}

fn simulate(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roost-scheduler")).arg("simulate").args(arguments).output().unwrap()
}
