//! Topics, groups and "everything": who sees which channels.

use progressd::access::Scope;
use serde_json::{Value, json};

use super::{guarded, guarded_with, token};
use crate::support::{Events, TestApp};

async fn publish(app: &TestApp, key: &str, topic: &str, data: Value) {
    let put = app.request("PUT", &format!("/api/topics/{topic}")).bearer(key).json(&json!({ "data": data }));
    assert_eq!(put.send().await.status(), 200);
}

async fn send(app: &TestApp, key: &str, whom: &str, title: &str) {
    let new = json!({ "title": title, "message": "m" });
    let sent = app.post(&format!("/api/{whom}/notifications")).bearer(key).json(&new).send().await;
    assert_eq!(sent.status(), 200, "{sent:?}");
}

async fn join(app: &TestApp, key: &str, user: &str, groups: Value) {
    let put = app.request("PUT", &format!("/api/users/{user}/groups")).bearer(key).json(&groups).send().await;
    assert!([200, 204].contains(&put.status()), "{put:?}");
}

/// The channel and the title or data of the next event.
async fn next(events: &mut Events) -> String {
    loop {
        let event = events.next().await.expect("an event");
        if let Ok(told) = serde_json::from_str::<Value>(&event.data) {
            let data = told["data"].get("title").unwrap_or(&told["data"]);
            return format!("{} {data}", told["channel"].as_str().unwrap());
        }
    }
}

#[tokio::test]
async fn people_see_the_public_topics_and_no_others() {
    let app = guarded_with(|config| config.access.public_topics = vec!["news".into(), "game.*".into()]).await;
    let (alice, publisher, reader) = (token("alice"), app.key(&[Scope::Publish]), app.key(&[Scope::Read]));
    for topic in ["news", "newsroom", "game.7", "payroll"] {
        publish(&app, &publisher, topic, json!(topic)).await;
    }
    let listed = async |credential: &str| {
        let page = app.get("/api/topics").bearer(credential).send().await.json();
        page["topics"].as_array().unwrap().iter().map(|topic| topic["topic"].as_str().unwrap().to_owned()).collect()
    };
    let all: Vec<String> = listed(&publisher).await;
    assert_eq!(all, ["game.7", "news", "newsroom", "payroll"]);
    let public: Vec<String> = listed(&alice).await;
    assert_eq!(public, ["game.7", "news"]);
    assert_eq!(app.get("/api/topics").bearer(&reader).send().await.status(), 403);
    let open = async |path: &str, credential: &str| app.get(path).bearer(credential).open().await.status().as_u16();
    for path in ["/api/topics/news", "/api/topics/news/events", "/api/stream?channel=news", "/api/games/7/stream"] {
        for credential in [&alice, &publisher, &reader] {
            assert_eq!(open(path, credential).await, 200, "{path}");
        }
    }
    for path in ["/api/topics/payroll", "/api/topics/payroll/events", "/api/stream?channel=payroll", "/api/events"] {
        let never = app.get(&path.replace("payroll", "nothing")).bearer(&alice).send().await;
        let hidden = app.get(path).bearer(&alice).send().await;
        assert_eq!(hidden.refusal(), "404 topic_not_found", "{path}");
        assert_eq!(hidden.text().replace("payroll", "nothing"), never.text(), "{path}");
        assert_eq!(open(path, &publisher).await, 200, "{path}");
    }
    assert_eq!(app.get("/api/topics/payroll").bearer(&reader).send().await.refusal(), "403 not_allowed");
    for (method, path) in [("PUT", "/api/topics/news"), ("DELETE", "/api/topics/news"), ("POST", "/api/broadcast")] {
        let body = json!({ "data": 1 });
        assert_eq!(app.request(method, path).bearer(&alice).json(&body).send().await.refusal(), "403 not_allowed");
    }
}

#[tokio::test]
async fn broadcasts_are_for_all_who_are_let_in_unless_the_setting_says_otherwise() {
    let app = guarded().await;
    let (alice, key) = (token("alice"), app.key(&[Scope::Publish]));
    for path in ["/api/events", "/api/sse/events"] {
        let mut events = app.get(&format!("{path}?token={alice}")).events().await;
        assert!(events.next().await.is_some());
        let sent = json!({ "event": "hello", "data": 1 });
        assert_eq!(app.post("/api/broadcast").bearer(&key).json(&sent).send().await.status(), 200);
        assert_eq!(events.next().await.unwrap().event, "hello", "{path}");
        assert_eq!(app.get(path).send().await.refusal(), "401 credential_required");
    }
    assert_eq!(app.get("/api/metrics/stream").bearer(&alice).send().await.refusal(), "403 not_allowed");
    let app = guarded_with(|config| config.access.public_topics = Vec::new()).await;
    assert_eq!(app.get("/api/events").bearer(&alice).send().await.refusal(), "404 topic_not_found");
}

#[tokio::test]
async fn who_was_made_is_told_by_name_only_to_those_who_may_know() {
    let made = json!({ "name": "Mallory", "email": "mallory@example.org" });
    for (public, is_named) in [(vec!["broadcast".into()], false), (Vec::new(), true)] {
        let app = guarded_with(|config| config.access.public_topics = public).await;
        let key = app.key(&[Scope::Publish, Scope::Notify]);
        let mut events = app.get(&format!("/api/sse/events?token={key}")).events().await;
        events.next().await.unwrap();
        let user = app.post("/api/users").bearer(&key).json(&made).send().await.json();
        let told: Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
        assert_eq!(told["userId"], user["id"]);
        assert_eq!(told.to_string().contains("allory"), is_named, "{told}");
    }
}

#[tokio::test]
async fn everything_is_what_one_may_see_of_topics_and_oneself() {
    let app = guarded_with(|config| config.access.public_topics = vec!["news".into()]).await;
    let admin = app.key(&[Scope::Admin]);
    join(&app, &admin, "alice", json!(["ops"])).await;
    let channels = json!({ "channels": ["payroll"] });
    let ticket = app.post("/api/tickets").bearer(&admin).json(&channels).send().await.json();
    let mut of_alice = app.get("/api/stream").bearer(&token("alice")).events().await;
    let mut of_admin = app.get("/api/stream").bearer(&admin).events().await;
    let mut of_reader = app.get("/api/stream").bearer(&app.key(&[Scope::Read])).events().await;
    let ticket = format!("/api/stream?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut of_ticket = app.get(&ticket).events().await;
    for events in [&mut of_alice, &mut of_admin, &mut of_reader, &mut of_ticket] {
        assert!(events.bytes().await.is_some());
    }
    publish(&app, &admin, "payroll", json!(1)).await;
    send(&app, &admin, "users/bob", "to bob").await;
    send(&app, &admin, "users/alice", "to alice").await;
    send(&app, &admin, "groups/dev", "to dev").await;
    send(&app, &admin, "groups/ops", "to ops").await;
    publish(&app, &admin, "news", json!(2)).await;
    for expected in ["user:alice \"to alice\"", "group:ops \"to ops\"", "topic:news 2"] {
        assert_eq!(next(&mut of_alice).await, expected);
    }
    assert_eq!(next(&mut of_reader).await, "topic:news 2");
    assert_eq!(next(&mut of_ticket).await, "topic:payroll 1");
    // Alice's stream has connected her, which the topic of presence tells.
    let told = [next(&mut of_admin).await, next(&mut of_admin).await, next(&mut of_admin).await];
    assert!(told.iter().any(|told| told == "topic:payroll 1"), "{told:?}");

    // From a cursor, too: what is not theirs was there all the time.
    let cursor = of_alice.text().rsplit_once("id: ").unwrap().1.trim().to_owned();
    publish(&app, &admin, "payroll", json!(3)).await;
    publish(&app, &admin, "news", json!(4)).await;
    let again = app.get("/api/stream").bearer(&token("alice")).header("last-event-id", &cursor);
    assert_eq!(next(&mut again.events().await).await, "topic:news 4");
    let poll = format!("/api/stream?lastEventId={cursor}");
    let poll = app.get(&poll).bearer(&token("alice")).header("accept", "application/json").send().await;
    assert!(poll.text().contains("topic:news") && !poll.text().contains("payroll"), "{}", poll.text());
}

#[tokio::test]
async fn members_watch_their_groups_from_where_they_joined_until_they_leave() {
    let app = guarded().await;
    let (admin, alice) = (app.key(&[Scope::Admin]), token("alice"));
    join(&app, &admin, "bob", json!(["ops"])).await;
    let watch = |token: &str| app.get("/api/stream?channel=group:ops").bearer(token);
    assert_eq!(watch(&alice).send().await.refusal(), "404 group_not_found");
    let early = watch(&token("bob")).events().await;
    send(&app, &admin, "groups/ops", "before").await;
    let mut of_bob = early;
    assert_eq!(next(&mut of_bob).await, "group:ops \"before\"");
    let before = of_bob.text().rsplit_once("id: ").unwrap().1.trim().to_owned();
    let before = before.split_once('-').map(|(epoch, _)| format!("{epoch}-1")).unwrap();

    join(&app, &admin, "alice", json!(["ops"])).await;
    let mut of_alice = watch(&alice).header("last-event-id", &before).events().await;
    assert_eq!(of_alice.status(), 200);
    send(&app, &admin, "groups/ops", "after").await;
    assert_eq!(next(&mut of_alice).await, "group:ops \"after\"", "what was sent before she joined is not hers");
    assert_eq!(next(&mut of_bob).await, "group:ops \"after\"");

    join(&app, &admin, "alice", json!([])).await;
    send(&app, &admin, "groups/ops", "without her").await;
    assert_eq!(next(&mut of_bob).await, "group:ops \"without her\"");
    assert!(of_alice.next().await.is_none(), "nothing is left to be watched");
    assert!(!of_alice.text().contains("without her"));
    assert_eq!(watch(&alice).send().await.refusal(), "404 group_not_found");
    join(&app, &admin, "alice", json!(["ops"])).await;
    send(&app, &admin, "groups/ops", "again").await;
    let both = app.get("/api/stream?channel=group:ops&channel=user:alice").bearer(&alice);
    let mut both = both.header("last-event-id", &before).events().await;
    assert_eq!(next(&mut both).await, "group:ops \"again\"", "once");
    send(&app, &admin, "users/alice", "hers").await;
    assert_eq!(next(&mut both).await, "user:alice \"hers\"");
    let ticket = |credential: &str| {
        app.post("/api/tickets").bearer(credential).json(&json!({ "channels": ["group:ops"] })).send()
    };
    assert_eq!(ticket(&alice).await.refusal(), "422 invalid channels", "a ticket knows nobody who could leave");
    assert_eq!(ticket(&admin).await.status(), 200);
}
