//! Holds a message against its file in `proto/golden/`.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The message is written as its file says, and the file is read as the message.
pub(crate) fn pin<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path = folder().join(format!("{name}.json"));
    let written = serde_json::to_value(value).unwrap();
    if std::env::var_os("ROOST_ACCEPT").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&written).unwrap() + "\n").unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let pinned: Value = serde_json::from_str(&pinned).unwrap();
    assert_eq!(written, pinned, "{name} is written differently than {} says", path.display());
    assert_eq!(&serde_json::from_value::<T>(pinned).unwrap(), value, "{name} is read differently than it was written");
}

/// `proto/golden/`, whichever package's test asks.
pub(crate) fn folder() -> PathBuf {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    packages.map(|package| package.join("golden")).find(|folder| folder.is_dir()).expect("proto/golden is in the tree")
}
