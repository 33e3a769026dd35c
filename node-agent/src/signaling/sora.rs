//! The Sora-style dialect: a client says `connect` and is told where its room lives. Sora's own offer and answer are not
//! served yet.

use std::sync::Arc;
use std::time::Duration;

use actix_ws::Message;
use roost_proto::error::{CloseReason, Code, Problem};
use roost_proto::id::{InvalidId, NamespaceId, PeerId, RequestId, RoomKey, RoomName};
use roost_proto::redirect::{DEFAULT_NAMESPACE, SignalingQuery, SoraClient, SoraServer};
use roost_server::request_id;
use roost_server::socket::{Socket, close_reason};

use super::fragments::{Fragments, Unfit};
use super::outbox::{Ending, Outbox};
use super::rooms::Rooms;
use super::socket::{say_goodbye, too_long};
use crate::door::{Answer, Knock};

/// Waits for `connect`, and answers it.
pub(super) async fn serve(
    mut socket: Socket,
    rooms: Arc<Rooms>,
    query: SignalingQuery,
    client: std::net::IpAddr,
    request_id: RequestId,
) {
    let _open = rooms.open_socket();
    let limit = Duration::from_millis(rooms.settings.limits.join_ms);
    let length = socket.too_long.clone();
    let first = tokio::select! {
        first = tokio::time::timeout(limit, hear(&mut socket)) => first.unwrap_or_else(|_| {
            Err(Some(refused(&bad("\"connect\" in time"))))
        }),
        () = length.notified() => Err(Some(too_long())),
    };
    let ending = match first.map(|text| connect(&text, &query)) {
        Err(None) => return,
        Err(Some(ending)) => ending,
        Ok(Err(problem)) => refused(&problem),
        Ok(Ok(room)) => {
            let peer = PeerId::new(request_id.as_str()).expect("a request id is a text of the same rules");
            let (ticket, redirects) = (query.ticket, query.redirects);
            let knock = Knock { room, peer, ticket, client, redirects, request_id };
            // On its own, so that it runs to its end when the socket is closed meanwhile.
            rooms.spawn(answer(rooms.clone(), knock)).await.unwrap_or_else(|_| refused(&bad("a node that runs")))
        }
    };
    say_goodbye(socket, ending).await;
}

/// Waits for the first message; none if the client is gone.
async fn hear(socket: &mut Socket) -> Result<String, Option<Ending>> {
    let mut fragments = Fragments::default();
    loop {
        let gathered = match socket.stream.recv().await {
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            Some(Ok(Message::Continuation(item))) => fragments.gather(item),
            Some(Ok(Message::Binary(_))) => Err(Unfit::Binary),
            Some(Ok(Message::Ping(bytes))) => {
                socket.session.pong(&bytes).await.map_err(|_| None)?;
                Ok(None)
            }
            Some(Ok(Message::Pong(_) | Message::Nop)) => Ok(None),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(None),
        };
        match gathered {
            Ok(None) => {}
            Ok(Some(text)) => return Ok(text),
            Err(Unfit::TooLong) => return Err(Some(too_long())),
            Err(Unfit::Binary | Unfit::NotUtf8) => return Err(Some(refused(&bad("a text frame")))),
        }
    }
}

async fn answer(rooms: Arc<Rooms>, knock: Knock) -> Ending {
    let (key, peer) = (knock.room.clone(), knock.peer.clone());
    match rooms.door.knock(knock).await {
        Answer::Redirect(redirect) => {
            let last = text(&SoraServer::Redirect { location: redirect.location });
            Ending { last: Some(last), ..Ending::closed(CloseReason::Redirect) }
        }
        Answer::Refused(problem) => refused(&problem),
        Answer::Admitted(admission) => {
            // The door may have opened the room's claim: it is told to be over when nobody else comes.
            drop(rooms.enter(&key, &peer, rooms.number(), admission, Outbox::new().0));
            refused(&Problem::new(Code::NotImplemented, "this node serves the protoo dialect only"))
        }
    }
}

fn connect(text: &str, query: &SignalingQuery) -> Result<RoomKey, Problem> {
    let SoraClient::Connect { channel_id, .. } =
        serde_json::from_str(text).map_err(|_| bad("{\"type\":\"connect\",\"channel_id\":…}"))?;
    let namespace = query.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let key = || Ok(RoomKey { namespace: NamespaceId::new(namespace)?, room: RoomName::new(channel_id)? });
    key().map_err(|error: InvalidId| error.into())
}

pub(super) fn refused(problem: &Problem) -> Ending {
    let (code, reason) = close_reason(problem.code);
    let mut problem = problem.clone();
    problem.request_id = problem.request_id.or_else(request_id::current);
    let last = text(&SoraServer::Error { problem });
    Ending { last: Some(last), pause: Duration::ZERO, code, reason }
}

fn bad(expected: &str) -> Problem {
    Problem::new(Code::BadRequest, format!("first message: expected {expected}"))
}

fn text(message: &SoraServer) -> super::outbox::Text {
    serde_json::to_string(message).expect("texts and numbers always serialise").into()
}
