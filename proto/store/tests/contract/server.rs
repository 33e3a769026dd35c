//! A real Redis on a free port, in a folder of its own, which ends with the test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue};

use crate::stage::until;

/// The first option of a sentinel; its configuration follows.
pub(crate) const SENTINEL: &str = "--sentinel";

/// A running Redis.
pub(crate) struct Server {
    port: u16,
    folder: PathBuf,
    options: Vec<String>,
    process: Child,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further options, as on its command line. `FOLDER` in them is its folder.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let folder = folder();
        let options: Vec<_> = options.iter().map(|option| option.replace("FOLDER", folder.to_str().unwrap())).collect();
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let process = spawn(port, &folder, &options);
            let mut server = Self { port, folder: folder.clone(), options: options.clone(), process };
            if server.is_up().await {
                return server;
            }
        }
        panic!("redis-server does not start: see {}", folder.join("log").display());
    }

    /// A sentinel that follows the master at `port` by the name `main`, and wants another to agree that it is gone.
    pub(crate) async fn start_sentinel(port: u16) -> Self {
        let monitor = format!("monitor main 127.0.0.1 {port} 2");
        // Nobody is down but who a test says is: on a machine that is busy, servers are silent for a while.
        let wishes = [&*monitor, "down-after-milliseconds main 60000", "failover-timeout main 2000"];
        let wishes: String = wishes.iter().map(|wish| format!("sentinel {wish}\n")).collect();
        Self::start_with(&[SENTINEL, &wishes]).await
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The port that takes TLS, by its options.
    pub(crate) fn tls_port(&self) -> &str {
        let mut words = self.options.iter().flat_map(|option| option.split_whitespace());
        words.find(|word| word.trim_start_matches('-') == "tls-port").expect("it takes TLS");
        words.next().expect("a port")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A connection that no store knows of.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        self.connect().await.unwrap()
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let patience = Some(Duration::from_secs(10));
        let config = AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
        Client::open(self.url()).unwrap().get_multiplexed_async_connection_with_config(&config).await
    }

    /// Sends a command whose answer does not matter.
    pub(crate) async fn command(&self, words: &[&str]) {
        self.ask::<redis::Value>(words).await;
    }

    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).await.unwrap()
    }

    pub(crate) async fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut connection = self.connect().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on the same port.
    pub(crate) async fn start_again(&mut self) {
        self.process = spawn(self.port, &self.folder, &self.options);
        assert!(self.is_up().await, "redis-server does not start again");
    }

    /// Ends it and starts it again, with its data or without.
    pub(crate) async fn restart(&mut self, keep: bool) {
        if keep {
            self.command(&["SAVE"]).await;
        }
        self.kill();
        if !keep {
            let _absent = std::fs::remove_file(self.folder.join("dump.rdb"));
        }
        self.start_again().await;
    }

    /// Makes all grants, leases and entries on lists older. Redis has no clock that a test could set.
    pub(crate) async fn age(&self, ms: u64) {
        let script = redis::Script::new(include_str!("age.lua"));
        script.arg(ms).invoke_async::<()>(&mut self.connection().await).await.unwrap();
    }

    async fn is_up(&mut self) -> bool {
        let client = Client::open(self.url()).unwrap();
        let mut exited = false;
        until("redis-server takes connections, or ends", || {
            exited = self.process.try_wait().unwrap().is_some();
            let (client, exited) = (client.clone(), exited);
            async move {
                exited || {
                    let connected = client.get_multiplexed_async_connection().await;
                    // It may want a password; being asked for one is an answer too.
                    connected.is_ok_and(|_| true)
                }
            }
        })
        .await;
        !exited
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _ended = self.process.wait();
        let _kept = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(port: u16, folder: &Path, options: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    if let [SENTINEL, wishes] = options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // It writes what it learns into its configuration.
        let file = folder.join("sentinel.conf");
        let place = format!("port {port}\nbind 127.0.0.1\ndir {}\nlogfile log\n", folder.display());
        std::fs::write(&file, place + wishes).unwrap();
        command.arg(file).arg(SENTINEL);
        return start(command);
    }
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    command.args(["--logfile", "log"]).arg("--dir").arg(folder).args(options);
    start(command)
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!("cannot start redis-server ({error}): install the Debian package `redis-server`")
    })
}

/// A folder of its own, which whoever asks for it removes.
pub(crate) fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("roost-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
