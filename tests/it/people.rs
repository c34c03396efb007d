//! Notifications and groups: what waits for whom.

use serde_json::{Value, json};

use crate::support::{Events, TestApp};

impl TestApp {
    async fn notify(&self, user: &str, title: &str) -> Value {
        let new = json!({ "title": title, "message": "m" });
        let answer = self.post(&format!("/api/users/{user}/notifications")).json(&new).send().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        answer.json()
    }

    async fn listen(&self, user: &str, cursor: &str) -> Events {
        let path = format!("/api/notifications/stream?userId={user}");
        let mut events = self.get(&path).header("last-event-id", cursor).events().await;
        let connected = events.next().await.unwrap();
        assert_eq!((connected.event.as_str(), connected.id.as_str()), ("connected", ""));
        assert_eq!(connected.data, r#"{"message":"Connected to notifications"}"#);
        events
    }
}

/// The title of the next notification, and its cursor.
async fn title(events: &mut Events) -> (String, String) {
    let event = events.next().await.unwrap();
    assert_eq!(event.event, "notification", "{event:?}");
    let notification: Value = serde_json::from_str(&event.data).unwrap();
    (notification["title"].as_str().unwrap().to_owned(), event.id)
}

async fn titles(events: &mut Events, count: usize) -> Vec<String> {
    let mut titles = Vec::new();
    while titles.len() < count {
        titles.push(title(events).await.0);
    }
    titles
}

#[tokio::test]
async fn notifications_wait_for_who_is_away_and_follow_who_is_there() {
    let app = TestApp::in_process().await;
    app.notify("ann", "one").await;
    let two = app.notify("ann", "two").await;
    app.notify("bob", "other").await;
    let mut events = app.listen("ann", "").await;
    assert_eq!(titles(&mut events, 2).await, ["one", "two"]);
    app.notify("ann", "three").await;
    let (three, cursor) = title(&mut events).await;
    assert_eq!(three, "three");
    drop(events);

    app.notify("ann", "four").await;
    let mut resumed = app.listen("ann", two["cursor"].as_str().unwrap()).await;
    assert_eq!(titles(&mut resumed, 2).await, ["three", "four"], "exactly what was missed");
    let mut resumed = app.listen("ann", &cursor).await;
    assert_eq!(titles(&mut resumed, 1).await, ["four"]);
    let mut reset = app.listen("ann", "k3f90000-7").await;
    let event = reset.next().await.unwrap();
    assert_eq!((event.event.as_str(), event.data.as_str()), ("reset", r#"{"channel":"user:ann"}"#));
}

#[tokio::test]
async fn a_notification_is_as_it_was_sent() {
    let app = TestApp::in_process().await;
    let new = json!({ "title": "t", "message": "m\nn", "type": "build", "data": { "b": 1, "a": [2] } });
    let sent = app.post("/api/users/ann/notifications").json(&new).send().await.json();
    let mut events = app.listen("ann", "").await;
    let event = events.next().await.unwrap();
    let notification: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!((&notification["id"], event.id.as_str()), (&sent["id"], sent["cursor"].as_str().unwrap()));
    assert!(notification["occurredAt"].as_str().unwrap().ends_with('Z'));
    for (member, value) in new.as_object().unwrap() {
        assert_eq!(notification[member], *value);
    }
    for (new, refusal) in [
        (json!({ "message": "m" }), "422 invalid title"),
        (json!({ "title": "t", "message": "m", "id": "a\nb" }), "422 invalid id"),
        (json!({ "title": "t\r", "message": "m" }), "422 invalid title"),
        (json!({ "title": "t", "message": "m", "type": "\u{0}" }), "422 invalid type"),
        (json!({ "title": "t", "message": "m", "data": "x".repeat(16 * 1024) }), "422 invalid data"),
        (json!({ "title": "t", "message": "m", "colour": 1 }), "422 invalid colour"),
    ] {
        assert_eq!(app.post("/api/users/ann/notifications").json(&new).send().await.refusal(), refusal, "{new}");
    }
}

impl TestApp {
    async fn join(&self, user: &str, groups: &[&str]) {
        let answer = self.request("PUT", &format!("/api/users/{user}/groups")).json(&json!(groups)).send().await;
        assert_eq!((answer.status(), answer.json()), (200, json!(groups)));
    }

    async fn notify_group(&self, group: &str, title: &str) -> Value {
        let new = json!({ "title": title, "message": "m" });
        let answer = self.post(&format!("/api/groups/{group}/notifications")).json(&new).send().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        answer.json()
    }

    async fn inbox(&self, user: &str, query: &str) -> Value {
        let answer = self.get(&format!("/api/users/{user}/notifications?{query}")).send().await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        answer.json()
    }
}

#[tokio::test]
async fn a_group_is_watched_by_its_name_also_beside_a_member() {
    let app = TestApp::in_process().await;
    app.join("ann", &["g"]).await;
    app.join("bob", &["g"]).await;
    app.notify_group("g", "before").await;
    let told = async |events: &mut Events| {
        let told: Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
        assert_eq!(told["channel"], "group:g");
        told["data"]["title"].as_str().unwrap().to_owned()
    };
    let mut alone = app.get("/api/stream?channel=group:g").events().await;
    let mut beside = app.get("/api/stream?channel=group:g&channel=user:ann").events().await;
    assert_eq!(told(&mut beside).await, "before", "it waits for the member");
    for (groups, title) in [(&["g"][..], "a member"), (&[], "a member no more"), (&["g"], "a member again")] {
        app.join("ann", groups).await;
        app.notify_group("g", title).await;
        assert_eq!(told(&mut alone).await, title);
        assert_eq!(told(&mut beside).await, title, "once");
    }
    assert!(alone.waiting().is_none() && beside.waiting().is_none());
}

#[tokio::test]
async fn a_stream_follows_the_groups_of_its_user() {
    let app = TestApp::in_process().await;
    app.join("ann", &["a"]).await;
    app.join("bob", &["a", "b"]).await;
    app.notify_group("a", "a1").await;
    app.notify_group("b", "b1").await;
    let mut events = app.listen("ann", "").await;
    assert_eq!(titles(&mut events, 1).await, ["a1"]);
    app.join("ann", &["b"]).await;
    let sent = app.notify_group("b", "b2").await;
    assert_eq!((&sent["members"], &sent["connected"]), (&json!(2), &json!(1)));
    app.notify_group("a", "a2").await;
    app.notify("ann", "own").await;
    assert_eq!(
        titles(&mut events, 2).await,
        ["b2", "own"],
        "what was sent before joining and after leaving is not hers"
    );
    let group = app.get("/api/groups/b").send().await.json();
    let ids: Vec<_> =
        group["users"].as_array().unwrap().iter().map(|user| (&user["userId"], &user["status"])).collect();
    assert_eq!(ids, [(&json!("ann"), &json!("connected")), (&json!("bob"), &json!("disconnected"))]);
    assert_eq!((&group["members"], &group["connected"]), (&json!(2), &json!(1)));
    let nobody = app.notify_group("nobody", "n").await;
    assert_eq!((&nobody["members"], &nobody["connected"]), (&json!(0), &json!(0)));
    assert_eq!(nobody["cursor"], app.service.app.tracker.cursor(app.service.app.tracker.head()).to_string());
    let mut bob = app.listen("bob", "").await;
    assert_eq!(titles(&mut bob, 4).await, ["a1", "b1", "b2", "a2"]);
    for (groups, refusal) in [
        (json!(["a b"]), "422 invalid [0]"),
        (json!({ "a": 1 }), "422 invalid"),
        (json!((0..=64).map(|nth| format!("g{nth}")).collect::<Vec<_>>()), "422 invalid"),
    ] {
        let answer = app.request("PUT", "/api/users/ann/groups").json(&groups).send().await;
        assert_eq!(answer.refusal(), refusal, "{groups}");
    }
    assert_eq!(app.get("/api/users/ann/groups").send().await.json(), json!(["b"]));
    assert_eq!(app.get("/api/users/zoe/groups").send().await.refusal(), "404 user_not_found");
}

#[tokio::test]
async fn notifications_are_listed_and_marked_as_read() {
    let app = TestApp::in_process().await;
    app.notify("ann", "one").await;
    app.join("ann", &["a"]).await;
    let two = app.notify_group("a", "two").await;
    app.notify("ann", "three").await;
    let titles_of = |page: &Value| -> Vec<String> {
        let listed = page["notifications"].as_array().unwrap().iter();
        listed.map(|listed| format!("{} {}", listed["title"].as_str().unwrap(), listed["read"])).collect()
    };
    let page = app.inbox("ann", "limit=2").await;
    assert_eq!((titles_of(&page), &page["unreadCount"]), (vec!["three false".into(), "two false".into()], &json!(3)));
    assert_eq!((&page["notifications"][1]["id"], &page["notifications"][1]["group"]), (&two["id"], &json!("a")));
    let page = app.inbox("ann", &format!("limit=2&page={}", page["nextPage"].as_str().unwrap())).await;
    assert_eq!((titles_of(&page), page.get("nextPage")), (vec!["one false".into()], None));

    let read = async |body: Option<Value>| {
        let asking = app.request("PUT", "/api/users/ann/notifications/read");
        match body {
            Some(body) => asking.json(&body).send().await,
            None => asking.send().await,
        }
    };
    assert_eq!(read(Some(json!({ "cursor": two["cursor"] }))).await.status(), 204);
    let page = app.inbox("ann", "unread=true").await;
    assert_eq!((titles_of(&page), &page["unreadCount"]), (vec!["three false".into()], &json!(1)));
    let page = app.inbox("ann", "").await;
    assert_eq!(titles_of(&page), ["three false", "two true", "one true"]);
    let mut events = app.listen("ann", "").await;
    assert_eq!(titles(&mut events, 1).await, ["three"], "what was read is not delivered again");
    assert_eq!(read(None).await.status(), 204);
    assert_eq!(app.inbox("ann", "").await["unreadCount"], 0);
    for cursor in ["k3f90000-1", "x", &app.service.app.tracker.cursor(progressd::event::Seq(99)).to_string()] {
        assert_eq!(read(Some(json!({ "cursor": cursor }))).await.refusal(), "422 invalid cursor", "{cursor}");
    }
    assert_eq!(app.get("/api/users/zoe/notifications").send().await.refusal(), "404 user_not_found");
}

#[tokio::test]
async fn an_id_given_by_the_client_is_sent_once() {
    let app = TestApp::in_process().await;
    app.join("ann", &["a"]).await;
    for path in ["/api/users/ann/notifications", "/api/groups/a/notifications"] {
        let new = json!({ "title": "t", "message": "m", "id": "order-7" });
        let first = app.post(path).json(&new).send().await;
        let again = app.post(path).json(&new).send().await;
        assert_eq!((first.status(), first.json()), (200, again.json()));
        let other = json!({ "title": "other", "message": "m", "id": "order-7" });
        assert_eq!(app.post(path).json(&other).send().await.refusal(), "422 idempotency_mismatch");
    }
    assert_eq!(app.inbox("ann", "").await["unreadCount"], 2);
}

#[tokio::test]
async fn one_stream_brings_tasks_and_what_waits_for_a_user() {
    let app = TestApp::in_process().await;
    app.notify("ann", "one").await;
    let path = app.submit(json!({})).await;
    let id = path.rsplit('/').next().unwrap();
    app.notify("ann", "two").await;
    let url = format!("/api/stream?channel=task:{id}&channel=user:ann");
    let mut events = app.get(&url).events().await;
    let mut shown = Vec::new();
    for _ in 0..3 {
        let event = events.next().await.unwrap();
        let data: Value = serde_json::from_str(&event.data).unwrap();
        let what = data["data"].get("title").or(data["data"].get("status")).unwrap().clone();
        shown.push((data["channel"].as_str().unwrap().split(':').next().unwrap().to_owned(), what, event.id));
    }
    let what: Vec<_> = shown.iter().map(|(kind, what, _)| (kind.as_str(), what.as_str().unwrap())).collect();
    assert_eq!(what, [("task", "pending"), ("user", "one"), ("user", "two")]);
    assert!(shown.iter().all(|(_, _, id)| id.is_empty()), "none of them is where the stream stands: {shown:?}");
    app.notify("ann", "three").await;
    let event = events.next().await.unwrap();
    assert!(event.data.contains("three") && !event.id.is_empty());

    let poll = app.get(&url).header("accept", "application/json").send().await.json();
    assert_eq!(poll["events"].as_array().unwrap().len(), 4, "{poll}");
    let next = format!("{url}&lastEventId={}", poll["cursor"].as_str().unwrap());
    let next = app.get(&next).header("accept", "application/json").header("prefer", "wait=0").send().await.json();
    assert_eq!((&next["events"], &next["reset"]), (&json!([]), &json!([])));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_without_an_id_is_not_sent_again() {
    let app = TestApp::in_process().await;
    for title in ["one", "two"] {
        app.notify("ann", title).await;
    }
    let subscribe = async || app.get("/api/notifications/subscribe/ann").events().await;
    let mut events = subscribe().await;
    assert!(events.next().await.unwrap().data.starts_with(r#"{"Title":"one","Message":"m","OccurredAt":"20"#));
    assert!(events.next().await.unwrap().data.contains("two"));
    assert!(events.text().lines().all(|line| line.is_empty() || line.starts_with("data: ")), "{}", events.text());
    // It is taken when the next is asked for.
    assert!(tokio::time::timeout(std::time::Duration::from_millis(1), events.next()).await.is_err());
    drop(events);
    app.notify("ann", "three").await;
    let mut events = subscribe().await;
    assert!(events.next().await.unwrap().data.contains("three"), "at once after the stream before");
    assert!(tokio::time::timeout(std::time::Duration::from_secs(2), events.next()).await.is_err());
    assert_eq!(app.inbox("ann", "").await["unreadCount"], 3, "what was seen was not read");
    let mut again = subscribe().await;
    assert!(tokio::time::timeout(std::time::Duration::from_secs(2), again.next()).await.is_err());
}

#[tokio::test]
async fn a_mention_is_a_notification() {
    let app = TestApp::in_process().await;
    let mention = json!({ "text": "Have a look", "mentionedBy": "bob" });
    let answer = app.post("/api/users/ann/mention").json(&mention).send().await;
    assert_eq!((answer.status(), answer.text()), (200, r#"{"success":true}"#));
    let mut events = app.listen("ann", "").await;
    let notification: Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
    assert_eq!((&notification["type"], &notification["message"]), (&json!("mention"), &json!("Have a look")));
    assert_eq!(notification["data"], json!({ "mentionedBy": "bob" }));
    for by in ["Ünal Öz", &"x".repeat(128)] {
        let mention = json!({ "text": "Have a look", "mentionedBy": by });
        assert_eq!(app.post("/api/users/ann/mention").json(&mention).send().await.status(), 200, "{by}");
    }
    let unsigned = app.post("/api/users/ann/mention").json(&json!({ "text": "t", "mentionedBy": "a\nb" })).send().await;
    assert_eq!(unsigned.refusal(), "422 invalid mentionedBy");
}
