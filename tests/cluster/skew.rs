//! Versions beside one another while a cluster is upgraded: a peer of the first version, which knows no more than the messages
//! in `proto/golden/first/`, at today's scheduler and at today's agent.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt, StreamExt};
use roost_proto::event::Event;
use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation, NamespaceId, NodeId, RoomName};
use roost_proto::lookup::LookupReply;
use roost_proto::report::Report;
use roost_proto::uplink::{UplinkMessage, UplinkRequest};
use roost_server::ClusterKeys;
use roost_server::ticket::Ticket;
use roost_store::operation::{NodeAnswer, NodeOperation};
use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan};
use roost_tests::participant::Participant;
use roost_tests::wait;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_async, connect_async};

use crate::run;

const WITHIN: Duration = Duration::from_secs(10);
const NODE: &str = "fra-1";
const RUN: &str = "4fd1-1";
const INCARNATION: u64 = 1_790_000_000_000;

#[test]
fn what_the_first_version_wrote_is_read_today() {
    for request in list("uplink-requests") {
        serde_json::from_value::<UplinkRequest<NodeOperation>>(request).unwrap();
    }
    for message in list("uplink-messages") {
        serde_json::from_value::<UplinkMessage<NodeAnswer>>(message).unwrap();
    }
    for event in ["event-claimed", "event-left", "event-released", "event-reported"] {
        serde_json::from_value::<Event>(first(event)).unwrap();
    }
    serde_json::from_value::<Report>(first("report")).unwrap();
    serde_json::from_value::<LookupReply>(first("lookup-reply")).unwrap();
}

#[test]
fn what_is_written_today_says_all_that_the_first_version_reads() {
    let mut seen = 0;
    for entry in std::fs::read_dir(golden().join("first")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let [first, today] = [golden().join("first"), golden()].map(|folder| read(&folder.join(&name)));
        says(&first, &today).unwrap_or_else(|missing| panic!("{name}: {missing}"));
        seen += 1;
    }
    assert!(seen >= 15, "{seen} files");
}

#[test]
fn an_agent_of_the_first_version_serves_rooms_under_a_scheduler_of_today() {
    run(async {
        let cluster = Cluster::start(Plan { nodes: Vec::new(), ..Plan::small() }).await?;
        let mut agent = FirstAgent::connect(&cluster.schedulers[0].cluster).await?;
        let runs = agent.ask("runs", json!({})).await?;
        let bucket = usize::from(NodeId::new(NODE)?.bucket());
        let own = runs[bucket].clone();
        agent.ask("identity", json!({})).await?;
        let registered = agent.ask("register", json!({ "run": own })).await?;
        let incarnation = registered["incarnation"].clone();
        let renewal = json!({
            "run": own,
            "report": {"seq": 1, "full": true, "incarnation": incarnation, "changed": [], "ended": [], "rooms": 0},
        });
        agent.ask("renew", renewal).await?;
        let found = wait::until("a room is placed", WITHIN, || async {
            cluster.lookup(0, "default", "standup", json!({})).await.ok()
        })
        .await?;
        assert_eq!(found.node.id.as_str(), NODE);
        let room = json!({"namespace": "default", "room": "standup"});
        let run = runs[usize::from(serde_json::from_value::<roost_proto::id::RoomKey>(room.clone())?.bucket())].clone();
        let held = json!({"room": room, "run": run, "incarnation": incarnation, "epoch": found.epoch});
        let opened = agent.ask("open", held.clone()).await?;
        assert_eq!(opened["result"], "yes", "{opened}");
        let changed = json!([{"namespace": "default", "room": "standup", "epoch": found.epoch, "worker": 0,
            "participants": 3, "producers": 6, "consumers": 12}]);
        let report = json!({"seq": 2, "incarnation": incarnation, "changed": changed, "ended": []});
        agent.ask("renew", json!({"run": own, "report": report})).await?;
        wait::until("the room is open with three participants", WITHIN, || async {
            let room = cluster.admin(&cluster.schedulers[0], "/v1/rooms").await.ok()?["items"][0].clone();
            (room["state"] == "open" && room["participants"] == 3).then_some(())
        })
        .await?;
        assert_eq!(agent.ask("assert", json!({"held": held, "incarnation": incarnation})).await?["result"], "yes");
        assert_eq!(agent.ask("release", held).await?["result"], "yes");
        assert_eq!(agent.ask("raise", json!({"bucket": bucket, "run": own, "epoch": 7})).await?["result"], "yes");
        assert!(agent.ask("schedulers", json!({})).await?.is_array());
        agent.ask("leave", json!({"run": own, "incarnation": incarnation})).await?;
        // What this scheduler has never heard of is refused, and the connection goes on.
        let later = json!({"v": 9, "id": 99, "op": {"op": "levitate", "height_m": 3}});
        assert_eq!(agent.say(later, 99).await?["answer"]["answer"], "unavailable");
        agent.ask("identity", json!({})).await?;
        cluster.stop().await
    });
}

#[test]
fn an_agent_of_today_serves_rooms_under_a_scheduler_of_the_first_version() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let uplink = Some(format!("http://{}", listener.local_addr()?));
        let (renewed, renewals) = watch::channel(0);
        let served = tokio::spawn(serve_as_first_version(listener, renewed));
        let mut cluster = Cluster::start(Plan { nodes: Vec::new(), ..Plan::small() }).await?;
        let node = cluster.start_node(&NodePlan { uplink, ..NodePlan::new(NODE, "eu/central") }).await?;
        cluster.nodes.push(node);
        let control = cluster.nodes[0].control.clone();
        wait::until("the agent holds its lease", WITHIN, || async {
            let ready = cluster.http.get(format!("http://{control}/readyz")).send().await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await?;
        let ticket = Ticket {
            namespace: NamespaceId::new("default")?,
            room: RoomName::new("standup")?,
            node: NodeId::new(NODE)?,
            incarnation: Incarnation(INCARNATION),
            epoch: Epoch(1_790_000_000_007),
            store: "9c1e".to_owned(),
            expires_store_ms: 1_790_000_600_000,
            id: "t1".to_owned(),
        };
        let ticket = ClusterKeys::dev().sign_ticket(&ticket);
        let mut anna = Participant::connect(&cluster.door(NODE, "standup", "anna", &ticket)?).await?;
        anna.join("Anna").await?;
        // It goes on renewing, whatever commands of a later version come.
        let before = *renewals.borrow();
        wait::until("three renewals more", WITHIN, || async { (*renewals.borrow() >= before + 3).then_some(()) })
            .await?;
        anna.ask("changeDisplayName", json!({"displayName": "Anne"})).await?;
        cluster.nodes[0].process.stop().await?;
        served.abort();
        cluster.stop().await
    });
}

/// An agent that writes the first version's messages and nothing else, and reads what the first version reads.
struct FirstAgent {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
}

impl FirstAgent {
    async fn connect(cluster_listener: &str) -> Result<Self, Trouble> {
        let mut request = format!("ws://{cluster_listener}/v1/agent").into_client_request()?;
        let proof = format!("Bearer {}", ClusterKeys::dev().proof(SystemTime::now()));
        request.headers_mut().insert("Authorization", proof.parse()?);
        Ok(Self { socket: connect_async(request).await?.0, next_id: 1 })
    }

    /// Asks as the first version did, with some values of today's; gives the answer's data.
    async fn ask(&mut self, op: &str, values: Value) -> Result<Value, Trouble> {
        let mut request = list("uplink-requests").into_iter().find(|request| request["op"]["op"] == op).unwrap();
        put(&mut request["op"], values);
        let id = self.next_id;
        self.next_id += 1;
        request["id"] = json!(id);
        let answer = self.say(request, id).await?["answer"].clone();
        let is_known = |known: &Value| known["answer"]["answer"] == answer["answer"];
        let alike = list("uplink-messages").into_iter().filter(is_known).find(|known| {
            let result = &known["answer"]["data"]["result"];
            result.is_null() || *result == answer["data"]["result"]
        });
        let known = alike.ok_or_else(|| format!("{op}: the first version has no answer like {answer}"))?;
        says(&known["answer"], &answer).map_err(|missing| format!("{op}: {missing}"))?;
        Ok(answer["data"].clone())
    }

    async fn say(&mut self, request: Value, id: u64) -> Result<Value, Trouble> {
        self.socket.send(Message::text(request.to_string())).await?;
        loop {
            let message = tokio::time::timeout(WITHIN, self.socket.next()).await?.ok_or("closed")??;
            let Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text)?;
            if message["type"] == "reply" && message["id"] == json!(id) {
                return Ok(message);
            }
        }
    }
}

/// A scheduler that answers with the first version's messages: each connection in turn.
async fn serve_as_first_version(listener: TcpListener, renewed: watch::Sender<u32>) -> Result<(), Trouble> {
    loop {
        let (stream, _) = listener.accept().await?;
        let Ok(mut socket) = accept_async(stream).await else { continue };
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let request: Value = serde_json::from_str(&text)?;
            renewed.send_modify(|count| *count += u32::from(request["op"]["op"] == "renew"));
            for answer in answers(&request) {
                socket.send(Message::text(answer.to_string())).await?;
            }
        }
    }
}

/// What it says to a request; an unknown command comes with each renewal.
fn answers(request: &Value) -> Vec<Value> {
    let op = request["op"]["op"].as_str().unwrap_or_default();
    let known = list("uplink-requests").into_iter().find(|known| known["op"]["op"] == op);
    let known = known.unwrap_or_else(|| panic!("the first version knows no operation {op}"));
    says(&known, request).unwrap_or_else(|missing| panic!("{op}: {missing}"));
    let answer = match op {
        "runs" => json!({"answer": "runs", "data": vec![RUN; usize::from(BUCKETS)]}),
        "left" | "leave" => json!({"answer": "left"}),
        _ => {
            let name = match op {
                "register" => "registered",
                "renew" => "renewed",
                "open" => "opened",
                "assert" => "asserted",
                "release" => "released",
                "raise" => "raised",
                same => same,
            };
            let messages = list("uplink-messages");
            messages.iter().find(|message| message["answer"]["answer"] == name).unwrap()["answer"].clone()
        }
    };
    let reply = json!({"type": "reply", "id": request["id"], "answer": answer});
    let command = json!({"type": "command", "v": 9, "incarnation": INCARNATION, "action": "levitate", "height_m": 3});
    if op == "renew" { vec![reply, command] } else { vec![reply] }
}

/// Whether a reader of `first` finds in `today` all that it reads: each field, of its kind; of a list, each kind of element.
fn says(first: &Value, today: &Value) -> Result<(), String> {
    match (first, today) {
        (Value::Object(first), Value::Object(today)) => first.iter().try_for_each(|(name, value)| {
            let is_tag = ["op", "answer", "result", "event", "action", "type", "method"].contains(&name.as_str());
            let found = today.get(name).ok_or_else(|| format!("{name} is missing"))?;
            if is_tag && value.is_string() && value != found {
                return Err(format!("{name} is {found}, not {value}"));
            }
            says(value, found).map_err(|missing| format!("{name}: {missing}"))
        }),
        (Value::Array(first), Value::Array(today)) if !today.is_empty() => first.iter().try_for_each(|value| {
            let said = today.iter().map(|found| says(value, found));
            said.min_by_key(Result::is_err).unwrap_or(Ok(()))
        }),
        (first, today) if std::mem::discriminant(first) == std::mem::discriminant(today) => Ok(()),
        (first, today) => Err(format!("{today} is not of the kind of {first}")),
    }
}

/// Puts values over those that are there.
fn put(there: &mut Value, values: Value) {
    match (there, values) {
        (Value::Object(there), Value::Object(values)) => {
            for (name, value) in values {
                put(there.entry(name).or_insert(Value::Null), value);
            }
        }
        (there, value) => *there = value,
    }
}

fn first(name: &str) -> Value {
    read(&golden().join("first").join(format!("{name}.json")))
}

fn list(name: &str) -> Vec<Value> {
    serde_json::from_value(first(name)).unwrap()
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/golden")
}
