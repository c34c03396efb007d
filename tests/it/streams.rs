//! Streams of several channels and live lists over HTTP: one connection, one cursor; and a long poll for places where streams do
//! not pass.

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

#[tokio::test(start_paused = true)]
async fn a_live_list_begins_with_a_page_and_tells_what_enters_changes_and_leaves() {
    let app = TestApp::in_process().await;
    let other = app.submit(json!({"kind": "other", "start": true})).await;
    let task = app.submit(json!({"kind": "import", "total": 10})).await;
    let url = "/api/tasks?kind=import&status=pending,processing";
    let live = async |cursor: &str| {
        app.get(url).header("accept", "text/event-stream").header("last-event-id", cursor).events().await
    };
    let mut events = live("").await;
    let page = events.next().await.unwrap();
    let body: Value = serde_json::from_str(&page.data).unwrap();
    assert_eq!((page.event.as_str(), body["tasks"].as_array().unwrap().len()), ("page", 1));
    assert_eq!((&body["counts"]["pending"], &body["counts"]["processing"]), (&json!(1), &json!(1)), "over all tasks");

    for current in 1..=5 {
        app.report(&task, json!({"current": current})).await;
        app.report(&other, json!({"progress": current})).await;
    }
    let changed = events.next().await.unwrap();
    let state: Value = serde_json::from_str(&changed.data).unwrap();
    assert_eq!((changed.event.as_str(), &state["current"]), ("progress", &json!(5)), "the latest of each task");
    assert_eq!(state["cursor"], changed.id);
    let counts = events.next().await.unwrap();
    let counted: Value = serde_json::from_str(&counts.data).unwrap();
    assert_eq!((counts.event.as_str(), &counted["processing"], &counted["pending"]), ("counts", &json!(2), &json!(0)));

    drop(events);
    let entered = app.submit(json!({"kind": "import"})).await;
    app.report(&task, json!({"status": "completed"})).await;
    app.request("DELETE", &entered).send().await;
    let mut events = live(&changed.id).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = events.next().await.unwrap();
        if event.event != "counts" {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            told.push((data["taskId"].as_str().unwrap().to_owned(), data["status"].clone(), event.id));
        }
    }
    assert_eq!(
        (&told[0].0, &told[0].1),
        (&entered[11..].to_owned(), &json!("pending")),
        "not finished, so not deleted"
    );
    assert_eq!((&told[1].0, &told[1].1), (&task[11..].to_owned(), &json!("completed")), "it leaves the list");
    app.post(&format!("{entered}/cancel")).send().await;
    app.request("DELETE", &entered).send().await;
    assert_eq!(events.next().await.unwrap().event, "progress");
    let mut all = app.get("/api/tasks").header("accept", "text/event-stream").events().await;
    let page: Value = serde_json::from_str(&all.next().await.unwrap().data).unwrap();
    assert_eq!(page["tasks"].as_array().unwrap().len(), 2);
    app.request("DELETE", &task).send().await;
    let removed = all.next().await.unwrap();
    let told: Value = serde_json::from_str(&removed.data).unwrap();
    assert_eq!((removed.event.as_str(), &told["taskId"]), ("removed", &json!(&task[11..])));
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_too_late_to_a_live_list_gets_a_new_page() {
    let app = TestApp::in_process().await;
    let task = app.submit(json!({})).await;
    let live = async |cursor: &str| {
        app.get("/api/tasks").header("accept", "text/event-stream").header("last-event-id", cursor).events().await
    };
    let mut events = live("").await;
    let cursor = events.next().await.unwrap().id;
    drop(events);
    app.report(&task, json!({"progress": 1})).await;
    let mut events = live(&cursor).await;
    assert_eq!(events.next().await.unwrap().event, "progress", "it goes on for a while");
    drop(events);
    tokio::time::sleep(std::time::Duration::from_secs(70)).await;
    app.report(&task, json!({"progress": 2})).await;
    for cursor in [cursor.as_str(), "elsewhere-1", "?"] {
        let mut events = live(cursor).await;
        assert_eq!(events.next().await.unwrap().event, "reset", "{cursor}");
        assert_eq!(events.next().await.unwrap().event, "page", "{cursor}");
    }
    let mut events = live("").await;
    events.next().await.unwrap();
    app.service.app.tracker.drain();
    assert!(events.rest().await.iter().all(|event| event.event == "counts"), "it ends in order");
    assert!(events.retry_ms().is_some_and(|retry_ms| retry_ms >= 500));
}

#[tokio::test]
async fn the_list_counts_all_tasks_by_status() {
    let app = TestApp::in_process().await;
    for status in ["completed", "completed", "error"] {
        let task = app.submit(json!({})).await;
        app.report(&task, json!({"status": status})).await;
    }
    app.submit(json!({"start": true})).await;
    let gone = app.submit(json!({"start": true})).await;
    app.report(&gone, json!({"status": "completed"})).await;
    app.request("DELETE", &gone).send().await;
    let counts = app.get("/api/tasks?limit=1&status=error").send().await.json()["counts"].clone();
    let expected = json!({"pending": 0, "processing": 1, "cancelling": 0, "completed": 2, "error": 1, "cancelled": 0});
    assert_eq!(counts, expected);
}
