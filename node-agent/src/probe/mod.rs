//! What the machine is doing, for the report. What the media workers do, they say themselves.

mod cgroup;
pub(crate) mod host;
pub(crate) mod network;

use std::fs;
use std::path::Path;

/// The text of a file of the kernel's; empty where it cannot be read.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The one number that a file of the kernel's holds.
fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    read(path).trim().parse().ok()
}

/// The number behind a key, in a file with `key number` on each line.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A folder with a machine's files as a test wants them.
#[cfg(test)]
struct Fixture(tempfile::TempDir);

#[cfg(test)]
impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let fixture = Self(tempfile::tempdir().expect("a folder"));
        for (path, text) in files {
            fixture.write(path, text);
        }
        fixture
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn root(&self) -> &Path {
        self.0.path()
    }
}
