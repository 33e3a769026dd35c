//! Keeps the tree as DESIGN describes it: the layout, the direction of dependencies, the size of files and functions.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// What stands at the top; nothing else is added beside it, but files and folders that begin with a dot.
const TOP: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONFIGURATION.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "OPERATIONS.md",
    "README.md",
    "clippy.toml",
    "dashboards",
    "deny.toml",
    "docker",
    "node-agent",
    "proto",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "scheduler",
    "tests",
];

/// What the pure packages may depend on: nothing that has a clock, a socket, an RNG, a log or a metric.
const PURE: &[&str] = &["roost-proto", "thiserror"];

/// Which of our packages a package may depend on.
const DIRECTION: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("proto/store", &["roost-proto"]),
    ("proto/server", &["roost-proto"]),
    ("scheduler/core", &["roost-proto"]),
    ("scheduler/cli", &["roost-proto"]),
    ("node-agent/core", &["roost-proto"]),
    ("scheduler/sim", &["roost-agent-core", "roost-proto", "roost-scheduler-core", "roost-server", "roost-store"]),
    ("scheduler", &["roost-proto", "roost-scheduler-core", "roost-server", "roost-sim", "roost-store"]),
    ("node-agent", &["roost-agent-core", "roost-proto", "roost-server", "roost-store"]),
    ("node-agent/mediasoup", &["roost-proto"]),
    ("tests", &["roost-proto", "roost-scheduler-core", "roost-server", "roost-store"]),
];

#[test]
fn nothing_stands_at_the_top_that_the_layout_does_not_name() {
    let top: BTreeSet<String> =
        files().iter().map(|path| first_part(path)).filter(|name| !name.starts_with('.')).collect();
    let unknown: Vec<_> = top.iter().filter(|name| !TOP.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "not in the layout: {unknown:?}");
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let long: Vec<_> = code(&["rs", "ts", "mjs", "lua", "py", "css", "html"])
        .filter(|(path, _)| !path.to_string_lossy().contains("mediasoup/subprojects/"))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .collect();
    assert!(long.is_empty(), "longer than {FILE_LINES} lines: {long:?}");
}

#[test]
fn no_function_is_longer_than_70_lines() {
    let long: Vec<_> = code(&["rs"]).flat_map(|(path, text)| long_functions(&path, &text)).collect();
    assert!(long.is_empty(), "longer than {FUNCTION_LINES} lines: {long:#?}");
}

#[test]
fn every_rust_file_says_what_it_is_for() {
    let silent: Vec<_> = code(&["rs"]).filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "these files do not open with `//!`: {silent:?}");
}

#[test]
fn the_cores_depend_on_nothing_with_a_clock_or_a_socket() {
    for core in ["scheduler/core", "node-agent/core"] {
        for dependency in dependencies(core) {
            assert!(PURE.contains(&dependency.as_str()), "{core} must not depend on {dependency}");
        }
        let bans = fs::read_to_string(root().join(core).join("clippy.toml")).unwrap();
        for banned in ["Instant::now", "SystemTime::now", "HashMap", "RandomState", "TcpStream", "UdpSocket"] {
            assert!(bans.contains(banned), "{core}/clippy.toml does not ban {banned}");
        }
    }
}

#[test]
fn dependencies_point_one_way() {
    for (package, allowed) in DIRECTION {
        for dependency in dependencies(package).iter().filter(|name| name.starts_with("roost-")) {
            assert!(allowed.contains(&dependency.as_str()), "{package} must not depend on {dependency}");
        }
    }
    let members: BTreeSet<String> =
        manifest(".")["workspace"]["members"].as_array().unwrap().iter().map(text).collect();
    let known: BTreeSet<String> = DIRECTION.iter().map(|(package, _)| (*package).to_owned()).collect();
    assert_eq!(members, known, "a package has no rule for its dependencies");
}

#[test]
fn no_lint_is_silenced_without_a_reason() {
    let silenced: Vec<_> = code(&["rs"])
        .filter(|(path, _)| !path.ends_with("tests/tidy.rs"))
        .filter(|(_, text)| text.contains("#[allow(") || text.contains("#![allow("))
        .map(|(path, _)| path)
        .collect();
    assert!(silenced.is_empty(), "#[allow] in {silenced:?}: use #[expect(lint, reason)]");
}

#[test]
fn no_unfinished_work_is_left_in_code() {
    let unfinished: Vec<_> = code(&["rs", "ts", "mjs", "lua", "py"])
        .filter(|(path, _)| !path.ends_with("tests/tidy.rs"))
        .filter(|(_, text)| ["todo!(", "unimplemented!(", "FIXME", "XXX:"].iter().any(|mark| text.contains(mark)))
        .map(|(path, _)| path)
        .collect();
    assert!(unfinished.is_empty(), "unfinished: {unfinished:?}");
}

#[test]
fn scripts_of_the_store_say_what_they_take_and_give() {
    for (path, text) in code(&["lua"]) {
        for word in ["KEYS", "ARGV", "Returns"] {
            let head: String = text.lines().take_while(|line| line.starts_with("--")).collect();
            assert!(head.contains(word), "{} does not say its {word} at its head", path.display());
        }
    }
}

#[test]
fn the_list_of_metrics_names_those_that_are_declared() {
    let declared: BTreeSet<String> = ["scheduler", "node-agent", "proto/server"]
        .iter()
        .map(|package| fs::read_to_string(root().join(package).join("src/metrics.rs")).unwrap())
        .flat_map(|text| names(&text, '"'))
        .collect();
    let listed = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert_eq!(names(&listed, '`').into_iter().collect::<BTreeSet<_>>(), declared);
}

/// The tables of configuration: what they are called, and the struct that has their keys.
const TABLES: &[(&str, &str, &str)] = &[
    ("scheduler", "scheduler/src/config.rs", "Settings"),
    ("agent", "node-agent/src/config/mod.rs", "Settings"),
    ("media", "proto/server/src/media.rs", "MediaSettings"),
    ("regions.*", "proto/src/geography.rs", "RegionSettings"),
    ("carriers.*", "proto/src/geography.rs", "CarrierSettings"),
    ("namespaces.*", "proto/src/policy.rs", "Policy"),
    ("api_keys.*", "proto/server/src/config.rs", "ApiKey"),
];

#[test]
fn every_key_of_configuration_is_explained_and_in_the_example() {
    let guide = fs::read_to_string(root().join("CONFIGURATION.md")).unwrap();
    let example = fs::read_to_string(root().join("docker/config/roost.toml")).unwrap();
    for (table, file, settings) in TABLES {
        let source = fs::read_to_string(root().join(file)).unwrap();
        let declared = between(&source, &format!("struct {settings} {{\n"), "\n}\n")
            .filter(|line| !line.trim_start().starts_with(['/', '#']))
            .filter_map(|line| line.split_once(": ")?.0.split(' ').next_back())
            .collect::<BTreeSet<_>>();
        let explained = between(&guide, &format!("\n## `[{table}]`\n"), "\n## ")
            .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0))
            .collect::<BTreeSet<_>>();
        assert_same(&explained, &declared, &format!("[{table}] in CONFIGURATION.md and in {file}"));
        let shown = between(&example, &format!("\n[{}", table.trim_end_matches('*')), "\n\n")
            .filter_map(|line| Some(line.trim_start_matches("# ").split_once(" = ")?.0))
            .collect::<BTreeSet<_>>();
        assert_same(&shown, &declared, &format!("[{table}] in docker/config/roost.toml and in {file}"));
    }
}

fn assert_same(one: &BTreeSet<&str>, other: &BTreeSet<&str>, both: &str) {
    let only: Vec<_> = one.symmetric_difference(other).collect();
    assert!(only.is_empty(), "{both}: only in one of them: {only:?}");
}

/// The lines of the text between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> impl Iterator<Item = &'a str> {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("{from:?} is nowhere"));
    rest.split_once(to).map_or(rest, |(part, _)| part).lines()
}

/// What stands between two `quote`s and begins with `roost_`.
fn names(text: &str, quote: char) -> Vec<String> {
    let is_name = |part: &&str| part.starts_with("roost_") && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    text.split(quote).filter(is_name).map(str::to_owned).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files of the tree that git knows or would add, from the top.
fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8(listed.stdout).unwrap().lines().map(PathBuf::from).filter(|p| root().join(p).exists()).collect()
}

fn code(endings: &[&str]) -> impl Iterator<Item = (PathBuf, String)> {
    let endings: Vec<String> = endings.iter().map(|ending| (*ending).to_owned()).collect();
    files()
        .into_iter()
        .filter(move |path| path.extension().is_some_and(|e| endings.iter().any(|ending| e == ending.as_str())))
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            (path, text)
        })
}

fn first_part(path: &Path) -> String {
    path.components().next().unwrap().as_os_str().to_string_lossy().into_owned()
}

/// Functions by rustfmt's layout: from the line with `fn` to the brace that closes at the same depth.
fn long_functions(path: &Path, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let depth = line.len() - line.trim_start().len();
        let mut words = line.trim_start().split(['(', ' ', ')']);
        let head = ["pub", "crate", "super", "", "const", "async"];
        let is_function = words.find(|word| !head.contains(word)) == Some("fn");
        if !is_function || line.trim_end().ends_with(['}', ';']) {
            continue;
        }
        let close = format!("{}}}", " ".repeat(depth));
        let body = lines[start..].iter().position(|line| *line == close).unwrap_or(0);
        if body > FUNCTION_LINES + 1 {
            long.push(format!("{}:{} {} lines", path.display(), start + 1, body - 1));
        }
    }
    long
}

fn manifest(package: &str) -> toml::Table {
    let path = root().join(package).join("Cargo.toml");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).parse().unwrap()
}

fn dependencies(package: &str) -> Vec<String> {
    let manifest = manifest(package);
    manifest.get("dependencies").and_then(|d| d.as_table()).map(|d| d.keys().cloned().collect()).unwrap_or_default()
}

fn text(value: &toml::Value) -> String {
    value.as_str().unwrap().to_owned()
}
