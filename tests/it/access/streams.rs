//! A stream ends with the credential that it was opened with.

use std::time::Duration;

use progressd::access::Scope;
use serde_json::json;

use super::{guarded, now, signed, token};
use crate::support::TestApp;

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_token_expires_and_another_goes_on() {
    let app = guarded().await;
    let task = app.post("/api/tasks").bearer(&token("alice")).json(&json!({})).send().await;
    let path = format!("{}/progress", task.header("location"));
    let opened = tokio::time::Instant::now();
    let short = signed(&json!({ "sub": "alice", "exp": now() + 100 }));
    let mut events = app.get(&path).bearer(&short).events().await;
    let state = events.next().await.unwrap();
    let told = events.next().await.unwrap();
    assert_eq!(told.event, "auth-expiring");
    assert!(told.data.starts_with("{\"expiresAt\":\"20"), "{}", told.data);
    let told_after = opened.elapsed();
    assert!(events.next().await.is_none(), "it ends");
    let ended_after = opened.elapsed();
    assert!(
        (Duration::from_secs(58)..=Duration::from_secs(60)).contains(&(ended_after - told_after)),
        "{told_after:?}"
    );
    assert!((Duration::from_secs(98)..=Duration::from_secs(101)).contains(&ended_after), "{ended_after:?}");
    assert_eq!(app.get(&path).bearer(&short).send().await.refusal(), "401 credential_invalid");

    let key = app.key(&[Scope::Report]);
    for progress in [10, 20] {
        let report = app.patch(path.trim_end_matches("/progress")).bearer(&key).json(&json!({ "progress": progress }));
        assert_eq!(report.send().await.status(), 200);
    }
    let fresh = signed(&json!({ "sub": "alice", "exp": now() + 3600 }));
    let asking = app.get(&path).bearer(&fresh).header("last-event-id", &state.id);
    let mut events = asking.events().await;
    let missed = events.next().await.unwrap();
    assert!(missed.event == "progress" && missed.data.contains("\"status\":\"processing\""), "{}", missed.data);
}

#[tokio::test]
async fn a_stream_ends_within_a_second_of_the_revocation_of_its_key() {
    let app = guarded().await;
    let task = app.post("/api/tasks").bearer(&token("alice")).json(&json!({})).send().await;
    let key = app.key(&[Scope::Read]);
    let other = app.key(&[Scope::Read]);
    let path = format!("{}/progress", task.header("location"));
    let mut events = app.get(&path).bearer(&key).events().await;
    let mut kept = app.get(&path).bearer(&other).events().await;
    assert!(events.next().await.is_some() && kept.next().await.is_some());
    app.access_files().revoke(key.split('_').nth(1).unwrap()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(1), events.next()).await;
    assert!(ended.expect("within a second").is_none());
    assert_eq!(app.get(&path).bearer(&key).send().await.refusal(), "401 credential_invalid");
    assert!(tokio::time::timeout(Duration::from_millis(50), kept.next()).await.is_err(), "the other one goes on");
}

#[tokio::test]
async fn streams_of_open_mode_end_within_a_second_of_the_first_key() {
    let app = TestApp::in_process().await;
    let path = app.submit(json!({})).await;
    let mut of_task = app.get(&format!("{path}/progress")).events().await;
    let mut of_all = app.get("/api/stream").events().await;
    assert!(of_task.bytes().await.is_some() && of_all.bytes().await.is_some());
    let state = app.get(&path).send().await;
    let waits = app.get(&path).header("if-none-match", state.header("etag")).header("prefer", "wait=30");
    let waits = tokio::spawn(waits.send());
    let key = app.key(&[Scope::Read]);
    let ended = async {
        while of_task.bytes().await.is_some() {}
        while of_all.bytes().await.is_some() {}
        waits.await.unwrap()
    };
    let answer = tokio::time::timeout(Duration::from_secs(1), ended).await.expect("within a second");
    assert_eq!(answer.refusal(), "401 credential_required");
    assert_eq!(app.get(&path).bearer(&key).send().await.status(), 200);
}

#[tokio::test]
async fn a_long_poll_is_refused_within_a_second_of_the_revocation_of_its_key() {
    let app = guarded().await;
    let task = app.post("/api/tasks").bearer(&token("alice")).json(&json!({})).send().await;
    let path = task.header("location");
    let key = app.key(&[Scope::Read]);
    let read = app.get(path).bearer(&key).send().await;
    let (etag, cursor) = (read.header("etag").to_owned(), read.json()["cursor"].as_str().unwrap().to_owned());
    let of_task = app.get(path).bearer(&key).header("if-none-match", &etag).header("prefer", "wait=30");
    let channel = format!("/api/stream?channel=task:{}&lastEventId={cursor}", path.rsplit('/').next().unwrap());
    let of_channels = app.get(&channel).bearer(&key).header("accept", "application/json");
    let waits = [of_task, of_channels].map(|asking| tokio::spawn(asking.send()));
    tokio::task::yield_now().await;
    app.access_files().revoke("key-0").unwrap();
    let revoked = std::time::Instant::now();
    for waits in waits {
        assert_eq!(waits.await.unwrap().refusal(), "401 credential_invalid");
    }
    assert!(revoked.elapsed() <= Duration::from_secs(1), "{:?}", revoked.elapsed());
}
