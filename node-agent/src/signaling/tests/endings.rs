//! How participants and rooms end: replaced, sent elsewhere, a worker that goes down, a room that is empty.

use roost_proto::media::MediaEvent;
use tokio_tungstenite::tungstenite::Message;

use super::client::Generation::{First, Second};
use super::*;
use crate::media::{MediaServer, Notice};

#[actix_web::test]
async fn the_same_peer_again_replaces_itself_and_is_gone_first() {
    let mut node = node_with(Limits::default(), 100).await;
    let mut ann = node.client("room", "ann").await;
    ann.join(First, "Ann").await;
    let mut bob = node.client("room", "bob").await;
    bob.join(First, "Bob").await;
    ann.told("newPeer").await;
    let mut again = node.client("room", "bob").await;
    again.join(First, "Bob 2").await;
    assert_eq!(bob.closed().await, (4000, "replaced".to_owned()));
    ann.frame(|frame| frame["method"] == "newPeer" && frame["data"]["displayName"] == "Bob 2").await;
    let peers: Vec<_> =
        ann.log.iter().filter_map(|frame| frame["method"].as_str()).filter(|m| m.contains("eer")).collect();
    assert_eq!(peers, ["newPeer", "peerClosed", "newPeer"]);
    assert_eq!(node.rooms.participants(), 2);
    drop((ann, again));
    assert_eq!(node.ended.recv().await, Some((RoomKey::new("default", "room").expect("valid"), Epoch(7))));
    assert_eq!((node.rooms.snapshot().len(), node.rooms.objects()), (0, 0));
    until("the media server has closed the room", || node.media.workers().iter().all(|worker| worker.rooms == 0)).await;
}

#[actix_web::test]
async fn who_waits_at_the_door_for_longer_does_not_replace_its_own_later_connection() {
    let node = node().await;
    let mut first = node.client("slow", "ann").await;
    until("it has knocked", || !node.door.knocked.lock().expect("no panic").is_empty()).await;
    let mut second = node.client("slow", "ann").await;
    second.join(First, "Ann").await;
    node.door.lets_in.notify_one();
    assert_eq!(first.closed().await, (4000, "replaced".to_owned()));
    second.settle().await;
    assert_eq!(node.rooms.participants(), 1);
}

#[actix_web::test]
async fn who_says_goodbye_is_answered_and_its_connection_ends() {
    let node = node().await;
    let mut ann = node.client("room", "ann").await;
    ann.join(First, "Ann").await;
    ann.send_message(Message::Close(None)).await;
    assert_eq!(ann.closed().await.0, 1000);
    assert_eq!(ann.closed().await, (0, "no close frame".to_owned()), "the connection has ended");
    until("it is gone", || node.rooms.participants() == 0).await;
}

#[actix_web::test]
async fn who_enters_a_room_that_was_given_away_meanwhile_is_told_to_come_again() {
    let node = node().await;
    node.door.holds.store(false, Ordering::Relaxed);
    assert_eq!(node.client("room", "ann").await.closed().await, (4503, "store_unavailable".to_owned()));
}

#[actix_web::test]
async fn when_a_worker_goes_down_its_participants_come_back_and_the_others_do_not_notice() {
    let mut node = node_with(Limits::default(), 60_000).await;
    let (mut ann, mut bob) = (node.client("one", "ann").await, node.client("two", "bob").await);
    ann.join(First, "Ann").await;
    ann.produce("audio", json!({})).await;
    bob.join(Second, "Bob").await;
    let worker = |node: &Node, room: &str| {
        node.rooms.snapshot().iter().find(|report| report.key.room.as_str() == room).map(|report| report.worker)
    };
    let (first, second) = (worker(&node, "one"), worker(&node, "two"));
    assert_ne!(first, second, "rooms spread over the workers");
    node.media.crash(first.expect("open")).await;
    assert_eq!(ann.closed().await, (4503, "node_leaving".to_owned()));
    assert_eq!(ann.told("error").await["retryable"], true);
    bob.settle().await;
    assert_eq!((node.rooms.snapshot().len(), node.rooms.participants()), (2, 1));
    let mut ann = node.client("one", "ann").await;
    ann.join(First, "Ann").await;
    assert_eq!(worker(&node, "one"), second, "the room opened on the one that is up");
    // Without any worker, those who come wait for one.
    node.media.crash(second.expect("open")).await;
    assert_eq!(bob.closed().await.0, 4503);
    let coming = async { node.client("two", "bob").await.join(Second, "Bob").await };
    let restarting = async { node.media.restart(0).await };
    tokio::join!(coming, restarting);
    assert!(node.ended.try_recv().is_err(), "no claim was given up");
}

#[actix_web::test]
async fn a_room_that_a_worker_gave_up_ends_alone() {
    let node = node().await;
    let mut ann = node.client("room", "ann").await;
    ann.join(First, "Ann").await;
    let worker = node.rooms.snapshot()[0].worker;
    let room = RoomKey::new("default", "room").expect("valid");
    node.media.tell(worker, Notice::Event(MediaEvent::RoomClosed { room })).await;
    assert_eq!(ann.closed().await, (4503, "node_leaving".to_owned()));
    node.client("room", "ann").await.join(First, "Ann").await;
}

#[actix_web::test]
async fn who_knocks_at_the_wrong_node_is_sent_on_or_refused() {
    let node = node().await;
    let mut client = node.client("elsewhere", "ann").await;
    assert_eq!(client.closed().await, (4000, "redirect".to_owned()));
    let told = client.told("redirect").await;
    assert_eq!((&told["node"], &told["epoch"], &told["ticket"]), (&"other".into(), &9.into(), &"t.t.t".into()));
    let location = told["location"].as_str().expect("a text");
    assert!(location.starts_with("ws://other.example/signaling?roomId=elsewhere&peerId=ann"), "{location}");
    let mut client = node.client("forbidden", "ann").await;
    assert_eq!(client.closed().await, (4000, "ticket_required".to_owned()));
    assert_eq!(client.told("error").await["code"], "ticket_required");
    let start = std::time::Instant::now();
    let mut client = node.client("later", "ann").await;
    assert_eq!(client.closed().await, (4503, "no_node".to_owned()));
    assert!(start.elapsed() >= Duration::from_secs(1), "a pause, so that stock clients do not storm");
    let knocked = node.door.knocked.lock().expect("no panic");
    assert!(knocked.iter().all(|knock| knock.client.is_loopback() && knock.redirects == 0 && knock.ticket.is_none()));
}

#[actix_web::test]
async fn sora_clients_are_redirected_and_told_that_they_are_not_served_yet() {
    let mut node = node_with(Limits::default(), 100).await;
    let connect = async |channel: &str| {
        let mut client = Client::try_connect(&node.address, "/signaling?namespace=acme", &[]).await.expect("accepted");
        client.send(&json!({"type": "connect", "channel_id": channel, "role": "sendrecv"}).to_string()).await;
        let closed = client.closed().await;
        (client.log[0].clone(), closed)
    };
    let (told, closed) = connect("elsewhere").await;
    assert_eq!((&told["type"], closed), (&"redirect".into(), (4000, "redirect".to_owned())));
    assert!(told["location"].as_str().is_some_and(|location| location.contains("namespace=acme")), "{told}");
    let (told, closed) = connect("here").await;
    assert_eq!((&told["type"], &told["problem"]["code"]), (&"error".into(), &"not_implemented".into()));
    assert_eq!(closed, (4501, "not_implemented".to_owned()));
    let mut client = Client::try_connect(&node.address, "/signaling", &[]).await.expect("accepted");
    client.send(&"x".repeat(MAX_FRAME_BYTES + 1)).await;
    assert_eq!(client.closed().await.0, 1009);
    let (told, closed) = connect("a\nb").await;
    assert_eq!((&told["problem"]["code"], closed.0), (&"bad_id".into(), 4400));
    // The door has opened a claim for it, which is told to be over.
    assert_eq!(node.ended.recv().await, Some((RoomKey::new("acme", "here").expect("valid"), Epoch(7))));
}

#[actix_web::test]
async fn a_node_that_lost_the_room_while_the_transport_was_made_admits_nobody() {
    let node = node().await;
    let mut ann = node.client("room", "ann").await;
    ann.ask("getRouterRtpCapabilities", json!({})).await;
    node.door.holds.store(false, Ordering::Relaxed);
    ann.send_request("createWebRtcTransport", json!({"consuming": true})).await;
    assert_eq!(ann.closed().await, (4503, "store_unavailable".to_owned()));
}

#[actix_web::test]
async fn who_is_inside_makes_its_next_transport_while_the_node_admits_nobody() {
    let node = node().await;
    let mut ann = node.client("room", "ann").await;
    ann.join(Second, "Ann").await;
    node.door.holds.store(false, Ordering::Relaxed);
    ann.ask("createWebRtcTransport", json!({"forceTcp": false, "appData": {"direction": "producer"}})).await;
    ann.settle().await;
    assert_eq!(node.rooms.participants(), 1);
    assert_eq!(node.client("room", "bob").await.closed().await, (4503, "store_unavailable".to_owned()));
}

#[actix_web::test]
async fn a_closed_room_says_why_and_a_later_generation_is_another_room() {
    let mut node = node().await;
    let key = RoomKey::new("default", "room").expect("valid");
    let join = async |peer| {
        let mut client = node.client("room", peer).await;
        client.join(First, peer).await;
        client
    };
    let mut ann = join("ann").await;
    node.rooms.close_room(&key, Epoch(6), &Farewell::Closed);
    assert_eq!(node.rooms.participants(), 1, "another generation");
    node.rooms.close_room(&key, Epoch(7), &Farewell::Closed);
    assert_eq!(ann.closed().await, (4000, "room_closed".to_owned()));
    let mut ann = join("ann").await;
    let home = NewHome {
        signaling_url: "ws://other.example".to_owned(),
        node: NodeId::new("other").expect("valid"),
        epoch: Epoch(8),
        ticket: "t".to_owned(),
    };
    node.rooms.close_room(&key, Epoch(7), &Farewell::Redirect(home));
    assert_eq!(ann.closed().await, (4000, "redirect".to_owned()));
    assert!(ann.told("redirect").await["location"].as_str().is_some_and(|location| location.contains("peerId=ann")));
    let mut ann = join("ann").await;
    node.door.epoch.store(9, Ordering::Relaxed);
    let mut bob = join("bob").await;
    assert_eq!(ann.closed().await.0, 4503, "the older generation ends");
    bob.settle().await;
    assert_eq!(node.rooms.snapshot()[0].epoch, Epoch(9));
    let leaving = Farewell::Problem(Code::NodeLeaving);
    let (closed, ()) = tokio::join!(bob.closed(), node.rooms.close_all(&leaving));
    assert_eq!(closed, (4503, "node_leaving".to_owned()));
    for epoch in [7, 7, 7, 9] {
        assert_eq!(node.ended.recv().await, Some((key.clone(), Epoch(epoch))));
    }
}
