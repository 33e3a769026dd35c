//! Watch connections: a scheduler hears under which incarnation this process acts; when the connection breaks and the next
//! one is refused, it knows that the process is dead (rule 13).

use std::time::{Duration, SystemTime};

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{Message, MessageStream, Session};
use roost_proto::WIRE_VERSION;
use roost_proto::error::{Code, Problem};
use roost_proto::id::Incarnation;
use roost_proto::link::{Acting, OWN_STORE_HEADER};
use roost_server::{ApiError, bearer, socket};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, timeout};

use super::watchers::Watching;
use super::{Link, OwnEnd};

/// A scheduler pings each five seconds. One of which nothing was heard for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(15);
/// A message that the scheduler has not taken for so long ends the connection.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn watch(
    request: HttpRequest,
    body: web::Payload,
    link: web::Data<Link>,
) -> Result<HttpResponse, ApiError> {
    let refused = |detail| Problem::new(Code::ClusterKeyInvalid, detail);
    let keys = link.keys.as_ref().ok_or_else(|| refused("this node is in no cluster"))?;
    let missing = || refused("header Authorization: expected Bearer and a proof");
    keys.check_proof(bearer::token(request.headers()).ok_or_else(missing)?, SystemTime::now())?;
    let watching = admit(&request, &link)?;
    let unknown = || Problem::new(Code::Internal, "our end of the connection is not known");
    let OwnEnd(own) = *request.conn_data::<OwnEnd>().ok_or_else(unknown)?;
    let (response, session, stream) = socket::accept(&request, body, &[])?;
    let (node, incarnations) = (link.node.id.clone(), link.node.incarnation.subscribe());
    let acting = move |incarnation| Acting { v: WIRE_VERSION, node: node.clone(), incarnation, address: own };
    actix_web::rt::spawn(async move {
        tell(session, stream, incarnations, acting).await;
        drop(watching);
    });
    Ok(response)
}

/// Notes of a scheduler with a store of its own; refuses it while another one watches.
fn admit(request: &HttpRequest, link: &Link) -> Result<Option<Watching>, Problem> {
    let Some(store) = request.headers().get(OWN_STORE_HEADER) else { return Ok(None) };
    let wrong = |_| Problem::new(Code::BadRequest, format!("header {OWN_STORE_HEADER}: expected visible ASCII"));
    let store = store.to_str().map_err(wrong)?;
    let second = || {
        tracing::warn!(
            "a second scheduler that keeps its state in memory is refused: stop it, or give both --store redis://…"
        );
        Problem::new(Code::SecondScheduler, "another scheduler watches this node")
    };
    link.watchers.enter(store).map(Some).ok_or_else(second)
}

/// Tells each incarnation that the node gets, until the scheduler is gone.
async fn tell(
    mut session: Session,
    mut stream: MessageStream,
    mut incarnations: Receiver<Option<Incarnation>>,
    acting: impl Fn(Incarnation) -> Acting,
) {
    let mut heard = Instant::now();
    let mut told = None;
    loop {
        let current = *incarnations.borrow_and_update();
        if let Some(incarnation) = current.filter(|_| current != told) {
            let text = serde_json::to_string(&acting(incarnation)).expect("it has string keys only");
            if !matches!(timeout(TAKEN_WITHIN, session.text(text)).await, Ok(Ok(()))) {
                return;
            }
            told = current;
        }
        tokio::select! {
            changed = incarnations.changed() => if changed.is_err() { return },
            message = stream.recv() => match message {
                Some(Ok(Message::Ping(bytes))) => {
                    heard = Instant::now();
                    if !matches!(timeout(TAKEN_WITHIN, session.pong(&bytes)).await, Ok(Ok(()))) {
                        return;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => heard = Instant::now(),
            },
            () = tokio::time::sleep_until(heard + GONE_AFTER) => return,
        }
    }
}
