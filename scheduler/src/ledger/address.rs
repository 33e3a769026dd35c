//! Where the ledger is kept.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use roost_server::secret::masked_url;
use sqlx::any::AnyConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// What an address looks like.
pub(crate) const EXPECTED: &str = "sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// A file with SQLite's tables begins with this.
const SQLITE_HEAD: &[u8; 16] = b"SQLite format 3\0";

/// A database that can be named by a URL.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Sqlite(PathBuf),
    Postgres(String),
}

/// The text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoAddress;

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let is_file = !path.is_empty() && !path.ends_with('/') && !path.starts_with(':');
            return is_file.then(|| Self::Sqlite(path.into())).ok_or(NoAddress);
        }
        let host = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        match host {
            Some(host) if !host.is_empty() && PgConnectOptions::from_str(text).is_ok() => {
                Ok(Self::Postgres(text.to_owned()))
            }
            _ => Err(NoAddress),
        }
    }
}

impl Address {
    /// Whether what is there can be a ledger, as far as that can be known without a server: one that is away comes back.
    pub(super) fn check(&self) -> io::Result<()> {
        let Self::Sqlite(path) = self else { return Ok(()) };
        let file = File::options().create(true).append(true).read(true).open(path)?;
        let mut head = Vec::new();
        file.take(SQLITE_HEAD.len() as u64).read_to_end(&mut head)?;
        if head.is_empty() || head == SQLITE_HEAD {
            Ok(())
        } else {
            Err(io::Error::other("it is another kind of file"))
        }
    }

    pub(super) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// As sqlx takes it.
    pub(super) fn options(&self) -> Result<AnyConnectOptions, sqlx::Error> {
        match self {
            Self::Sqlite(path) => {
                let path = std::path::absolute(path)?;
                let path = percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
                // No host: the path begins with an encoded slash, which a URL's own parts never do.
                AnyConnectOptions::from_str(&format!("sqlite:{path}?mode=rwc"))
            }
            Self::Postgres(url) => AnyConnectOptions::from_str(url),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&masked_url(url)),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_file_or_a_postgres_url() {
        for (text, shown) in [
            ("sqlite:ledger.db", "sqlite:ledger.db"),
            ("sqlite:///var/lib/roost/ledger.db", "sqlite:/var/lib/roost/ledger.db"),
            ("postgres://roost:hush@db.example/roost", "postgres://roost:***@db.example/roost"),
            ("postgresql://db/roost?user=roost&password=hush", "postgresql://db/roost?user=roost&password=***"),
        ] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for text in
            ["", "ledger.db", "sqlite:", "sqlite::memory:", "sqlite:/var/", "mysql://x", "postgres://", "postgres:x"]
        {
            assert_eq!(text.parse::<Address>(), Err(NoAddress), "{text}");
        }
    }

    #[test]
    fn a_file_of_another_kind_is_no_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Address::Sqlite(folder.path().join(name));
        assert!(at("new").check().is_ok() && at("new").check().is_ok(), "an empty one may become one");
        std::fs::write(folder.path().join("text"), "dear diary").unwrap();
        assert!(at("text").check().is_err());
        assert!(at("no/folder").check().is_err());
    }
}
