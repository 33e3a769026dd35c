//! From what schedulers hear to the ledger's rows: what is news in it, and when a room's home has changed. Pure.

use std::collections::BTreeMap;

use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use roost_proto::room::{Claim, ClaimState};

use super::row::{MoveRow, RoomRow, Row, Why};

/// How many living rooms are remembered. Of a further one no move is known, and each report of it is written.
const MOST_KNOWN: usize = 200_000;
/// A room that was not told of since a watch began so long ago is forgotten.
const UNTOLD_MS: u64 = 600_000;

/// What was heard, with the store's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    pub at_ms: u64,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A watch began: all claims that there are will be told again, and ends before it may not have been heard.
    Watching,
    Claimed {
        key: RoomKey,
        claim: Claim,
        ttl_ms: u64,
        /// By whoever had it before.
        handed_over: bool,
    },
    Released {
        key: RoomKey,
        epoch: Epoch,
    },
    /// Rooms with participants, and rooms that have ended.
    Reported {
        home: (NodeId, Incarnation),
        rooms: Vec<(RoomKey, Epoch, u32)>,
        ended: Vec<(RoomKey, Epoch)>,
    },
    Acted(super::row::Action),
}

/// The rooms that live, as they were told last.
#[derive(Debug, Default)]
pub(crate) struct History {
    known: BTreeMap<RoomKey, Known>,
    watch: u32,
    watch_began_ms: u64,
}

/// How far a room is known to have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its node reported it; no claim was told yet.
    Reported,
    /// For which somebody may come until then.
    Granted {
        until_ms: u64,
    },
    Open,
}

#[derive(Debug)]
struct Known {
    epoch: Epoch,
    home: (NodeId, Incarnation),
    stage: Stage,
    peak: u32,
    watch: u32,
}

impl History {
    /// The rows that a fact gives: none when it says nothing that was not said before.
    pub(crate) fn fold(&mut self, fact: Fact) -> Vec<Row> {
        let at_ms = fact.at_ms;
        match fact.what {
            What::Watching => {
                self.watch = self.watch.wrapping_add(1);
                self.watch_began_ms = at_ms;
                Vec::new()
            }
            What::Claimed { key, claim, ttl_ms, handed_over } => self.claimed(key, claim, (ttl_ms, handed_over), at_ms),
            What::Released { key, epoch } => vec![self.released(key, epoch, at_ms)],
            What::Reported { home, rooms, ended } => {
                let mut rows = Vec::new();
                for (key, epoch, participants) in rooms {
                    rows.extend(self.reported(key, epoch, &home, participants, at_ms));
                }
                rows.extend(ended.into_iter().map(|(key, epoch)| self.released(key, epoch, at_ms)));
                rows
            }
            What::Acted(action) => vec![Row::Action(action)],
        }
    }

    /// Forgets grants that are over, and rooms whose end was missed.
    pub(crate) fn sweep(&mut self, at_ms: u64) {
        let untold = at_ms.saturating_sub(self.watch_began_ms) > UNTOLD_MS;
        let watch = self.watch;
        self.known.retain(|_, known| !known.is_over(at_ms) && (known.watch == watch || !untold));
    }

    fn claimed(&mut self, key: RoomKey, claim: Claim, (ttl_ms, handed_over): (u64, bool), at_ms: u64) -> Vec<Row> {
        let home = (claim.node, claim.incarnation);
        let stage = match claim.state {
            ClaimState::Granted => Stage::Granted { until_ms: at_ms.saturating_add(ttl_ms) },
            ClaimState::Open => Stage::Open,
        };
        let mut row = RoomRow { home: Some(home.clone()), ..RoomRow::heard(at_ms) };
        match claim.state {
            ClaimState::Granted => row.granted_ms = Some(at_ms),
            ClaimState::Open => row.opened_ms = Some(at_ms),
        }
        let watch = self.watch;
        let mut rows = Vec::new();
        match self.known.get_mut(&key) {
            Some(known) if known.epoch > claim.epoch => {}
            Some(known) if known.epoch == claim.epoch => {
                known.watch = watch;
                let is_news = known.stage.is_news(stage);
                if known.stage != Stage::Open {
                    known.stage = stage;
                }
                if !is_news {
                    return rows;
                }
            }
            Some(known) => {
                if let Some(why) = known.why_moved((&home, handed_over), watch, at_ms) {
                    let moved =
                        RoomRow { home: Some(known.home.clone()), moved_ms: Some(at_ms), ..RoomRow::heard(at_ms) };
                    rows.push(Row::Room(key.clone(), known.epoch, moved));
                    let (from_epoch, from) = (known.epoch, known.home.clone());
                    let moved = MoveRow { from_epoch, from, to: home.clone(), why, heard_ms: at_ms };
                    rows.push(Row::Move(key.clone(), claim.epoch, moved));
                }
                *known = Known { epoch: claim.epoch, home, stage, peak: 0, watch };
            }
            None => self.remember(&key, Known { epoch: claim.epoch, home, stage, peak: 0, watch }),
        }
        rows.push(Row::Room(key, claim.epoch, row));
        rows
    }

    fn released(&mut self, key: RoomKey, epoch: Epoch, at_ms: u64) -> Row {
        let mut row = RoomRow { released_ms: Some(at_ms), ..RoomRow::heard(at_ms) };
        if let Some(known) = self.known.get(&key).filter(|known| known.epoch <= epoch) {
            if known.epoch == epoch {
                row.home = Some(known.home.clone());
            }
            self.known.remove(&key);
        }
        Row::Room(key, epoch, row)
    }

    fn reported(
        &mut self,
        key: RoomKey,
        epoch: Epoch,
        home: &(NodeId, Incarnation),
        participants: u32,
        at_ms: u64,
    ) -> Option<Row> {
        let watch = self.watch;
        match self.known.get_mut(&key) {
            Some(known) if known.epoch == epoch && known.peak >= participants => return None,
            Some(known) if known.epoch == epoch => known.peak = participants,
            // The claim of the other epoch says what became of it.
            Some(_) => {}
            None => {
                let stage = Stage::Reported;
                self.remember(&key, Known { epoch, home: home.clone(), stage, peak: participants, watch });
            }
        }
        let row = RoomRow { home: Some(home.clone()), peak_participants: participants, ..RoomRow::heard(at_ms) };
        Some(Row::Room(key, epoch, row))
    }

    fn remember(&mut self, key: &RoomKey, known: Known) {
        if self.known.len() < MOST_KNOWN {
            self.known.insert(key.clone(), known);
        }
    }
}

impl Stage {
    /// Whether a claim that is told with `next` says more.
    fn is_news(self, next: Self) -> bool {
        match self {
            Self::Reported => true,
            Self::Granted { .. } => next == Self::Open,
            Self::Open => false,
        }
    }
}

impl Known {
    fn is_over(&self, at_ms: u64) -> bool {
        matches!(self.stage, Stage::Granted { until_ms } if at_ms >= until_ms)
    }

    /// Why the room has gone to its next home; none: it has not, or this one was over before.
    fn why_moved(&self, (next, handed_over): (&(NodeId, Incarnation), bool), watch: u32, at_ms: u64) -> Option<Why> {
        if self.home != *next && handed_over {
            return Some(Why::Moved);
        }
        if self.home == *next || self.is_over(at_ms) {
            return None;
        }
        Some(match self.stage {
            Stage::Granted { .. } => Why::GrantedAnew,
            _ if self.home.0 == next.0 => Why::AssertedAnew,
            _ if self.watch != watch => Why::NotHeard,
            Stage::Open | Stage::Reported => Why::TakenOver,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_proto::room::Run;

    #[test]
    fn a_rooms_life_is_one_row_whatever_is_told_twice() {
        let mut history = History::default();
        let told = [
            (1, claimed("a", 1, 7, ClaimState::Granted)),
            (2, claimed("a", 1, 7, ClaimState::Granted)),
            (3, claimed("a", 1, 7, ClaimState::Open)),
            (4, reported(7, 3)),
            (5, reported(7, 2)),
            (6, claimed("a", 1, 7, ClaimState::Open)),
            (9, What::Released { key: key(), epoch: Epoch(7) }),
        ];
        let rows: Vec<Row> = told.into_iter().flat_map(|(at_ms, what)| history.fold(Fact { at_ms, what })).collect();
        assert_eq!(rows.len(), 4, "granted, opened, peak, released: {rows:?}");
        let merged = merged(rows);
        assert_eq!(
            merged,
            RoomRow {
                home: Some(home("a", 1)),
                granted_ms: Some(1),
                opened_ms: Some(3),
                released_ms: Some(9),
                moved_ms: None,
                peak_participants: 3,
                heard_ms: 9,
            }
        );
    }

    #[test]
    fn a_report_before_its_claim_hides_no_opening() {
        let mut history = History::default();
        let told = [(1, reported(7, 3)), (2, claimed("a", 1, 7, ClaimState::Open))];
        let rows = told.into_iter().flat_map(|(at_ms, what)| history.fold(Fact { at_ms, what })).collect();
        assert_eq!(merged(rows).opened_ms, Some(2));
    }

    #[test]
    fn a_home_that_changes_is_a_move_with_its_reason() {
        use ClaimState::{Granted, Open};
        for (first, second, why) in [
            (claimed("a", 1, 7, Open), claimed("b", 1, 8, Granted), Some(Why::TakenOver)),
            (claimed("a", 1, 7, Open), handed_over("b", 1, 8), Some(Why::Moved)),
            // That it was opened, or prolonged, was not heard.
            (claimed("a", 1, 7, Granted), handed_over("b", 1, 8), Some(Why::Moved)),
            (claimed("a", 1, 7, Open), claimed("a", 2, 8, Open), Some(Why::AssertedAnew)),
            (claimed("a", 1, 7, Granted), claimed("b", 1, 8, Granted), Some(Why::GrantedAnew)),
            (claimed("a", 1, 7, Open), claimed("a", 1, 8, Open), None),
            (claimed("a", 1, 8, Open), claimed("b", 1, 7, Granted), None),
        ] {
            let mut history = History::default();
            history.fold(Fact { at_ms: 1, what: first.clone() });
            let moves = moves(history.fold(Fact { at_ms: 2, what: second.clone() }));
            assert_eq!(moves.first().map(|row| row.why), why, "{first:?} {second:?}");
            for row in moves {
                assert_eq!((row.from_epoch, row.from, row.heard_ms), (Epoch(7), home("a", 1), 2));
            }
        }
    }

    #[test]
    fn what_ended_before_is_no_move_and_what_was_missed_is_said_to_be() {
        let (open, next) = (claimed("a", 1, 7, ClaimState::Open), claimed("b", 1, 8, ClaimState::Granted));
        let mut history = History::default();
        for what in [open.clone(), What::Released { key: key(), epoch: Epoch(7) }] {
            history.fold(Fact { at_ms: 1, what });
        }
        assert!(moves(history.fold(Fact { at_ms: 2, what: next.clone() })).is_empty());

        let mut history = History::default();
        history.fold(Fact { at_ms: 1, what: claimed("a", 1, 7, ClaimState::Granted) });
        assert!(moves(history.fold(Fact { at_ms: 1 + TTL_MS, what: next.clone() })).is_empty(), "expired");

        let mut history = History::default();
        history.fold(Fact { at_ms: 1, what: open });
        history.fold(Fact { at_ms: 2, what: What::Watching });
        assert_eq!(moves(history.fold(Fact { at_ms: 3, what: next }))[0].why, Why::NotHeard);
    }

    #[test]
    fn what_is_over_is_forgotten_and_so_is_what_no_watch_tells() {
        let mut history = History::default();
        history.fold(Fact { at_ms: 1, what: claimed("a", 1, 7, ClaimState::Granted) });
        history.sweep(TTL_MS);
        assert_eq!(history.known.len(), 1);
        history.sweep(1 + TTL_MS);
        assert_eq!(history.known.len(), 0);
        history.fold(Fact { at_ms: 1, what: claimed("a", 1, 7, ClaimState::Open) });
        history.fold(Fact { at_ms: 5, what: What::Watching });
        history.sweep(5 + UNTOLD_MS);
        assert_eq!(history.known.len(), 1);
        history.sweep(6 + UNTOLD_MS);
        assert_eq!(history.known.len(), 0);
    }

    const TTL_MS: u64 = 30_000;

    fn merged(rows: Vec<Row>) -> RoomRow {
        let rows = rows.into_iter().map(|row| match row {
            Row::Room(room, epoch, row) if room == key() && epoch == Epoch(7) => row,
            other => panic!("{other:?}"),
        });
        rows.reduce(|mut one, other| {
            one.merge(other);
            one
        })
        .unwrap()
    }

    fn moves(rows: Vec<Row>) -> Vec<MoveRow> {
        let moves = rows.into_iter().filter_map(|row| match row {
            Row::Move(_, epoch, row) => Some((epoch, row)),
            _ => None,
        });
        moves.map(|(epoch, row)| (epoch == Epoch(8)).then_some(row).unwrap()).collect()
    }

    fn claimed(node: &str, incarnation: u64, epoch: u64, state: ClaimState) -> What {
        let (node, incarnation) = home(node, incarnation);
        let claim = Claim { run: Run("r".into()), epoch: Epoch(epoch), state, node, incarnation };
        What::Claimed { key: key(), claim, ttl_ms: TTL_MS, handed_over: false }
    }

    fn handed_over(node: &str, incarnation: u64, epoch: u64) -> What {
        let What::Claimed { key, claim, ttl_ms, .. } = claimed(node, incarnation, epoch, ClaimState::Granted) else {
            unreachable!("a claim")
        };
        What::Claimed { key, claim, ttl_ms, handed_over: true }
    }

    fn reported(epoch: u64, participants: u32) -> What {
        What::Reported { home: home("a", 1), rooms: vec![(key(), Epoch(epoch), participants)], ended: vec![] }
    }

    fn home(node: &str, incarnation: u64) -> (NodeId, Incarnation) {
        (NodeId::new(node).unwrap(), Incarnation(incarnation))
    }

    fn key() -> RoomKey {
        RoomKey::new("default", "standup").unwrap()
    }
}
