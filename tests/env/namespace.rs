//! Network namespaces of a test's own, joined by a cable that can be cut: packets are then lost without a word.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::process::Command;

use crate::process::Process;
use crate::{Trouble, binaries};

/// The address in the first namespace, and the one in the second.
pub const ADDRESSES: [&str; 2] = ["10.91.0.1", "10.91.0.2"];
const HARDWARE: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
/// No card has it: what is sent there is taken by nobody.
const NOWHERE: &str = "02:00:00:00:00:99";

/// Two network namespaces and the cable between them. The kernel removes all when this is dropped.
#[derive(Debug)]
pub struct Pair {
    namespaces: [PathBuf; 2],
    _anchors: [Process; 2],
}

/// A command in a network namespace.
#[must_use]
pub fn inside(namespace: &Path, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).arg(program);
    command
}

/// Moves the calling thread, and all that it starts from here on, into a network namespace.
pub fn enter(namespace: &Path) -> Result<(), Trouble> {
    move_into_link_name_space(File::open(namespace)?.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

impl Pair {
    /// Makes both; an error says why this machine doesn't allow it.
    pub async fn make(folder: &Path) -> Result<Self, Trouble> {
        let (first, second) = (anchor("here", folder).await?, anchor("there", folder).await?);
        let namespace = |anchor: &Process| -> Result<PathBuf, Trouble> {
            Ok(format!("/proc/{}/ns/net", anchor.pid().ok_or("a namespace is gone")?).into())
        };
        let namespaces = [namespace(&first)?, namespace(&second)?];
        let pair = Self { namespaces, _anchors: [first, second] };
        let there = pair.namespaces[1].display().to_string();
        pair.ip(0, &["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &there]).await?;
        for side in [0, 1] {
            pair.ip(side, &["link", "set", "lo", "up"]).await?;
            pair.ip(side, &["link", "set", "cable", "address", HARDWARE[side], "up"]).await?;
            pair.ip(side, &["address", "add", &format!("{}/24", ADDRESSES[side]), "dev", "cable"]).await?;
        }
        pair.mend().await?;
        Ok(pair)
    }

    /// The files by which the namespaces are entered.
    #[must_use]
    pub fn namespaces(&self) -> &[PathBuf; 2] {
        &self.namespaces
    }

    /// From here on all packets are lost, both ways.
    pub async fn cut(&self) -> Result<(), Trouble> {
        self.point([NOWHERE; 2]).await
    }

    /// From here on packets arrive.
    pub async fn mend(&self) -> Result<(), Trouble> {
        self.point([HARDWARE[1], HARDWARE[0]]).await
    }

    /// Tells each side which card the other one has.
    async fn point(&self, cards: [&str; 2]) -> Result<(), Trouble> {
        for side in [0, 1] {
            let other = ADDRESSES[1 - side];
            self.ip(side, &["neigh", "replace", other, "lladdr", cards[side], "nud", "permanent", "dev", "cable"])
                .await?;
        }
        Ok(())
    }

    async fn ip(&self, side: usize, arguments: &[&str]) -> Result<(), Trouble> {
        let output =
            inside(&self.namespaces[side], &binaries::system("ip", "iproute2")?).args(arguments).output().await?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// A process that does nothing but to hold a namespace, for at most an hour.
async fn anchor(name: &str, folder: &Path) -> Result<Process, Trouble> {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "echo '{}'; exec sleep 3600"]);
    let mut process = Process::start(name, folder, command)?;
    process.ready().await?;
    Ok(process)
}
