//! A GeoIP database that follows its file: swapped whole when the file changes, kept when what came cannot be used.

use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use roost_server::Stamp;

use super::database::{Database, Fault, Kind, Known};

/// Which file cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("geo_{} {}: expected {}", kind.as_str(), path.display(), kind.expected())]
pub(crate) struct GeoError {
    kind: Kind,
    path: PathBuf,
    source: Fault,
}

/// One file, and what was read from it.
pub(crate) struct Source<T> {
    pub kind: Kind,
    pub path: PathBuf,
    mean: Box<dyn Fn(&Known<'_>) -> T + Send + Sync>,
    current: ArcSwap<Database<T>>,
    seen: Mutex<Seen>,
}

/// How the file looked.
#[derive(Debug)]
struct Seen {
    /// When it was read, for better or worse; none if it was not there.
    read: Option<Stamp>,
    /// When it was last looked at.
    last: Option<Stamp>,
}

/// Opens a database whose file stays as it is.
pub(crate) fn open<T: Eq + Hash>(
    kind: Kind,
    path: &Path,
    mean: impl Fn(&Known<'_>) -> T,
) -> Result<Database<T>, GeoError> {
    Database::open(kind, path, mean).map_err(|source| GeoError { kind, path: path.to_owned(), source })
}

impl<T: Eq + Hash> Source<T> {
    /// Opens a database; `mean` says what a record means to whoever asks.
    pub(crate) fn open(
        kind: Kind,
        path: &Path,
        mean: impl Fn(&Known<'_>) -> T + Send + Sync + 'static,
    ) -> Result<Self, GeoError> {
        let stamp = Stamp::of(path);
        let current = ArcSwap::from_pointee(open(kind, path, &mean)?);
        let seen = Mutex::new(Seen { read: stamp, last: stamp });
        Ok(Self { kind, path: path.to_owned(), mean: Box::new(mean), current, seen })
    }

    /// What answers at this moment.
    pub(crate) fn current(&self) -> Guard<Arc<Database<T>>> {
        self.current.load()
    }

    /// Looks at the file, and reads it if it is another one and no longer grows: if it looks the same twice in a row.
    /// None if there is nothing to do.
    pub(crate) fn reload(&self) -> Option<Result<(), GeoError>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(&self.path);
        let is_settled = std::mem::replace(&mut seen.last, stamp) == stamp;
        if !is_settled || stamp == seen.read {
            return None;
        }
        seen.read = stamp;
        Some(open(self.kind, &self.path, &self.mean).map(|database| self.current.store(Arc::new(database))))
    }
}

impl<T> std::fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("kind", &self.kind).field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::geo::sample::made;

    #[test]
    fn another_file_in_its_place_answers_from_then_on() {
        let (_folder, source) = source();
        assert!(source.reload().is_none(), "nothing has changed");
        put(&source, "city-moved.mmdb");
        assert!(source.reload().is_none(), "it may still grow");
        assert_eq!(country(&source), "CN");
        source.reload().expect("it has settled").unwrap();
        assert_eq!(country(&source), "DE");
        assert!(source.reload().is_none());
    }

    #[test]
    fn what_cannot_be_used_leaves_the_old_in_place_and_is_told_once() {
        let (_folder, source) = source();
        let whole = fs::read(made("city.mmdb")).unwrap();
        for (reason, content) in [
            ("it is cut off", Some(b"no database".to_vec())),
            ("it is cut off", Some(whole[..whole.len() - 100].to_vec())),
            ("it is broken", Some(fs::read(made("city-worn.mmdb")).unwrap())),
            ("it cannot be read", None),
        ] {
            match content {
                Some(content) => fs::write(&source.path, content).unwrap(),
                None => fs::remove_file(&source.path).unwrap(),
            }
            assert!(source.reload().is_none());
            let error = roost_server::telemetry::causes(&source.reload().expect("it has settled").unwrap_err());
            assert!(error.starts_with("geo_city ") && error.contains(reason), "{error}");
            assert!(source.reload().is_none(), "{reason}");
            assert_eq!(country(&source), "CN", "{reason}");
        }
        put(&source, "city-moved.mmdb");
        source.reload();
        source.reload().expect("it is there again").unwrap();
        assert_eq!(country(&source), "DE");
    }

    #[test]
    fn a_file_that_grows_is_not_read_before_it_is_whole() {
        let (_folder, source) = source();
        let whole = fs::read(made("city-moved.mmdb")).unwrap();
        for part in 1..10 {
            fs::write(&source.path, &whole[..whole.len() * part / 10]).unwrap();
            assert!(source.reload().is_none());
        }
        fs::write(&source.path, whole).unwrap();
        assert!(source.reload().is_none());
        source.reload().expect("it has settled").unwrap();
        assert_eq!(country(&source), "DE");
    }

    fn source() -> (TempDir, Source<String>) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("city.mmdb");
        fs::copy(made("city.mmdb"), &path).unwrap();
        let source = Source::open(Kind::City, &path, |known| known.country.unwrap_or_default().to_owned()).unwrap();
        (folder, source)
    }

    /// Puts a database in the place of the source's own, as one should: at once.
    fn put(source: &Source<String>, name: &str) {
        let fresh = source.path.with_extension("new");
        fs::copy(made(name), &fresh).unwrap();
        fs::rename(fresh, &source.path).unwrap();
    }

    fn country(source: &Source<String>) -> String {
        source.current().lookup([192, 0, 2, 1].into()).unwrap().clone()
    }
}
