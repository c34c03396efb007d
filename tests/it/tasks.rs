//! Submitting, reading, listing, reporting, cancelling, forgetting.

use std::time::Duration;

use progressd::{
    event::Timestamp,
    task::{Intent, Lease},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::{Answer, TestApp};

fn id_of(path: &str) -> Uuid {
    path.rsplit_once('/').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn a_task_is_submitted_reported_on_and_watched_on_a_socket() {
    let app = TestApp::on_socket().await;
    let client = reqwest::Client::new();
    let submitted = client.post(app.url("/api/tasks")).json(&json!({ "title": "Import" })).send().await.unwrap();
    assert_eq!(submitted.status(), 202);
    let path = submitted.headers()["location"].to_str().unwrap().to_owned();
    let watching = client.get(app.url(&format!("{path}/progress"))).send().await.unwrap();
    assert_eq!(watching.status(), 200);
    let report = client.patch(app.url(&path)).form(&[("progress", "40"), ("message", "half")]).send().await.unwrap();
    assert_eq!(report.status(), 200);
    let end = client.patch(app.url(&path)).json(&json!({ "status": "completed" })).send().await.unwrap();
    assert_eq!(end.status(), 200);
    let stream = watching.text().await.unwrap();
    assert!(stream.starts_with("retry: 2000\n\nevent: progress"), "{stream}");
    assert!(stream.contains("\"progress\":40.0") && stream.contains("\"message\":\"half\""), "{stream}");
    assert!(stream.contains("\"status\":\"completed\""), "{stream}");
}

#[tokio::test]
async fn what_is_submitted_can_be_read_at_once() {
    let app = TestApp::in_process().await;
    let task = json!({
        "kind": "import", "title": "Täglich", "userId": "alice", "queue": "slow", "total": 20, "unit": "rows",
        "steps": [{ "name": "read" }, { "name": "write", "weight": 3 }],
        "input": { "from": [1, null] }, "metadata": { "a": "b" }, "maxAttempts": 2,
    });
    let submitted = app.post("/api/tasks").json(&task).send().await;
    assert_eq!(submitted.status(), 202);
    let read = app.get(submitted.header("location")).send().await;
    assert_eq!((read.status(), read.header("content-type")), (200, "application/json"));
    assert_eq!(read.header("cache-control"), "no-cache");
    assert_eq!(read.json(), submitted.json());
    assert_eq!(read.header("etag"), format!("\"{}\"", read.json()["cursor"].as_str().unwrap()));

    let read = read.json();
    for (member, value) in task.as_object().unwrap() {
        if member != "steps" {
            assert_eq!(read[member], *value, "{member}");
        }
    }
    assert_eq!(read["steps"][1], json!({ "name": "write", "weight": 3.0, "progress": 0.0 }));
    assert_eq!((&read["status"], &read["progress"]), (&json!("pending"), &json!(0.0)));
    assert_eq!(read.get("message"), None, "absent instead of null");
    assert_eq!(submitted.header("location"), format!("/api/tasks/{}", read["taskId"].as_str().unwrap()));
}

#[tokio::test]
async fn a_submitter_may_do_the_work() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({ "start": true })).await;
    assert_eq!(app.get(&path).send().await.json()["status"], "processing");
}

#[tokio::test]
async fn the_same_key_gives_the_same_task() {
    let app = TestApp::in_process().await;
    let submit = async |key: &str, title: &str| {
        app.post("/api/tasks").header("idempotency-key", key).json(&json!({ "title": title })).send().await
    };
    let first = submit("k1", "a").await;
    let again = submit("k1", "a").await;
    assert_eq!((again.status(), again.header("location")), (202, first.header("location")));
    assert_ne!(submit("k2", "a").await.header("location"), first.header("location"));
    assert_eq!(submit("k1", "b").await.refusal(), "422 idempotency_mismatch");
    app.report(first.header("location"), json!({ "status": "completed" })).await;
    assert_eq!(submit("k1", "a").await.json()["status"], "completed");
    for key in ["", " ", "a b", "é", &"x".repeat(257)] {
        assert_eq!(submit(key, "a").await.refusal(), "400 malformed_request idempotency-key", "{key:?}");
    }
    assert_eq!(submit(&"x".repeat(256), "a").await.status(), 202);
    let twice = app.post("/api/tasks").header("idempotency-key", "a").header("idempotency-key", "a");
    assert_eq!(twice.json(&json!({})).send().await.refusal(), "400 malformed_request idempotency-key");
}

#[tokio::test]
async fn a_client_may_choose_the_id() {
    let app = TestApp::in_process().await;
    let path = format!("/api/tasks/{}", Uuid::now_v7());
    let put = async |body: Value| app.request("PUT", &path).json(&body).send().await;
    assert_eq!(app.get(&path).send().await.refusal(), "404 task_not_found");
    let made = put(json!({ "title": "a" })).await;
    assert_eq!((made.status(), made.header("location")), (202, path.as_str()));
    let again = put(json!({ "title": "a" })).await;
    assert_eq!((again.status(), again.json()), (200, made.json()));
    assert_eq!(put(json!({ "title": "b" })).await.refusal(), "422 idempotency_mismatch");
    app.report(&path, json!({ "status": "completed" })).await;
    assert_eq!(put(json!({ "title": "a" })).await.status(), 200);
    assert_eq!(app.request("DELETE", &path).send().await.status(), 204);
    assert_eq!(put(json!({ "title": "a" })).await.refusal(), "410 task_gone");
    for id in ["x", "00000000-0000-0000-0000-000000000000", "0199c0de00007000800000000000abcd"] {
        let refused = app.request("PUT", &format!("/api/tasks/{id}")).json(&json!({})).send().await;
        assert_eq!(refused.refusal(), "422 invalid taskId", "{id}");
    }
}

#[tokio::test]
async fn a_task_is_submitted_and_watched_in_one_call() {
    let app = TestApp::in_process().await;
    let mut events = app.post("/api/tasks").header("accept", "text/event-stream").json(&json!({})).events().await;
    assert_eq!((events.status(), &events.headers["content-type"]), (200, &"text/event-stream".parse().unwrap()));
    let path = events.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(events.state().await["status"], "pending");
    app.report(&path, json!({ "status": "completed" })).await;
    assert_eq!(events.rest().await.len(), 1);
    let put = app.request("PUT", &path).header("accept", "text/event-stream").json(&json!({})).events().await;
    assert_eq!(put.status(), 200);
}

/// The ids on all pages of a list.
async fn walk(app: &TestApp, query: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut page = String::new();
    loop {
        let answer = app.get(&format!("/api/tasks?{query}&page={page}")).send().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let list = answer.json();
        ids.extend(list["tasks"].as_array().unwrap().iter().map(|task| task["taskId"].as_str().unwrap().to_owned()));
        match list.get("nextPage") {
            Some(next) => page = next.as_str().unwrap().to_owned(),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn the_list_is_paged_newest_first_and_filtered() {
    let app = TestApp::in_process().await;
    let mut ids = Vec::new();
    for (kind, user) in [("a", "alice"), ("b", "alice"), ("a", "bob"), ("c", "bob"), ("a", "bob")] {
        let path = app.submit(json!({ "kind": kind, "userId": user, "queue": format!("q-{kind}") })).await;
        ids.insert(0, id_of(&path).to_string());
    }
    app.report(&format!("/api/tasks/{}", ids[0]), json!({ "status": "completed" })).await;
    let pick = |indices: &[usize]| indices.iter().map(|index| ids[*index].clone()).collect::<Vec<_>>();
    for limit in [1, 2, 5, 500] {
        assert_eq!(walk(&app, &format!("limit={limit}")).await, ids, "{limit}");
    }
    assert_eq!(walk(&app, "status=&kind=&userId=&queue=&limit=").await, ids);
    assert_eq!(walk(&app, "kind=a").await, pick(&[0, 2, 4]));
    assert_eq!(walk(&app, "kind=a&userId=bob&limit=1").await, pick(&[0, 2]));
    assert_eq!(walk(&app, "status=completed,error").await, pick(&[0]));
    assert_eq!(walk(&app, "status=pending&queue=q-b,q-c").await, pick(&[1, 3]));
    assert_eq!(walk(&app, "userId=nobody").await, Vec::<String>::new());
    let list = app.get("/api/tasks").send().await.json();
    assert_eq!(list["tasks"][0], app.get(&format!("/api/tasks/{}", ids[0])).send().await.json());
}

#[tokio::test]
async fn a_page_of_large_tasks_ends_early() {
    let app = TestApp::in_process().await;
    let mut ids = Vec::new();
    for _ in 0..75 {
        let path = app.submit(json!({ "metadata": "x".repeat(60_000) })).await;
        ids.insert(0, id_of(&path).to_string());
    }
    let first = app.get("/api/tasks?limit=500").send().await;
    assert!((4_000_000..5_000_000).contains(&first.body.len()), "{}", first.body.len());
    assert_eq!(walk(&app, "limit=500").await, ids);
    assert_eq!(walk(&app, "limit=60").await, ids);
}

#[tokio::test]
async fn a_list_that_cannot_be_given_is_refused() {
    let app = TestApp::in_process().await;
    let many = format!("kind={}", ["a"; 51].join(","));
    for (query, refusal) in [
        ("status=done", "422 invalid status"),
        ("status=pending,", "422 invalid status"),
        ("kind=a%20b", "422 invalid kind"),
        ("userId=a/b", "422 invalid userId"),
        ("queue=%00", "422 invalid queue"),
        ("limit=0", "422 invalid limit"),
        ("limit=501", "422 invalid limit"),
        ("limit=-1", "422 invalid limit"),
        ("limit=99999999999999999999", "422 invalid limit"),
        ("page=x", "422 invalid page"),
        ("page=zzzzzzzz-1", "422 invalid page"),
        (&many, "422 invalid kind"),
        ("colour=red", "400 unknown_parameter colour"),
        ("limit=1&limit=2", "400 malformed_request limit"),
        ("kind=%ff", "400 malformed_request"),
        ("kind=%4", "400 malformed_request"),
    ] {
        assert_eq!(app.get(&format!("/api/tasks?{query}")).send().await.refusal(), refusal, "{query}");
    }
}

#[tokio::test]
async fn an_etag_tells_whether_anything_has_changed() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    let etag = app.get(&path).send().await.header("etag").to_owned();
    let ask = async |etag: &str| app.get(&path).header("if-none-match", etag).send().await;
    let same = ask(&etag).await;
    assert_eq!((same.status(), same.header("etag"), same.body.len()), (304, etag.as_str(), 0));
    assert_eq!(ask(&format!("\"x\", W/{etag}")).await.status(), 304);
    assert_eq!(ask("*").await.status(), 304);
    assert_eq!(ask("\"zzzzzzzz-1\"").await.status(), 200);
    // What nobody is shown, such as the claim of a lease's renewal, does not move it; a report does.
    app.report(&path, json!({ "progress": 5 })).await;
    assert_eq!(ask(&etag).await.status(), 200);
}

async fn long_poll(app: &TestApp, path: &str, etag: &str, prefer: &str) -> (Answer, Duration) {
    let started = Instant::now();
    let answer = app.get(path).header("if-none-match", etag).header("prefer", prefer).send().await;
    (answer, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_waits_for_the_next_change_and_no_longer() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    let etag = app.get(&path).send().await.header("etag").to_owned();
    let (answer, waited) = long_poll(&app, &path, &etag, "wait=30").await;
    assert_eq!((answer.status(), waited.as_secs()), (304, 30));
    assert_eq!(answer.header("preference-applied"), "wait=30");
    let (answer, waited) = long_poll(&app, &path, &etag, "wait=3600").await;
    assert_eq!((answer.header("preference-applied"), waited.as_secs()), ("wait=60", 60));

    let report = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        app.report(&path, json!({ "progress": 10 })).await
    };
    let ((answer, waited), _) = tokio::join!(long_poll(&app, &path, &etag, "wait=30"), report);
    assert_eq!((answer.status(), waited.as_secs()), (200, 7));
    assert_eq!(answer.json()["progress"], 10.0);
    let (answer, waited) = long_poll(&app, &path, &etag, "wait=30").await;
    assert_eq!((answer.status(), waited), (200, Duration::ZERO), "what has changed already is answered at once");
    assert!(!answer.has_header("preference-applied"));

    app.report(&path, json!({ "status": "completed" })).await;
    let etag = app.get(&path).send().await.header("etag").to_owned();
    let (answer, waited) = long_poll(&app, &path, &etag, "wait=30").await;
    assert_eq!((answer.status(), waited), (304, Duration::ZERO), "nothing follows the end");
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_knows_what_other_nodes_have_told() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    let other = app.beside().await;
    // What is watched is known from memory.
    let _watching = app.get(&format!("{path}/progress")).events().await;
    let old = app.get(&path).send().await.header("etag").to_owned();
    other.report(&path, json!({ "progress": 10 })).await;
    let new = other.get(&path).send().await.header("etag").to_owned();
    let (answer, waited) = long_poll(&app, &path, &old, "wait=30").await;
    assert_eq!((answer.status(), waited.as_secs()), (200, 30), "nothing is said to be as it was that is not");
    assert_eq!(answer.json()["progress"], 10.0);
    let (answer, waited) = long_poll(&app, &path, &new, "wait=30").await;
    assert_eq!((answer.status(), waited.as_secs(), answer.header("etag")), (304, 30, &*new), "not the older state");
    let (answer, waited) = long_poll(&app, &path, &old, "wait=30").await;
    assert_eq!((answer.status(), waited.as_secs()), (200, 0), "the cursor has told that there is more to be heard");
}

#[tokio::test]
async fn a_long_poll_that_finds_no_place_says_so() {
    let app = TestApp::with(|config| config.streams.max_streams = 1).await;
    let path = app.submit(json!({})).await;
    let etag = app.get(&path).send().await.header("etag").to_owned();
    let watching = app.get(&format!("{path}/progress")).events().await;
    let (answer, _) = long_poll(&app, &path, &etag, "wait=30").await;
    assert_eq!((answer.refusal().as_str(), answer.header("retry-after")), ("503 too_many_streams", "1"));
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(app.get(&path).header("if-none-match", &etag).send().await.status(), 304, "who does not wait is served");
    drop(watching);
}

#[tokio::test]
async fn pages_end_by_their_bytes_too() {
    let app = TestApp::with(|config| config.http.max_page_bytes = 2_500).await;
    for _ in 0..5 {
        app.submit(json!({ "metadata": "x".repeat(1_000) })).await;
    }
    let (mut sizes, mut page) = (Vec::new(), String::new());
    loop {
        let answer = app.get(&format!("/api/tasks?limit=500{page}")).send().await.json();
        sizes.push(answer["tasks"].as_array().unwrap().len());
        let Some(next) = answer["nextPage"].as_str() else { break };
        page = format!("&page={next}");
    }
    assert_eq!(sizes, [2, 2, 1]);
}

#[tokio::test]
async fn a_report_is_json_or_a_form() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    let json = app.report(&path, json!({ "progress": 12.5, "message": "a", "current": 3, "total": 9 })).await.json();
    assert_eq!(
        (&json["status"], &json["progress"], &json["message"]),
        (&"processing".into(), &12.5.into(), &"a".into())
    );
    assert_eq!((&json["directive"], &json["minIntervalMs"]), (&"continue".into(), &1.into()));
    let form = app.patch(&path).form("progress=40&message=half+way&current=4").send().await;
    assert_eq!((form.status(), form.json()["progress"].as_f64()), (200, Some(40.0)));
    assert_eq!(form.json()["message"], "half way");
    assert_eq!(form.header("etag"), format!("\"{}\"", form.json()["cursor"].as_str().unwrap()));
    let lower = app.report(&path, json!({ "progress": 1 })).await.json();
    assert_eq!(lower["progress"], 40.0, "progress never falls");
    let end = app.patch(&path).form("status=completed&result=%7B%22rows%22%3A9%7D").send().await.json();
    assert_eq!((&end["progress"], &end["result"]), (&100.0.into(), &json!({ "rows": 9 })));
    let after = app.patch(&path).json(&json!({ "progress": 50 })).send().await;
    assert_eq!(after.refusal(), "409 task_final");
    assert!(after.text().contains("completed"), "{}", after.text());
}

#[tokio::test]
async fn a_report_that_does_not_fit_names_its_member() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({ "steps": [{ "name": "a" }] })).await;
    for (report, refusal) in [
        (json!({ "progress": 101 }), "422 invalid progress"),
        (json!({ "progress": "40" }), "422 invalid progress"),
        (json!({ "step": 1 }), "422 invalid step"),
        (json!({ "result": 1 }), "422 invalid result"),
        (json!({ "status": "processing", "error": "x" }), "422 invalid error"),
        (json!({ "status": "pending" }), "422 invalid status"),
        (json!({ "message": "x".repeat(1025) }), "422 invalid message"),
        (json!({ "colour": 1 }), "422 invalid colour"),
        (json!(["processing", 5]), "422 invalid"),
    ] {
        assert_eq!(app.patch(&path).json(&report).send().await.refusal(), refusal, "{report}");
    }
    assert_eq!(app.get(&path).send().await.json()["status"], "pending", "nothing of a refused report is taken");
    let unknown = format!("/api/tasks/{}", Uuid::now_v7());
    assert_eq!(app.patch(&unknown).form("progress=1").send().await.refusal(), "404 task_not_found");
}

#[tokio::test]
async fn only_the_holder_of_a_lease_reports() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({ "kind": "render" })).await;
    let token = Uuid::new_v4();
    let expires_at = app.service.app.tracker.clock().now() + Duration::from_secs(60);
    let lease = Lease { holder: "w1".into(), token, expires_at };
    app.service.app.tracker.submit(id_of(&path), Intent::Claim(lease)).await.unwrap();
    let report = async |token: &str| app.patch(&path).header("lease-token", token).form("progress=1").send().await;
    assert_eq!(app.patch(&path).form("progress=1").send().await.refusal(), "409 task_leased");
    assert_eq!(report(&Uuid::new_v4().to_string()).await.refusal(), "409 task_leased");
    assert_eq!(report("x").await.refusal(), "400 malformed_request lease-token");
    assert_eq!(report(&token.to_string()).await.status(), 200);
    let free = app.submit(json!({})).await;
    let lost = app.patch(&free).header("lease-token", &token.to_string()).form("progress=1").send().await;
    assert_eq!(lost.refusal(), "409 lease_lost");
    assert!(!app.get(&path).send().await.text().contains(&token.to_string()), "a token is told to nobody");
    assert!(expires_at > Timestamp::from_millis(0));
}

#[tokio::test]
async fn a_task_is_cancelled() {
    let app = TestApp::in_process().await;
    let cancel = async |path: &str| app.post(&format!("{path}/cancel")).send().await;
    let pending = app.submit(json!({})).await;
    assert_eq!(cancel(&pending).await.json()["status"], "cancelled");
    let again = cancel(&pending).await;
    assert_eq!((again.status(), again.json()["status"].as_str()), (200, Some("cancelled")));

    let running = app.submit(json!({ "start": true })).await;
    assert_eq!(cancel(&running).await.json()["status"], "cancelling");
    assert_eq!(app.report(&running, json!({ "progress": 5 })).await.json()["directive"], "cancel");
    let end = app.report(&running, json!({ "status": "cancelled" })).await.json();
    assert_eq!(end["status"], "cancelled");

    let done = app.submit(json!({})).await;
    app.report(&done, json!({ "status": "completed" })).await;
    assert_eq!(cancel(&done).await.refusal(), "409 task_final");
    assert_eq!(cancel(&format!("/api/tasks/{}", Uuid::now_v7())).await.refusal(), "404 task_not_found");
}

#[tokio::test]
async fn only_a_finished_task_is_forgotten() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    let delete = async || app.request("DELETE", &path).send().await;
    assert_eq!(delete().await.refusal(), "409 task_not_finished");
    app.report(&path, json!({ "status": "error", "error": { "code": "no_file", "detail": "No such file" } })).await;
    assert_eq!(app.get(&path).send().await.json()["error"]["code"], "no_file");
    let deleted = delete().await;
    assert_eq!((deleted.status(), deleted.body.len()), (204, 0));
    for method in ["GET", "DELETE", "PATCH"] {
        let gone = app.request(method, &path).json(&json!({ "progress": 1 })).send().await;
        assert_eq!(gone.refusal(), "410 task_gone", "{method}");
    }
    assert_eq!(app.get("/api/tasks").send().await.json()["tasks"], json!([]));
}
