//! The admin listener.

use reqwest::Method;
use serde_json::{Value, json};

use crate::process::Scheduler;

#[tokio::test]
async fn nodes_and_rooms_come_in_pages() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    for room in 0..7 {
        scheduler.lookup_from(if room < 5 { "eu" } else { "us" }, &format!("room-{room}")).await;
    }
    let names = |items: &Value, key: &str| -> Vec<String> {
        items.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
    };
    let (mut rooms, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = scheduler.admin(&format!("/v1/rooms?limit=3{cursor}")).await;
        rooms.extend(names(&page["items"], "room"));
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((rooms, pages), ((0..7).map(|room| format!("room-{room}")).collect(), 3));
    let of_iad = scheduler.admin("/v1/rooms?node=iad-1&namespace=default").await;
    assert_eq!(names(&of_iad["items"], "room"), ["room-5", "room-6"]);
    assert_eq!(scheduler.admin("/v1/rooms?namespace=other").await, json!({"items": []}));
    let first = scheduler.admin("/v1/nodes?limit=1").await;
    assert_eq!((names(&first["items"], "id"), &first["next_cursor"]), (vec!["fra-1".into()], &json!("fra-1")));
    let second = scheduler.admin("/v1/nodes?limit=1&cursor=fra-1").await;
    assert_eq!((names(&second["items"], "id"), &second["next_cursor"]), (vec!["iad-1".into()], &Value::Null));
}

#[tokio::test]
async fn a_node_is_shown_as_it_reports() {
    let (scheduler, fra, _iad) = Scheduler::with_two_nodes().await;
    fra.say(|report| (report.participants, report.host.cpu_permille) = (25, 400));
    let node = crate::wait::until("the report came", || async {
        let node = scheduler.admin("/v1/nodes/fra-1").await;
        (node["participants"] == 25).then_some(node)
    })
    .await;
    assert_eq!(
        (&node["state"], &node["mode"], &node["region"]),
        (&json!("alive"), &json!("serving"), &json!("eu/central"))
    );
    assert_eq!((&node["load"]["participants_permille"], &node["load"]["worst_permille"]), (&json!(250), &json!(400)));
    assert_eq!(node["incarnation"], json!(fra.incarnation));
    assert!(node["report_age_ms"].as_u64().unwrap() < 1_000);
    assert_eq!(scheduler.admin("/v1/nodes/none").await["code"], "node_not_found");
    assert_eq!(scheduler.admin("/v1/nodes/A").await["code"], "bad_id");
}

#[tokio::test]
async fn a_scheduler_that_has_just_started_denies_no_node() {
    let scheduler = Scheduler::start().await;
    let ask = async |scheduler: &Scheduler, method: Method, path: &str| {
        let request = scheduler.http.request(method.clone(), format!("http://{}/v1/{path}", scheduler.admin));
        let body = if path.ends_with("mode") { json!({"mode": "serving"}) } else { json!({}) };
        let response = if method == Method::GET { request } else { request.json(&body) }.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["code"].clone())
    };
    let calls = [
        (Method::GET, "nodes/fra-1"),
        (Method::DELETE, "nodes/fra-1"),
        (Method::PUT, "nodes/fra-1/mode"),
        (Method::GET, "nodes/fra-1/drain"),
        (Method::POST, "nodes/fra-1/drain"),
        (Method::DELETE, "nodes/fra-1/drain"),
    ];
    for (method, path) in calls.clone() {
        let (status, code) = ask(&scheduler, method.clone(), path).await;
        let is_early = code == "starting" || code == "store_unavailable";
        assert!(status == 503 && is_early, "{method} {path}: {status} {code}");
    }
    let scheduler = scheduler.ready().await;
    for (method, path) in calls {
        assert_eq!(ask(&scheduler, method.clone(), path).await, (404, json!("node_not_found")), "{method} {path}");
    }
}

#[tokio::test]
async fn a_node_whose_numbers_cannot_be_is_shown_as_such_and_taken_after_all_others() {
    let (scheduler, fra, _iad) = Scheduler::with_two_nodes().await;
    for (cpu_permille, distrusted, gauge, taken) in
        [(5_000, json!(["host.cpu_permille 5000: expected at most 1100"]), 1, "iad-1"), (500, Value::Null, 0, "fra-1")]
    {
        fra.say(|report| report.host.cpu_permille = cpu_permille);
        let node = crate::wait::until("the report came", || async {
            let node = scheduler.admin("/v1/nodes/fra-1").await;
            (node["host"]["cpu_permille"] == cpu_permille).then_some(node)
        })
        .await;
        assert_eq!(node["distrusted"], distrusted);
        assert_eq!(scheduler.lookup_from("eu", &format!("room-{gauge}")).await["node"]["id"], taken);
        crate::wait::until("the gauge shows it", || async {
            let metrics = scheduler.http.get(format!("http://{}/metrics", scheduler.admin)).send().await.unwrap();
            metrics.text().await.unwrap().contains(&format!("\nroost_nodes_distrusted {gauge}\n")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn each_listener_describes_itself_and_its_health() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    let public: Value = scheduler.get("/openapi.json").await.json().await.unwrap();
    let admin = scheduler.admin("/openapi.json").await;
    let paths = |document: &Value| document["paths"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        paths(&public),
        [
            "/healthz",
            "/readyz",
            "/v1/namespaces/{namespace}/rooms/{room}",
            "/v1/namespaces/{namespace}/rooms/{room}/lookup"
        ]
    );
    assert_eq!(
        paths(&admin),
        [
            "/healthz",
            "/metrics",
            "/readyz",
            "/v1/cluster",
            "/v1/cluster/brake",
            "/v1/explain",
            "/v1/namespaces/{namespace}/rooms/{room}",
            "/v1/namespaces/{namespace}/rooms/{room}/move",
            "/v1/nodes",
            "/v1/nodes/{id}",
            "/v1/nodes/{id}/drain",
            "/v1/nodes/{id}/mode",
            "/v1/rebalance",
            "/v1/rooms"
        ]
    );
    for schema in ["LookupRequest", "LookupReply", "Problem", "RoomView"] {
        assert!(public["components"]["schemas"][schema].is_object(), "{schema}");
    }
    for listener in [&scheduler.public, &scheduler.admin, &scheduler.cluster] {
        for path in ["healthz", "readyz"] {
            let response = scheduler.http.get(format!("http://{listener}/{path}")).send().await.unwrap();
            assert_eq!(response.status(), 200, "{listener} {path}");
        }
    }
    let cluster = scheduler.admin("/v1/cluster").await;
    assert_eq!(cluster["nodes"], json!({"alive": 2, "suspect": 0, "lost": 0, "maintenance": 0}));
    assert_eq!(cluster["store"], json!({"kind": "embedded", "reachable": true}));
    assert_eq!(cluster["schedulers"][0]["cluster_url"], json!(format!("http://{}", scheduler.cluster)));
    assert_eq!(scheduler.admin("/").await["nodes"], "/v1/nodes");
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let (scheduler, _fra, _iad) = Scheduler::with_two_nodes().await;
    for _ in 0..3 {
        scheduler.lookup_from("eu", "secret-room").await;
    }
    let metrics = || async {
        scheduler.http.get(format!("http://{}/metrics", scheduler.admin)).send().await.unwrap().text().await.unwrap()
    };
    let text = crate::wait::until("the room is counted", || async {
        Some(metrics().await).filter(|text| text.contains("\nroost_rooms 1\n"))
    })
    .await;
    for line in [
        "roost_lookups_total{outcome=\"placed\"} 1",
        "roost_lookups_total{outcome=\"existing\"} 2",
        "roost_nodes{state=\"alive\"} 2",
        "roost_agent_connections 2",
        "roost_store_up 1",
        "roost_store_calls_total{call=\"grant\",result=\"ok\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert!(!text.contains("secret-room"));
}
