//! What to do with a lookup, given what is known of its room: answer, ask the store for one more fact, grant, or wait.

use roost_proto::admin::NodeState;
use roost_proto::id::{Epoch, Incarnation, NodeId};
use roost_proto::lookup::{Alternative, NodeAddress};
use roost_proto::policy::Rung;
use roost_proto::room::{Claim, ClaimState, Expected, Run};
use roost_proto::time::Millis;

use crate::filter::{Wish, refusal};
use crate::node::Node;
use crate::place::{Decision, NoNode, alternatives, place};
use crate::request::Request;
use crate::room::Room;
use crate::time::{GRANT_TTL_MS, PROLONG_AFTER_MS, TICK_MS};
use crate::view::View;

/// The node that a lookup answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    pub node: NodeAddress,
    pub incarnation: Incarnation,
    /// 0 as long as the room is not granted.
    pub epoch: Epoch,
    /// How long the claim is kept for the first participant.
    pub ttl_ms: u64,
    pub alternatives: Vec<Alternative>,
}

/// The next step of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The room lives there.
    Existing(Home),
    /// The room is granted there, and the grant is getting old: prolong it, then answer.
    Prolong { home: Home, claim: Claim },
    /// Nobody has the room, or whoever has it may lose it: grant it, if the store still has what was seen (rule 3).
    Grant { home: Home, run: Run, seen: Option<Claim>, expected: Expected, rung: Rung },
    /// What is known of the room may be out of date: read its record, fold it, decide again.
    Read,
    /// The room is open at a node that we have not heard of for a full lease: ask the store whether the lease of that
    /// incarnation is over (rule 12), decide again.
    Prove { node: NodeId, incarnation: Incarnation },
    /// What is missing may come by itself, in at most so many ms: decide again when something has changed.
    Wait { at_most_ms: u64 },
    /// The store was never reached.
    Unreached,
    /// The room has as many participants as its namespace allows.
    RoomFull,
    /// No node can take the room, or its next participant.
    NoNode(NoNode),
}

impl Step {
    /// The node that the lookup would be answered with.
    #[must_use]
    pub fn home(&self) -> Option<&Home> {
        match self {
            Self::Existing(home) | Self::Prolong { home, .. } | Self::Grant { home, .. } => Some(home),
            _ => None,
        }
    }
}

/// What the store said in the course of this lookup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The room's record was read, or could not be.
    pub record_read: bool,
    /// Whether the lease of this incarnation is over, by the store's word.
    pub lease: Option<(NodeId, Incarnation, bool)>,
}

/// Decides the next step.
#[must_use]
pub fn decide(view: &View, request: &Request<'_>, evidence: &Evidence, now: Millis) -> Step {
    match view.room(request.key, now) {
        None => assign(view, request, None, now),
        Some(room) if !evidence.record_read && !view.rooms.is_confirmed(request.key, &room) => Step::Read,
        Some(room) if room.state == ClaimState::Granted => granted(view, request, &room, now),
        Some(room) => open(view, request, &room, evidence, now),
    }
}

/// Rule 22: a grant to an incarnation that is over is replaced at once. So is one to a node that could not open the room
/// or that the client avoids.
fn granted(view: &View, request: &Request<'_>, room: &Room<'_>, now: Millis) -> Step {
    let Some(node) = view.node(room.node) else {
        return if view.has_heard_all(room.node.bucket(), now) {
            assign(view, request, room.claim(), now)
        } else {
            Step::Wait { at_most_ms: view.grace.length_ms() }
        };
    };
    let is_over = node.report.incarnation > room.incarnation || view.state(node, now) == NodeState::Lost;
    if is_over || refusal(node, Wish::GrantedRoom, request).is_some() {
        return assign(view, request, room.claim(), now);
    }
    let left_ms = room.until.since(now);
    let home = Home {
        alternatives: named(view, request, node),
        ..home(node, room.incarnation, room.epoch, left_ms.min(GRANT_TTL_MS))
    };
    match room.claim() {
        Some(claim) if left_ms < GRANT_TTL_MS - PROLONG_AFTER_MS => Step::Prolong { home, claim },
        _ => Step::Existing(home),
    }
}

/// An open room stays where it is, unless its node is proven to be dead (rule 13) or over (rule 12). No proof outlives the
/// run in which it was made, so none counts in a grace.
fn open(view: &View, request: &Request<'_>, room: &Room<'_>, evidence: &Evidence, now: Millis) -> Step {
    let node = view.node(room.node);
    let in_grace = view.grace_left_ms(request.key.bucket(), now) > 0;
    if view.is_dead(room) && !in_grace {
        return assign(view, request, room.claim(), now);
    }
    // As of the last tick, which counts for the brake who is lost together.
    let is_doubtful =
        node.is_none_or(|node| node.report.incarnation > room.incarnation || node.state == NodeState::Lost);
    let is_braked = view.brake().holds() && node.is_none_or(|node| !node.is_over());
    if is_doubtful && !is_braked && view.was_silent(room, now) && view.grace_left_ms(room.node.bucket(), now) == 0 {
        match &evidence.lease {
            Some((node, incarnation, is_over)) if node == room.node && *incarnation == room.incarnation => {
                if *is_over {
                    return assign(view, request, room.claim(), now);
                }
            }
            _ => return Step::Prove { node: room.node.clone(), incarnation: room.incarnation },
        }
    }
    let Some(node) = node else {
        return Step::Wait { at_most_ms: view.grace.length_ms() };
    };
    let most = request.policy.max_participants_per_room;
    if most > 0 && room.participants >= most {
        return Step::RoomFull;
    }
    match refusal(node, Wish::Participant, request) {
        Some(reason) => Step::NoNode(NoNode::of(node, reason)),
        None => Step::Existing(home(node, room.incarnation, room.epoch, GRANT_TTL_MS)),
    }
}

/// Places the room and grants it, after the bucket's grace (rule 15).
fn assign(view: &View, request: &Request<'_>, seen: Option<Claim>, now: Millis) -> Step {
    let bucket = request.key.bucket();
    let Some(run) = view.grace.run(bucket) else { return Step::Unreached };
    let left_ms = view.grace_left_ms(bucket, now);
    if left_ms > 0 {
        return Step::Wait { at_most_ms: left_ms };
    }
    let Decision { node, rung } = match place(view, request) {
        Ok(decision) => decision,
        Err(no_node) => return Step::NoNode(no_node),
    };
    // Placement knows of a silence from the next tick on.
    if view.state(node, now) == NodeState::Lost {
        return Step::Wait { at_most_ms: TICK_MS };
    }
    let home = Home {
        alternatives: named(view, request, node),
        ..home(node, node.report.incarnation, Epoch(0), GRANT_TTL_MS)
    };
    // Rule 2: a record of an earlier run is void, the store will find none.
    let seen = seen.filter(|claim| claim.run == *run);
    Step::Grant { home, run: run.clone(), seen, expected: view.expected(request, now), rung }
}

fn home(node: &Node, incarnation: Incarnation, epoch: Epoch, ttl_ms: u64) -> Home {
    Home { node: View::address(node), incarnation, epoch, ttl_ms, alternatives: Vec::new() }
}

fn named(view: &View, request: &Request<'_>, taken: &Node) -> Vec<Alternative> {
    let name = |node: &Node| Alternative {
        id: node.report.node.clone(),
        signaling_url: node.report.description.signaling_url.clone(),
    };
    alternatives(view, request, taken).into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, READY};
    use roost_proto::error::Reason;
    use roost_proto::event::Event;
    use roost_proto::id::Region;
    use roost_proto::policy::{self, Ladder, Policy};
    use roost_proto::report::{Mode, Report};

    #[test]
    fn an_unknown_room_is_granted_where_placement_says() {
        let view = sample::view(vec![sample::report("a", "eu")]);
        let Step::Grant { home, run, seen, .. } = step(&view, READY) else { panic!("{:?}", step(&view, READY)) };
        assert_eq!((home.node.id.as_str(), home.epoch, home.ttl_ms), ("a", Epoch(0), GRANT_TTL_MS));
        assert_eq!((run, seen), (sample::run("r1"), None));
    }

    #[test]
    fn a_granted_room_is_answered_and_prolonged_when_a_third_of_its_time_is_used() {
        let mut view = sample::view(vec![sample::report("a", "eu")]);
        let claim = sample::claim("a", 7, ClaimState::Granted);
        view.apply(sample::claimed("x", claim.clone(), GRANT_TTL_MS), READY);
        renewed(&mut view, "a", READY.plus(PROLONG_AFTER_MS));
        let Step::Existing(home) = step(&view, READY.plus(PROLONG_AFTER_MS)) else { panic!() };
        assert_eq!((home.epoch, home.ttl_ms), (Epoch(7), 20_000));
        let at = READY.plus(PROLONG_AFTER_MS + 1);
        assert!(matches!(step(&view, at), Step::Prolong { claim: asked, .. } if asked == claim));
        renewed(&mut view, "a", READY.plus(GRANT_TTL_MS));
        assert!(matches!(step(&view, READY.plus(GRANT_TTL_MS)), Step::Grant { seen: None, .. }), "it has expired");
    }

    #[test]
    fn a_grant_that_was_told_for_ever_is_answered_also_on_a_young_clock() {
        let mut view = sample::view(vec![sample::report("a", "eu")]);
        view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Granted), u64::MAX), READY);
        assert!(matches!(step(&view, READY), Step::Existing(home) if home.ttl_ms == GRANT_TTL_MS));
    }

    #[test]
    fn a_grant_that_cannot_be_opened_is_replaced_at_once() {
        type Change = fn(&mut View);
        let rows: [(&str, Change); 4] = [
            ("its incarnation is over", |view| {
                view.apply(sample::reported(sample::numbered("a", 2, 1)), READY);
            }),
            ("its node has left", |view| {
                view.apply(Event::Left { node: sample::node("a"), incarnation: Incarnation(1) }, READY);
            }),
            ("its node takes no rooms", |view| {
                let report = Report { mode: Mode::BlockNewRooms, ..sample::numbered("a", 1, 2) };
                view.apply(sample::reported(report), READY);
            }),
            ("its node is full", |view| {
                view.apply(sample::reported(Report { participants: 100, ..sample::numbered("a", 1, 2) }), READY);
            }),
        ];
        for (name, change) in rows {
            let mut view = sample::view(vec![sample::report("a", "eu")]);
            let claim = sample::claim("a", 7, ClaimState::Granted);
            view.apply(sample::claimed("x", claim.clone(), GRANT_TTL_MS), READY);
            view.apply(sample::reported(sample::report("b", "eu")), READY);
            change(&mut view);
            match step(&view, READY) {
                Step::Grant { seen, .. } => assert_eq!(seen, Some(claim), "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn avoid_moves_a_granted_room_and_not_an_open_one() {
        for (state, moves) in [(ClaimState::Granted, true), (ClaimState::Open, false)] {
            let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "eu")]);
            view.apply(sample::claimed("x", sample::claim("a", 7, state), GRANT_TTL_MS), READY);
            let (key, avoid) = (sample::room("x"), [sample::node("a")]);
            let request = Request { avoid: &avoid, ..Request::new(&key, &policy::DEFAULT) };
            match decide(&view, &request, &Evidence::default(), READY) {
                Step::Grant { home, .. } => assert!(moves && home.node.id.as_str() == "b"),
                Step::Existing(home) => assert!(!moves && home.node.id.as_str() == "a"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_granted_room_stays_for_a_client_who_would_be_too_far_from_it() {
        let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "us")]);
        view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Granted), GRANT_TTL_MS), READY);
        let (key, far) = (sample::room("x"), Region::new("us").unwrap());
        let ladder = Ladder::new(&[Rung::Region]).unwrap();
        let near = Policy { ladder, ..Policy::default() };
        let fenced = Policy { ladder, fence: vec![far.clone()], ..Policy::default() };
        for (policy, node) in [(&near, "a"), (&fenced, "b")] {
            let request = Request { region: Some(&far), ..Request::new(&key, policy) };
            let step = decide(&view, &request, &Evidence::default(), READY);
            assert_eq!(step.home().map(|home| home.node.id.as_str()), Some(node), "{step:?}");
            assert_eq!(matches!(step, Step::Existing(_)), node == "a");
        }
    }

    #[test]
    fn an_open_room_is_taken_from_a_lost_node_only_with_both_proofs() {
        let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "eu")]);
        let claim = sample::claim("a", 7, ClaimState::Open);
        view.apply(sample::claimed("x", claim.clone(), 0), READY);
        let late = READY.plus(3_999);
        renewed(&mut view, "b", late);
        assert!(matches!(step(&view, late), Step::Existing(_)), "a full lease of silence is not over");
        let lost = READY.plus(4_000);
        sample::pass(&mut view, late, lost);
        let asked = (sample::node("a"), Incarnation(1));
        assert_eq!(step(&view, lost), Step::Prove { node: asked.0.clone(), incarnation: asked.1 });
        let said = |is_over| Evidence { record_read: false, lease: Some((asked.0.clone(), asked.1, is_over)) };
        assert!(matches!(with(&view, &said(false), lost), Step::Existing(home) if home.node.id == asked.0));
        match with(&view, &said(true), lost) {
            Step::Grant { home, seen, .. } => assert_eq!((home.node.id.as_str(), seen), ("b", Some(claim))),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_open_room_is_taken_from_a_dead_process_at_once_and_not_in_a_grace() {
        let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "eu")]);
        let claim = sample::claim("a", 7, ClaimState::Open);
        view.apply(sample::claimed("x", claim.clone(), 0), READY);
        view.agent_named(&sample::node("a"), Incarnation(1));
        view.agent_broke(&sample::node("a"));
        assert!(matches!(step(&view, READY), Step::Existing(home) if home.node.id.as_str() == "a"));
        assert_eq!(view.agent_refused(&sample::node("a")), Some(Incarnation(1)));
        match step(&view, READY) {
            Step::Grant { home, seen, .. } => assert_eq!((home.node.id.as_str(), seen), ("b", Some(claim))),
            other => panic!("{other:?}"),
        }
        let mut in_grace = view.clone();
        in_grace.see_run(sample::room("x").bucket(), &sample::run("r2"), READY);
        assert!(matches!(step(&in_grace, READY), Step::Existing(_)));
        view.apply(sample::reported(sample::numbered("a", 1, 2)), READY);
        assert!(matches!(step(&view, READY), Step::Existing(_)), "it reports after all");
        view.agent_refused(&sample::node("a"));
        view.apply(
            sample::claimed("x", Claim { incarnation: Incarnation(2), ..sample::claim("a", 8, ClaimState::Open) }, 0),
            READY,
        );
        assert!(matches!(step(&view, READY), Step::Existing(_)), "the next process is another one");
    }

    #[test]
    fn a_room_whose_node_died_while_it_opened_it_is_taken_as_the_store_has_it() {
        let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "eu")]);
        let claim = sample::claim("a", 7, ClaimState::Granted);
        view.apply(sample::claimed("x", claim.clone(), GRANT_TTL_MS), READY);
        let changed = vec![sample::held("x", 7, 1)];
        view.apply(sample::reported(Report { changed, ..sample::numbered("a", 1, 2) }), READY);
        view.agent_named(&sample::node("a"), Incarnation(1));
        view.agent_broke(&sample::node("a"));
        view.agent_refused(&sample::node("a"));
        match step(&view, READY) {
            Step::Grant { home, seen, .. } => assert_eq!((home.node.id.as_str(), seen), ("b", Some(claim))),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn while_the_brake_holds_no_room_is_taken_for_silence_and_one_of_the_dead_is() {
        let names = ["a", "b", "c", "d", "e"];
        let mut view = sample::view(names.map(|id| sample::report(id, "eu")).to_vec());
        view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
        view.agent_named(&sample::node("a"), Incarnation(1));
        view.agent_broke(&sample::node("a"));
        let lost = READY.plus(4_000);
        sample::pass(&mut view, READY, lost);
        assert!(view.brake().holds());
        view.apply(sample::reported(sample::numbered("e", 1, 2)), lost);
        assert!(matches!(step(&view, lost), Step::Existing(_)));
        let mut released = view.clone();
        released.release_brake();
        assert!(matches!(step(&released, lost), Step::Prove { .. }));
        view.agent_refused(&sample::node("a"));
        assert!(matches!(step(&view, lost), Step::Grant { home, .. } if home.node.id.as_str() == "e"));
    }

    #[test]
    fn a_proof_is_for_one_incarnation() {
        let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "eu")]);
        view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
        let lost = READY.plus(4_000);
        sample::pass(&mut view, READY, lost);
        let evidence = Evidence { record_read: false, lease: Some((sample::node("a"), Incarnation(2), true)) };
        assert!(matches!(with(&view, &evidence, lost), Step::Prove { .. }));
    }

    #[test]
    fn nothing_is_granted_to_a_node_whose_lease_has_run_out_since_the_last_tick() {
        let mut view = sample::view(vec![sample::report("a", "eu")]);
        let lost = READY.plus(4_000);
        sample::pass(&mut view, READY, lost.minus(1));
        assert!(matches!(step(&view, lost.minus(1)), Step::Grant { .. }), "a suspect is better than nobody");
        assert_eq!(step(&view, lost), Step::Wait { at_most_ms: TICK_MS });
        view.tick(lost.plus(TICK_MS - 1));
        assert!(matches!(step(&view, lost.plus(TICK_MS - 1)), Step::NoNode(_)));
    }

    #[test]
    fn a_scheduler_that_hears_nothing_goes_on_answering_for_open_rooms() {
        let mut view = sample::view(vec![sample::report("a", "eu")]);
        view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
        view.stop_listening(READY);
        assert!(matches!(step(&view, READY.plus(600_000)), Step::Existing(_)));
    }

    #[test]
    fn in_grace_nothing_is_granted_and_open_rooms_are_answered() {
        let mut view = sample::view(vec![sample::report("a", "eu")]);
        view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
        let (key, other) = (sample::room("x"), sample::room("y"));
        for key in [&key, &other] {
            view.see_run(key.bucket(), &sample::run("r2"), READY);
        }
        assert!(matches!(step(&view, READY), Step::Existing(_)), "its node is about to assert it again");
        let request = Request::new(&other, &policy::DEFAULT);
        let unknown = decide(&view, &request, &Evidence::default(), READY.plus(1_000));
        assert_eq!(unknown, Step::Wait { at_most_ms: 4_000 });
        renewed(&mut view, "a", READY.plus(5_000));
        let over = step(&view, READY.plus(5_000));
        assert!(matches!(over, Step::Grant { seen: None, .. }), "nobody asserted it: {over:?}");
    }

    #[test]
    fn what_only_an_earlier_watch_told_is_read_again() {
        let mut view = sample::view(vec![sample::report("a", "eu")]);
        view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
        view.stop_listening(READY);
        view.listen(READY);
        assert_eq!(step(&view, READY), Step::Read);
        let read = Evidence { record_read: true, lease: None };
        assert!(matches!(with(&view, &read, READY), Step::Existing(_)));
    }

    #[test]
    fn before_the_store_was_reached_nothing_can_be_granted() {
        let mut view = View::new(Millis(0));
        view.apply(sample::reported(sample::report("a", "eu")), Millis(0));
        assert_eq!(step(&view, Millis(60_000)), Step::Unreached);
    }

    #[test]
    fn a_room_of_a_node_that_has_not_reported_yet_waits_for_it() {
        for (state, waits_ms) in [(ClaimState::Granted, 5_000), (ClaimState::Open, 9_000)] {
            let mut view = sample::view(vec![]);
            view.apply(sample::claimed("x", sample::claim("a", 7, state), GRANT_TTL_MS), Millis(4_000));
            sample::pass(&mut view, Millis(4_000), Millis(waits_ms));
            assert!(matches!(step(&view, Millis(waits_ms - 1)), Step::Wait { .. }), "{state:?}");
            let later = step(&view, Millis(waits_ms));
            assert!(matches!(later, Step::NoNode(_) | Step::Prove { .. }), "{later:?}");
        }
    }

    #[test]
    fn the_home_of_an_open_room_refuses_by_mode_and_capacity() {
        let rows = [
            (Report { participants: 100, ..sample::numbered("a", 1, 2) }, Reason::FullParticipants),
            (Report { mode: Mode::Maintenance, ..sample::numbered("a", 1, 2) }, Reason::Mode),
        ];
        for (report, reason) in rows {
            let mut view = sample::view(vec![sample::report("a", "eu"), sample::report("b", "eu")]);
            view.apply(sample::claimed("x", sample::claim("a", 7, ClaimState::Open), 0), READY);
            view.apply(sample::reported(report), READY);
            let Step::NoNode(no_node) = step(&view, READY) else { panic!() };
            assert_eq!((no_node.rejections.len(), no_node.rejections[0].reason), (1, reason));
        }
    }

    #[test]
    fn a_room_that_only_its_node_told_of_is_answered_until_it_is_full() {
        let mut report = sample::report("a", "eu");
        report.changed = vec![sample::held("x", 9, 2)];
        let view = sample::view(vec![report]);
        assert_eq!(step(&view, READY), Step::Read, "the report may be older than the room's end");
        let read = Evidence { record_read: true, lease: None };
        assert!(matches!(with(&view, &read, READY), Step::Existing(home) if home.epoch == Epoch(9)));
        let key = sample::room("x");
        for (max_participants_per_room, is_full) in [(0, false), (3, false), (2, true)] {
            let policy = Policy { max_participants_per_room, ..Policy::default() };
            let request = Request::new(&key, &policy);
            let full = decide(&view, &request, &read, READY) == Step::RoomFull;
            assert_eq!(full, is_full, "{max_participants_per_room}");
        }
    }

    fn step(view: &View, now: Millis) -> Step {
        with(view, &Evidence::default(), now)
    }

    fn with(view: &View, evidence: &Evidence, now: Millis) -> Step {
        let key = sample::room("x");
        decide(view, &Request::new(&key, &policy::DEFAULT), evidence, now)
    }

    /// The node renews its lease; before that, time passes since [`READY`].
    fn renewed(view: &mut View, id: &str, now: Millis) {
        sample::pass(view, READY, now);
        view.apply(sample::reported(sample::numbered(id, 1, now.0)), now);
    }
}
