//! The ledger of real schedulers, in SQLite and in a PostgreSQL that is killed, stopped and started again.

use std::time::Duration;

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use roost_tests::cluster::{Cluster, NodePlan, Plan, Scheduler};
use roost_tests::participant::Participant;
use roost_tests::postgres::Postgres;
use roost_tests::{Trouble, binaries, wait};

use crate::{run, steering};

const WRITTEN_WITHIN: Duration = Duration::from_secs(20);
const ROOMS: usize = 60;
/// Days since 1970 are far more than this.
const RETENTION: [&str; 2] = ["--ledger-retention-days", "1"];

#[test]
fn a_rooms_life_is_one_row_in_a_file_and_outlives_its_scheduler() {
    run(async {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("it's 100% a ledger?.db");
        let ledger = format!("sqlite:{}", path.display());
        let mut plan = with_ledger(Plan::small(), &ledger);
        plan.nodes = vec![NodePlan::new("fra-1", "eu/central").with(&["--empty-room-s", "1"])];
        let mut cluster = Cluster::start(plan).await?;
        let room = cluster.lookup_from("eu/central", "standup").await?;
        let mut anna = Participant::connect(&cluster.door("fra-1", "standup", "anna", &room.ticket)?).await?;
        anna.join("Anna").await?;
        let read = format!("sqlite://{}", encoded(&path.display().to_string()));
        let opened =
            "SELECT * FROM rooms WHERE granted_ms IS NOT NULL AND opened_ms IS NOT NULL AND peak_participants = 1";
        let row = expect_row(&read, opened).await?;
        assert_eq!((row.get::<String, _>("room"), row.get::<String, _>("node")), ("standup".into(), "fra-1".into()));
        assert_eq!(row.get::<i64, _>("epoch").unsigned_abs(), room.epoch.0);
        assert!(row.get::<i64, _>("opened_ms") >= row.get::<i64, _>("granted_ms"));
        anna.leave().await?;
        expect_row(&read, "SELECT * FROM rooms WHERE released_ms >= opened_ms").await?;

        // What was heard just before the end is in it too.
        cluster.lookup_from("eu/central", "retro").await?;
        cluster.schedulers[0].process.stop().await?;
        assert_eq!(rows(&read, "SELECT * FROM rooms WHERE room = 'retro'").await?.len(), 1);
        assert_eq!(rows(&read, "SELECT * FROM rooms").await?.len(), 2, "one row for each room");
        let again = cluster.start_scheduler(0, Some(&cluster.schedulers[0])).await?;
        cluster.schedulers[0] = again;
        cluster.settled().await?;
        expect_up(&cluster, 0, "1").await?;
        cluster.stop().await
    });
}

#[test]
fn two_schedulers_write_each_fact_once_and_a_move_with_its_reason() {
    run(async {
        let postgres = Postgres::start().await?;
        let mut cluster = Cluster::start(with_ledger(Plan::small().with_redis(2), &postgres.url())).await?;
        for number in 0..ROOMS {
            cluster.lookup(number % 2, "default", &format!("room-{number}"), json!({ "region": "eu/central" })).await?;
        }
        let room = cluster.lookup_from("eu/central", "standup").await?;
        let mut anna = Participant::connect(&cluster.door("fra-1", "standup", "anna", &room.ticket)?).await?;
        anna.join("Anna").await?;
        expect_row(&postgres.url(), "SELECT * FROM rooms WHERE room = 'standup' AND peak_participants = 1").await?;
        cluster.node_mut("fra-1")?.process.kill().await?;
        wait::until("the room has another node", WRITTEN_WITHIN, || async {
            let found = cluster.lookup(1, "default", "standup", json!({})).await.ok()?;
            (found.node.id.as_str() == "iad-1").then_some(())
        })
        .await?;
        let moved = expect_row(&postgres.url(), "SELECT * FROM moves WHERE room = 'standup'").await?;
        let text = |name: &str| moved.get::<String, _>(name);
        assert_eq!([text("from_node"), text("node"), text("why")], ["fra-1", "iad-1", "taken_over"]);
        assert_eq!(moved.get::<i64, _>("from_epoch").unsigned_abs(), room.epoch.0);
        expect_row(&postgres.url(), "SELECT * FROM rooms WHERE room = 'standup' AND moved_ms >= opened_ms").await?;
        // Both have written all that they heard when they have ended.
        for scheduler in &mut cluster.schedulers {
            scheduler.process.stop().await?;
        }
        let all = rows(&postgres.url(), "SELECT * FROM rooms").await?.len();
        assert_eq!(all, ROOMS + 2, "one row for each room and for the moved one's next home");
        assert_eq!(rows(&postgres.url(), "SELECT * FROM moves").await?.len(), 1);
        cluster.stop().await?;
        postgres.stop().await
    });
}

#[test]
fn what_an_operator_does_is_a_row_with_request_caller_and_target() {
    run(async {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("ledger.db");
        let cluster = Cluster::start(with_ledger(Plan::small(), &format!("sqlite:{}", path.display()))).await?;
        cluster.lookup_from("eu/central", "standup").await?;
        let serving = json!({"mode": "serving"});
        for (method, call, body, action, subject) in [
            (Method::PUT, "nodes/fra-1/mode", json!({"mode": "block_new_rooms"}), "set_mode", "fra-1"),
            (Method::POST, "nodes/fra-1/drain", json!({"deadline_s": 60}), "drain", "fra-1"),
            (Method::DELETE, "nodes/fra-1/drain", json!({}), "cancel_drain", "fra-1"),
            (Method::DELETE, "namespaces/default/rooms/standup", json!({}), "close_room", "default/standup"),
            (Method::DELETE, "cluster/brake", json!({}), "release_brake", ""),
            // Refused: nothing was done.
            (Method::DELETE, "nodes/fra-1", json!({}), "", ""),
            (Method::PUT, "nodes/sin-1/mode", serving, "", ""),
        ] {
            let (status, answer) = steering::call(&cluster, 0, method, call, body).await?;
            assert_eq!(status == 200, !action.is_empty(), "{call}: {answer}");
            if status == 200 {
                let row = format!("SELECT * FROM actions WHERE action = '{action}' AND actor = '127.0.0.1'");
                let row = expect_row(&format!("sqlite://{}", path.display()), &row).await?;
                assert!(row.get::<String, _>("subject").starts_with(subject) && !row.get::<String, _>("id").is_empty());
            }
        }
        let all = rows(&format!("sqlite://{}", path.display()), "SELECT * FROM actions").await?;
        assert_eq!(all.len(), 5);
        // Who chooses the same request id twice leaves two rows all the same.
        let brake = format!("http://{}/v1/cluster/brake", cluster.schedulers[0].admin);
        for _ in 0..2 {
            cluster.http.delete(&brake).header("X-Request-Id", "twice").send().await?.error_for_status()?;
        }
        wait::until("both are written", Duration::from_secs(10), || async {
            let twice = "SELECT * FROM actions WHERE id LIKE 'twice/%'";
            let rows = rows(&format!("sqlite://{}", path.display()), twice).await.ok()?;
            (rows.len() == 2).then_some(())
        })
        .await?;
        cluster.stop().await
    });
}

#[test]
fn a_database_that_is_away_loses_nothing_and_holds_up_no_lookup() {
    run(async {
        let mut postgres = Postgres::start().await?;
        let cluster = Cluster::start(with_ledger(Plan::small(), &postgres.url())).await?;
        expect_up(&cluster, 0, "1").await?;
        // Killed: its port refuses.
        postgres.kill().await?;
        look_up(&cluster, "killed").await?;
        expect_up(&cluster, 0, "0").await?;
        postgres.restart().await?;
        expect_rooms(&cluster, &postgres, "killed").await?;
        expect_up(&cluster, 0, "1").await?;
        // Stopped: its connections are open and silent. The connection's own process is one of its children.
        let stopped = Stopped::now(&postgres)?;
        look_up(&cluster, "stopped").await?;
        expect_up(&cluster, 0, "0").await?;
        assert!(stopped.0.len() > 1, "the server and the connection's process");
        drop(stopped);
        expect_rooms(&cluster, &postgres, "stopped").await?;
        expect_up(&cluster, 0, "1").await?;
        assert_eq!(metric(&cluster, &cluster.schedulers[0], "roost_ledger_dropped_total").await?, "0");
        let log = std::fs::read_to_string(cluster.schedulers[0].process.log())?;
        assert_eq!(log.matches("no ledger is kept").count(), 2, "each outage is said once: {log}");
        cluster.stop().await?;
        postgres.stop().await
    });
}

#[test]
fn a_scheduler_starts_without_its_database_and_old_rows_go() {
    run(async {
        let mut postgres = Postgres::start().await?;
        let mut plan = with_ledger(Plan::small(), &postgres.url());
        plan.scheduler_arguments.extend(RETENTION.map(str::to_owned));
        postgres.kill().await?;
        let mut cluster = Cluster::start(plan).await?;
        look_up(&cluster, "early").await?;
        postgres.restart().await?;
        expect_rooms(&cluster, &postgres, "early").await?;
        // They are looked for when a scheduler starts, and then every minute.
        cluster.schedulers[0].process.stop().await?;
        let mut connection = AnyConnection::connect(&postgres.url()).await?;
        // More than are deleted at once.
        for statement in [
            "INSERT INTO rooms (namespace, room, epoch, peak_participants, heard_ms) \
             SELECT 'default', 'old-' || n, 1, 0, n FROM generate_series(1, 2500) AS n",
            "INSERT INTO moves SELECT 'default', 'old-1', 2, 1, 'a', 1, 'b', 1, 'taken_over', 5",
            "INSERT INTO actions VALUES ('id', 5, 'anna', 'set_mode', 'fra-1', '{}')",
        ] {
            sqlx::query(statement).execute(&mut connection).await?;
        }
        connection.close().await?;
        let again = cluster.start_scheduler(0, Some(&cluster.schedulers[0])).await?;
        cluster.schedulers[0] = again;
        for table in ["moves", "actions", "rooms WHERE heard_ms < 100000"] {
            wait::until("old rows are gone", WRITTEN_WITHIN, || async {
                rows(&postgres.url(), &format!("SELECT * FROM {table}")).await.ok()?.is_empty().then_some(())
            })
            .await?;
        }
        expect_rooms(&cluster, &postgres, "early").await?;
        cluster.stop().await?;
        postgres.stop().await
    });
}

#[test]
fn a_file_that_can_be_no_ledger_stops_the_start_and_a_password_is_not_shown() {
    run(async {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("diary"), "dear diary")?;
        for file in ["diary", "no/folder/ledger.db"] {
            let ledger = format!("sqlite:{}", folder.path().join(file).display());
            let (code, said) = serve(&["--ledger", &ledger]).await?;
            assert_eq!(code, Some(2), "{said}");
            for word in ["ledger", &ledger, "expected a file that can be written"] {
                assert!(said.contains(word), "{said} lacks {word:?}");
            }
        }
        let (code, said) = serve(&["--ledger", "postgres://roost:hush@db/roost", "--print-config"]).await?;
        assert!(code == Some(0) && said.contains("postgres://roost:***@db/roost"), "{said}");
        let (code, said) = serve(&["--ledger", "postgres://roost:hush@db:many/roost"]).await?;
        assert!(code == Some(2) && said.contains("ledger") && said.contains("sqlite:PATH"), "{said}");
        assert!(!said.contains("hush"), "{said}");
        Ok(())
    });
}

fn with_ledger(mut plan: Plan, ledger: &str) -> Plan {
    plan.scheduler_arguments.extend(["--ledger".to_owned(), ledger.to_owned()]);
    plan
}

async fn look_up(cluster: &Cluster, name: &str) -> Result<(), Trouble> {
    for number in 0..ROOMS {
        cluster.lookup_from("eu/central", &format!("{name}-{number}")).await?;
    }
    Ok(())
}

async fn expect_rooms(cluster: &Cluster, postgres: &Postgres, name: &str) -> Result<(), Trouble> {
    let statement = format!("SELECT * FROM rooms WHERE room LIKE '{name}-%' AND granted_ms > 0");
    let found = wait::until("all rooms are in the ledger", WRITTEN_WITHIN, || async {
        (rows(&postgres.url(), &statement).await.ok()?.len() == ROOMS).then_some(())
    });
    found.await.map_err(|trouble| format!("{trouble}\n{}", cluster.schedulers[0].process.log_tail()).into())
}

async fn expect_row(url: &str, statement: &str) -> Result<AnyRow, Trouble> {
    wait::until(statement, WRITTEN_WITHIN, || async { rows(url, statement).await.ok()?.pop() }).await
}

async fn rows(url: &str, statement: &str) -> Result<Vec<AnyRow>, Trouble> {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await?;
    let rows = sqlx::query(AssertSqlSafe(statement.to_owned())).fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok(rows)
}

async fn expect_up(cluster: &Cluster, index: usize, up: &str) -> Result<(), Trouble> {
    wait::until("the metric says whether there is a ledger", WRITTEN_WITHIN, || async {
        let said = metric(cluster, &cluster.schedulers[index], "roost_ledger_up").await.ok()?;
        (said == up).then_some(())
    })
    .await
}

async fn metric(cluster: &Cluster, scheduler: &Scheduler, name: &str) -> Result<String, Trouble> {
    let text = cluster.http.get(format!("http://{}/metrics", scheduler.admin)).send().await?.text().await?;
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    value.map(str::to_owned).ok_or_else(|| format!("no metric {name}").into())
}

/// A server and its children that stand still; they go on when this is dropped.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn now(postgres: &Postgres) -> Result<Self, Trouble> {
        let server = postgres.process().pid().ok_or("it has ended")?;
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"))?;
        let children = children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
        let mut all = Self(std::iter::once(server.cast_signed()).chain(children).filter_map(Pid::from_raw).collect());
        // A child may end meanwhile.
        all.0.retain(|pid| kill_process(*pid, Signal::STOP).is_ok());
        Ok(all)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            // Stopped processes do not end by themselves: they are there.
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

async fn serve(arguments: &[&str]) -> Result<(Option<i32>, String), Trouble> {
    let mut command = tokio::process::Command::new(binaries::own("roost-scheduler")?);
    let any = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--cluster-listen", "127.0.0.1:0"];
    command.args(["serve", "--dev"]).args(any).args(arguments).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(10), command.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    Ok((output.status.code(), said.into_owned()))
}

/// As sqlx wants a path in a URL.
fn encoded(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace(' ', "%20")
}
