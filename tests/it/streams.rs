//! Streams of several channels over HTTP: one connection, one cursor, and a long poll for places where streams do not pass.

use serde_json::{Value, json};

use crate::support::TestApp;

fn channels(paths: &[&str]) -> String {
    let channels = paths.iter().map(|path| format!("channel=task:{}", path.rsplit('/').next().unwrap()));
    channels.collect::<Vec<_>>().join("&")
}

#[tokio::test]
async fn several_tasks_and_a_user_come_on_one_stream_and_one_cursor_resumes_them() {
    let app = TestApp::in_process().await;
    let (one, two) = (app.submit(json!({"title": "one"})).await, app.submit(json!({"title": "two"})).await);
    let url = format!("/api/stream?{}&channel=user:alice", channels(&[&one, &two]));
    let mut events = app.get(&url).header("accept", "text/event-stream").events().await;
    let mut shown = Vec::new();
    for _ in 0..2 {
        let event = events.next().await.unwrap();
        let addressed: Value = serde_json::from_str(&event.data).unwrap();
        shown.push((event.event, addressed["data"]["title"].clone(), event.id));
    }
    assert_eq!((shown[0].0.as_str(), &shown[0].1, shown[0].2.as_str()), ("message", &json!("one"), ""), "no id yet");
    assert_eq!(shown[1].1, "two");
    assert!(!shown[1].2.is_empty(), "the last state carries where the stream stands");
    let user = app.get("/api/users/alice").send().await.json();
    assert_eq!(user["status"], "connected");

    app.report(&two, json!({"status": "processing", "message": "a"})).await;
    let event = events.next().await.unwrap();
    let addressed: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(
        (&addressed["channel"], &addressed["data"]["message"]),
        (&json!(format!("task:{}", &two[11..])), &json!("a"))
    );
    drop(events);
    app.report(&one, json!({"status": "completed"})).await;
    app.report(&two, json!({"status": "error", "error": "no"})).await;
    let tasks = format!("/api/stream?{}&dialect=progress", channels(&[&one, &two]));
    let mut rest = app.get(&tasks).header("last-event-id", &event.id).events().await;
    let rest = rest.rest().await;
    let states: Vec<Value> = rest.iter().map(|event| serde_json::from_str(&event.data).unwrap()).collect();
    let statuses: Vec<_> = states.iter().map(|state| state["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["completed", "error"], "each once, in order, then the end");
    assert!(rest.iter().all(|event| event.event == "progress" && event.data.contains(&event.id)));
    let last = &rest.last().unwrap().id;
    assert_eq!(app.get(&tasks).header("last-event-id", last).send().await.status(), 204);
}

#[tokio::test]
async fn a_cursor_of_no_use_resets_each_channel() {
    let app = TestApp::in_process().await;
    let task = app.submit(json!({})).await;
    let url = format!("/api/stream?{}&lastEventId=otherone-7&dialect=named", channels(&[&task]));
    let mut events = app.get(&url).events().await;
    let reset = events.next().await.unwrap();
    assert_eq!((reset.event.as_str(), reset.data), ("reset", format!("{{\"channel\":\"task:{}\"}}", &task[11..])));
    let state = events.next().await.unwrap();
    assert_eq!(state.event, "progress");
    assert!(!state.id.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_same_url_is_a_long_poll() {
    let app = TestApp::in_process().await;
    let task = app.submit(json!({"total": 10})).await;
    let url = format!("/api/stream?{}", channels(&[&task]));
    let poll = async |cursor: &str| {
        let url = format!("{url}&lastEventId={cursor}");
        app.get(&url).header("accept", "application/json").header("prefer", "wait=5").send().await.json()
    };
    let first = poll("").await;
    assert_eq!(first["events"][0]["data"]["status"], "pending");
    assert_eq!((&first["ended"], &first["reset"]), (&json!(false), &json!([])));
    let cursor = first["cursor"].as_str().unwrap();
    let nothing = poll(cursor).await;
    assert_eq!((&nothing["events"], &nothing["cursor"]), (&json!([]), &json!(cursor)), "it waited in vain");

    let (waiting, _) = tokio::join!(poll(cursor), app.report(&task, json!({"current": 1})));
    assert_eq!(waiting["events"][0]["event"], "progress");
    assert_eq!(waiting["events"][0]["data"]["current"], 1);
    app.report(&task, json!({"status": "completed"})).await;
    let last = poll(waiting["cursor"].as_str().unwrap()).await;
    assert_eq!((&last["events"][0]["data"]["status"], &last["ended"]), (&json!("completed"), &json!(true)));
    assert_eq!(poll("elsewhere-1").await["reset"], json!([format!("task:{}", &task[11..])]));
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let app = TestApp::in_process().await;
    let task = app.submit(json!({})).await;
    let unknown = format!("channel=task:{}", uuid::Uuid::now_v7());
    let many: Vec<_> = (0..101).map(|nth| format!("channel=user:u{nth}")).collect();
    for (query, status) in [
        ("", 422),
        ("channel=", 422),
        ("channel=task:7", 422),
        ("channel=key:0199c0de-0000-7000-8000-000000000001", 422),
        ("channel=user:a%20b", 422),
        ("channel=user:a&colour=red", 400),
        ("channel=user:a&dialect=morse", 422),
        (&unknown, 404),
        (&many.join("&"), 422),
    ] {
        assert_eq!(app.get(&format!("/api/stream?{query}")).send().await.status(), status, "{query}");
    }
    let url = format!("/api/stream?{}&channel=user%3Aalice", channels(&[&task]));
    assert_eq!(app.get(&url).header("accept", "image/png").send().await.status(), 406);
    let streams = app.service.app.tracker.streams();
    let _events = app.get(&url).events().await;
    assert_eq!(app.service.app.tracker.streams(), streams + 1, "one place, however many channels");
}
