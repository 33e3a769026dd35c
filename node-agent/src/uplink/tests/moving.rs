//! Rooms that move by command.

use super::*;

#[tokio::test]
async fn a_room_is_granted_to_the_other_node_before_its_participants_are_sent_there() {
    let agent = Agent::new();
    let mut events = agent.store.watch().await.expect("in memory");
    let _tasks = agent.start();
    let before = agent.open("standup").await;
    report(&mut events).await;
    for (to, epoch, incarnation) in [
        ("iad-1", Epoch(1), before.incarnation),
        ("fra-1", before.epoch, before.incarnation),
        ("iad-1", before.epoch, Incarnation(1)),
        // Obeyed, and not again.
        ("iad-1", before.epoch, before.incarnation),
        ("iad-1", before.epoch, before.incarnation),
    ] {
        assert!(agent.inside.closed.lock().expect("not poisoned").is_empty());
        agent.store.send(&agent.node.id, move_room(to, epoch, incarnation)).await.expect("in memory");
    }
    let (closed, opened_as, goodbye) = agent.until_closed().await;
    assert_eq!((closed, opened_as), (room("standup"), before.epoch));
    let Goodbye::Moved(found) = goodbye else { panic!("{goodbye:?}") };
    let claim = agent.store.read(&room("standup")).await.expect("in memory").expect("granted there");
    assert_eq!((claim.node.as_str(), claim.state, claim.incarnation), ("iad-1", ClaimState::Granted, Incarnation(7)));
    assert!(claim.epoch > before.epoch && found.epoch == claim.epoch);
    let ticket = ClusterKeys::dev().check_ticket(&found.ticket, 0).expect("a ticket");
    assert_eq!((ticket.node, ticket.incarnation, ticket.epoch), (claim.node, claim.incarnation, claim.epoch));
    assert_eq!(ticket.store, agent.store.identity().await.expect("in memory"));
    assert_eq!(found.signaling_url, "ws://iad-1/signaling");
    assert!(agent.node.with(|state, _| state.holdings.is_empty() && state.holdings.releases_len() == 0));
}

#[tokio::test]
async fn a_room_that_is_another_nodes_when_it_is_to_move_sends_its_participants_there() {
    let agent = Agent::new();
    let mut events = agent.store.watch().await.expect("in memory");
    let _tasks = agent.start();
    let before = agent.open("standup").await;
    report(&mut events).await;
    let seen = agent.store.read(&room("standup")).await.expect("in memory");
    let taken = agent.grant("standup", seen, "sin-1", Incarnation(1)).await;
    let command = move_room("iad-1", before.epoch, before.incarnation);
    agent.store.send(&agent.node.id, command).await.expect("in memory");
    let (_, _, goodbye) = agent.until_closed().await;
    assert!(matches!(goodbye, Goodbye::Moved(found) if found.node.as_str() == "iad-1"), "where a lookup says");
    let claim = agent.store.read(&room("standup")).await.expect("in memory").expect("granted");
    assert_eq!((claim.node.as_str(), claim.epoch), ("sin-1", taken));
}

fn move_room(to: &str, epoch: Epoch, incarnation: Incarnation) -> Command {
    let action = Action::MoveRoom {
        key: room("standup"),
        epoch,
        to: NodeId::new(to).expect("valid"),
        to_incarnation: Incarnation(7),
        signaling_url: "ws://iad-1/signaling".to_owned(),
        ttl_ms: 30_000,
    };
    Command { v: 1, incarnation, action }
}
