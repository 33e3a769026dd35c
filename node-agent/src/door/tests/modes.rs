//! What the door lets in, mode by mode.

use roost_proto::mode::Mode;
use roost_proto::steer::Steering;

use super::*;

#[tokio::test]
async fn the_door_goes_by_the_table_of_modes() {
    // Of each mode: is a granted room opened, may somebody new join an open one, somebody who is inside again.
    for (mode, opens, joins) in [
        (Mode::Serving, true, true),
        (Mode::BlockNewRooms, false, true),
        (Mode::BlockNewParticipants, false, false),
        (Mode::Draining, false, true),
        (Mode::Maintenance, false, false),
    ] {
        let hall = Hall::new().await;
        let (open, granted) = (hall.grant("standup").await, hall.grant("granted").await);
        let inside = admitted(hall.gate.knock(hall.knock("standup", Some(open.clone()))).await);
        hall.node.with(|state, _| state.steering = steered(mode));
        assert!(inside.still_holds(), "{mode:?}: sessions go on");
        let again = admitted(hall.gate.knock(hall.knock("standup", Some(open.clone()))).await);
        assert!(inside.still_holds() && again.still_holds(), "{mode:?}: who is inside is not new");
        let newcomer = Knock { peer: "ann".parse().expect("valid"), ..hall.knock("standup", Some(open.clone())) };
        assert_eq!(refused_for_mode(hall.gate.knock(newcomer.clone()).await), !joins, "{mode:?}");
        hall.directory.say(Ok(elsewhere()));
        let first = hall.gate.knock(hall.knock("granted", Some(granted))).await;
        assert_eq!(matches!(first, Answer::Redirect(_)), !opens, "{mode:?}: a granted room goes elsewhere: {first:?}");
        assert_eq!(hall.node.with(|state, _| state.holdings.len()), 1 + usize::from(opens), "{mode:?}");
        drop(first);
        drop(again);
        let again = admitted(hall.gate.knock(hall.knock("standup", Some(open.clone()))).await);
        drop((again, inside));
        assert!(hall.node.with(|state, _| state.inside.is_empty()), "{mode:?}");
        assert_eq!(refused_for_mode(hall.gate.knock(newcomer).await), !joins, "{mode:?}: the room lives on, empty");
        let gone = hall.gate.knock(hall.knock("standup", Some(open))).await;
        assert_eq!(refused_for_mode(gone), !joins, "{mode:?}: who had left is new");
    }
}

#[tokio::test]
async fn a_room_that_the_node_must_not_open_is_looked_for_elsewhere() {
    let hall = Hall::new().await;
    hall.grant("standup").await;
    hall.node.with(|state, _| state.steering = steered(Mode::Draining));
    hall.directory.say(Ok(elsewhere()));
    let answer = hall.gate.knock(hall.knock("standup", None)).await;
    assert!(matches!(answer, Answer::Redirect(_)), "{answer:?}");
}

#[tokio::test]
async fn a_granted_room_that_no_lookup_takes_off_the_node_is_refused_for_its_mode() {
    let hall = Hall::new().await;
    let offer = hall.offer("standup").await;
    let ticket = hall.sign(|ticket| ticket.epoch = offer.epoch);
    hall.node.with(|state, _| state.steering = steered(Mode::Draining));
    hall.directory.say(Err(Problem::new(Code::StoreUnavailable, "no scheduler answers")));
    let unknown = refused(hall.gate.knock(hall.knock("standup", Some(ticket.clone()))).await);
    assert_eq!(unknown.code, Code::StoreUnavailable, "what the lookup says");
    hall.directory.say(Ok(here(offer)));
    assert!(refused_for_mode(hall.gate.knock(hall.knock("standup", Some(ticket))).await));
    assert!(!hall.is_opening());
}

#[tokio::test]
async fn a_node_that_leaves_lets_nobody_in_whatever_its_mode() {
    let hall = Hall::new().await;
    let open = hall.grant("standup").await;
    let _inside = admitted(hall.gate.knock(hall.knock("standup", Some(open.clone()))).await);
    hall.node.with(|state, _| state.leaving = true);
    assert_eq!(refused(hall.gate.knock(hall.knock("standup", Some(open))).await).code, Code::NodeLeaving);
}

/// As an operator's word for this mode.
pub(super) fn steered(mode: Mode) -> Option<Steering> {
    Some(Steering { plan: 1, mode, drain: None })
}

/// Whether the mode was in the way; else somebody came in.
fn refused_for_mode(answer: Answer) -> bool {
    let Answer::Refused(problem) = answer else {
        drop(admitted(answer));
        return false;
    };
    let reasons: Vec<_> = problem.rejections.iter().map(|rejection| rejection.reason).collect();
    assert_eq!((problem.code, reasons), (Code::NoNode, vec![Reason::Mode]));
    true
}
