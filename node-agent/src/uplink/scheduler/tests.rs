//! The uplink's connection, with a scheduler of the test's own.

use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{accept_async, accept_hdr_async};

use roost_proto::command::Action;

use super::*;

#[tokio::test]
async fn answers_match_by_id_in_whatever_order_they_come() {
    let (store, listener) = store(Duration::from_secs(5)).await;
    let server = tokio::spawn(async move {
        let mut socket = accept(&listener).await;
        answer(&mut socket, NodeAnswer::Runs(Vec::new())).await;
        let (first, second) = (hear(&mut socket).await, hear(&mut socket).await);
        for request in [second, first] {
            let entry =
                SchedulerEntry { id: request.id.to_string(), cluster_url: String::new(), version: String::new() };
            reply(&mut socket, request.id, NodeAnswer::Schedulers(vec![entry])).await;
        }
    });
    store.runs().await.expect("connected");
    let (one, other) = tokio::join!(store.schedulers(), store.schedulers());
    let ids = [one, other].map(|answer| answer.expect("answered")[0].id.parse::<u64>().expect("a number"));
    assert_eq!(ids[0] + 1, ids[1]);
    server.await.expect("it ran to its end");
}

#[tokio::test]
async fn a_lost_connection_leaves_its_calls_unknown_and_the_next_ones_undone() {
    let (store, listener) = store(Duration::from_secs(5)).await;
    let server = tokio::spawn(async move {
        let mut socket = accept(&listener).await;
        answer(&mut socket, NodeAnswer::Runs(Vec::new())).await;
        hear(&mut socket).await;
        drop(socket);
        let mut again = accept(&listener).await;
        answer(&mut again, NodeAnswer::Runs(Vec::new())).await;
    });
    store.runs().await.expect("connected");
    assert!(matches!(store.schedulers().await, Err(StoreError::Unknown { .. })));
    assert!(matches!(store.schedulers().await, Err(StoreError::Unavailable { .. })), "no silent reconnect");
    store.runs().await.expect("connected again");
    server.await.expect("it ran to its end");
}

#[tokio::test]
async fn a_silent_connection_is_given_up_for_a_new_one() {
    let (store, listener) = store(Duration::from_millis(100)).await;
    let server = tokio::spawn(async move {
        let mut silent = accept(&listener).await;
        answer(&mut silent, NodeAnswer::Runs(Vec::new())).await;
        let mut again = accept(&listener).await;
        answer(&mut again, NodeAnswer::Runs(Vec::new())).await;
        let closed = async { while let Some(Ok(_)) = silent.next().await {} };
        timeout(Duration::from_secs(5), closed).await.expect("the silent one is closed");
    });
    store.runs().await.expect("connected");
    assert!(matches!(store.schedulers().await, Err(StoreError::Unknown { .. })));
    store.runs().await.expect("connected again");
    server.await.expect("it ran to its end");
}

#[tokio::test]
async fn while_a_scheduler_with_a_store_of_its_own_is_the_uplink_no_other_one_is_let_in() {
    let (store, listener) = store(Duration::from_secs(5)).await;
    let (end, ended) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let mut socket = accept_as("b", &listener).await;
        answer(&mut socket, NodeAnswer::Runs(Vec::new())).await;
        ended.await.expect("told to end");
        drop(socket);
        accept_as("b", &listener).await
    });
    store.runs().await.expect("connected");
    assert!(store.watchers.enter("a").is_none());
    drop(store.watchers.enter("b").expect("the uplink's own scheduler watches too"));
    end.send(()).expect("it waits");
    let first = wait_for(|| store.watchers.enter("a")).await;
    let refused = store.runs().await.expect_err("it is the second one").to_string();
    assert!(refused.contains("is a second scheduler"), "{refused}");
    drop(first);
    server.await.expect("it ran to its end");
}

#[tokio::test]
async fn commands_come_until_the_connection_is_lost() {
    let (store, listener) = store(Duration::from_secs(5)).await;
    let server = tokio::spawn(async move {
        let mut socket = accept(&listener).await;
        answer(&mut socket, NodeAnswer::Runs(Vec::new())).await;
        let request = hear(&mut socket).await;
        let command = Command { v: WIRE_VERSION, incarnation: Incarnation(7), action: Action::ReportAll };
        say(&mut socket, &UplinkMessage::Command(command)).await;
        socket.send(Message::text("{\"type\":\"news\"}")).await.expect("sent");
        reply(&mut socket, request.id, NodeAnswer::Schedulers(Vec::new())).await;
    });
    store.runs().await.expect("connected");
    let node = NodeId::new("fra-1").expect("valid");
    let mut commands = store.commands(&node, Incarnation(7)).await.expect("connected");
    store.schedulers().await.expect("what is not understood harms nothing");
    assert_eq!(commands.recv().await.map(|command| command.incarnation), Some(Incarnation(7)));
    server.await.expect("it ran to its end");
    assert_eq!(commands.recv().await, None);
}

async fn store(answer_within: Duration) -> (SchedulerStore, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    (SchedulerStore::new(&base, ClusterKeys::dev(), None, answer_within, Watchers::default()), listener)
}

async fn accept(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = listener.accept().await.expect("a connection");
    accept_async(stream).await.expect("a handshake")
}

async fn accept_as(own: &'static str, listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = listener.accept().await.expect("a connection");
    let name = |_: &Request, mut response: Response| {
        response.headers_mut().insert(OWN_STORE_HEADER, HeaderValue::from_static(own));
        Ok(response)
    };
    accept_hdr_async(stream, name).await.expect("a handshake")
}

async fn wait_for<T>(found: impl Fn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = found() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), wait).await.expect("in time")
}

async fn hear(socket: &mut WebSocketStream<TcpStream>) -> UplinkRequest<NodeOperation> {
    let message = socket.next().await.expect("a message").expect("whole");
    serde_json::from_str(message.to_text().expect("text")).expect("a request")
}

async fn say(socket: &mut WebSocketStream<TcpStream>, message: &UplinkMessage<NodeAnswer>) {
    socket.send(Message::text(serde_json::to_string(message).expect("JSON"))).await.expect("sent");
}

async fn reply(socket: &mut WebSocketStream<TcpStream>, id: u64, answer: NodeAnswer) {
    say(socket, &UplinkMessage::Reply { id, answer }).await;
}

async fn answer(socket: &mut WebSocketStream<TcpStream>, answer: NodeAnswer) {
    let request = hear(socket).await;
    reply(socket, request.id, answer).await;
}
