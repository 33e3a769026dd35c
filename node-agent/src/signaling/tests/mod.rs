//! The node's signaling with synthetic media, over real WebSockets.

mod bad_input;
mod client;
mod dialects;
mod endings;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use async_trait::async_trait;
use roost_proto::error::{Code, Problem};
use roost_proto::id::{Epoch, NodeId, Region, RoomKey};
use roost_proto::redirect::{Redirect, location};
use roost_server::{AllowedOrigins, ClientAddress};
use serde_json::json;
use tokio::sync::{Notify, mpsc};

use self::client::Client;
use super::*;
use crate::door::{Admission, Answer, Door, Stay};
use crate::media::synthetic::Synthetic;

/// Everything must happen within it.
const DEADLINE: Duration = Duration::from_secs(10);

/// A node with two synthetic workers.
struct Node {
    address: String,
    rooms: Arc<Rooms>,
    media: Arc<Synthetic>,
    door: Arc<TestDoor>,
    ended: mpsc::Receiver<(RoomKey, Epoch)>,
}

async fn node() -> Node {
    node_with(Limits::default(), 60_000).await
}

async fn node_with(limits: Limits, empty_room_ms: u64) -> Node {
    let media = Arc::new(Synthetic::new(2));
    let door =
        Arc::new(TestDoor { epoch: AtomicU64::new(7), holds: Arc::new(AtomicBool::new(true)), ..TestDoor::default() });
    let (over, ended) = mpsc::channel(16);
    let settings = RoomSettings {
        empty_room_ms,
        codecs: roost_server::MediaSettings::default().codecs,
        ice_servers: vec![json!({"urls": "stun:stun.example"})],
        node: NodeId::new("fra-1").expect("valid"),
        region: Region::new("eu/central").expect("valid"),
        limits,
    };
    let rooms = Rooms::new(media.clone(), door.clone(), settings, over);
    let origins = AllowedOrigins::parse(["https://app.example"]).expect("an origin");
    let signaling = Signaling { rooms: rooms.clone(), origins, client_address: ClientAddress::default() };
    let signaling = web::Data::new(signaling);
    let app = move || {
        let signaling = signaling.clone();
        App::new().configure(move |config| configure(config, signaling))
    };
    let server = HttpServer::new(app).workers(1).disable_signals().bind("127.0.0.1:0").expect("a free port");
    let address = server.addrs()[0].to_string();
    actix_web::rt::spawn(server.run());
    Node { address, rooms, media, door, ended }
}

impl Node {
    async fn client(&self, room: &str, peer: &str) -> Client {
        Client::connect(&self.address, &format!("/?roomId={room}&peerId={peer}&consumerReplicas=undefined")).await
    }
}

/// Admits everybody, but to rooms of three names; to a fourth one late, if it is the first who knocks.
#[derive(Debug, Default)]
struct TestDoor {
    epoch: AtomicU64,
    holds: Arc<AtomicBool>,
    knocked: Mutex<Vec<Knock>>,
    lets_in: Notify,
}

#[async_trait]
impl Door for TestDoor {
    async fn knock(&self, knock: Knock) -> Answer {
        let room = knock.room.room.as_str().to_owned();
        let is_first = {
            let mut knocked = self.knocked.lock().expect("no panic");
            knocked.push(knock.clone());
            knocked.len() == 1
        };
        match room.as_str() {
            "elsewhere" => Answer::Redirect(Redirect {
                location: location("ws://other.example/signaling", &knock.room, Some(&knock.peer), "t.t.t", 1),
                node: NodeId::new("other").expect("valid"),
                epoch: Epoch(9),
                ticket: "t.t.t".to_owned(),
            }),
            "forbidden" => Answer::Refused(Problem::new(Code::TicketRequired, "no ticket")),
            "later" => Answer::Refused(Problem::new(Code::NoNode, "none")),
            _ => {
                let epoch = self.epoch.load(Ordering::Relaxed);
                if room == "slow" && is_first {
                    self.lets_in.notified().await;
                }
                let stay = Box::new(TestStay(self.holds.clone()));
                Answer::Admitted(Admission::new(Epoch(epoch), Epoch(epoch + 5), stay))
            }
        }
    }
}

#[derive(Debug)]
struct TestStay(Arc<AtomicBool>);

impl Stay for TestStay {
    fn still_holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
