//! Where the built programs are.

use std::path::{Path, PathBuf};

use crate::Trouble;

/// The folder with our own binaries: `$ROOST_BIN_DIR`, else the one that this program was built into.
pub fn folder() -> Result<PathBuf, Trouble> {
    if let Some(folder) = std::env::var_os("ROOST_BIN_DIR") {
        return Ok(folder.into());
    }
    let program = std::env::current_exe()?;
    let folder = program.parent().ok_or("the program has no folder")?;
    // Tests are built into `deps` beside the binaries.
    Ok(if folder.ends_with("deps") { folder.parent().unwrap_or(folder).to_owned() } else { folder.to_owned() })
}

/// One of our own binaries.
pub fn own(name: &str) -> Result<PathBuf, Trouble> {
    let path = folder()?.join(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is not built: run `make build`", path.display()).into()) }
}

/// A program of the system, named with the Debian package that brings it.
pub fn system(name: &str, package: &str) -> Result<PathBuf, Trouble> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")])
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| format!("{name} is not installed: run `make setup`, or install the package {package}").into())
}

/// The library that moves a process's clock, but not the one that only goes forward.
pub fn wrong_clock() -> Result<PathBuf, Trouble> {
    let folders = std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    folders
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists())
        .ok_or_else(|| "libfaketime is not installed: run `make setup`, or install the package faketime".into())
}

/// The top of the source tree.
#[must_use]
pub fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
