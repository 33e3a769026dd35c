//! One participant's WebSocket: what comes in and goes out, pings, limits, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use actix_ws::{Closed, Item, Message as Incoming, Session};
use roost_proto::error::{Code, Problem};
use roost_proto::signaling::{Frame, Refusal};
use roost_server::request_id;
use roost_server::socket::{Socket, drain, goodbye};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};

use super::farewell;
use super::fragments::{Fragments, Unfit};
use super::outbox::{Ending, Outbox, Text};
use super::participant::{Message, Participant};
use super::rooms::{Limits, RoomSettings, Rooms};
use super::state::ConnectionId;
use super::subscriber::subscribe;
use crate::door::{Answer, Knock};

/// How long the door may take; it has shorter limits of its own.
const KNOCK_MS: u64 = 15_000;

/// How many requests of a participant may wait to be carried out.
const MESSAGES_WAITING: usize = 64;

/// A participant may send so many frames a second for long, and so many at once; then the node reads more slowly.
const FRAMES_PER_SECOND: u64 = 100;
const FRAMES_AT_ONCE: u64 = 300;

/// How long what waits to be sent may hold up the closing of a socket.
const FLUSH_MS: u64 = 5_000;

/// How long a frame that is being written when a connection ends may hold that up.
const LAST_WRITE_MS: u64 = 500;

/// The status of a goodbye that is answered.
const NORMAL: u16 = 1_000;

/// The status of a message that is too long.
const TOO_LONG: u16 = 1_009;

/// Serves a participant from the knock to the close.
pub(super) async fn serve(mut socket: Socket, rooms: Arc<Rooms>, knock: Knock) {
    let _open = rooms.open_socket();
    let (outbox, frames) = Outbox::new();
    let id = rooms.number();
    let request_id = knock.request_id.clone();
    let admitted: JoinHandle<_> = rooms.spawn(request_id::within(
        request_id,
        // On its own, so that it runs to its end when the socket is closed meanwhile: a claim may have been opened.
        admit(rooms.clone(), knock, id, outbox.clone()),
    ));
    let ending = match timeout(Duration::from_millis(KNOCK_MS), admitted).await {
        Ok(Ok(Ok(participant))) => {
            let mut connection = Connection::new(participant, frames, rooms.settings.limits);
            let ending = connection.run(&mut socket).await;
            connection.leave(ending, &mut socket).await
        }
        Ok(Ok(Err(ending))) => Some(ending),
        Ok(Err(_)) | Err(_) => Some(Ending::problem(&Problem::new(Code::StoreUnavailable, "the door does not answer"))),
    };
    if let Some(ending) = ending {
        say_goodbye(socket, ending).await;
    }
}

/// Knocks, enters the room, and has its media opened.
async fn admit(
    rooms: Arc<Rooms>,
    knock: Knock,
    id: ConnectionId,
    outbox: Arc<Outbox>,
) -> Result<Arc<Participant>, Ending> {
    let (key, peer) = (knock.room.clone(), knock.peer.clone());
    let admission = match rooms.door.knock(knock).await {
        Answer::Admitted(admission) => admission,
        Answer::Redirect(redirect) => {
            tracing::info!(room = %key, %peer, node = %redirect.node, "redirected");
            return Err(farewell::redirect(&redirect));
        }
        // The door has logged it.
        Answer::Refused(problem) => return Err(Ending::problem(&problem)),
    };
    let participant = rooms.enter(&key, &peer, id, admission, outbox)?;
    match rooms.open(&participant.room).await {
        // Whoever gave the room away before it was entered has not sent this participant away.
        Ok(_) if !participant.admission.still_holds() => Err(Ending::not_held()),
        Ok(router) => {
            tracing::info!(room = %key, %peer, worker = router.worker, "admitted");
            Ok(Arc::new(participant))
        }
        Err(problem) => {
            tracing::warn!(room = %key, %peer, detail = problem.detail, "the room cannot be opened");
            Err(Ending::problem(&problem))
        }
    }
}

struct Connection {
    participant: Arc<Participant>,
    outbox: Arc<Outbox>,
    frames: mpsc::Receiver<Text>,
    messages: mpsc::Sender<Message>,
    tasks: JoinSet<()>,
    limits: Limits,
    heard: Instant,
    /// When the frames so far would have come at the steady rate.
    paced: Instant,
    fragments: Fragments,
}

impl Connection {
    fn new(participant: Arc<Participant>, frames: mpsc::Receiver<Text>, limits: Limits) -> Self {
        let (messages, waiting) = mpsc::channel(MESSAGES_WAITING);
        let outbox = participant.outbox.clone();
        let RoomSettings { node, region, .. } = &participant.rooms.settings;
        // Who came straight here has not been told by a lookup where that is.
        let version = json!({
            "version": participant.rooms.media_version(),
            "node": node, "region": region, "epoch": participant.admission.claim,
        });
        for method in ["mediasoup-version", "mediasoupVersion"] {
            outbox.tell(Frame::notification(method, version.clone()).to_text().into());
        }
        let id = request_id::current().unwrap_or_else(request_id::new);
        let mut tasks = JoinSet::new();
        tasks.spawn(request_id::within(id.clone(), carry_out(participant.clone(), waiting)));
        tasks.spawn(request_id::within(id, subscribe(participant.clone())));
        let now = Instant::now();
        Self {
            participant,
            outbox,
            frames,
            messages,
            tasks,
            limits,
            heard: now,
            paced: now,
            fragments: Fragments::default(),
        }
    }

    /// Runs until the connection has to end; none if the participant is gone already.
    async fn run(&mut self, socket: &mut Socket) -> Option<Ending> {
        let start = Instant::now();
        let join_limit = start + Duration::from_millis(self.limits.join_ms);
        let mut joined = false;
        let every = Duration::from_millis(self.limits.ping_ms);
        let mut pings = interval_at(start + every, every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let resume = self.paced.checked_sub(BURST).unwrap_or(self.paced);
            let slowed = resume > Instant::now();
            tokio::select! {
                Some(text) = self.frames.recv() => {
                    self.outbox.sent(&text);
                    self.write(socket.session.text(&*text)).await?;
                }
                ending = self.outbox.ended() => return Some(ending),
                () = socket.too_long.notified() => return Some(too_long()),
                () = sleep_until(resume), if slowed => {}
                incoming = socket.stream.recv(), if !slowed => {
                    // A socket that breaks is as good as closed.
                    let Ok(incoming) = incoming? else { return None };
                    self.heard = Instant::now();
                    if let Err(ending) = self.receive(incoming, &mut socket.session).await {
                        return ending;
                    }
                }
                () = sleep_until(join_limit), if !joined => {
                    joined = self.participant.room.read(|state| state.has_joined(self.participant.id));
                    if !joined {
                        return Some(bad_request("not joined in time"));
                    }
                }
                _ = pings.tick() => {
                    if self.heard.elapsed() >= Duration::from_millis(self.limits.silence_ms) {
                        tracing::info!(peer = %self.participant.peer, "peer is silent");
                        return Some(silent());
                    }
                    self.write(socket.session.ping(b"")).await?;
                }
            }
        }
    }

    /// None if the participant does not read. One who is to be closed anyway has less time.
    async fn write(&self, write: impl Future<Output = Result<(), Closed>>) -> Option<()> {
        let ended = async {
            self.outbox.ended().await;
            sleep(Duration::from_millis(LAST_WRITE_MS)).await;
        };
        let written = tokio::select! {
            written = write => written.ok(),
            () = sleep(Duration::from_millis(self.limits.write_ms)) => None,
            () = ended => None,
        };
        written.or_else(|| {
            tracing::info!(peer = %self.participant.peer, "peer reads too slowly, or is gone");
            None
        })
    }

    /// Takes in one frame; an error ends the connection.
    async fn receive(&mut self, incoming: Incoming, session: &mut Session) -> Result<(), Option<Ending>> {
        match incoming {
            Incoming::Text(text) => self.understand(&text),
            Incoming::Binary(_) => Err(Some(binary())),
            Incoming::Continuation(item) => self.gather(item),
            Incoming::Ping(bytes) => {
                self.pace();
                self.write(session.pong(&bytes)).await.ok_or(None)
            }
            Incoming::Pong(_) | Incoming::Nop => Ok(()),
            Incoming::Close(_) => Err(Some(answered())),
        }
    }

    fn gather(&mut self, item: Item) -> Result<(), Option<Ending>> {
        self.pace();
        match self.fragments.gather(item) {
            Ok(None) => Ok(()),
            Ok(Some(text)) => self.understand(&text),
            Err(Unfit::TooLong) => Err(Some(too_long())),
            Err(Unfit::Binary) => Err(Some(binary())),
            Err(Unfit::NotUtf8) => Err(Some(bad_request("frame: expected UTF-8"))),
        }
    }

    fn understand(&mut self, text: &str) -> Result<(), Option<Ending>> {
        self.pace();
        let message = match Frame::parse(text) {
            Ok(Frame::Request { id, method, data }) => Message { id: Some(id), method, data },
            Ok(Frame::Notification { method, data }) => Message { id: None, method, data },
            Ok(Frame::Response { id, result }) => {
                self.outbox.answer(id, result);
                return Ok(());
            }
            Err(error) => return Err(Some(bad_request(&format!("frame: {error}")))),
        };
        if let Err(error) = self.messages.try_send(message) {
            let refusal = Refusal { code: 429, reason: "too many requests wait for their answers".to_owned() };
            let (mpsc::error::TrySendError::Full(message) | mpsc::error::TrySendError::Closed(message)) = error;
            if let Some(id) = message.id {
                self.outbox.tell(Frame::Response { id, result: Err(refusal) }.to_text().into());
            }
        }
        Ok(())
    }

    fn pace(&mut self) {
        self.paced = self.paced.max(Instant::now()) + FRAME_PACE;
    }

    /// Leaves the room, and sends what waited for the participant, if it is still there.
    async fn leave(mut self, ending: Option<Ending>, socket: &mut Socket) -> Option<Ending> {
        self.participant.room.leave(self.participant.id);
        self.tasks.shutdown().await;
        tracing::info!(room = %self.participant.room.key, peer = %self.participant.peer, "peer left");
        drop(self.participant);
        let ending = ending?;
        let flush = async {
            while let Ok(text) = self.frames.try_recv() {
                socket.session.text(&*text).await.ok()?;
            }
            Some(())
        };
        timeout(Duration::from_millis(FLUSH_MS), flush).await.ok()??;
        Some(ending)
    }
}

const FRAME_PACE: Duration = Duration::from_micros(1_000_000 / FRAMES_PER_SECOND);
const BURST: Duration = Duration::from_millis(FRAMES_AT_ONCE * 1_000 / FRAMES_PER_SECOND);

async fn carry_out(participant: Arc<Participant>, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        participant.serve(message).await;
    }
}

/// Closes a socket: the last frame, the pause, the close frame. What still comes in is read and dropped.
pub(super) async fn say_goodbye(mut socket: Socket, ending: Ending) {
    if let Some(last) = &ending.last {
        let sent = timeout(Duration::from_millis(FLUSH_MS), socket.session.text(&**last)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
    if !ending.pause.is_zero() && drain(&mut socket.stream, ending.pause).await {
        return;
    }
    goodbye(socket.session, socket.stream, ending.code, ending.reason).await;
}

fn bad_request(detail: &str) -> Ending {
    Ending::problem(&Problem::new(Code::BadRequest, detail))
}

fn binary() -> Ending {
    bad_request("binary frame: expected a text frame")
}

/// The client said goodbye, and waits for the answer.
fn answered() -> Ending {
    Ending { last: None, pause: Duration::ZERO, code: NORMAL, reason: "" }
}

pub(super) fn too_long() -> Ending {
    Ending { last: None, pause: Duration::ZERO, code: TOO_LONG, reason: "message too long" }
}

/// A participant who comes back from a sleep finds the socket closed, and may come again at once.
fn silent() -> Ending {
    let problem = Problem::new(Code::NodeLeaving, "nothing was heard from the participant for too long");
    Ending { last: None, pause: Duration::ZERO, reason: "silent", ..Ending::problem(&problem) }
}
