//! What operators want of nodes: modes, drains, purges, and rooms that are closed. It outlives whatever restarts.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use roost_tests::Trouble;
use roost_tests::cluster::{Cluster, NodePlan, Plan, Scheduler};
use roost_tests::participant::Participant;
use roost_tests::wait;

use crate::failure::standup_with_anna;
use crate::run;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_mode_outlives_restarts_of_scheduler_and_agent_and_the_loss_of_the_store() {
    for plan in [Plan::small(), Plan::small().with_redis(2)] {
        run(async {
            let mut cluster = Cluster::start(plan).await?;
            let (status, node) = call(&cluster, 0, Method::PUT, "nodes/fra-1/mode", mode("block_new_rooms")).await?;
            assert_eq!((status, &node["mode"]), (200, &json!("block_new_rooms")));
            let placed = cluster.lookup_from("eu/central", "first").await?;
            assert_eq!(placed.node.id.as_str(), "iad-1", "it counts from the answer on");
            expect_mode(&cluster, "block_new_rooms").await?;

            let last = cluster.schedulers.len() - 1;
            cluster.restart_scheduler(last).await?;
            cluster.settled().await?;
            expect_mode(&cluster, "block_new_rooms").await?;

            cluster.node_mut("fra-1")?.process.kill().await?;
            let again = cluster.start_node(&NodePlan::new("fra-1", "eu/central")).await?;
            *cluster.node_mut("fra-1")? = again;
            cluster.settled().await?;
            expect_mode(&cluster, "block_new_rooms").await?;

            if let Some(redis) = &cluster.redis {
                let mut connection = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
                let () = redis::cmd("FLUSHALL").query_async(&mut connection).await?;
                wait::until("the store has the plan again", SOON, || {
                    let mut connection = connection.clone();
                    async move {
                        let mut keys = redis::cmd("KEYS");
                        let keys: Vec<String> = keys.arg("*:steer:fra-1").query_async(&mut connection).await.ok()?;
                        (keys.len() == 1).then_some(())
                    }
                })
                .await?;
                cluster.settled().await?;
                expect_mode(&cluster, "block_new_rooms").await?;
                cluster.restart_scheduler(0).await?;
                cluster.settled().await?;
                expect_mode(&cluster, "block_new_rooms").await?;
            }
            let placed = wait::until("rooms are placed again", SOON, || async {
                cluster.lookup_from("eu/central", "second").await.ok()
            });
            assert_eq!(placed.await?.node.id.as_str(), "iad-1");
            let (status, node) = call(&cluster, last, Method::PUT, "nodes/fra-1/mode", mode("serving")).await?;
            assert_eq!((status, &node["mode"]), (200, &json!("serving")));
            cluster.stop().await
        });
    }
}

#[test]
fn a_living_room_of_a_blocked_node_takes_back_who_is_inside_and_nobody_else() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        let (found, mut anna) = standup_with_anna(&cluster).await?;
        call(&cluster, 0, Method::PUT, "nodes/fra-1/mode", mode("maintenance")).await?;
        expect_mode(&cluster, "maintenance").await?;
        let response = cluster.lookup_response(0, "default", "standup", json!({"region": "eu/central"})).await?;
        let problem: Value = response.json().await?;
        assert_eq!((&problem["code"], &problem["rejections"][0]["reason"]), (&json!("no_node"), &json!("mode")));
        let mut ben = Participant::connect(&cluster.door("fra-1", "standup", "ben", &found.ticket)?).await?;
        assert_eq!(ben.closed().await?.code, 4503);
        anna.ask("changeDisplayName", json!({"displayName": "Anne"})).await?;
        let mut again = Participant::connect(&cluster.door("fra-1", "standup", "anna", &found.ticket)?).await?;
        again.join("Anna").await?;
        assert_eq!(anna.closed().await?.reason, "replaced");
        let all = cluster.admin(&cluster.schedulers[0], "/v1/cluster").await?;
        assert_eq!((&all["nodes"]["alive"], &all["nodes"]["maintenance"]), (&json!(1), &json!(1)));
        cluster.stop().await
    });
}

#[test]
fn a_drain_waits_for_rooms_to_end_outlives_restarts_and_is_taken_back() {
    for plan in [Plan::small(), Plan::small().with_redis(2)] {
        run(async {
            let mut plan = plan;
            plan.nodes[0] = NodePlan::new("fra-1", "eu/central").with(&["--empty-room-s", "1"]);
            let mut cluster = Cluster::start(plan).await?;
            let (found, mut anna) = standup_with_anna(&cluster).await?;
            let last = cluster.schedulers.len() - 1;
            let (status, drain) = call(&cluster, last, Method::POST, "nodes/fra-1/drain", json!({})).await?;
            assert_eq!((status, &drain["state"], &drain["move"]), (200, &json!("running"), &json!(false)), "{drain}");
            assert!(matches!(drain["deadline_s"].as_u64(), Some(580..=600)), "{drain}");
            expect_mode(&cluster, "draining").await?;
            let mut ben = Participant::connect(&cluster.door("fra-1", "standup", "ben", &found.ticket)?).await?;
            ben.join("Ben").await?;
            let elsewhere = cluster.lookup_from("eu/central", "retro").await?;
            assert_eq!(elsewhere.node.id.as_str(), "iad-1");
            let goes_on = async {
                cluster.restart_scheduler(0).await?;
                cluster.settled().await?;
                wait::until("the drain goes on", SOON, || async {
                    let (status, drain) = call(&cluster, 0, Method::GET, "nodes/fra-1/drain", json!({})).await.ok()?;
                    let left = (&drain["rooms_left"], &drain["participants_left"]);
                    (status == 200 && drain["state"] == "running" && left == (&json!(1), &json!(2))).then_some(())
                })
                .await
            };
            tokio::select! {
                gone_on = goes_on => gone_on?,
                trouble = stay(&mut anna, &mut ben) => return Err(trouble),
            }
            anna.leave().await?;
            ben.leave().await?;
            expect_drain(&cluster, 0, "finished").await?;
            expect_mode(&cluster, "maintenance").await?;
            let (status, drain) = call(&cluster, last, Method::DELETE, "nodes/fra-1/drain", json!({})).await?;
            assert_eq!((status, &drain["state"]), (200, &json!("cancelled")));
            expect_mode(&cluster, "serving").await?;
            let back = cluster.lookup_from("eu/central", "planning").await?;
            assert_eq!(back.node.id.as_str(), "fra-1");
            cluster.stop().await
        });
    }
}

#[test]
fn a_drain_that_moves_takes_participants_along_and_a_mode_ends_it() {
    run(async {
        let cluster = Cluster::start(Plan::small().with_redis(2)).await?;
        let (_, mut anna) = standup_with_anna(&cluster).await?;
        let drain = json!({"move": true, "deadline_s": 60});
        assert_eq!(call(&cluster, 0, Method::POST, "nodes/fra-1/drain", drain).await?.0, 200);
        let redirect = anna.expect("redirect").await?;
        assert_eq!((&redirect["node"], anna.closed().await?.code), (&json!("iad-1"), 4000));
        let mut anna = Participant::connect(redirect["location"].as_str().ok_or("no location")?).await?;
        anna.join("Anna").await?;
        expect_drain(&cluster, 1, "finished").await?;
        let (_, node) = call(&cluster, 1, Method::PUT, "nodes/iad-1/mode", mode("draining")).await?;
        assert!(matches!(node["drain"]["deadline_s"].as_u64(), Some(580..=600)), "{node}");
        assert_eq!((&node["mode"], &node["drain"]["state"]), (&json!("draining"), &json!("running")), "{node}");
        let (_, node) = call(&cluster, 0, Method::PUT, "nodes/iad-1/mode", mode("block_new_rooms")).await?;
        assert_eq!(
            (&node["mode"], &node["drain"]["state"]),
            (&json!("block_new_rooms"), &json!("cancelled")),
            "{node}"
        );
        cluster.stop().await
    });
}

#[test]
fn a_drain_waits_for_the_rooms_of_a_node_that_lost_its_lease_meanwhile() {
    run(async {
        let mut plan = Plan::small();
        plan.nodes[0] = NodePlan::new("fra-1", "eu/central").with(&["--empty-room-s", "1"]);
        let cluster = Cluster::start(plan).await?;
        let (_, mut anna) = standup_with_anna(&cluster).await?;
        assert_eq!(call(&cluster, 0, Method::POST, "nodes/fra-1/drain", json!({})).await?.0, 200);
        expect_mode(&cluster, "draining").await?;
        let before = cluster.admin(&cluster.schedulers[0], "/v1/nodes/fra-1").await?;
        let process = &cluster.node("fra-1")?.process;
        process.signal(rustix::process::Signal::STOP)?;
        wait::until("it is lost", SOON, || async {
            let node = cluster.admin(&cluster.schedulers[0], "/v1/nodes/fra-1").await.ok()?;
            (node["state"] == "lost").then_some(())
        })
        .await?;
        process.signal(rustix::process::Signal::CONT)?;
        wait::until("it has its room under another incarnation", SOON, || async {
            let node = cluster.admin(&cluster.schedulers[0], "/v1/nodes/fra-1").await.ok()?;
            assert_eq!(
                (&node["drain"]["state"], &node["drain"]["rooms_left"]),
                (&json!("running"), &json!(1)),
                "{node}"
            );
            (node["incarnation"] != before["incarnation"] && node["rooms"] == 1).then_some(())
        })
        .await?;
        anna.ask("changeDisplayName", json!({"displayName": "Anne"})).await?;
        anna.leave().await?;
        expect_drain(&cluster, 0, "finished").await?;
        cluster.stop().await
    });
}

#[test]
fn what_is_left_at_a_drains_deadline_is_moved() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        let (_, mut anna) = standup_with_anna(&cluster).await?;
        let drain = json!({"deadline_s": 1, "move": false});
        assert_eq!(call(&cluster, 0, Method::POST, "nodes/fra-1/drain", drain).await?.0, 200);
        let redirect = anna.expect("redirect").await?;
        assert_eq!((&redirect["node"], anna.closed().await?.code), (&json!("iad-1"), 4000));
        let mut anna = Participant::connect(redirect["location"].as_str().ok_or("no location")?).await?;
        anna.join("Anna").await?;
        expect_drain(&cluster, 0, "finished").await?;
        expect_mode(&cluster, "maintenance").await?;
        cluster.stop().await
    });
}

#[test]
fn a_drain_says_why_rooms_stay() {
    run(async {
        let mut plan = Plan::small();
        plan.nodes[1].arguments = vec!["--namespace".to_owned(), "other".to_owned()];
        let mut cluster = Cluster::start(plan).await?;
        let (_, mut anna) = standup_with_anna(&cluster).await?;
        let drain = json!({"move": true, "deadline_s": 60});
        assert_eq!(call(&cluster, 0, Method::POST, "nodes/fra-1/drain", drain).await?.0, 200);
        let stuck = json!([{"code": "no_node", "rooms": 1, "reasons": {"wrong_namespace": 1}}]);
        wait::until("it says why", SOON, || async {
            let (_, drain) = call(&cluster, 0, Method::GET, "nodes/fra-1/drain", json!({})).await.ok()?;
            assert_eq!(drain["state"], "running", "{drain}");
            (drain["rooms_left"] == 1 && drain["stuck"] == stuck).then_some(())
        })
        .await?;
        let (_, node) = call(&cluster, 0, Method::GET, "nodes/fra-1", json!({})).await?;
        assert_eq!((&node["drain"]["rooms_left"], &node["drain"]["stuck"]), (&json!(1), &Value::Null), "{node}");
        let other = cluster.start_node(&NodePlan::new("iad-2", "us/east")).await?;
        cluster.nodes.push(other);
        assert_eq!(anna.expect("redirect").await?["node"], "iad-2");
        expect_drain(&cluster, 0, "finished").await?;
        let (_, drain) = call(&cluster, 0, Method::GET, "nodes/fra-1/drain", json!({})).await?;
        assert_eq!((&drain["lost"], &drain["stuck"]), (&json!(false), &Value::Null), "{drain}");
        cluster.stop().await
    });
}

#[test]
fn the_drain_of_a_node_that_is_lost_ends_when_its_rooms_are_elsewhere() {
    for plan in [Plan::small(), Plan::small().with_redis(2)] {
        run(async {
            let mut cluster = Cluster::start(plan).await?;
            let (_, _anna) = standup_with_anna(&cluster).await?;
            assert_eq!(call(&cluster, 0, Method::POST, "nodes/fra-1/drain", json!({})).await?.0, 200);
            expect_mode(&cluster, "draining").await?;
            cluster.node_mut("fra-1")?.process.kill().await?;
            wait::until("the room can be given to nobody by its node", SOON, || async {
                let (_, drain) = call(&cluster, 0, Method::GET, "nodes/fra-1/drain", json!({})).await.ok()?;
                assert_eq!((&drain["state"], &drain["rooms_left"]), (&json!("running"), &json!(1)), "{drain}");
                (drain["stuck"] == json!([{"code": "no_node", "rooms": 1, "reasons": {"not_alive": 1}}])).then_some(())
            })
            .await?;
            let elsewhere = wait::until("its room is given to the other node", SOON, || async {
                let found = cluster.lookup_from("eu/central", "standup").await.ok()?;
                (found.node.id.as_str() == "iad-1").then_some(found)
            });
            let url = cluster.door("iad-1", "standup", "anna", &elsewhere.await?.ticket)?;
            Participant::connect(&url).await?.join("Anna").await?;
            let last = cluster.schedulers.len() - 1;
            expect_drain(&cluster, last, "finished").await?;
            let (_, drain) = call(&cluster, last, Method::GET, "nodes/fra-1/drain", json!({})).await?;
            assert_eq!((&drain["lost"], &drain["rooms_left"]), (&json!(true), &json!(0)), "{drain}");
            let again = cluster.start_node(&NodePlan::new("fra-1", "eu/central")).await?;
            *cluster.node_mut("fra-1")? = again;
            cluster.settled().await?;
            expect_mode(&cluster, "maintenance").await?;
            let (status, drain) = call(&cluster, 0, Method::DELETE, "nodes/fra-1/drain", json!({})).await?;
            assert_eq!((status, &drain["state"], &drain["lost"]), (200, &json!("cancelled"), &json!(false)));
            expect_mode(&cluster, "serving").await?;
            cluster.stop().await
        });
    }
}

#[test]
fn only_a_lost_node_is_purged_and_it_is_gone_everywhere() {
    run(async {
        let mut cluster = Cluster::start(Plan::small().with_redis(2)).await?;
        let (status, problem) = call(&cluster, 0, Method::DELETE, "nodes/fra-1", json!({})).await?;
        assert_eq!((status, &problem["code"]), (409, &json!("node_not_lost")));
        call(&cluster, 0, Method::PUT, "nodes/fra-1/mode", mode("maintenance")).await?;
        cluster.node_mut("fra-1")?.process.kill().await?;
        assert_eq!(call(&cluster, 1, Method::PUT, "nodes/fra-1/mode", mode("block_new_rooms")).await?.0, 200);
        cluster.restart_scheduler(0).await?;
        wait::until("the scheduler knows what was wanted of a node that is down", SOON, || async {
            let (status, node) = call(&cluster, 0, Method::GET, "nodes/fra-1", json!({})).await.ok()?;
            assert_ne!(status, 404, "the store has it");
            (node["mode"] == "block_new_rooms").then_some(())
        })
        .await?;
        wait::until("it is lost, and purged", SOON, || async {
            let (status, node) = call(&cluster, 1, Method::DELETE, "nodes/fra-1", json!({})).await.ok()?;
            (status == 200 && node["id"] == "fra-1").then_some(())
        })
        .await?;
        for index in 0..2 {
            wait::until("it is gone", SOON, || async {
                (call(&cluster, index, Method::GET, "nodes/fra-1", json!({})).await.ok()?.0 == 404).then_some(())
            })
            .await?;
        }
        cluster.restart_scheduler(0).await?;
        wait::until("the scheduler is ready", SOON, || async {
            let ready =
                cluster.http.get(format!("http://{}/readyz", cluster.schedulers[0].public)).send().await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await?;
        assert_eq!(call(&cluster, 0, Method::DELETE, "nodes/fra-1", json!({})).await?.0, 404);
        let again = cluster.start_node(&NodePlan::new("fra-1", "eu/central")).await?;
        *cluster.node_mut("fra-1")? = again;
        cluster.settled().await?;
        expect_mode(&cluster, "serving").await?;
        cluster.stop().await
    });
}

#[test]
fn a_room_that_is_closed_is_over_for_everybody_inside_and_begins_anew() {
    for plan in [Plan::small(), Plan::small().with_redis(2)] {
        run(async {
            let cluster = Cluster::start(plan).await?;
            let last = cluster.schedulers.len() - 1;
            let (found, mut anna) = standup_with_anna(&cluster).await?;
            let granted = cluster.lookup_from("eu/central", "retro").await?;
            for (room, epoch) in [("standup", found.epoch.0), ("retro", granted.epoch.0)] {
                let path = format!("namespaces/default/rooms/{room}");
                let closed = wait::until("the scheduler knows it, and it is closed", SOON, || async {
                    let (status, closed) = call(&cluster, last, Method::DELETE, &path, json!({})).await.ok()?;
                    (status == 200).then_some(closed)
                })
                .await?;
                assert_eq!((&closed["room"], closed["epoch"].as_u64()), (&json!(room), Some(epoch)));
                let (status, problem) = call(&cluster, last, Method::DELETE, &path, json!({})).await?;
                assert_eq!((status, &problem["code"]), (404, &json!("room_not_found")));
                let next = wait::until("the first scheduler knows it too", SOON, || async {
                    let next = cluster.lookup_from("eu/central", room).await.ok()?;
                    (next.epoch.0 > epoch).then_some(())
                });
                next.await?;
            }
            let closed = anna.closed().await?;
            assert_eq!((closed.code, closed.reason.as_str()), (4000, "room_closed"));
            let mut late = Participant::arrive(&cluster.door("fra-1", "retro", "ben", &granted.ticket)?).await?;
            late.join("Ben").await?;
            let now = cluster.lookup_from("eu/central", "retro").await?;
            assert!(now.epoch > granted.epoch, "the old ticket opened nothing of its own");
            cluster.stop().await
        });
    }
}

#[test]
fn what_cannot_be_done_says_why() {
    run(async {
        let cluster = Cluster::start(Plan::small()).await?;
        for (method, path, body, status, code, detail) in [
            (Method::PUT, "nodes/fra-1/mode", mode("asleep"), 400, "bad_request", "asleep"),
            (Method::PUT, "nodes/fra-1/mode", json!({}), 400, "bad_request", "mode"),
            (Method::PUT, "nodes/sin-1/mode", mode("serving"), 404, "node_not_found", "sin-1"),
            (Method::PUT, "nodes/SIN/mode", mode("serving"), 400, "bad_id", "SIN"),
            (Method::POST, "nodes/fra-1/mode", mode("serving"), 405, "method_not_allowed", "PUT"),
            (Method::POST, "nodes/fra-1/drain", json!({"deadline_s": -1}), 400, "bad_request", "deadline_s"),
            (Method::POST, "nodes/fra-1/drain", json!({"deadline_s": 9_999_999}), 400, "bad_request", "2592000"),
            (Method::POST, "nodes/fra-1/drain", json!({"move": "yes"}), 400, "bad_request", "move"),
            (Method::POST, "nodes/sin-1/drain", json!({}), 404, "node_not_found", "sin-1"),
            (Method::GET, "nodes/fra-1/drain", json!({}), 404, "drain_not_found", "fra-1"),
            (Method::DELETE, "nodes/fra-1/drain", json!({}), 404, "drain_not_found", "fra-1"),
            (Method::DELETE, "nodes/sin-1", json!({}), 404, "node_not_found", "sin-1"),
            (Method::DELETE, "namespaces/default/rooms/none", json!({}), 404, "room_not_found", "none"),
            (Method::DELETE, "namespaces/DEFAULT/rooms/none", json!({}), 400, "bad_id", "DEFAULT"),
        ] {
            let (was, problem) = call(&cluster, 0, method.clone(), path, body).await?;
            assert_eq!((was, &problem["code"]), (status, &json!(code)), "{method} {path}: {problem}");
            assert!(problem["detail"].as_str().is_some_and(|text| text.contains(detail)), "{method} {path}: {problem}");
        }
        cluster.stop().await
    });
}

/// Two participants answer pings, and talk, until somebody has trouble.
async fn stay(anna: &mut Participant, ben: &mut Participant) -> Trouble {
    let mut turns = tokio::time::interval(Duration::from_secs(1));
    loop {
        turns.tick().await;
        for somebody in [&mut *anna, &mut *ben] {
            if let Err(trouble) = somebody.ask("changeDisplayName", json!({"displayName": "Anne"})).await {
                return trouble;
            }
        }
    }
}

fn mode(name: &str) -> Value {
    json!({ "mode": name })
}

/// Asks the admin listener of scheduler `index`; gives the status and the body.
pub(crate) async fn call(
    cluster: &Cluster,
    index: usize,
    method: Method,
    path: &str,
    body: Value,
) -> Result<(u16, Value), Trouble> {
    let url = format!("http://{}/v1/{path}", cluster.schedulers[index].admin);
    let mut request = cluster.http.request(method.clone(), url);
    if method == Method::PUT || method == Method::POST {
        request = request.json(&body);
    }
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.json().await?))
}

/// Waits until every scheduler and the agent itself know that fra-1 is in this mode.
async fn expect_mode(cluster: &Cluster, mode: &str) -> Result<(), Trouble> {
    let is_known = async |scheduler: &Scheduler| {
        let node = cluster.admin(scheduler, "/v1/nodes/fra-1").await.ok()?;
        (node["mode"] == mode).then_some(())
    };
    for scheduler in &cluster.schedulers {
        wait::until("the scheduler knows the mode", SOON, || is_known(scheduler)).await?;
    }
    wait::until("the agent knows its mode", SOON, || async {
        let control = &cluster.node("fra-1").ok()?.control;
        let node: Value = cluster.http.get(format!("http://{control}/v1/node")).send().await.ok()?.json().await.ok()?;
        (node["mode"] == mode).then_some(())
    })
    .await
}

async fn expect_drain(cluster: &Cluster, index: usize, state: &str) -> Result<(), Trouble> {
    wait::until("the drain comes so far", SOON, || async {
        let (_, drain) = call(cluster, index, Method::GET, "nodes/fra-1/drain", json!({})).await.ok()?;
        (drain["state"] == state).then_some(())
    })
    .await
}
