//! Tickets open the streams of their channels, for a while, and nothing else.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use progressd::access::{Needs, ROUTES, Scope};
use serde_json::{Value, json};

use super::{guarded, now, signed, token};
use crate::support::{Answer, TestApp};

async fn issue(app: &TestApp, credential: &str, wanted: Value) -> Answer {
    app.post("/api/tickets").bearer(credential).json(&wanted).send().await
}

/// A task of this user, and its channel.
async fn task_of(app: &TestApp, user: &str) -> (String, String) {
    let task = app.post("/api/tasks").bearer(&token(user)).json(&json!({ "kind": "upload" })).send().await;
    let path = task.header("location").to_owned();
    let channel = format!("task:{}", path.rsplit('/').next().unwrap());
    (path, channel)
}

#[tokio::test]
async fn a_ticket_opens_the_streams_of_its_channels() {
    let app = guarded().await;
    let (path, channel) = task_of(&app, "alice").await;
    let key = app.key(&[Scope::Read]);
    let issued = issue(&app, &key, json!({ "channels": [channel], "ttlSeconds": 60 })).await;
    let ticket = issued.json()["ticket"].as_str().unwrap().to_owned();
    assert!(issued.json()["expiresAt"].as_str().unwrap().starts_with("20"));
    for target in [format!("{path}/progress?ticket={ticket}"), format!("/api/stream?channel={channel}&ticket={ticket}")]
    {
        let mut events = app.get(&target).events().await;
        assert_eq!(events.status(), 200);
        assert!(events.next().await.unwrap().data.contains("\"status\":\"pending\""));
    }
    let user = issue(&app, &token("bob"), json!({ "channels": ["user:bob"] })).await;
    let ticket = user.json()["ticket"].as_str().unwrap().to_owned();
    assert_eq!(app.get(&format!("/sse/connect/bob?ticket={ticket}")).open().await.status(), 200);
}

#[tokio::test]
async fn a_ticket_is_issued_only_for_what_one_may_watch() {
    let app = guarded().await;
    let (_, channel) = task_of(&app, "alice").await;
    for (credential, channels, refusal) in [
        (token("bob"), json!([channel]), "404 task_not_found"),
        (token("bob"), json!(["user:bob", "user:alice"]), "404 user_not_found"),
        (app.key(&[Scope::Report]), json!([channel]), "404 task_not_found"),
        (app.key(&[Scope::Read]), json!(["user:alice"]), "404 user_not_found"),
        (token("alice"), json!([]), "422 invalid channels"),
        (token("alice"), json!(["key:0199c0de-0000-7000-8000-000000000001"]), "422 invalid channels"),
        (token("alice"), json!(["inbox:alice"]), "422 invalid channels"),
    ] {
        assert_eq!(issue(&app, &credential, json!({ "channels": channels })).await.refusal(), refusal, "{channels}");
    }
    for seconds in [0, 86_401] {
        let answer = issue(&app, &token("alice"), json!({ "channels": ["user:alice"], "ttlSeconds": seconds })).await;
        assert_eq!(answer.refusal(), "422 invalid ttlSeconds");
    }
    assert_eq!(app.post("/api/tickets").json(&json!({ "channels": ["user:a"] })).send().await.status(), 401);
}

#[tokio::test]
async fn a_ticket_is_of_no_use_elsewhere() {
    let app = guarded().await;
    let (path, channel) = task_of(&app, "alice").await;
    let (other, other_channel) = task_of(&app, "alice").await;
    let issued = issue(&app, &token("alice"), json!({ "channels": [channel] })).await.json();
    let ticket = issued["ticket"].as_str().unwrap();
    let id = path.rsplit('/').next().unwrap();
    for (method, route, needs) in ROUTES.iter().filter(|(_, _, needs)| *needs != Needs::Nothing) {
        let target = route.replace("{taskId}", id).replace("{userId}", "alice").replace("{group}", "team");
        let in_query = app.request(method, &format!("{target}?ticket={ticket}")).json(&json!({})).open().await;
        let as_token = app.request(method, &target).bearer(ticket).json(&json!({})).open().await;
        assert_eq!(as_token.status(), 401, "{method} {route}");
        if !matches!(needs, Needs::Watch | Needs::WatchTopic(_)) {
            assert_eq!(in_query.status(), 401, "{method} {route}");
        }
    }
    for (target, refusal) in [
        (format!("{other}/progress?ticket={ticket}"), "404 task_not_found"),
        (format!("/api/stream?channel={other_channel}&ticket={ticket}"), "404 task_not_found"),
        (format!("/api/stream?channel={channel}&channel={other_channel}&ticket={ticket}"), "404 task_not_found"),
        (format!("/api/stream?channel=user:alice&ticket={ticket}"), "404 user_not_found"),
        (format!("/sse/connect/alice?ticket={ticket}"), "404 user_not_found"),
        (format!("/api/notifications/stream?userId=alice&ticket={ticket}"), "404 user_not_found"),
        (format!("{path}/progress?ticket={ticket}x"), "401 credential_invalid"),
        (format!("{path}/progress?ticket="), "401 credential_invalid"),
        (format!("{path}/progress?ticket={ticket}&token={}", token("alice")), "400 malformed_request ticket"),
        (format!("{path}/progress?token={ticket}"), "401 credential_invalid"),
    ] {
        assert_eq!(app.get(&target).send().await.refusal(), refusal, "{target}");
    }
    let list = app.get(&format!("/api/tasks?ticket={ticket}")).header("accept", "text/event-stream").send().await;
    assert_eq!(list.refusal(), "403 not_allowed");
    // What signs tokens signs no tickets, and what signs tickets signs no tokens.
    let claims = json!({ "channels": [other_channel], "expiresAt": "2099-01-01T00:00:00.000Z", "sub": "alice", "exp": now() + 60 });
    let forged = signed(&claims);
    let answer = app.get(&format!("{other}/progress?ticket={forged}")).send().await;
    assert_eq!(answer.refusal(), "401 credential_invalid");
    let secret = std::fs::read_to_string(app.service.app.config.data_dir.join("access/secret")).unwrap();
    let secret: String = serde_json::from_str(&secret).unwrap();
    let crossed =
        encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
    assert_eq!(app.get(&other).bearer(&crossed).send().await.refusal(), "401 credential_invalid");
    assert_eq!(
        app.get(&format!("{other}/progress?ticket={crossed}")).open().await.status(),
        200,
        "the secret is the right one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_ticket_ends_in_time_and_with_what_it_was_asked_for_with() {
    let app = guarded().await;
    let (path, channel) = task_of(&app, "alice").await;
    let short = signed(&json!({ "sub": "alice", "exp": now() + 100 }));
    let issued = issue(&app, &short, json!({ "channels": [channel], "ttlSeconds": 3600 })).await.json();
    let target = format!("{path}/progress?ticket={}", issued["ticket"].as_str().unwrap());
    let mut events = app.get(&target).events().await;
    let opened = tokio::time::Instant::now();
    assert_eq!(events.next().await.unwrap().event, "progress");
    assert_eq!(events.next().await.unwrap().event, "auth-expiring");
    assert!(events.next().await.is_none());
    assert!(opened.elapsed() <= Duration::from_secs(101), "with the token");
    assert_eq!(app.get(&target).send().await.refusal(), "401 credential_invalid");

    let key = app.key(&[Scope::Read]);
    let issued = issue(&app, &key, json!({ "channels": [channel] })).await.json();
    let target = format!("{path}/progress?ticket={}", issued["ticket"].as_str().unwrap());
    let mut events = app.get(&target).events().await;
    assert_eq!(events.next().await.unwrap().event, "progress");
    app.access_files().revoke(key.split('_').nth(1).unwrap()).unwrap();
    let revoked = tokio::time::Instant::now();
    assert!(events.next().await.is_none(), "with the key");
    assert!(revoked.elapsed() <= Duration::from_secs(1));
    assert_eq!(app.get(&target).send().await.refusal(), "401 credential_invalid");
}
