//! One connection to the ledger's database: its tables, the writing of rows, and the deletion of old ones.
//!
//! The statements are the same for SQLite and PostgreSQL. Whoever writes a row twice, or after another scheduler has written
//! it, changes nothing: each row has its natural key, and what is there is merged as `row.rs` merges.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Once;

use roost_proto::id::{Epoch, Incarnation, NodeId, RoomKey};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Any, AnyConnection, AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _};

use super::address::Address;
use super::row::{Action, MoveRow, RoomRow, Row};

/// So many rows of each table are deleted at once.
const PRUNED_AT_ONCE: i64 = 1_000;

/// A connection over which nothing is under way. After an error, or a call that was not awaited to its end, it is dropped.
#[derive(Debug)]
pub(super) struct Database {
    connection: AnyConnection,
}

/// A table, and how a row of it is merged with the one that is there.
struct Table {
    name_and_columns: &'static str,
    merge: &'static str,
}

enum Cell {
    Text(Option<String>),
    Number(Option<i64>),
}

const ROOMS: Table = Table {
    name_and_columns: "rooms (namespace, room, epoch, node, incarnation, granted_ms, opened_ms, released_ms, moved_ms, \
                       peak_participants, heard_ms)",
    merge: "ON CONFLICT (namespace, room, epoch) DO UPDATE SET \
            node = COALESCE(rooms.node, excluded.node), \
            incarnation = COALESCE(rooms.incarnation, excluded.incarnation), \
            granted_ms = CASE WHEN rooms.granted_ms IS NULL OR excluded.granted_ms < rooms.granted_ms \
                         THEN excluded.granted_ms ELSE rooms.granted_ms END, \
            opened_ms = CASE WHEN rooms.opened_ms IS NULL OR excluded.opened_ms < rooms.opened_ms \
                        THEN excluded.opened_ms ELSE rooms.opened_ms END, \
            released_ms = CASE WHEN rooms.released_ms IS NULL OR excluded.released_ms < rooms.released_ms \
                          THEN excluded.released_ms ELSE rooms.released_ms END, \
            moved_ms = CASE WHEN rooms.moved_ms IS NULL OR excluded.moved_ms < rooms.moved_ms \
                       THEN excluded.moved_ms ELSE rooms.moved_ms END, \
            peak_participants = CASE WHEN excluded.peak_participants > rooms.peak_participants \
                                THEN excluded.peak_participants ELSE rooms.peak_participants END, \
            heard_ms = CASE WHEN excluded.heard_ms > rooms.heard_ms THEN excluded.heard_ms ELSE rooms.heard_ms END",
};

/// Of the reasons `not_heard` alone gives way: others differ only where schedulers heard of different homes before.
const MOVES: Table = Table {
    name_and_columns: "moves (namespace, room, epoch, from_epoch, from_node, from_incarnation, node, incarnation, why, \
                       heard_ms)",
    merge: "ON CONFLICT (namespace, room, epoch) DO UPDATE SET \
            from_epoch = excluded.from_epoch, from_node = excluded.from_node, \
            from_incarnation = excluded.from_incarnation, why = excluded.why \
            WHERE excluded.from_epoch > moves.from_epoch \
            OR (excluded.from_epoch = moves.from_epoch AND moves.why = 'not_heard')",
};

const ACTIONS: Table = Table {
    name_and_columns: "actions (id, heard_ms, actor, action, subject, detail)",
    merge: "ON CONFLICT (id) DO NOTHING",
};

/// Rows of which nothing was heard since `$1`, `$2` of them at most.
const PRUNE: [&str; 3] = [
    "DELETE FROM rooms WHERE (namespace, room, epoch) IN \
     (SELECT namespace, room, epoch FROM rooms WHERE heard_ms < $1 ORDER BY heard_ms LIMIT $2)",
    "DELETE FROM moves WHERE (namespace, room, epoch) IN \
     (SELECT namespace, room, epoch FROM moves WHERE heard_ms < $1 ORDER BY heard_ms LIMIT $2)",
    "DELETE FROM actions WHERE id IN (SELECT id FROM actions WHERE heard_ms < $1 ORDER BY heard_ms LIMIT $2)",
];

impl Database {
    /// Connects, and makes the tables if they are not there.
    pub(super) async fn connect(address: &Address) -> Result<Self, sqlx::Error> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let mut connection = address.options()?.disable_statement_logging().connect().await?;
        if address.is_sqlite() {
            // Readers do not hold up the writer, and a power cut costs the last rows at most.
            sqlx::raw_sql("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").execute(&mut connection).await?;
        }
        migrator().run(&mut connection).await?;
        Ok(Self { connection })
    }

    /// Whether it still answers.
    pub(super) async fn ping(&mut self) -> Result<(), sqlx::Error> {
        self.connection.ping().await
    }

    /// Writes all of the rows or none.
    pub(super) async fn write(&mut self, rows: &[Row]) -> Result<(), sqlx::Error> {
        let mut transaction = self.connection.begin().await?;
        let (mut rooms, mut moves, mut actions) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match row {
                Row::Room(key, epoch, row) => rooms.push(room_cells(key, *epoch, row)),
                Row::Move(key, epoch, row) => moves.push(move_cells(key, *epoch, row)),
                Row::Action(action) => actions.push(action_cells(action)),
            }
        }
        for (table, rows) in [(&ACTIONS, actions), (&MOVES, moves), (&ROOMS, rooms)] {
            if rows.is_empty() {
                continue;
            }
            // Names of columns and numbers of parameters only: no value is part of it.
            let mut query = sqlx::query::<Any>(AssertSqlSafe(table.upsert(&rows))).persistent(false);
            for cell in rows.into_iter().flatten() {
                query = match cell {
                    Cell::Text(text) => query.bind(text),
                    Cell::Number(number) => query.bind(number),
                };
            }
            query.execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// Deletes some of the rows of which nothing was heard since then; whether there may be more.
    pub(super) async fn prune(&mut self, before_ms: u64) -> Result<bool, sqlx::Error> {
        let mut more = false;
        for statement in PRUNE {
            let query = sqlx::query::<Any>(statement).bind(number(before_ms)).bind(PRUNED_AT_ONCE);
            let deleted = query.execute(&mut self.connection).await?.rows_affected();
            more |= deleted >= PRUNED_AT_ONCE.unsigned_abs();
        }
        Ok(more)
    }
}

/// Whether the database refuses what is in the rows, and would do so again: a value out of range, or that its encoding
/// does not have (SQLSTATE classes 22 and 23).
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.len() == 5 && (code.starts_with("22") || code.starts_with("23")))
}

/// An older scheduler goes on with tables that a newer one has extended.
fn migrator() -> Migrator {
    let sql = include_str!("migrations/0001_rooms_moves_actions.sql").into_sql_str();
    let first = Migration::new(1, Cow::Borrowed("rooms moves actions"), MigrationType::Simple, sql, false);
    let mut migrator = Migrator::with_migrations(vec![first]);
    migrator.set_ignore_missing(true);
    migrator
}

impl Table {
    fn upsert(&self, rows: &[Vec<Cell>]) -> String {
        let mut text = format!("INSERT INTO {} VALUES ", self.name_and_columns);
        let mut parameter = 0;
        for (index, row) in rows.iter().enumerate() {
            text.push_str(if index == 0 { "(" } else { ", (" });
            for column in 0..row.len() {
                parameter += 1;
                let comma = if column == 0 { "" } else { ", " };
                write!(text, "{comma}${parameter}").expect("a String takes everything");
            }
            text.push(')');
        }
        text.push(' ');
        text + self.merge
    }
}

fn room_cells(key: &RoomKey, epoch: Epoch, row: &RoomRow) -> Vec<Cell> {
    let RoomRow { home, granted_ms, opened_ms, released_ms, moved_ms, peak_participants, heard_ms } = row;
    let mut cells = key_cells(key, epoch);
    cells.push(Cell::Text(home.as_ref().map(|(node, _)| node.to_string())));
    cells.push(Cell::Number(home.as_ref().map(|(_, incarnation)| number(incarnation.0))));
    cells.extend([granted_ms, opened_ms, released_ms, moved_ms].map(|at| Cell::Number(at.map(number))));
    cells.push(Cell::Number(Some((*peak_participants).into())));
    cells.push(Cell::Number(Some(number(*heard_ms))));
    cells
}

fn move_cells(key: &RoomKey, epoch: Epoch, row: &MoveRow) -> Vec<Cell> {
    let MoveRow { from_epoch, from, to, why, heard_ms } = row;
    let mut cells = key_cells(key, epoch);
    cells.push(Cell::Number(Some(number(from_epoch.0))));
    cells.extend(home_cells(from).into_iter().chain(home_cells(to)));
    cells.push(Cell::Text(Some(why.as_str().to_owned())));
    cells.push(Cell::Number(Some(number(*heard_ms))));
    cells
}

fn action_cells(action: &Action) -> Vec<Cell> {
    let Action { id, actor, action, subject, detail, heard_ms } = action;
    // PostgreSQL has no text with a NUL in it.
    let text = |text: &str| Cell::Text(Some(text.replace('\0', "")));
    vec![text(id), Cell::Number(Some(number(*heard_ms))), text(actor), text(action), text(subject), text(detail)]
}

fn key_cells(key: &RoomKey, epoch: Epoch) -> Vec<Cell> {
    let text = |text: &str| Cell::Text(Some(text.to_owned()));
    vec![text(key.namespace.as_str()), text(key.room.as_str()), Cell::Number(Some(number(epoch.0)))]
}

fn home_cells((node, incarnation): &(NodeId, Incarnation)) -> [Cell; 2] {
    [Cell::Text(Some(node.to_string())), Cell::Number(Some(number(incarnation.0)))]
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
