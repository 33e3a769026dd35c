//! The scripts of the first version beside today's on one Redis, as while a cluster is upgraded process by process.
//! first/ has them as they were; what they are called with is said in each.

use std::sync::atomic::{AtomicU32, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{Script, Value};

use roost_proto::hash::BUCKETS;
use roost_proto::id::{Epoch, Incarnation, RoomKey};
use roost_proto::report::Mode;
use roost_proto::room::{Claim, ClaimState, Run};
use roost_store::operation::{
    Assert, Asserted, Granted, Opened, Raise, Released, Renew, Renewed, Right, Steer, Steered,
};
use roost_store::{NodeStore, RedisSettings, RedisStore, Store};

use crate::made::{EXPECTED, LONG_MS, holding, node, register, renewal, room, run_of_node, try_grant};
use crate::server::Server;

#[tokio::test]
async fn whoever_is_of_which_version_a_room_has_one_home_and_is_never_lost() {
    let server = Server::start().await;
    for which in 0..16_u32 {
        let is_first = |number: u32| which >> number & 1 == 1;
        let party = async |number| Party::new(&server, is_first(number)).await;
        let all = async || [party(0).await, party(1).await, party(2).await, party(3).await];
        let rooms = Rooms::new(which);
        let claims = in_one_run(&all().await, &rooms).await;
        begin_anew(&server).await;
        // With a server that starts again connections are made again.
        in_the_next_run(&all().await, &rooms, claims).await;
    }
}

/// The claims that `a` has of `kept`, and `b` of `taken`.
async fn in_one_run([scheduler, other, a, b]: &[Party; 4], rooms: &Rooms) -> (Claim, Claim) {
    let taken = &rooms.taken;
    let (first, second) = (a.register("fra-1").await, b.register("fra-2").await);
    a.renew("fra-1", first).await;
    b.renew("fra-2", second).await;
    let granted = scheduler.grant(taken, None, ("fra-1", first)).await.expect("absent");
    assert_eq!(other.grant(taken, None, ("fra-2", second)).await, Err(Some(granted.clone())), "the loser is told");
    let open = Claim { state: ClaimState::Open, ..granted.clone() };
    for _ in 0..2 {
        assert_eq!(a.open(taken, &granted).await, Ok(()), "asking again is harmless");
    }
    assert_eq!(other.grant(taken, Some(&granted), ("fra-2", second)).await, Err(Some(open.clone())), "it opened since");
    let kept = scheduler.grant(&rooms.kept, None, ("fra-1", first)).await.expect("absent");
    assert_eq!(a.open(&rooms.kept, &kept).await, Ok(()));
    // As with proof that the node is gone; it is not.
    let after = other.grant(taken, Some(&open), ("fra-2", second)).await.expect("the whole record was seen");
    assert!(after.epoch > open.epoch);
    assert_eq!(a.assert(taken, &open, Right::Sure).await, Err(Some(after.clone())), "it is lost");
    a.release(taken, &open).await;
    assert_eq!(a.open(taken, &granted).await, Err(Some(after.clone())));
    assert_eq!(b.open(taken, &after).await, Ok(()), "no late release ended it");
    (Claim { state: ClaimState::Open, ..kept }, Claim { state: ClaimState::Open, ..after })
}

async fn in_the_next_run([scheduler, other, a, b]: &[Party; 4], rooms: &Rooms, (kept, taken): (Claim, Claim)) {
    b.raise(&rooms.taken, taken.epoch).await;
    let again = b.assert(&rooms.taken, &taken, Right::Sure).await.expect("nobody else was given it");
    assert_eq!(again.epoch, taken.epoch, "rule 17");
    let older = Claim { epoch: Epoch(taken.epoch.0 - 1), node: node("fra-1"), ..taken.clone() };
    assert_eq!(a.assert(&rooms.taken, &older, Right::Sure).await, Err(Some(again.clone())), "the higher epoch wins");
    // One that lapsed before: the first version knew no provisional assertion.
    let here = a.assert(&rooms.kept, &kept, Right::Provisional).await.expect("nobody else was given it");
    assert_eq!(here.epoch, kept.epoch);
    let refused = other.grant(&rooms.kept, None, ("fra-2", taken.incarnation)).await;
    assert_eq!(refused, Err(Some(here.clone())), "to every scheduler it is open");
    if matches!(a, Party::Today(_)) {
        let confirmed = a.assert(&rooms.kept, &kept, Right::Confirming).await.expect("it is its own");
        assert!(confirmed.epoch > kept.epoch);
    }
    // The first grant closes the bucket (rule 19): whoever comes later gets a new epoch, or has lost.
    let closing = scheduler.grant(&rooms.closing, None, ("fra-2", taken.incarnation)).await.expect("absent");
    assert!(closing.epoch > taken.epoch, "the counter was raised");
    let late = Claim { epoch: Epoch(closing.epoch.0 + LONG_MS), ..taken.clone() };
    assert_eq!(a.assert(&rooms.taken, &late, Right::Sure).await, Err(Some(again.clone())));
    let late = b.assert(&rooms.late, &taken, Right::Sure).await.expect("nobody has it");
    assert!(late.epoch > closing.epoch);
    b.release(&rooms.taken, &again).await;
    let next = other.grant(&rooms.taken, None, ("fra-1", kept.incarnation)).await.expect("it was given up");
    assert!(next.epoch > late.epoch, "epochs grow over rooms that ended, and over all versions");
}

#[tokio::test]
async fn what_is_wanted_of_a_node_outlives_its_time_as_one_of_the_first_version() {
    let server = Server::start().await;
    let (old, store) = (Party::new(&server, true).await, client(&server));
    let run = run_of_node(&store, &node("fra-1")).await;
    let steer = Steer { node: node("fra-1"), run, seen_plan: 0, mode: Mode::Maintenance, drain: None };
    let Steered::Yes { steering } = store.steer(steer).await.unwrap() else { panic!("nothing was known") };
    let incarnation = old.register("fra-1").await;
    old.renew("fra-1", incarnation).await;
    match store.renew(renewal(&store, "fra-1", incarnation, LONG_MS).await).await.unwrap() {
        Renewed::Yes { steering: told, .. } => assert_eq!(told, Some(steering)),
        answer => panic!("the lease is the same: {answer:?}"),
    }
}

/// Rooms of one bucket.
struct Rooms {
    taken: RoomKey,
    kept: RoomKey,
    closing: RoomKey,
    late: RoomKey,
}

impl Rooms {
    fn new(which: u32) -> Self {
        let rooms = (0..1_000).map(|number| room(&format!("room-{which}-{number}")));
        let mut rooms = rooms.filter(|room| room.bucket() == 7);
        let mut next = || rooms.next().expect("one in sixteen");
        Self { taken: next(), kept: next(), closing: next(), late: next() }
    }
}

/// Who calls, by the scripts of one version.
enum Party {
    First(First),
    Today(RedisStore),
}

/// What a call on a room says: done, or who has it.
type Answer<T> = Result<T, Option<Claim>>;

impl Party {
    async fn new(server: &Server, is_first: bool) -> Self {
        if is_first {
            Self::First(First { connection: server.connection().await })
        } else {
            Self::Today(client(server))
        }
    }

    async fn run(&self, bucket: u8) -> Run {
        match self {
            Self::First(first) => first.run(bucket).await,
            Self::Today(store) => store.runs().await.unwrap()[usize::from(bucket)].clone(),
        }
    }

    async fn register(&self, name: &str) -> Incarnation {
        match self {
            Self::First(first) => {
                let (meta, lease) = (key(node(name).bucket(), "meta"), key(node(name).bucket(), "lease:") + name);
                let run = self.run(node(name).bucket()).await;
                let asked = ["process", "0", "1000"].map(str::to_owned);
                let answer = first.call(include_str!("first/register.lua"), &[meta, lease], &run, &asked).await;
                Incarnation(number(&answer[1]))
            }
            Self::Today(store) => register(store, name, 0, 1_000).await,
        }
    }

    async fn renew(&self, name: &str, incarnation: Incarnation) {
        let bucket = node(name).bucket();
        let run = self.run(bucket).await;
        let report = crate::made::report(name, incarnation, LONG_MS);
        match self {
            Self::First(first) => {
                let keys = ["meta".to_owned(), format!("lease:{name}"), format!("report:{name}"), "reports".to_owned()];
                let keys = keys.map(|rest| key(bucket, &rest));
                let text = serde_json::to_string(&report).unwrap();
                let asked = [incarnation.to_string(), LONG_MS.to_string(), text, LONG_MS.to_string()];
                let answer = first.call(include_str!("first/renew.lua"), &keys, &run, &asked).await;
                assert_eq!(number(&answer[0]), 1);
            }
            Self::Today(store) => {
                let answer = store.renew(Renew { run, report, buckets: Vec::new() }).await.unwrap();
                assert!(matches!(answer, Renewed::Yes { .. }), "{answer:?}");
            }
        }
    }

    async fn grant(&self, room: &RoomKey, seen: Option<&Claim>, to: (&str, Incarnation)) -> Answer<Claim> {
        let (run, (name, incarnation)) = (self.run(room.bucket()).await, to);
        let epoch = match self {
            Self::First(first) => {
                let seen = seen.map(record).unwrap_or_default();
                let expected = format!("{} {}", EXPECTED.participants, EXPECTED.hint);
                let asked = [seen, format!(" g {name} {incarnation}"), "30000".to_owned(), expected];
                first.on_room(include_str!("first/grant.lua"), room, &run, &asked).await?
            }
            Self::Today(store) => match try_grant(store, room, seen.cloned(), name, incarnation.0).await {
                Granted::Yes { epoch, .. } => epoch,
                Granted::No { current } => return Err(current),
                Granted::NewRun { run } => panic!("{run:?}"),
            },
        };
        Ok(Claim { run, epoch, state: ClaimState::Granted, node: node(name), incarnation })
    }

    async fn open(&self, room: &RoomKey, granted: &Claim) -> Answer<()> {
        match self {
            Self::First(first) => {
                let asked = [record(granted), record(&opened(granted))];
                first.on_room(include_str!("first/open.lua"), room, &granted.run, &asked).await.map(drop)
            }
            Self::Today(store) => match store.open(holding(room, granted)).await.unwrap() {
                Opened::Yes => Ok(()),
                Opened::No { current } => Err(current),
                Opened::NewRun { run } => panic!("{run:?}"),
            },
        }
    }

    /// Asserts in the run that the bucket is in, under the same incarnation.
    async fn assert(&self, room: &RoomKey, held: &Claim, right: Right) -> Answer<Claim> {
        let held = Claim { run: self.run(room.bucket()).await, ..opened(held) };
        let epoch = match self {
            Self::First(first) => {
                let text = record(&held);
                let ending = format!(" o {} {}", held.node, held.incarnation);
                let asked = [text.clone(), text, held.epoch.to_string(), ending];
                first.on_room(include_str!("first/assert.lua"), room, &held.run, &asked).await?
            }
            Self::Today(store) => {
                let asked = Assert { held: holding(room, &held), incarnation: held.incarnation, right };
                match store.assert(asked).await.unwrap() {
                    Asserted::Yes { epoch, .. } => epoch,
                    Asserted::No { current } => return Err(current),
                    Asserted::NewRun { run } => panic!("{run:?}"),
                }
            }
        };
        Ok(Claim { epoch, ..held })
    }

    async fn release(&self, room: &RoomKey, claim: &Claim) {
        match self {
            Self::First(first) => {
                let granted = Claim { state: ClaimState::Granted, ..claim.clone() };
                let asked = [record(&granted), record(&opened(claim)), claim.epoch.to_string()];
                first.on_room(include_str!("first/release.lua"), room, &claim.run, &asked).await.expect("always");
            }
            Self::Today(store) => {
                assert_eq!(store.release(holding(room, claim)).await.unwrap(), Released::Yes);
            }
        }
    }

    async fn raise(&self, room: &RoomKey, epoch: Epoch) {
        let bucket = room.bucket();
        let run = self.run(bucket).await;
        match self {
            Self::First(first) => {
                let (keys, asked) = ([key(bucket, "meta")], [epoch.to_string()]);
                let answer = first.call(include_str!("first/raise.lua"), &keys, &run, &asked).await;
                assert_eq!(number(&answer[0]), 1);
            }
            Self::Today(store) => drop(store.raise(Raise { bucket, run, epoch }).await.unwrap()),
        }
    }
}

/// A client of the first version, as far as its scripts are.
struct First {
    connection: MultiplexedConnection,
}

impl First {
    async fn run(&self, bucket: u8) -> Run {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let script = Script::new(include_str!("first/begin.lua"));
        let mut call = script.key(key(bucket, "meta"));
        let name = format!("first-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let run: String =
            call.key(key(bucket, "claims")).arg(name).invoke_async(&mut self.connection.clone()).await.unwrap();
        Run(run.into())
    }

    /// The epoch, if there is one in its answer; or who has the room.
    async fn on_room(&self, script: &str, room: &RoomKey, run: &Run, asked: &[String]) -> Answer<Epoch> {
        let bucket = room.bucket();
        let name = format!("room:{}/{}", room.namespace, room.room);
        let keys = ["meta", &*name, "claims"].map(|rest| key(bucket, rest));
        let answer = self.call(script, &keys, run, asked).await;
        match number(&answer[0]) {
            1 => Ok(Epoch(answer.get(1).map_or(0, number))),
            _ => Err(claim(&answer[1])),
        }
    }

    async fn call(&self, script: &str, keys: &[String], run: &Run, asked: &[String]) -> Vec<Value> {
        let script = Script::new(script);
        let mut call = script.arg(&*run.0);
        for key in keys {
            call.key(key);
        }
        for word in asked {
            call.arg(word);
        }
        let answer: Vec<Value> = call.invoke_async(&mut self.connection.clone()).await.unwrap();
        assert_ne!(answer[0], Value::Int(-1), "it names the run that the bucket is in");
        answer
    }
}

/// To the data it is all the same whether the process is another or only the one who wrote them.
async fn begin_anew(server: &Server) {
    for bucket in 0..BUCKETS {
        server.command(&["HSET", &key(bucket, "meta"), "server", "before"]).await;
    }
}

fn client(server: &Server) -> RedisStore {
    RedisStore::new(&server.url(), &RedisSettings::default()).unwrap()
}

fn key(bucket: u8, rest: &str) -> String {
    format!("roost:{{b{bucket}}}:{rest}")
}

fn opened(claim: &Claim) -> Claim {
    Claim { state: ClaimState::Open, ..claim.clone() }
}

fn record(claim: &Claim) -> String {
    let state = if claim.state == ClaimState::Open { "o" } else { "g" };
    format!("{} {} {state} {} {}", claim.run.0, claim.epoch, claim.node, claim.incarnation)
}

fn claim(record: &Value) -> Option<Claim> {
    let Value::BulkString(bytes) = record else { panic!("no record: {record:?}") };
    let text = String::from_utf8(bytes.clone()).unwrap();
    let [run, epoch, state, name, incarnation] = text.split(' ').collect::<Vec<_>>()[..] else { return None };
    let state = if state == "o" { ClaimState::Open } else { ClaimState::Granted };
    let (epoch, incarnation) = (Epoch(epoch.parse().unwrap()), Incarnation(incarnation.parse().unwrap()));
    Some(Claim { run: Run(run.into()), epoch, state, node: node(name), incarnation })
}

fn number(value: &Value) -> u64 {
    let Value::Int(number) = value else { panic!("no number: {value:?}") };
    u64::try_from(*number).unwrap()
}
