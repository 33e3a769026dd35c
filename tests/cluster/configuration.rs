//! The shipped configuration is accepted by both programs, and a wrong one stops the start with what is wrong.

use std::process::Output;

use tokio::process::Command;

use roost_tests::{Trouble, binaries};

use crate::run;

const PROGRAMS: [&str; 2] = ["roost-scheduler", "roost-agent"];

#[test]
fn the_commented_example_is_accepted_by_both_programs() {
    run(async {
        let folder = tempfile::tempdir()?;
        let key = folder.path().join("cluster-key");
        std::fs::write(&key, "an-example-key-that-is-long-enough-0123456789\n")?;
        let example = std::fs::read_to_string(binaries::tree().join("docker/config/roost.toml"))?;
        let file = folder.path().join("roost.toml");
        std::fs::write(&file, example.replace("/etc/roost/cluster-key", &key.display().to_string()))?;
        for program in PROGRAMS {
            let output = serve(program, &["--config", &file.display().to_string(), "--print-config"]).await?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}: {said}");
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(printed.contains("redis://127.0.0.1:6379"), "{program}: {printed}");
            assert!(!printed.contains("an-example-key"), "{program} prints the key");
        }
        Ok(())
    });
}

#[test]
fn a_wrong_configuration_stops_the_start_and_names_key_value_and_what_was_expected() {
    run(async {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("roost.toml");
        let path = file.display().to_string();
        for (program, toml, says) in [
            ("roost-scheduler", "[scheduler]\nlisten = 7400\n", ["listen", "7400", "expected"]),
            ("roost-scheduler", "[scheduler]\nlistem = \"x\"\n", ["listem", "unknown", "expected"]),
            ("roost-scheduler", "[scheduler]\nstore = \"mysql://x\"\n", ["store", "mysql", "expected"]),
            ("roost-agent", "[agent]\nregion = \"EU\"\nnode_id = \"a\"\n", ["region", "EU", "expected"]),
            ("roost-agent", "[agent]\nregion = \"eu\"\nnode_id = \"A_1\"\n", ["node", "A_1", "expected"]),
            ("roost-agent", "[agent]\nworkers = \"many\"\n", ["workers", "many", "expected"]),
            ("roost-agent", "[nonsense]\n", ["nonsense", "unknown", "expected"]),
        ] {
            std::fs::write(&file, toml)?;
            let output = serve(program, &["--config", &path, "--dev"]).await?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{program} with {toml:?}: {said}");
            for word in says {
                assert!(said.contains(word), "{program} with {toml:?} does not say {word:?}: {said}");
            }
        }
        Ok(())
    });
}

#[test]
fn without_development_mode_what_is_required_is_asked_for() {
    run(async {
        for (program, arguments, key) in [
            ("roost-scheduler", vec![], "cluster-key-file"),
            ("roost-agent", vec!["--node-id", "a", "--region", "eu"], "cluster-key-file"),
        ] {
            let output = serve(program, &arguments).await?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{program}: {said}");
            assert!(said.contains(key) || said.contains(&key.replace('-', "_")), "{program}: {said}");
        }
        Ok(())
    });
}

async fn serve(program: &str, arguments: &[&str]) -> Result<Output, Trouble> {
    let mut command = Command::new(binaries::own(program)?);
    command.arg("serve").args(arguments).kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(10), command.output()).await;
    Ok(output.map_err(|_| format!("{program} started instead of refusing"))??)
}
