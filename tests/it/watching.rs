//! Watching a task: the contract of its stream.

use std::time::Duration;

use progressd::journal::Journal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Events, TestApp};

impl TestApp {
    /// A stream of a task, from a cursor where one is given.
    async fn watch(&self, path: &str, cursor: Option<&str>) -> Events {
        let asking = self.get(&format!("{path}/progress"));
        let asking = match cursor {
            Some(cursor) => asking.header("last-event-id", cursor),
            None => asking,
        };
        asking.events().await
    }

    /// A report's cursor.
    async fn tick(&self, path: &str, progress: u32) -> String {
        self.report(path, json!({ "progress": progress })).await.json()["cursor"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn the_stream_begins_as_the_contract_says() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({ "title": "x", "input": { "secret": 1 }, "metadata": 2 })).await;
    let mut events = app.watch(&path, None).await;
    assert_eq!(events.status(), 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-store, no-transform"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(events.headers[name], value);
    }
    assert!(!events.headers.contains_key("content-encoding") && !events.headers.contains_key("content-length"));
    assert_eq!(events.bytes().await.unwrap(), "retry: 2000\n\n", "its own block, sent at once");
    let state = events.state().await;
    let cursor = state["cursor"].as_str().unwrap();
    let (head, tail) = ("retry: 2000\n\nevent: progress\ndata: {\"taskId\":\"", format!("}}\nid: {cursor}\n\n"));
    let text = events.text();
    assert!(text.starts_with(head) && text.ends_with(&tail), "the id comes last: {text}");
    assert!(state.get("input").is_none() && state.get("metadata").is_none(), "they never change: {state}");
    let mut read = app.get(&path).send().await.json();
    read.as_object_mut().unwrap().retain(|name, _| name != "input" && name != "metadata");
    assert_eq!(read, state);
}

#[tokio::test]
async fn every_change_is_seen_in_order_until_the_end() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({ "steps": [{ "name": "a" }, { "name": "b" }] })).await;
    let mut events = app.watch(&path, None).await;
    assert_eq!(events.state().await["status"], "pending");
    for step in [0, 1] {
        app.report(&path, json!({ "step": step, "stepProgress": 50 })).await;
        assert_eq!(events.state().await["step"], step);
    }
    app.report(&path, json!({ "status": "completed", "result": { "ok": true } })).await;
    let end = events.state().await;
    assert_eq!((&end["status"], &end["progress"]), (&json!("completed"), &json!(100.0)));
    assert!(events.next().await.is_none(), "the final event ends the stream");
    assert_eq!(app.service.app.metrics.streams_open.get(), 0);
}

#[tokio::test]
async fn a_cursor_resumes_exactly() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({ "steps": [{ "name": "a" }, { "name": "b" }, { "name": "c" }] })).await;
    let mut cursors = Vec::new();
    for step in 0..3 {
        let answer = app.report(&path, json!({ "step": step })).await.json();
        cursors.push(answer["cursor"].as_str().unwrap().to_owned());
    }
    let steps = async |mut events: Events| {
        app.tick(&path, 99).await;
        let mut steps = Vec::new();
        loop {
            let state = events.state().await;
            if state["progress"].as_f64() >= Some(99.0) {
                assert_eq!(events.retry_ms(), Some(2000));
                return steps;
            }
            steps.push(state["step"].as_u64().unwrap());
        }
    };
    assert_eq!(steps(app.watch(&path, Some(&cursors[0])).await).await, [1, 2]);
    let other = app.submit(json!({ "steps": [{ "name": "a" }, { "name": "b" }] })).await;
    let first = app.get(&other).send().await.json()["cursor"].as_str().unwrap().to_owned();
    app.report(&other, json!({ "step": 1 })).await;
    let by_query = app.get(&format!("{other}/progress?lastEventId={first}")).events().await;
    let mut by_query = by_query;
    assert_eq!(by_query.state().await["step"], 1);
    let query = format!("{other}/progress?lastEventId={first}");
    let mut both = app.get(&query).header("last-event-id", "").events().await;
    assert_eq!(both.state().await["step"], 1, "an empty header is a first connect, and wins");
    assert!(!both.text().contains("reset"));
}

#[tokio::test]
async fn a_cursor_of_no_use_is_a_declared_reset() {
    let app = TestApp::with(|config| config.streams.history = 2).await;
    let path = app.submit(json!({ "steps": vec![json!({ "name": "s" }); 9] })).await;
    let first = app.get(&path).send().await.json()["cursor"].as_str().unwrap().to_owned();
    for step in 0..9 {
        app.report(&path, json!({ "step": step })).await;
    }
    let epoch = first.split('-').next().unwrap();
    let future = format!("{epoch}-999999");
    for cursor in [first.as_str(), "zzzzzzzz-1", &future, "nonsense", "1", &format!("{epoch}-x"), "\u{e9}"] {
        let mut events = app.watch(&path, Some(cursor)).await;
        assert_eq!(events.status(), 200, "{cursor}");
        let reset = events.next().await.unwrap();
        assert_eq!(reset.event, "reset", "{cursor}");
        let channel: Value = serde_json::from_str(&reset.data).unwrap();
        assert_eq!(channel, json!({ "channel": format!("task:{}", path.rsplit_once('/').unwrap().1) }));
        assert_eq!(events.state().await["step"], 8, "{cursor}");
    }
}

#[tokio::test]
async fn who_has_seen_the_end_is_told_to_stop() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    let before = app.tick(&path, 5).await;
    app.report(&path, json!({ "status": "completed" })).await;
    let last = app.get(&path).send().await.json()["cursor"].as_str().unwrap().to_owned();
    let at_the_end = app.get(&format!("{path}/progress")).header("last-event-id", &last).send().await;
    assert_eq!((at_the_end.status(), at_the_end.body.len()), (204, 0));
    let id = path.rsplit_once('/').unwrap().1;
    for stream in [format!("{path}/progress"), format!("/api/stream?channel=task:{id}")] {
        let head = app.request("HEAD", &stream).header("last-event-id", &last).send().await;
        assert_eq!(head.status(), 204, "{stream}");
    }
    app.submit(json!({})).await;
    let past = format!(
        "{}-{}",
        last.split('-').next().unwrap(),
        last.split('-').next_back().unwrap().parse::<u64>().unwrap() + 1
    );
    assert_eq!(app.get(&format!("{path}/progress?lastEventId={past}")).send().await.status(), 204);

    let mut resumed = app.watch(&path, Some(&before)).await;
    assert_eq!(resumed.rest().await.len(), 1);
    let mut first = app.watch(&path, None).await;
    let shown = first.rest().await;
    assert_eq!(shown.len(), 1, "a first connect gets the final state once, then the end");
    assert_eq!(shown[0].id, last);
}

#[tokio::test]
async fn real_refusals_keep_their_status() {
    let app = TestApp::in_process().await;
    let unknown = format!("/api/tasks/{}/progress", Uuid::now_v7());
    assert_eq!(app.get(&unknown).send().await.refusal(), "404 task_not_found");
    let path = app.submit(json!({})).await;
    let stream = format!("{path}/progress");
    for accept in ["application/json", "image/png", "text/event-stream;q=0"] {
        assert_eq!(app.get(&stream).header("accept", accept).send().await.refusal(), "406 not_acceptable", "{accept}");
    }
    for accept in ["*/*", "text/event-stream", "text/*", "text/html, text/event-stream"] {
        assert_eq!(app.get(&stream).header("accept", accept).events().await.status(), 200, "{accept}");
    }
    app.report(&path, json!({ "status": "completed" })).await;
    app.request("DELETE", &path).send().await;
    assert_eq!(app.get(&stream).send().await.refusal(), "410 task_gone");
    assert_eq!(app.request("HEAD", &stream).send().await.status(), 410);
}

#[tokio::test]
async fn the_progress_url_opened_in_a_browser_leads_to_the_page_of_the_task() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    let page = path.strip_prefix("/api").expect("a path of the API");
    for accept in ["text/html", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"] {
        let answer = app.get(&format!("{path}/progress")).header("accept", accept).send().await;
        assert_eq!((answer.status(), answer.header("location")), (303, page), "{accept}");
    }
    let (shown, index) = (app.get(page).send().await, app.get("/").send().await);
    assert_eq!((shown.status(), shown.text()), (200, index.text()));
    for header in ["content-type", "content-security-policy"] {
        assert_eq!(shown.header(header), index.header(header), "{header}");
    }
}

#[tokio::test]
async fn head_and_options_open_no_stream() {
    let app = TestApp::with(|config| config.streams.max_streams = 1).await;
    let path = app.submit(json!({})).await;
    let stream = format!("{path}/progress");
    let watching = app.watch(&path, None).await;
    let head = app.request("HEAD", &stream).send().await;
    assert_eq!((head.status(), head.header("content-type")), (200, "text/event-stream"));
    assert_eq!(head.body.len(), 0);
    assert!(!head.has_header("content-length"), "the length of a stream is not known");
    let options = app.request("OPTIONS", &stream).send().await;
    assert_eq!((options.status(), options.header("allow")), (204, "GET,HEAD"));
    assert_eq!(app.service.app.tracker.streams(), 1);
    drop(watching);
    assert_eq!(app.service.app.tracker.streams(), 0);
}

/// A stream that says why it cannot be had now, tells when to come again, and ends.
async fn refused(mut events: Events, code: &str) {
    assert_eq!((events.status(), &events.headers["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    assert_eq!(events.headers["connection"], "close", "it keeps no place that others need");
    let events_seen = events.rest().await;
    assert_eq!(events_seen.len(), 1, "{events_seen:?}");
    assert_eq!(events_seen[0].event, "refused");
    let why: Value = serde_json::from_str(&events_seen[0].data).unwrap();
    assert_eq!(why["code"], code);
    assert!(!why["detail"].as_str().unwrap().is_empty());
    assert_eq!(why["retryAfterMs"].as_u64(), events.retry_ms());
    assert!((500..=5000).contains(&events.retry_ms().unwrap()), "{why}");
}

#[tokio::test]
async fn a_passing_trouble_never_costs_a_browser_its_stream() {
    let app = TestApp::with(|config| {
        config.streams.max_streams = 2;
        config.streams.max_streams_per_channel = 1;
    })
    .await;
    let path = app.submit(json!({})).await;
    let watching = app.watch(&path, None).await;
    refused(app.watch(&path, None).await, "too_many_streams").await;
    let other = app.submit(json!({})).await;
    let also_watching = app.watch(&other, None).await;
    refused(app.watch(&other, None).await, "too_many_streams").await;
    drop((watching, also_watching));

    app.journal.close().await.unwrap();
    refused(app.watch(&path, None).await, "store_unavailable").await;
    let creating = app.post("/api/tasks").header("accept", "text/event-stream").json(&json!({}));
    refused(creating.events().await, "store_unavailable").await;
    refused(app.watch(&format!("/api/tasks/{}", Uuid::now_v7()), None).await, "store_unavailable").await;
    app.service.app.tracker.drain();
    refused(app.watch(&path, None).await, "stopping").await;
}

#[tokio::test]
async fn refused_streams_keep_no_connection_from_those_who_report() {
    let app = TestApp::with(|config| {
        config.connections.max_connections = 2;
        config.streams.max_streams = 1;
    });
    let app = app.await.listening().await;
    let path = app.submit(json!({})).await;
    let watched = reqwest::get(app.url(&format!("{path}/progress"))).await.unwrap();
    // Each keeps its connection for as long as it is let.
    let browsers: Vec<_> = (0..8).map(|_| reqwest::Client::new()).collect();
    for browser in &browsers {
        let refused = browser.get(app.url(&format!("{path}/progress"))).send().await.unwrap();
        assert!(refused.text().await.unwrap().contains("event: refused"));
    }
    let report = reqwest::Client::new().patch(app.url(&path)).form(&[("progress", "40")]).send();
    let report = tokio::time::timeout(Duration::from_secs(20), report).await.expect("a place is free");
    assert_eq!(report.unwrap().status(), 200);
    drop((watched, browsers));
}

#[tokio::test]
async fn a_stream_ends_after_its_last_event_when_the_service_stops() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    let mut events = app.watch(&path, None).await;
    events.state().await;
    app.tick(&path, 7).await;
    app.service.app.tracker.drain();
    assert_eq!(events.state().await["progress"], 7.0);
    assert!(events.next().await.is_none());
    assert!((500..=5000).contains(&events.retry_ms().unwrap()), "it is told to come back spread out");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_gets_a_comment_every_15_seconds() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    let mut events = app.watch(&path, None).await;
    events.state().await;
    let started = tokio::time::Instant::now();
    for beat in 1..=3 {
        assert_eq!(events.bytes().await.unwrap(), ":\n\n");
        assert_eq!((started.elapsed(), events.comments()), (Duration::from_secs(15 * beat), beat as usize));
    }
}

#[tokio::test]
async fn a_watcher_who_hangs_up_leaves_nothing_behind() {
    let app = TestApp::on_socket().await;
    let path = app.submit(json!({})).await;
    let mut response = reqwest::get(app.url(&format!("{path}/progress"))).await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    assert_eq!(app.service.app.metrics.streams_open.get(), 1);
    drop(response);
    while app.service.app.metrics.streams_open.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(app.service.app.tracker.streams(), 0);
}
