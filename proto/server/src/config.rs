//! Configuration: flags override the environment, which overrides one TOML file, which overrides the defaults.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use roost_proto::geography::{self, Carriers, GeographyError, Regions};
use roost_proto::id::NamespaceId;
use roost_proto::policy::Policies;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_path_to_error::Segment;
use toml::{Table, Value};

use crate::media::MediaSettings;
use crate::secret::{is_secret, mask};

/// The tables that belong to one process each.
const PROCESSES: [&str; 2] = ["scheduler", "agent"];

/// The shared tables that bear on where rooms go.
const BESIDE: [&str; 3] = ["regions", "carriers", "namespaces"];

/// What all processes of a cluster read alike.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shared {
    pub media: MediaSettings,
    pub regions: Regions,
    pub carriers: Carriers,
    pub namespaces: Policies,
    /// By the name that logs show.
    pub api_keys: BTreeMap<String, ApiKey>,
}

/// A key that lets a lookup speak for its client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The key's SHA-256, as 64 hexadecimal digits in lower case.
    #[serde(deserialize_with = "sha256_hex")]
    pub sha256: String,
    /// The namespaces that it may look up in; empty: all.
    #[serde(default)]
    pub namespaces: Vec<NamespaceId>,
}

/// Why a process cannot start with this configuration: key, value, what was expected, and where it was set.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("config {}: expected a readable file", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: expected TOML", path.display())]
    Syntax { path: PathBuf, source: Box<toml::de::Error> },
    /// A key that is unknown, missing, or has a wrong value.
    #[error("{origin}: {key}: {message}")]
    Key { origin: String, key: String, message: String },
    #[error("the configuration cannot be written")]
    Write { source: io::Error },
}

impl ConfigError {
    /// The origin of what a process finds wrong itself, until [`Self::located`] says more.
    pub const UNLOCATED: &str = "configuration";

    /// For what a process checks itself: `key` in snake case, its value, what was expected.
    pub fn wrong(key: &str, value: impl std::fmt::Debug, expected: &str) -> Self {
        let message = format!("{value:?}: expected {expected}");
        Self::Key { origin: Self::UNLOCATED.to_owned(), key: key.to_owned(), message }
    }

    /// With where the key was set, of what a process checked itself after [`load`] with these flags and file.
    #[must_use]
    pub fn located<F: Serialize>(self, flags: &F, path: Option<&Path>) -> Self {
        match self {
            Self::Key { origin, key, message } if origin == Self::UNLOCATED => {
                let set = overrides(flags).unwrap_or_default();
                let file = path.map_or(origin, |path| path.display().to_string());
                Self::Key { origin: origin_of(&key, &set, &file), key, message }
            }
            other => other,
        }
    }
}

impl From<GeographyError> for ConfigError {
    fn from(wrong: GeographyError) -> Self {
        misplaced(Self::UNLOCATED, &wrong)
    }
}

/// Reads the configuration of one process.
///
/// `flags` is the process's clap struct, which has read the environment: its fields are `Option` or `Vec`, and those that
/// are set lie over the file's table `table` (`scheduler` or `agent`). The outcome is read as `S`, which has serde
/// defaults and `deny_unknown_fields`. Fields of `F` that are no settings (such as `--config`) carry `#[serde(skip)]`.
pub fn load<F: Serialize, S: DeserializeOwned>(
    flags: &F,
    table: &str,
    path: Option<&Path>,
) -> Result<(S, Shared), ConfigError> {
    let mut file = path.map_or_else(|| Ok(Table::new()), read)?;
    let origin = path.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
    let mut own = match file.remove(table) {
        None => Table::new(),
        Some(Value::Table(own)) => own,
        Some(other) => return Err(key_error(&origin, table, format!("{other}: expected a table"))),
    };
    for other in PROCESSES {
        file.remove(other);
    }
    let shared = shared(file, &origin)?;
    let set = overrides(flags)?;
    own.extend(set.clone());
    let settings = from_table::<S>(own, table, |key| origin_of(key, &set, &origin))?;
    Ok((settings, shared))
}

/// Reads a file whose own keys stand at the top, beside `regions`, `carriers` and `namespaces`: a simulation's scenario.
pub fn load_beside<S: DeserializeOwned>(path: &Path) -> Result<(S, Shared), ConfigError> {
    let (tables, own): (Table, Table) = read(path)?.into_iter().partition(|(key, _)| BESIDE.contains(&key.as_str()));
    let origin = path.display().to_string();
    let shared = shared(tables, &origin)?;
    Ok((from_table::<S>(own, "", |_| origin.clone())?, shared))
}

/// Prints the configuration that is in force as TOML on standard output, secrets masked.
pub fn print<S: Serialize>(table: &str, settings: &S, shared: &Shared) -> Result<(), ConfigError> {
    let text = masked(table, settings, shared)?;
    io::stdout().lock().write_all(text.as_bytes()).map_err(|source| ConfigError::Write { source })
}

/// The configuration that is in force as TOML, secrets masked.
pub fn masked<S: Serialize>(table: &str, settings: &S, shared: &Shared) -> Result<String, ConfigError> {
    let unwritable = |error: toml::ser::Error| ConfigError::Write { source: io::Error::other(error) };
    let mut whole = Table::try_from(shared).map_err(unwritable)?;
    whole.insert(table.to_owned(), Value::Table(Table::try_from(settings).map_err(unwritable)?));
    mask(&mut whole);
    toml::to_string(&whole).map_err(unwritable)
}

impl Shared {
    /// The API key that `token` is, with its name.
    #[must_use]
    pub fn api_key(&self, token: &str) -> Option<(&str, &ApiKey)> {
        if self.api_keys.is_empty() {
            return None;
        }
        let found = hex(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        self.api_keys.iter().find(|(_, key)| key.sha256.as_bytes() == found).map(|(name, key)| (name.as_str(), key))
    }
}

impl ApiKey {
    /// Whether it counts for rooms of this namespace.
    #[must_use]
    pub fn allows(&self, namespace: &NamespaceId) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }
}

/// Reads the shared tables, and checks what one value alone does not show.
fn shared(tables: Table, origin: &str) -> Result<Shared, ConfigError> {
    let shared = from_table::<Shared>(tables, "", |_| origin.to_owned())?;
    geography::check(&shared.regions, &shared.carriers)
        .and_then(|()| geography::check_fences(&shared.namespaces))
        .map_err(|wrong| misplaced(origin, &wrong))?;
    Ok(shared)
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })
}

fn overrides<F: Serialize>(flags: &F) -> Result<Table, ConfigError> {
    let flags = Table::try_from(flags).map_err(|error| key_error("flags", "", error.to_string()))?;
    let is_set = |value: &Value| !matches!(value, Value::Array(list) if list.is_empty());
    Ok(flags.into_iter().filter(|(_, value)| is_set(value)).collect())
}

/// Who set the key: a flag that is among `set`, else the file.
fn origin_of(key: &str, set: &Table, file: &str) -> String {
    let first = key.split(['.', '[']).next().unwrap_or_default();
    if set.contains_key(first) {
        format!("--{} or its environment variable", first.replace('_', "-"))
    } else {
        file.to_owned()
    }
}

fn from_table<T: DeserializeOwned>(
    table: Table,
    prefix: &str,
    origin: impl Fn(&str) -> String,
) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(table.clone()).map_err(|error: serde_path_to_error::Error<toml::de::Error>| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let separator = if prefix.is_empty() || path.is_empty() { "" } else { "." };
        let message = error.inner().message();
        let message = match scalar_at(&table, error.path()) {
            Some(value) if !message.starts_with("unknown field") && !message.contains(value.trim_matches('"')) => {
                format!("{value}: {message}")
            }
            _ => message.to_owned(),
        };
        key_error(&origin(&path), &format!("{prefix}{separator}{path}"), message)
    })
}

/// The value that was wrong, for errors that don't show it; none for a secret.
fn scalar_at(table: &Table, path: &serde_path_to_error::Path) -> Option<String> {
    let mut found: Option<&Value> = None;
    for segment in path {
        found = match (segment, found) {
            (Segment::Map { key }, _) if is_secret(key) => None,
            (Segment::Map { key }, None) => table.get(key),
            (Segment::Map { key }, Some(value)) => value.get(key),
            (Segment::Seq { index }, Some(value)) => value.get(index),
            _ => None,
        };
        found?;
    }
    found.filter(|value| !value.is_table() && !value.is_array()).map(Value::to_string)
}

fn key_error(origin: &str, key: &str, message: String) -> ConfigError {
    ConfigError::Key { origin: origin.to_owned(), key: key.to_owned(), message }
}

fn misplaced(origin: &str, wrong: &GeographyError) -> ConfigError {
    key_error(origin, &wrong.key, format!("{}: expected {}", wrong.value, wrong.expected))
}

fn sha256_hex<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        // Not shown: it may be the key itself.
        Err(serde::de::Error::custom("expected the key's SHA-256 as 64 hexadecimal digits"))
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use roost_proto::id::NodeId;
    use serde_json::json;

    use super::*;
    use crate::client_address::TrustedHeader;

    #[derive(Debug, Default, Serialize)]
    struct Flags {
        node_id: Option<String>,
        lease_ms: Option<u64>,
        trusted_proxy: Vec<String>,
        dev: Option<bool>,
        #[serde(skip)]
        _print_config: bool,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        node_id: Option<NodeId>,
        lease_ms: u32,
        listen: SocketAddr,
        trusted_proxy: Vec<ipnet::IpNet>,
        trusted_header: TrustedHeader,
        store: String,
        dev: bool,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self {
                node_id: None,
                lease_ms: 4_000,
                listen: SocketAddr::from(([127, 0, 0, 1], 7411)),
                trusted_proxy: Vec::new(),
                trusted_header: TrustedHeader::default(),
                store: "embedded".to_owned(),
                dev: false,
            }
        }
    }

    #[test]
    fn a_namespace_that_is_not_configured_has_the_values_of_default() {
        let file = "[namespaces.default]\nmax_participants_per_room = 7\n[namespaces.acme]";
        let (_, shared) = load_text(&Flags::default(), file).expect("valid");
        for (namespace, most) in [("default", 7), ("acme", 0), ("other", 7)] {
            assert_eq!(
                shared.namespaces.of(&NamespaceId::new(namespace).expect("valid")).max_participants_per_room,
                most,
                "{namespace}"
            );
        }
        assert_eq!(
            Shared::default().namespaces.of(&NamespaceId::new("other").expect("valid")).max_participants_per_room,
            0
        );
    }

    #[test]
    fn flags_lie_over_the_file_and_the_file_over_the_defaults() {
        let file =
            "[agent]\nnode_id = 'file'\nlease_ms = 5000\ntrusted_proxy = ['10.0.0.0/8']\ntrusted_header = 'forwarded'";
        let (settings, _) = load_text(&Flags::default(), file).expect("valid");
        assert_eq!(settings.node_id, Some(NodeId::new("file").expect("valid")));
        assert_eq!((settings.lease_ms, settings.dev), (5_000, false));
        assert_eq!(settings.trusted_header, TrustedHeader::Forwarded);
        assert_eq!(settings.trusted_proxy.len(), 1);

        let flags = Flags {
            lease_ms: Some(6_000),
            dev: Some(true),
            trusted_proxy: vec!["192.0.2.0/24".to_owned(), "::1/128".to_owned()],
            ..Flags::default()
        };
        let (settings, _) = load_text(&flags, file).expect("valid");
        assert_eq!(settings.node_id, Some(NodeId::new("file").expect("valid")));
        assert_eq!((settings.lease_ms, settings.dev), (6_000, true));
        assert_eq!(settings.trusted_proxy.len(), 2);
        assert_eq!(settings.listen.port(), 7411);
    }

    #[test]
    fn the_shared_tables_are_read_by_all_processes() {
        let file = "
            [media]
            ice_servers = [{ urls = 'turn:turn.example', username = 'u', credential = 'c' }]
            [[media.codecs]]
            kind = 'audio'
            mimeType = 'audio/opus'
            preferredPayloadType = 111
            clockRate = 48000
            channels = 2
            [namespaces.default]
            max_participants_per_room = 7
            [api_keys.backend]
            sha256 = '2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b'
            namespaces = ['default']
            [scheduler]
            what_the_agent_does_not_know = true
        ";
        let (_, shared) = load_text(&Flags::default(), file).expect("valid");
        assert_eq!(shared.media.codecs[0]["parameters"], json!({}));
        assert_eq!(shared.media.ice_servers[0]["urls"], "turn:turn.example");
        let default = NamespaceId::new("default").expect("valid");
        assert_eq!(shared.namespaces.of(&default).max_participants_per_room, 7);
        let (name, key) = shared.api_key("secret").expect("its SHA-256 is listed");
        assert_eq!(name, "backend");
        assert!(key.allows(&default));
        assert!(!key.allows(&NamespaceId::new("other").expect("valid")));
        assert!(shared.api_key("Secret").is_none());
    }

    #[test]
    fn without_a_file_there_are_defaults() {
        let (settings, shared) = load::<_, Settings>(&Flags::default(), "agent", None).expect("valid");
        assert_eq!(settings.store, "embedded");
        assert_eq!(shared, Shared::default());
    }

    #[test]
    fn an_error_names_key_value_expectation_and_file() {
        for (file, parts) in [
            ("[agent]\nlease = 1", &["agent.lease: unknown field `lease`, expected one of `node_id`, `lease_ms`"][..]),
            ("[agent]\nlease_ms = 'long'", &["agent.lease_ms: invalid type: string \"long\", expected u32"]),
            ("[agent]\nlease_ms = -1", &["agent.lease_ms: invalid value: integer `-1`, expected u32"]),
            ("[agent]\nnode_id = 'No'", &["agent.node_id: node \"No\": expected 1 to 63 characters"]),
            ("[agent]\ntrusted_header = 'X'", &["agent.trusted_header: \"X\": expected X-Forwarded-For or Forwarded"]),
            ("[agent]\ntrusted_proxy = ['10.0.0.0/8', 'ten']", &["agent.trusted_proxy[1]: "]),
            ("[agent]\nlisten = 'here'", &["agent.listen: ", "\"here\""]),
            ("agent = 1", &["agent: 1: expected a table"]),
            ("[agnet]\n", &["agnet: unknown field `agnet`, expected one of `media`, `regions`, `carriers`"]),
            ("[media]\ncodec = []", &["media.codec: unknown field `codec`"]),
            ("[media]\ncodecs = [{ kind = 'text' }]", &["media.codecs: codec 0: expected kind \"audio\" or \"video\""]),
            ("[namespaces.No]", &["namespaces", "namespace \"No\": expected 1 to 63"]),
            ("[namespaces.a]\nx = 1", &["namespaces.a.x: unknown field `x`"]),
            ("[api_keys.a]", &["api_keys.a: missing field `sha256`"]),
            ("[api_keys.a]\nsha256 = 'x'", &["api_keys.a.sha256: expected the key's SHA-256 as 64 hex"]),
            ("[agent", &["expected TOML"]),
        ] {
            let error = refusal(file);
            for part in parts {
                assert!(error.contains(part), "{file}\n{error}");
            }
        }
    }

    #[test]
    fn a_contradiction_in_geography_or_policy_is_named_with_its_key_and_the_file() {
        for (file, says) in [
            ("[namespaces.a]\nladder = []", "namespaces.a.ladder: []: expected at least one of region+carrier"),
            ("[namespaces.a]\nladder = ['here']", "namespaces.a.ladder[0]: unknown variant `here`, expected one of"),
            (
                "[namespaces.a]\nladder = ['parent', 'region']",
                "namespaces.a.ladder: region after parent: expected nearer rungs first",
            ),
            ("[namespaces.a]\nfence = ['EU']", "namespaces.a.fence[0]: region \"EU\": expected labels"),
            ("[namespaces.a]\nfence = ['eu', 'eu/west']", "namespaces.a.fence[1]: \"eu/west\": expected a region out"),
            ("[regions.'cn/cn']", "regions.cn/cn: \"cn/cn\": expected the label cn once"),
            ("[regions.CN]", "regions.CN: region \"CN\": expected labels"),
            ("[regions.eu]\ncountry = []", "regions.eu.country: unknown field `country`, expected one of"),
            ("[regions.eu]\npoint = [nan, 0]", "regions.eu.point: [NaN, 0.0]: expected a latitude of -90 to 90"),
            ("[regions.eu]\npoint = [1]", "regions.eu.point: invalid length 1, expected an array of length 2"),
            ("[carriers.a]\nasns = [4294967296]", "carriers.a.asns[0]: invalid value: integer `4294967296`"),
            ("[carriers.a]\nasns = [7]\n[carriers.b]\nasns = [7]", "it is in carriers.a.asns[0] too"),
        ] {
            let error = refusal(file);
            assert!(error.contains(says), "{file}\n{error}");
        }
    }

    #[test]
    fn a_wrong_flag_is_not_blamed_on_the_file() {
        let flags = Flags { node_id: Some("No".to_owned()), ..Flags::default() };
        let error = load_text(&flags, "[agent]\nlease_ms = 1").expect_err("upper case").to_string();
        assert!(error.starts_with("--node-id or its environment variable: agent.node_id: node \"No\""), "{error}");
    }

    #[test]
    fn what_a_process_finds_itself_is_blamed_on_who_set_it() {
        let flags = Flags { lease_ms: Some(1), ..Flags::default() };
        let file = Path::new("/etc/roost.toml");
        for (key, path, origin) in [
            ("lease_ms", Some(file), "--lease-ms or its environment variable: lease_ms: 1: expected more"),
            ("store", Some(file), "/etc/roost.toml: store: 1: expected more"),
            ("store", None, "configuration: store: 1: expected more"),
        ] {
            assert_eq!(ConfigError::wrong(key, 1, "more").located(&flags, path).to_string(), origin);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = load::<_, Settings>(&Flags::default(), "agent", Some(Path::new("/nonexistent.toml")));
        assert_eq!(error.expect_err("absent").to_string(), "config /nonexistent.toml: expected a readable file");
    }

    #[test]
    fn what_is_printed_hides_secrets_and_reads_back() {
        let file = "
            [agent]
            store = 'rediss://user:pass/word@redis.example:6379/0'
            [media]
            ice_servers = [{ urls = 'turn:turn.example', username = 'u', credential = 'hidden' }]
            [api_keys.backend]
            sha256 = '2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b'
        ";
        let (settings, shared) = load_text(&Flags::default(), file).expect("valid");
        let printed = masked("agent", &settings, &shared).expect("it can be written");
        for secret in ["pass", "word", "hidden", "2bb80d"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        assert!(printed.contains("store = \"rediss://user:***@redis.example:6379/0\""), "{printed}");
        assert!(printed.contains("lease_ms = 4000"), "{printed}");

        let printed = masked("agent", &Settings::default(), &Shared::default()).expect("it can be written");
        let (_, read) = load_text(&Flags::default(), &printed).expect("valid");
        assert_eq!(read, Shared::default());
    }

    /// What is said of the file, which it begins with.
    fn refusal(file: &str) -> String {
        let (path, got) = with_file(file, |path| load::<_, Settings>(&Flags::default(), "agent", Some(path)));
        let error = got.expect_err(file).to_string();
        assert!(error.starts_with(&format!("{path}: ")), "{error}");
        error
    }

    fn load_text(flags: &Flags, text: &str) -> Result<(Settings, Shared), ConfigError> {
        with_file(text, |path| load(flags, "agent", Some(path))).1
    }

    fn with_file<T>(text: &str, work: impl FnOnce(&Path) -> T) -> (String, T) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("roost-config-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("a file can be written");
        let outcome = work(&path);
        fs::remove_file(&path).expect("it is there");
        (path.display().to_string(), outcome)
    }
}
