//! Topics: publishing, watching, coming back.

use serde_json::{Value, json};

use crate::support::{Answer, Events, TestApp, binary::Binary, first_events, golden_stream};
use progressd::testing::SseEvent;

impl TestApp {
    /// Puts a value on a topic; answers its cursor.
    async fn put(&self, topic: &str, publication: Value) -> String {
        let answer = self.request("PUT", &format!("/api/topics/{topic}")).json(&publication).send().await;
        assert_eq!((answer.status(), &answer.json()["topic"]), (200, &json!(topic)), "{answer:?}");
        answer.json()["cursor"].as_str().unwrap().to_owned()
    }

    async fn try_put(&self, topic: &str, publication: &Value) -> Answer {
        self.request("PUT", &format!("/api/topics/{topic}")).json(publication).send().await
    }

    async fn watch_topic(&self, topic: &str, cursor: &str) -> Events {
        self.get(&format!("/api/topics/{topic}/events")).header("last-event-id", cursor).events().await
    }
}

/// The data and id of the next event.
async fn told(events: &mut Events) -> (Value, String) {
    let event = events.next().await.expect("an event");
    (serde_json::from_str(&event.data).unwrap(), event.id)
}

#[tokio::test]
async fn a_topic_shows_its_value_then_every_event() {
    let app = TestApp::in_process().await;
    let mut early = app.watch_topic("news", "").await;
    app.put("news", json!({ "event": "headline", "data": { "z": "Ünï\n", "a": [1, 2.5] } })).await;
    assert_eq!(early.next().await.unwrap().event, "headline", "a topic can be watched before it begins");
    golden_stream("topic-empty.txt", &early);
    let mut events = app.watch_topic("news", "").await;
    events.next().await.unwrap();
    let body = "{ \"data\": \"a \\\" b\",\r\n \"id\": \"1\" }";
    app.request("PUT", "/api/topics/news").body("application/json", body).send().await;
    app.put("news", json!({ "event": "weather", "data": null })).await;
    assert_eq!(events.next().await.unwrap().event, "message");
    assert_eq!(events.next().await.unwrap().event, "weather");
    golden_stream("topic.txt", &events);
}

#[tokio::test]
async fn a_value_is_read_listed_and_deleted() {
    let app = TestApp::in_process().await;
    assert_eq!(app.get("/api/topics/b").send().await.refusal(), "404 topic_not_found");
    let before = app.put("b", json!({ "data": 1 })).await;
    let cursor = app.put("b", json!({ "event": "e", "data": { "x": 1 } })).await;
    let answer = app.get("/api/topics/b").send().await;
    let value = answer.json();
    assert!(value["updatedAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&value["topic"], &value["event"], &value["data"]), (&json!("b"), &json!("e"), &json!({ "x": 1 })));
    assert_eq!((&value["cursor"], answer.header("etag")), (&json!(cursor), format!("\"{cursor}\"").as_str()));
    let not_modified = app.get("/api/topics/b").header("if-none-match", &format!("\"{cursor}\"")).send().await;
    assert_eq!(not_modified.status(), 304);

    for topic in ["c", "a"] {
        app.put(topic, json!({ "data": topic })).await;
    }
    let names = |page: &Value| {
        page["topics"].as_array().unwrap().iter().map(|topic| topic["topic"].clone()).collect::<Vec<_>>()
    };
    let page = app.get("/api/topics?limit=2").send().await.json();
    assert_eq!((names(&page), &page["topics"][1]["cursor"]), (vec![json!("a"), json!("b")], &json!(cursor)));
    let rest = app.get(&format!("/api/topics?page={}", page["nextPage"].as_str().unwrap())).send().await.json();
    assert_eq!((names(&rest), &rest["nextPage"]), (vec![json!("c")], &Value::Null));
    for (query, refusal) in
        [("limit=501", "422 invalid limit"), ("page=a%0a", "422 invalid page"), ("x=1", "400 unknown_parameter x")]
    {
        assert_eq!(app.get(&format!("/api/topics?{query}")).send().await.refusal(), refusal);
    }

    let mut events = app.watch_topic("b", &before).await;
    assert_eq!(told(&mut events).await.0, json!({ "x": 1 }));
    assert_eq!(app.request("DELETE", "/api/topics/b").send().await.status(), 204);
    assert!(events.next().await.is_none(), "its streams end");
    assert_eq!(app.request("DELETE", "/api/topics/b").send().await.refusal(), "404 topic_not_found");
    assert_eq!(app.get("/api/topics/b").send().await.refusal(), "404 topic_not_found");
    let mut events = app.watch_topic("b", &cursor).await;
    let reset = events.next().await.unwrap();
    assert_eq!((reset.event.as_str(), reset.data.as_str()), ("reset", r#"{"channel":"topic:b"}"#));
    app.put("b", json!({ "data": "anew" })).await;
    assert_eq!(told(&mut events).await.0, "anew");
}

#[tokio::test]
async fn a_value_stays_whatever_is_broadcast_after_it() {
    let app = TestApp::with(|config| config.topics.topic_history = 3).await;
    let cursor = app.put("broadcast", json!({ "data": "value" })).await;
    for is_watched in [false, true] {
        let watcher = if is_watched { Some(app.watch_topic("broadcast", "").await) } else { None };
        for nth in 0..5 {
            app.post("/api/broadcast").json(&json!({ "data": nth })).send().await;
        }
        let value = app.get("/api/topics/broadcast").send().await.json();
        assert_eq!((&value["data"], &value["cursor"]), (&json!("value"), &json!(cursor)), "watched: {is_watched}");
        let mut first = app.watch_topic("broadcast", "").await;
        assert_eq!(told(&mut first).await.0, "value", "watched: {is_watched}");
        let mut reset = app.watch_topic("broadcast", &cursor).await;
        assert_eq!(reset.next().await.unwrap().event, "reset");
        assert_eq!(told(&mut reset).await.0, "value", "watched: {is_watched}");
        drop(watcher);
    }
    app.put("broadcast", json!({ "data": "other" })).await;
    assert_eq!(told(&mut app.watch_topic("broadcast", "").await).await.0, "other");
    app.request("DELETE", "/api/topics/broadcast").send().await;
    app.post("/api/broadcast").json(&json!({ "data": 0 })).send().await;
    assert_eq!(app.get("/api/topics/broadcast").send().await.refusal(), "404 topic_not_found");
}

#[tokio::test]
async fn who_comes_back_gets_what_was_missed_or_a_reset() {
    let app = TestApp::with(|config| config.topics.topic_history = 3).await;
    let mut cursors = Vec::new();
    for nth in 0..5 {
        cursors.push(app.put("t", json!({ "data": nth })).await);
    }
    for nth in [1, 2, 3] {
        for mut events in [
            app.watch_topic("t", &cursors[nth]).await,
            app.get(&format!("/api/topics/t/events?lastEventId={}", cursors[nth])).events().await,
        ] {
            for (missed, cursor) in cursors.iter().enumerate().skip(nth + 1) {
                assert_eq!(told(&mut events).await, (json!(missed), cursor.clone()), "after {nth}");
            }
        }
    }
    for cursor in [cursors[0].as_str(), "elsewher-3", "?"] {
        let mut events = app.watch_topic("t", cursor).await;
        assert_eq!(events.next().await.unwrap().event, "reset", "{cursor}");
        assert_eq!(told(&mut events).await, (json!(4), cursors[4].clone()), "{cursor}");
    }
    let head = app.request("HEAD", "/api/topics/t/events").send().await;
    assert_eq!((head.status(), head.header("content-type")), (200, "text/event-stream"));
    assert_eq!(
        app.get("/api/topics/t/events").header("accept", "text/html").send().await.refusal(),
        "406 not_acceptable"
    );
}

#[tokio::test]
async fn an_id_publishes_once() {
    let app = TestApp::in_process().await;
    let first = app.put("t", json!({ "data": { "a": 1 }, "id": "x" })).await;
    app.put("t", json!({ "data": 2 })).await;
    assert_eq!(app.put("t", json!({ "data": { "a": 1 }, "id": "x" })).await, first);
    assert_ne!(app.put("other", json!({ "data": { "a": 1 }, "id": "x" })).await, first);
    for other in [json!({ "data": { "a": 2 }, "id": "x" }), json!({ "data": { "a": 1 }, "event": "e", "id": "x" })] {
        assert_eq!(app.try_put("t", &other).await.refusal(), "422 idempotency_mismatch");
    }
    assert_eq!(app.get("/api/topics/t").send().await.json()["data"], 2, "the same again changes nothing");
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused() {
    let app = TestApp::with(|config| config.topics.max_topics = 2).await;
    for topic in ["a%0ab", "a%0d", "a%00", "a%20b", "%C3%A9", "a:b", "*", &"x".repeat(129)] {
        for (method, path) in [("PUT", ""), ("GET", ""), ("DELETE", ""), ("GET", "/events")] {
            let asking = app.request(method, &format!("/api/topics/{topic}{path}"));
            let asking = if method == "PUT" { asking.json(&json!({ "data": 1 })) } else { asking };
            assert_eq!(asking.send().await.refusal(), "422 invalid topic", "{method} {topic}{path}");
        }
    }
    let long = "x".repeat(129);
    for (publication, refusal) in [
        (json!({}), "422 invalid data"),
        (json!({ "data": 1, "colour": "red" }), "422 invalid colour"),
        (json!({ "data": "x".repeat(64 * 1024) }), "422 invalid data"),
        (json!({ "data": 1, "event": "a\nb" }), "422 invalid event"),
        (json!({ "data": 1, "event": "a\r" }), "422 invalid event"),
        (json!({ "data": 1, "event": "\0" }), "422 invalid event"),
        (json!({ "data": 1, "event": "" }), "422 invalid event"),
        (json!({ "data": 1, "event": long }), "422 invalid event"),
        (json!({ "data": 1, "event": "reset" }), "422 invalid event"),
        (json!({ "data": 1, "id": "a\nb" }), "422 invalid id"),
        (json!({ "data": 1, "id": "a\0" }), "422 invalid id"),
        (json!({ "data": 1, "id": "" }), "422 invalid id"),
        (json!({ "data": 1, "id": 7 }), "422 invalid id"),
    ] {
        assert_eq!(app.try_put("t", &publication).await.refusal(), refusal, "{publication}");
    }
    app.put("a", json!({ "data": "x".repeat(64 * 1024 - 2) })).await;
    app.put("b", json!({ "data": 1 })).await;
    let refused = app.try_put("c", &json!({ "data": 1 })).await;
    assert_eq!(refused.refusal(), "503 too_many_topics");
    assert!(refused.problem()["detail"].as_str().unwrap().contains("max-topics"), "{refused:?}");
    app.put("b", json!({ "data": 2 })).await;
    app.request("DELETE", "/api/topics/a").send().await;
    app.put("c", json!({ "data": 1 })).await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_ends_its_streams_also_those_of_several() {
    let app = TestApp::in_process().await;
    app.put("a", json!({ "data": 0 })).await;
    app.put("b", json!({ "data": 0 })).await;
    let mut both = app.get("/api/stream?channel=a&channel=b").events().await;
    let _a = told(&mut both).await;
    let (_, cursor) = told(&mut both).await;
    app.request("DELETE", "/api/topics/a").send().await;
    app.put("a", json!({ "data": "anew" })).await;
    assert!(both.next().await.is_none(), "it ends: what comes on the topic now is not that of the one before");
    let mut again = app.get("/api/stream?channel=a&channel=b").header("last-event-id", &cursor).events().await;
    assert_eq!(again.next().await.unwrap().event, "reset");
    assert_eq!(told(&mut again).await.0, json!({ "channel": "topic:a", "data": "anew" }));
}

#[tokio::test]
async fn topics_are_watched_together_or_all_at_once() {
    let app = TestApp::with(|config| config.topics.topic_history = 3).await;
    app.put("a", json!({ "data": 0 })).await;
    let mut some = app.get("/api/stream?channel=a&channel=topic:b&channel=a").events().await;
    let mut all = app.get("/api/stream").events().await;
    let (state, _) = told(&mut some).await;
    assert_eq!(state, json!({ "channel": "topic:a", "data": 0 }));
    let mut cursors = Vec::new();
    for (topic, data) in [("b", json!({ "x": 1 })), ("c", json!("text")), ("a", json!(3)), ("b", json!(4))] {
        cursors.push(app.put(topic, json!({ "data": data, "event": "e" })).await);
        let expected = json!({ "channel": format!("topic:{topic}"), "data": data });
        let seen = told(&mut all).await;
        assert_eq!(seen, (expected.clone(), cursors.last().unwrap().clone()));
        if topic != "c" {
            assert_eq!(told(&mut some).await, seen);
        }
    }
    assert!(some.waiting().is_none());
    golden_stream("all-topics.txt", &all);
    drop((some, all));

    let rest = async |cursor: &str| {
        let mut events = app.get("/api/stream").header("last-event-id", cursor).events().await;
        let mut told = Vec::new();
        while let Some(event) = events.waiting() {
            told.push((event.event, event.data));
        }
        told
    };
    let data = |told: Vec<(String, String)>| {
        told.into_iter()
            .map(|(_, data)| serde_json::from_str::<Value>(&data).unwrap()["data"].clone())
            .collect::<Vec<_>>()
    };
    // Nobody watches, so the past comes from the journal; then from what somebody else watches.
    for _ in 0..2 {
        assert_eq!(data(rest(&cursors[0]).await), [json!("text"), json!(3), json!(4)]);
        assert_eq!(data(rest(&cursors[2]).await), [json!(4)]);
        assert_eq!(rest("elsewher-1").await, [("reset".into(), r#"{"channel":"topic:*"}"#.into())]);
    }
    for _ in 0..3 {
        app.put("c", json!({ "data": "more" })).await;
    }
    assert_eq!(rest(&cursors[0]).await[0].0, "reset", "beyond the bound");

    let poll =
        app.get("/api/stream").header("accept", "application/json").header("prefer", "wait=0").send().await.json();
    assert_eq!((&poll["events"], &poll["ended"]), (&json!([]), &json!(false)));
    for channel in ["", "a%0ab", "topic:*", "topic:", "*", "inbox:a", "key:0199c0de-0000-7000-8000-000000000001"] {
        assert_eq!(
            app.get(&format!("/api/stream?channel={channel}")).send().await.refusal(),
            "422 invalid channel",
            "{channel}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_published_is_lost_when_the_server_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let mut server = Binary::start(data.path(), &[]);
    let mut cursors = Vec::new();
    for round in 0..3 {
        let base = server.base();
        for nth in 0..4 {
            let put = client.put(format!("{base}/api/topics/t{}", nth % 2));
            let publication = json!({ "data": round * 4 + nth, "event": "e", "id": format!("{round}-{nth}") });
            let answer: Value = put.json(&publication).send().await.unwrap().json().await.unwrap();
            cursors.push(answer["cursor"].as_str().unwrap().to_owned());
        }
        server.kill();
        server = Binary::start(data.path(), &[]);
    }
    let base = server.base();
    let again = json!({ "data": 5, "event": "e", "id": "1-1" });
    let again = client.put(format!("{base}/api/topics/t1")).json(&again).send().await.unwrap();
    assert_eq!(again.json::<Value>().await.unwrap()["cursor"], cursors[5], "the same id is the same event");
    let value: Value = client.get(format!("{base}/api/topics/t1")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&value["data"], &value["cursor"]), (&json!(11), &json!(cursors[11])));

    let by_header = |url: &str| client.get(format!("{base}{url}")).header("last-event-id", &cursors[2]);
    let by_query = |url: &str| client.get(format!("{base}{url}?lastEventId={}", cursors[2]));
    for request in [by_header("/api/topics/t1/events"), by_query("/api/topics/t1/events")] {
        let told = first_events(request, 5).await;
        assert_eq!(told, [3, 5, 7, 9, 11].map(|nth| event("e", nth.to_string(), &cursors[nth])));
    }
    for request in [by_header("/api/stream"), by_query("/api/stream")] {
        let told = first_events(request, 9).await;
        let addressed = |nth: usize| format!("{{\"channel\":\"topic:t{}\",\"data\":{nth}}}", nth % 2);
        let expected: Vec<_> = (3..12).map(|nth| event("message", addressed(nth), &cursors[nth])).collect();
        assert_eq!(told, expected);
    }
}

fn event(name: &str, data: String, id: &str) -> SseEvent {
    SseEvent { event: name.to_owned(), data, id: id.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_stay_within_their_bytes_over_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let mut server = Binary::start(data.path(), &["--history-data", "64KiB"]);
    // With its name, four of these are within the bound, and not five.
    let state = |nth: usize| format!("\"{nth:a>14000}\"");
    let mut cursors = Vec::new();
    for nth in 0..10 {
        let put = client.put(format!("{}/api/topics/t{}", server.base(), nth % 2));
        let put =
            put.header("content-type", "application/json").body(format!("{{\"event\":\"e\",\"data\":{}}}", state(nth)));
        let answer: Value = put.send().await.unwrap().json().await.unwrap();
        cursors.push(answer["cursor"].as_str().unwrap().to_owned());
    }
    let shown = |nth: usize| event("e", state(nth), &cursors[nth]);
    let addressed = |nth: usize| {
        event("message", format!("{{\"channel\":\"topic:t{}\",\"data\":{}}}", nth % 2, state(nth)), &cursors[nth])
    };
    for is_killed in [false, true] {
        let resume = |path: &str, nth: usize| {
            client.get(format!("{}{path}", server.base())).header("last-event-id", &cursors[nth])
        };
        let one = "/api/topics/t1/events";
        assert_eq!(first_events(resume(one, 1), 4).await, [3, 5, 7, 9].map(shown), "killed: {is_killed}");
        let reset = first_events(resume(one, 0), 2).await;
        assert_eq!((reset[0].event.as_str(), &reset[1]), ("reset", &shown(9)), "killed: {is_killed}");
        // All topics on one stream are one history.
        assert_eq!(first_events(resume("/api/stream", 5), 4).await, [6, 7, 8, 9].map(addressed), "killed: {is_killed}");
        let reset = first_events(resume("/api/stream", 4), 1).await;
        assert_eq!(reset[0].event, "reset", "killed: {is_killed}");
        server.kill();
        server = Binary::start(data.path(), &["--history-data", "64KiB"]);
    }
}
