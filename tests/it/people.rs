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
