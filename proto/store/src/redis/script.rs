//! The scripts, prepared: sent by their hash, loaded once for each connection.

use std::sync::LazyLock;

use redis::Cmd;

/// One script and its hash.
#[derive(Debug)]
pub(super) struct Script {
    source: &'static str,
    hash: String,
}

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) begin: Script,
    pub(super) grant: Script,
    pub(super) prolong: Script,
    pub(super) open: Script,
    pub(super) assert: Script,
    pub(super) release: Script,
    pub(super) hand_over: Script,
    pub(super) raise: Script,
    pub(super) read: Script,
    pub(super) register: Script,
    pub(super) renew: Script,
    pub(super) leave: Script,
    pub(super) leases: Script,
    pub(super) steer: Script,
    pub(super) purge: Script,
    pub(super) enlist: Script,
    pub(super) schedulers: Script,
    pub(super) send: Script,
    pub(super) forget: Script,
}

/// The scripts of this version.
pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    begin: Script::new(include_str!("lua/begin.lua")),
    grant: Script::new(include_str!("lua/grant.lua")),
    prolong: Script::new(include_str!("lua/prolong.lua")),
    open: Script::new(include_str!("lua/open.lua")),
    assert: Script::new(include_str!("lua/assert.lua")),
    release: Script::new(include_str!("lua/release.lua")),
    hand_over: Script::new(include_str!("lua/hand_over.lua")),
    raise: Script::new(include_str!("lua/raise.lua")),
    read: Script::new(include_str!("lua/read.lua")),
    register: Script::new(include_str!("lua/register.lua")),
    renew: Script::new(include_str!("lua/renew.lua")),
    leave: Script::new(include_str!("lua/leave.lua")),
    leases: Script::new(include_str!("lua/leases.lua")),
    steer: Script::new(include_str!("lua/steer.lua")),
    purge: Script::new(include_str!("lua/purge.lua")),
    enlist: Script::new(include_str!("lua/enlist.lua")),
    schedulers: Script::new(include_str!("lua/schedulers.lua")),
    send: Script::new(include_str!("lua/send.lua")),
    forget: Script::new(include_str!("lua/forget.lua")),
});

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, hash: redis::Script::new(source).get_hash().to_owned() }
    }

    /// The call of it with these keys; arguments follow by [`Cmd::arg`].
    pub(super) fn call(&self, keys: &[&str]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hash).arg(keys.len()).arg(keys);
        call
    }

    fn load(&self) -> Cmd {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(self.source);
        load
    }
}

impl Scripts {
    /// Loads all scripts, in one round trip.
    pub(super) fn load(&self) -> redis::Pipeline {
        let mut pipeline = redis::pipe();
        for script in [
            &self.begin,
            &self.grant,
            &self.prolong,
            &self.open,
            &self.assert,
            &self.release,
            &self.hand_over,
            &self.raise,
            &self.read,
            &self.register,
            &self.renew,
            &self.leave,
            &self.leases,
            &self.steer,
            &self.purge,
            &self.enlist,
            &self.schedulers,
            &self.send,
            &self.forget,
        ] {
            pipeline.add_command(script.load()).ignore();
        }
        pipeline
    }
}
