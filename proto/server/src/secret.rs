//! What is hidden when configuration is shown: values by their keys' names, and passwords in URLs.

use toml::{Table, Value};

/// Hides what is secret in a table and in those inside it.
pub(crate) fn mask(table: &mut Table) {
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

/// Whether what stands at the key is secret.
pub(crate) fn is_secret(key: &str) -> bool {
    ["credential", "password", "secret", "token", "sha256"].iter().any(|word| key.ends_with(word))
}

/// Hides the password of `scheme://user:password@host`.
fn mask_url(text: &mut String) {
    let Some((scheme, rest)) = text.split_once("://") else { return };
    let Some(at) = rest.rfind('@') else { return };
    let Some((user, _)) = rest[..at].split_once(':') else { return };
    *text = format!("{scheme}://{user}:***{}", &rest[at..]);
}
