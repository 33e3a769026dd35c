//! What is written to a SQLite file, and read again.

use super::*;
use crate::ledger::Ledger;
use crate::ledger::row::Why;
use sqlx::Row as _;
use sqlx::any::AnyRow;

#[test]
fn the_database_merges_rooms_as_rows_do_in_any_order() {
    let told = [
        RoomRow { granted_ms: Some(10), ..RoomRow::heard(10) },
        RoomRow { home: Some(home("a")), granted_ms: Some(8), opened_ms: Some(12), ..RoomRow::heard(12) },
        RoomRow { peak_participants: 5, released_ms: Some(30), ..RoomRow::heard(30) },
        RoomRow { peak_participants: 3, moved_ms: Some(25), ..RoomRow::heard(25) },
    ];
    for turn in 0..told.len() {
        let mut rows = told.clone();
        rows.rotate_left(turn);
        let read = written(rows.map(|row| Row::Room(key(), Epoch(7), row)).into(), "rooms");
        let number = |name: &str| read[0].get::<i64, _>(name);
        let names = ["granted_ms", "opened_ms", "released_ms", "moved_ms", "peak_participants", "heard_ms", "epoch"];
        assert_eq!(names.map(number), [8, 12, 30, 25, 5, 30, 7], "turned by {turn}");
        assert_eq!((read.len(), read[0].get::<String, _>("node")), (1, "a".to_owned()));
        let mut merged = told[0].clone();
        told[1..].iter().for_each(|row| merged.merge(row.clone()));
        assert_eq!((merged.granted_ms, merged.moved_ms, merged.peak_participants), (Some(8), Some(25), 5));
    }
}

#[test]
fn of_two_moves_to_one_home_the_better_known_stays() {
    let moved = |from_epoch: u64, from: &str, why| MoveRow {
        from_epoch: Epoch(from_epoch),
        from: home(from),
        to: home("c"),
        why,
        heard_ms: 5,
    };
    let told = [moved(1, "a", Why::TakenOver), moved(2, "b", Why::NotHeard), moved(2, "b", Why::TakenOver)];
    for turn in 0..told.len() {
        let mut rows = told.clone();
        rows.rotate_left(turn);
        let read = written(rows.map(|row| Row::Move(key(), Epoch(3), row)).into(), "moves");
        let text = |name: &str| read[0].get::<String, _>(name);
        assert_eq!(["from_node", "node", "why"].map(text), ["b", "c", "taken_over"], "turned by {turn}");
    }
}

#[test]
fn what_an_operator_did_is_there_once_when_the_ledger_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Sqlite(folder.path().join("ledger.db"));
    let ledger = Ledger::start(address.clone(), 0).unwrap();
    let action = Action {
        id: "r-1".into(),
        actor: "127.0.0.1".into(),
        action: "set_mode",
        subject: "fra-1".into(),
        detail: r#"{"mode":"maintenance"}"#.into(),
        heard_ms: 5,
    };
    ledger.acted(action.clone());
    ledger.acted(Action { actor: "somebody else".into(), ..action });
    ledger.finish();
    let read = read(&address, "actions");
    let text = |name: &str| read[0].get::<String, _>(name);
    assert_eq!(["id", "actor", "action", "subject"].map(text), ["r-1", "127.0.0.1", "set_mode", "fra-1"]);
    assert_eq!((read.len(), ledger.metrics.dropped.get()), (1, 0));
}

/// The table after each row was written in a transaction of its own.
fn written(rows: Vec<Row>, table: &'static str) -> Vec<AnyRow> {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Sqlite(folder.path().join("ledger.db"));
    wait(async {
        let mut database = Database::connect(&address).await.unwrap();
        for row in rows {
            database.write(&[row]).await.unwrap();
        }
    });
    read(&address, table)
}

fn read(address: &Address, table: &'static str) -> Vec<AnyRow> {
    wait(async {
        let mut database = Database::connect(address).await.unwrap();
        let statement = AssertSqlSafe(format!("SELECT * FROM {table}"));
        sqlx::query(statement).fetch_all(&mut database.connection).await.unwrap()
    })
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn home(node: &str) -> (NodeId, Incarnation) {
    (NodeId::new(node).unwrap(), Incarnation(1))
}

fn key() -> RoomKey {
    RoomKey::new("default", "standup").unwrap()
}
