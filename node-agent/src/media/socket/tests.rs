//! The media socket against media servers that behave, and against such that don't.

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use roost_proto::media::{FromMedia, MediaEvent, ToMedia};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn requests_are_matched_to_their_answers_and_events_come_through() {
    let (media, path) = listen(2);
    let mut events = media.events();
    let mut server = connect(&path, &hello(1)).await;
    assert_eq!(events.recv().await, Some((1, Notice::Up)));
    let asks = async { tokio::join!(pause(&media, "a"), pause(&media, "b")) };
    let answers = async {
        let (first, second) = (server.request().await, server.request().await);
        // In the wrong order, with answers that nobody waits for between them.
        for id in [second.id, 999, first.id, first.id] {
            server.reply(id).await;
        }
        server.line(r#"{"type":"event","event":"room_closed","data":{"room":{"namespace":"a","room":"b"}}}"#).await;
        server.line(r#"{"type":"event","event":"of_a_later_version","data":{}}"#).await;
        server
    };
    let ((one, other), server) = tokio::join!(asks, answers);
    assert_eq!((one, other), (Ok(MediaReply::Done), Ok(MediaReply::Done)));
    let room = roost_proto::id::RoomKey::new("a", "b").expect("valid");
    assert_eq!(events.recv().await, Some((1, Notice::Event(MediaEvent::RoomClosed { room }))));
    assert_eq!(media.workers()[1].state, WorkerState::Up);
    assert_eq!(media.workers()[0].state, WorkerState::Starting);
    drop(server);
    assert_eq!(events.recv().await, Some((1, Notice::Down)));
    assert_eq!(media.workers()[1].state, WorkerState::Down);
    assert_eq!(pause(&media, "a").await.expect_err("down").code, MediaErrorCode::Failed);
}

#[tokio::test]
async fn whoever_waits_when_the_worker_ends_is_told_at_once() {
    let (media, path) = listen(1);
    let mut events = media.events();
    let mut server = connect(&path, &hello(0)).await;
    assert_eq!(events.recv().await, Some((0, Notice::Up)));
    let media = Arc::new(media);
    let asking = tokio::spawn({
        let media = media.clone();
        async move { media.request(0, MediaRequest::RequestKeyFrame { consumer: "a".into() }).await }
    });
    server.request().await;
    drop(server);
    assert_eq!(asking.await.expect("no panic").expect_err("down").code, MediaErrorCode::Failed);
}

#[tokio::test]
async fn a_worker_that_does_not_say_what_it_carries_takes_no_rooms_until_it_does() {
    let (media, path) = listen(1);
    let mut server = connect(&path, &hello(0)).await;
    let is = async |state| {
        while media.workers()[0].state != state {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, is(WorkerState::Up)).await.expect("up");
    tokio::time::timeout(limit, is(WorkerState::Down)).await.expect("it is silent");
    let described = FromMedia::Reply { id: 2, result: Ok(MediaReply::Described(MediaLoad::default())) };
    let text = serde_json::to_string(&described).expect("plain fields");
    let mut line = String::new();
    while !line.contains("\"id\":2") {
        line.clear();
        server.0.read_line(&mut line).await.expect("open");
    }
    server.line(&text).await;
    tokio::time::timeout(limit, is(WorkerState::Up)).await.expect("it answers again");
}

#[tokio::test]
async fn a_media_server_that_breaks_the_protocol_loses_its_connection_only() {
    let (media, path) = listen(2);
    let mut events = media.events();
    let _steady = connect(&path, &hello(0)).await;
    assert_eq!(events.recv().await, Some((0, Notice::Up)));
    let good = hello(1);
    let long = "x".repeat(MAX_LINE_BYTES + 1);
    for after in ["no json", "[]", r#"{"type":"reply"}"#, good.as_str(), long.as_str()] {
        let mut server = connect(&path, &good).await;
        assert_eq!(events.recv().await, Some((1, Notice::Up)));
        server.line(after).await;
        assert_eq!(events.recv().await, Some((1, Notice::Down)), "{}", &after[..20.min(after.len())]);
        server.closed().await;
    }
    let external = good.replace("mediasoup\",\"worker", "external\",\"worker");
    for first in ["no json", &reply(1), &hello(7), &hello(0), &external] {
        connect(&path, first).await.closed().await;
    }
    assert_eq!(media.workers()[0].state, WorkerState::Up);
}

#[tokio::test]
async fn a_socket_file_of_a_dead_agent_is_replaced_and_that_of_a_living_one_is_not() {
    let (media, path) = listen(1);
    let taken = MediaSocket::listen(&path, MediaKind::Mediasoup, 1).expect_err("somebody listens");
    assert!(taken.to_string().starts_with("media_socket"), "{taken}");
    drop(media);
    drop(std::os::unix::net::UnixListener::bind(&path).expect("free"));
    assert!(path.exists(), "what a killed agent leaves behind");
    assert!(MediaSocket::listen(&path, MediaKind::Mediasoup, 1).is_ok());
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named() {
    let program = crate::media::mediasoup::Program {
        binary: "/nowhere/roost-mediasoup".into(),
        socket: path(),
        workers: 1,
        listen: std::net::Ipv4Addr::LOCALHOST.into(),
        announced: vec![],
        port: 0,
    };
    let error = crate::media::mediasoup::Mediasoup::start(program).expect_err("no such program").to_string();
    assert!(error.contains("/nowhere/roost-mediasoup") && error.contains("--mediasoup-bin"), "{error}");
}

proptest! {
    #[test]
    fn no_line_makes_the_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
        let _ = link::parse(&line);
        let _ = link::parse(text.as_bytes());
        let _ = link::parse(format!(r#"{{"type":"event","event":"{text}"}}"#).as_bytes());
    }
}

fn path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("roost-media-{}-{count}.sock", std::process::id()))
}

fn listen(workers: u16) -> (MediaSocket, PathBuf) {
    let path = path();
    (MediaSocket::listen(&path, MediaKind::Mediasoup, workers).expect("a free path"), path)
}

fn hello(worker: u16) -> String {
    serde_json::to_string(&FromMedia::Hello(Hello {
        v: 1,
        media: MediaKind::Mediasoup,
        worker,
        pid: 1,
        media_port: 44400,
        version: "test".to_owned(),
    }))
    .expect("plain fields")
}

fn reply(id: u64) -> String {
    serde_json::to_string(&FromMedia::Reply { id, result: Ok(MediaReply::Done) }).expect("plain fields")
}

async fn pause(media: &MediaSocket, consumer: &str) -> Result<MediaReply, MediaError> {
    media.request(1, MediaRequest::RequestKeyFrame { consumer: consumer.to_owned() }).await
}

/// A media server, seen from its own side.
struct Server(BufReader<UnixStream>);

async fn connect(path: &Path, hello: &str) -> Server {
    let mut server = Server(BufReader::new(UnixStream::connect(path).await.expect("somebody listens")));
    server.line(hello).await;
    server
}

impl Server {
    async fn line(&mut self, line: &str) {
        // Fails when the agent has hung up, which the test then sees.
        let _ = self.0.write_all(format!("{line}\n").as_bytes()).await;
    }

    async fn reply(&mut self, id: u64) {
        self.line(&reply(id)).await;
    }

    /// The next request that is not `describe`.
    async fn request(&mut self) -> ToMedia {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.expect("open");
            let request: ToMedia = serde_json::from_str(&line).expect("a request");
            if request.request != MediaRequest::Describe {
                return request;
            }
        }
    }

    async fn closed(&mut self) {
        let mut line = String::new();
        let closed = async {
            while self.0.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                line.clear();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the agent hangs up");
    }
}
