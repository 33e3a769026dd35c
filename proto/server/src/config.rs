//! Configuration: flags override the environment, which overrides one TOML file, which overrides the defaults.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use roost_proto::id::NamespaceId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::media::MediaSettings;

/// The tables that belong to one process each.
const PROCESSES: [&str; 2] = ["scheduler", "agent"];

/// What all processes of a cluster read alike.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shared {
    pub media: MediaSettings,
    pub namespaces: BTreeMap<NamespaceId, NamespaceSettings>,
    /// By the name that logs show.
    pub api_keys: BTreeMap<String, ApiKey>,
}

/// What holds for the rooms of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamespaceSettings {
    /// 0: no limit.
    pub max_participants_per_room: u32,
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

/// Why a process cannot start with this configuration. The message names key, value, what was expected, and where it was set.
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
    /// For what a process checks itself: `key` in snake case, its value, what was expected.
    pub fn wrong(key: &str, value: impl std::fmt::Debug, expected: &str) -> Self {
        let message = format!("{value:?}: expected {expected}");
        Self::Key { origin: "configuration".to_owned(), key: key.to_owned(), message }
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
    let shared = from_table::<Shared>(file, "", |_| origin.clone())?;
    let set = overrides(flags)?;
    let by_flag: Vec<String> = set.keys().cloned().collect();
    own.extend(set);
    let settings = from_table::<S>(own, table, |key| {
        let first = key.split(['.', '[']).next().unwrap_or_default();
        if by_flag.iter().any(|set| set == first) {
            format!("--{} or its environment variable", first.replace('_', "-"))
        } else {
            origin.clone()
        }
    })?;
    Ok((settings, shared))
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
        self.api_keys.iter().find(|(_, key)| key.sha256 == found).map(|(name, key)| (name.as_str(), key))
    }
}

impl ApiKey {
    /// Whether it counts for rooms of this namespace.
    #[must_use]
    pub fn allows(&self, namespace: &NamespaceId) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }
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

fn from_table<T: DeserializeOwned>(
    table: Table,
    prefix: &str,
    origin: impl Fn(&str) -> String,
) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(table).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let separator = if prefix.is_empty() || path.is_empty() { "" } else { "." };
        let key = format!("{prefix}{separator}{path}");
        key_error(&origin(&path), &key, error.into_inner().message().to_owned())
    })
}

fn key_error(origin: &str, key: &str, message: String) -> ConfigError {
    ConfigError::Key { origin: origin.to_owned(), key: key.to_owned(), message }
}

fn mask(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        match value {
            Value::String(text) if is_secret(key) => "***".clone_into(text),
            Value::String(text) => mask_url(text),
            Value::Table(inner) => mask(inner),
            Value::Array(list) => list.iter_mut().for_each(|entry| match entry {
                Value::Table(inner) => mask(inner),
                Value::String(text) => mask_url(text),
                _ => {}
            }),
            _ => {}
        }
    }
}

fn is_secret(key: &str) -> bool {
    ["credential", "password", "secret", "token", "sha256"].iter().any(|word| key.ends_with(word))
}

/// Hides the password of `scheme://user:password@host`.
fn mask_url(text: &mut String) {
    let Some((scheme, rest)) = text.split_once("://") else { return };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@') else { return };
    let user = rest[..at].split(':').next().unwrap_or_default();
    *text = format!("{scheme}://{user}:***{}", &rest[at..]);
}

fn sha256_hex<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(serde::de::Error::custom("expected the key's SHA-256 as 64 hexadecimal digits"))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
