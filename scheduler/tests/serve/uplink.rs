//! The cluster listener, as agents use it.

use futures_util::{SinkExt, StreamExt};
use roost_proto::command::Action;
use roost_server::ClusterKeys;
use roost_store::operation::{NodeAnswer, NodeOperation};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::agent::{Agent, connect};
use crate::process::Scheduler;
use crate::wait;

#[tokio::test]
async fn without_a_proof_the_cluster_listener_gives_nothing() {
    let scheduler = Scheduler::start().await;
    assert!(connect_async(format!("ws://{}/v1/agent", scheduler.cluster)).await.is_err());
    let lookup = format!("http://{}/v1/namespaces/default/rooms/x/lookup", scheduler.cluster);
    for (path, post) in [(format!("http://{}/v1/agent", scheduler.cluster), false), (lookup, true)] {
        let request = if post { scheduler.http.post(path) } else { scheduler.http.get(path) };
        let response = request.header("authorization", "Bearer forged").send().await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(response.json::<Value>().await.unwrap()["code"], "cluster_key_invalid");
    }
}

#[tokio::test]
async fn an_agent_looks_up_for_the_participant_at_its_door() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    let url = format!("http://{}/v1/namespaces/default/rooms/x/lookup", scheduler.cluster);
    let body = json!({"client_ip": "203.0.113.9", "region": "us/east", "carrier": "telekom"});
    let proof = ClusterKeys::dev().proof(std::time::SystemTime::now());
    let response = scheduler.http.post(url).bearer_auth(proof).json(&body).send().await.unwrap();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["node"]["id"], "iad-1", "{answer}");
    assert_eq!(answer["client"], json!({"ip": "203.0.113.9", "region": "us/east", "carrier": "telekom"}));
}

#[tokio::test]
async fn agents_learn_which_store_tickets_are_of() {
    let (scheduler, fra, _iad) = Scheduler::with_two_nodes().await;
    let NodeAnswer::Identity(store) = fra.ask(NodeOperation::Identity).await else { panic!("no identity") };
    let answer = scheduler.lookup("x", json!({})).await;
    let ticket = ClusterKeys::dev().check_ticket(answer["ticket"].as_str().unwrap(), 0).unwrap();
    assert_eq!(ticket.store, store);
}

#[tokio::test]
async fn a_gap_in_an_agents_reports_is_followed_by_a_command_to_report_all() {
    let (scheduler, fra, _iad) = Scheduler::with_two_nodes().await;
    fra.say(|report| (report.seq, report.full) = (report.seq + 5, false));
    let command = wait::until("a command", || async { fra.commands.lock().unwrap().first().cloned() }).await;
    assert_eq!((command.action, command.incarnation), (Action::ReportAll, fra.incarnation));
    drop(scheduler);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_closes_the_agents_connection() {
    let scheduler = Scheduler::start().await;
    for message in [Message::text("{}"), Message::text(r#"{"id":1,"op":[]}"#), Message::binary(vec![0])] {
        let mut socket = connect(&scheduler.cluster).await;
        socket.send(message.clone()).await.unwrap();
        let code = loop {
            if let Message::Close(frame) = socket.next().await.expect("a close frame").unwrap() {
                break u16::from(frame.expect("a code").code);
            }
        };
        assert_eq!(code, 4400, "{message:?}");
    }
}

#[tokio::test]
async fn an_agent_that_comes_back_on_a_new_connection_gets_its_commands_there() {
    let scheduler = Scheduler::start().await;
    let mut fra = Agent::start(&scheduler.cluster, "fra-1", "eu").await;
    fra.reconnect(&scheduler.cluster).await;
    fra.commands.lock().unwrap().clear();
    fra.say(|report| (report.seq, report.full) = (report.seq + 5, false));
    wait::until("a command", || async { fra.commands.lock().unwrap().first().cloned() }).await;
    assert_eq!(scheduler.admin("/v1/nodes/fra-1").await["incarnation"], serde_json::json!(fra.incarnation));
}
