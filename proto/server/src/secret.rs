//! What is hidden when configuration is shown: values by their keys' names, and passwords in URLs.

use toml::{Table, Value};

/// `scheme://user:password@host` and `scheme://host?password=password` without the password; other text as it is.
#[must_use]
pub fn masked_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let masked = match rest.rfind('@').and_then(|at| Some((rest[..at].split_once(':')?.0, &rest[at..]))) {
        Some((user, host)) => format!("{scheme}://{user}:***{host}"),
        None => text.to_owned(),
    };
    let Some((start, query)) = masked.split_once("?").filter(|(_, query)| query.contains("password=")) else {
        return masked;
    };
    let parts = query.split('&').map(|part| {
        part.split_once('=').map_or(part.to_owned(), |(name, value)| {
            format!("{name}={}", if name.ends_with("password") { "***" } else { value })
        })
    });
    format!("{start}?{}", parts.collect::<Vec<_>>().join("&"))
}

/// Hides what is secret in a table and in those inside it.
pub(crate) fn mask(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        match value {
            Value::String(text) if is_secret(key) => "***".clone_into(text),
            Value::String(text) => *text = masked_url(text),
            Value::Table(inner) => mask(inner),
            Value::Array(list) => list.iter_mut().for_each(|entry| match entry {
                Value::Table(inner) => mask(inner),
                Value::String(text) => *text = masked_url(text),
                _ => {}
            }),
            _ => {}
        }
    }
}

/// Whether what stands at the key is secret.
pub(crate) fn is_secret(key: &str) -> bool {
    ["credential", "password", "secret", "token", "sha256"].iter().any(|word| key.ends_with(word))
}
