//! A person sees and changes what is theirs, and nothing else.

use progressd::{access::Scope, event::ChannelName, journal::Journal};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{guarded, token};
use crate::support::{Answer, TestApp};

async fn submit(app: &TestApp, credential: &str, task: Value) -> Value {
    let answer = app.post("/api/tasks").bearer(credential).json(&task).send().await;
    assert_eq!(answer.status(), 202, "{answer:?}");
    answer.json()
}

fn ids(page: &Answer) -> Vec<String> {
    let page = page.json();
    page["tasks"].as_array().unwrap().iter().map(|task| task["taskId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_owner_of_a_task_comes_from_the_token() {
    let app = guarded().await;
    let task = submit(&app, &token("alice"), json!({ "userId": "bob" })).await;
    assert_eq!(task["userId"], "alice");
    let put = app.request("PUT", "/api/tasks/0199c0de-0000-7000-8000-000000000001").bearer(&token("alice"));
    assert_eq!(put.json(&json!({ "userId": "bob" })).send().await.json()["userId"], "alice");
    let upload = app.post("/api/tasks/upload?userId=bob").bearer(&token("alice"));
    let form = "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhello\r\n--X--\r\n";
    let upload = upload.body("multipart/form-data; boundary=X", form).send().await;
    let uploaded = app.get(upload.header("location")).bearer(&token("alice")).send().await;
    assert_eq!(uploaded.json()["userId"], "alice");
    let program = app.key(&[Scope::Submit]);
    assert_eq!(submit(&app, &program, json!({ "userId": "bob" })).await["userId"], "bob");
}

#[tokio::test]
async fn what_is_another_persons_is_not_there() {
    let app = guarded().await;
    let task = submit(&app, &token("alice"), json!({ "kind": "upload" })).await;
    let id = task["taskId"].as_str().unwrap();
    let bob = token("bob");
    let never = app.get("/api/tasks/0199c0de-0000-7000-8000-00000000000f").bearer(&bob).send().await;
    let path = format!("/api/tasks/{id}");
    for (method, path) in [
        ("GET", path.clone()),
        ("GET", format!("{path}/progress")),
        ("GET", format!("{path}/file")),
        ("PATCH", path.clone()),
        ("PUT", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/cancel")),
    ] {
        let answer = app.request(method, &path).bearer(&bob).json(&json!({})).send().await;
        assert_eq!(answer.text(), never.text(), "{method} {path}");
    }
    let upload = app.post(&format!("/api/tasks/upload?taskId={id}")).bearer(&bob);
    let upload = upload.body("multipart/form-data; boundary=X", "--X--\r\n").send().await;
    assert_eq!(upload.refusal(), "404 task_not_found");
    for channels in [format!("task:{id}"), format!("user:bob&channel=task:{id}"), "user:alice".to_owned()] {
        let answer = app.get(&format!("/api/stream?channel={channels}")).bearer(&bob).send().await;
        assert_eq!(answer.status(), 404, "{channels}");
    }
    for path in ["/api/tasks/none/progress", "/sse/connect/a%20b", "/sse/connect/%ff"] {
        assert_eq!(app.get(path).bearer(&bob).send().await.status(), 404, "{path}");
    }
    // A task that was deleted looks as if it had never been.
    let alice = token("alice");
    assert_eq!(app.post(&format!("{path}/cancel")).bearer(&alice).send().await.status(), 200);
    assert_eq!(app.request("DELETE", &path).bearer(&alice).send().await.status(), 204);
    assert_eq!(app.get(&path).bearer(&bob).send().await.text(), never.text());
}

#[tokio::test]
async fn a_key_that_repeats_a_request_is_nobody_elses() {
    let app = guarded().await;
    let create = async |user: &str| {
        let asking = app.post("/api/tasks").bearer(&token(user)).header("idempotency-key", "same");
        asking.json(&json!({ "title": "a" })).send().await
    };
    let (first, again, other) = (create("alice").await, create("alice").await, create("bob").await);
    assert_eq!(first.json()["taskId"], again.json()["taskId"]);
    assert_eq!((other.status(), other.json()["userId"].as_str()), (202, Some("bob")));
}

#[tokio::test]
async fn a_list_has_the_persons_own_tasks_only() {
    let app = guarded().await;
    let (alice, bob) = (token("alice"), token("bob"));
    let own = submit(&app, &alice, json!({ "kind": "a" })).await["taskId"].as_str().unwrap().to_owned();
    let others = submit(&app, &bob, json!({ "kind": "a" })).await["taskId"].as_str().unwrap().to_owned();
    for query in ["", "?kind=a", "?userId=alice", "?userId=alice,bob", "?limit=1"] {
        let page = app.get(&format!("/api/tasks{query}")).bearer(&alice).send().await;
        assert_eq!(ids(&page), [own.as_str()], "{query}");
        assert!(page.json().get("counts").is_none(), "counts are of all tasks");
    }
    assert_eq!(ids(&app.get("/api/tasks?userId=bob").bearer(&alice).send().await), [""; 0]);
    let all = app.get("/api/tasks").bearer(&app.key(&[Scope::Read])).send().await;
    assert_eq!(ids(&all), [others, own]);
    assert_eq!(all.json()["counts"]["pending"], 2);
}

#[tokio::test]
async fn a_live_list_tells_of_the_persons_own_tasks_only() {
    let app = guarded().await;
    let (alice, bob) = (token("alice"), token("bob"));
    let asking = app.get("/api/tasks").header("accept", "text/event-stream").bearer(&alice);
    let mut events = asking.events().await;
    let page = events.next().await.unwrap();
    assert_eq!((page.event.as_str(), page.data.contains("counts")), ("page", false));
    submit(&app, &bob, json!({})).await;
    let own = submit(&app, &alice, json!({})).await;
    let told = events.next().await.unwrap();
    assert_eq!(told.event, "progress");
    assert!(told.data.contains(own["taskId"].as_str().unwrap()), "{}", told.data);
    assert!(!String::from_utf8_lossy(&events.raw).contains("counts"));
}

#[tokio::test]
async fn the_lease_token_of_a_task_is_good_for_reports_on_it_alone() {
    let app = guarded().await;
    let admin = app.key(&[Scope::Admin]);
    let new = json!({ "kind": "simulate", "input": { "steps": 9, "intervalMs": 60000 } });
    let (task, other) = (submit(&app, &admin, new.clone()).await, submit(&app, &admin, new).await);
    let channel: ChannelName = format!("task:{}", task["taskId"].as_str().unwrap()).parse().unwrap();
    let token = loop {
        let stored = app.journal.last(&channel).await.unwrap().unwrap();
        let memo: Value = serde_json::from_slice(&stored.memo.unwrap()).unwrap();
        if let Some(token) = memo["lease"]["token"].as_str() {
            break token.to_owned();
        }
        tokio::task::yield_now().await;
    };
    let report = async |task: &Value, token: &str| {
        let path = format!("/api/tasks/{}", task["taskId"].as_str().unwrap());
        let asking = app.patch(&path).header("lease-token", token).json(&json!({ "message": "from outside" }));
        asking.send().await
    };
    assert_eq!(report(&task, &token).await.status(), 200);
    assert_eq!(report(&other, &token).await.refusal(), "401 credential_required");
    assert_eq!(report(&task, &Uuid::new_v4().to_string()).await.refusal(), "401 credential_required");
    let path = format!("/api/tasks/{}", task["taskId"].as_str().unwrap());
    assert_eq!(app.get(&path).header("lease-token", &token).send().await.refusal(), "401 credential_required");
}

#[tokio::test]
async fn a_person_listens_to_their_own_notifications_only() {
    let app = guarded().await;
    let listen = |query: &str| app.get(&format!("/api/notifications/stream{query}")).bearer(&token("ann"));
    let mut events = listen("").events().await;
    assert_eq!(events.next().await.unwrap().event, "connected");
    let key = app.key(&[Scope::Notify]);
    let new = json!({ "title": "t", "message": "m" });
    let sent = app.post("/api/users/ann/notifications").bearer(&key).json(&new).send().await;
    assert_eq!(sent.status(), 200, "{sent:?}");
    assert_eq!(events.next().await.unwrap().event, "notification");
    assert_eq!(listen("?userId=bob").send().await.refusal(), "404 user_not_found");
    assert_eq!(app.get("/api/notifications/subscribe/bob").bearer(&token("ann")).send().await.status(), 404);
    assert_eq!(app.post("/api/users/ann/notifications").bearer(&token("ann")).json(&new).send().await.status(), 403);
    assert_eq!(app.get("/api/notifications/stream?userId=ann").send().await.status(), 401);
}
