//! The tests' own databases, and files made of pieces of them.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A database that docker/geo/make_test.py has made.
pub(crate) fn made(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/geo-test").join(name);
    assert!(path.exists(), "{} is missing: run `.ci/setup geo`", path.display());
    path
}

/// A file of its own with these bytes.
pub(crate) fn write(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}
