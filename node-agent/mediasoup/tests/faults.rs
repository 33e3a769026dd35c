//! Ends of all kinds: the port can be bound again at once, and the exit code tells a fault from a wish.

use std::process::{Command, Stdio};

use crate::agent::{Agent, room};
use roost_proto::media::MediaRequest;

#[tokio::test]
async fn after_each_fault_a_new_process_has_the_port_at_once() {
    let mut agent = Agent::start().await;
    let port = agent.hello.media_port;
    for signal in ["SEGV", "KILL", "ABRT", "TERM"] {
        agent.open("a").await;
        agent.transport("a").await;
        send_signal(&agent, signal);
        if signal == "SEGV" {
            // Rust looks at the first for a stack that overflowed, and returns: a real fault comes again by itself.
            agent.describe().await;
            send_signal(&agent, signal);
        }
        let status = agent.ended().await;
        assert_eq!(status.success(), signal == "TERM", "{signal}: {status}");
        agent = Agent::start_on(port, &[]).await;
        assert_eq!(agent.hello.media_port, port);
        assert!(agent.describe().await.rooms.is_empty());
    }
}

#[tokio::test]
async fn an_interrupt_is_left_to_the_agent() {
    let mut agent = Agent::start().await;
    agent.open("a").await;
    send_signal(&agent, "INT");
    assert_eq!(agent.describe().await.rooms.len(), 1);
    agent.done(MediaRequest::CloseRoom { room: room("a") }).await;
    assert!(agent.hang_up().await.success());
}

#[tokio::test]
async fn many_processes_that_are_hung_up_on_all_end_well() {
    for _ in 0..10 {
        let mut agent = Agent::start().await;
        let capabilities = agent.open("a").await;
        let transport = agent.transport("a").await;
        let producer = agent.produce(&transport, roost_proto::media::StreamKind::Audio, 1).await;
        agent.consume(&transport, &producer, &capabilities).await;
        let status = agent.hang_up().await;
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_stops_the_start() {
    let agent = Agent::start().await;
    let port = agent.hello.media_port.to_string();
    let folder = std::env::temp_dir().join(format!("roost-mediasoup-taken-{}.sock", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&folder).expect("a socket");
    let path = folder.display().to_string();
    let ended = run(&["--socket", &path, "--worker", "0", "--listen", "127.0.0.1", "--port", &port]);
    assert_eq!(ended.0, Some(1));
    assert!(ended.1.contains("the port can't be had"), "{}", ended.1);
    drop(listener);
    std::fs::remove_file(folder).expect("the socket's file is there");
}

#[test]
fn wrong_arguments_end_with_2_and_a_missing_agent_with_1() {
    let socket = ["--socket", "/nowhere/agent.sock", "--worker", "0", "--port", "0"];
    let wildcard = run(&[&socket[..], &["--listen", "0.0.0.0"]].concat());
    assert_eq!(wildcard.0, Some(2));
    assert!(wildcard.1.contains("--announced"), "{}", wildcard.1);
    assert_eq!(run(&[&socket[..], &["--listen", "localhost"]].concat()).0, Some(2));
    assert_eq!(run(&[&socket[..], &["--listen", "127.0.0.1", "--log-level", "a=b=c"]].concat()).0, Some(2));
    let nobody = run(&[&socket[..], &["--listen", "127.0.0.1"]].concat());
    assert_eq!(nobody.0, Some(1));
    assert!(nobody.1.contains("/nowhere/agent.sock"), "{}", nobody.1);
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost-mediasoup"));
    let ended = command.args(arguments).stdin(Stdio::null()).output().expect("it starts");
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

fn send_signal(agent: &Agent, signal: &str) {
    let pid = agent.child.id().expect("it runs").to_string();
    let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill is there");
    assert!(sent.success());
}
