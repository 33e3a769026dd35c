//! Shipped configurations are accepted by both programs, and a wrong one stops the start with what is wrong.

use std::path::Path;
use std::process::Output;

use tokio::process::Command;

use roost_tests::{Trouble, binaries};

use crate::run;

const PROGRAMS: [&str; 2] = ["roost-scheduler", "roost-agent"];

#[test]
fn every_shipped_file_is_accepted_by_both_programs() {
    run(async {
        let folder = tempfile::tempdir()?;
        secrets(folder.path())?;
        let mut files = 0;
        for entry in std::fs::read_dir(binaries::tree().join("docker/config"))? {
            let shipped = entry?.path();
            let file = folder.path().join("roost.toml");
            let text = std::fs::read_to_string(&shipped)?;
            std::fs::write(&file, text.replace("/etc/roost/", &format!("{}/", folder.path().display())))?;
            for program in PROGRAMS {
                let output = serve(program, &["--config", &file.display().to_string(), "--print-config"]).await?;
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{program} {}: {said}", shipped.display());
                let printed = String::from_utf8_lossy(&output.stdout);
                assert!(!printed.contains("an-example-key"), "{program} prints the key");
                let printed: toml::Table = printed.parse()?;
                let table = program.trim_start_matches("roost-");
                let written: toml::Table = text.parse()?;
                for (key, value) in written[table].as_table().ok_or("no table")? {
                    let is_ours = value.as_str().is_some_and(|text| text.contains("/etc/roost/"));
                    assert!(is_ours || printed[table][key] == *value, "{program} {}: {key}", shipped.display());
                }
            }
            files += 1;
        }
        assert!(files >= 6, "docker/config has {files} files");
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
            ("roost-scheduler", "[scheduler]\nledger = \"mysql://x\"\n", ["ledger", "mysql://x", "expected"]),
            ("roost-agent", "[agent]\nregion = \"EU\"\nnode_id = \"a\"\n", ["region", "EU", "expected"]),
            ("roost-agent", "[agent]\nregion = \"eu\"\nnode_id = \"A_1\"\n", ["node", "A_1", "expected"]),
            ("roost-agent", "[agent]\nworkers = \"many\"\n", ["workers", "many", "expected"]),
            ("roost-agent", "[agent]\ncarrier = ['cmcc']\n[carriers.mobile]\n", ["carrier", "cmcc", "one of mobile"]),
            ("roost-scheduler", "[regions.'eu/eu']\n", ["regions", "eu/eu", "expected"]),
            (
                "roost-scheduler",
                "[namespaces.a]\nladder = ['parent', 'region']\n",
                ["ladder", "region after parent", "expected"],
            ),
            ("roost-agent", "[nonsense]\n", ["nonsense", "unknown", "expected"]),
        ] {
            std::fs::write(&file, toml)?;
            let output = serve(program, &["--config", &path, "--dev"]).await?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{program} with {toml:?}: {said}");
            // The store reads its URL itself, wherever it was set.
            let file = if says[0] == "store" { "" } else { &path };
            for word in says.into_iter().chain([file]) {
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

/// What the shipped files name in /etc/roost.
fn secrets(folder: &Path) -> Result<(), Trouble> {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    std::fs::write(folder.join("cluster-key"), "an-example-key-that-is-long-enough-0123456789\n")?;
    std::fs::write(folder.join("cert.pem"), signed.cert.pem())?;
    std::fs::write(folder.join("key.pem"), signed.signing_key.serialize_pem())?;
    Ok(())
}

async fn serve(program: &str, arguments: &[&str]) -> Result<Output, Trouble> {
    let mut command = Command::new(binaries::own(program)?);
    command.arg("serve").args(arguments).kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(10), command.output()).await;
    Ok(output.map_err(|_| format!("{program} started instead of refusing"))??)
}
