//! Stores of earlier versions, made by their own builds (`tests/fixtures/stores/make`): each is opened with all that is in it.

use std::{fs, path::Path};

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::binary::Binary;

/// A copy of the store of a version, as its killed process left it, and what that process had told of it.
fn store(version: &str) -> (TempDir, Value) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores").join(version);
    let data = tempfile::tempdir().unwrap();
    for file in ["journal.db", "journal.db-wal"] {
        fs::copy(fixture.join(file), data.path().join(file)).unwrap();
    }
    let expected = fs::read_to_string(fixture.join("expected.json")).unwrap();
    (data, serde_json::from_str(&expected).unwrap())
}

async fn get(base: &str, path: &str) -> (u16, Value) {
    let answer = Client::new().get(format!("{base}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// The server has all that was told of the store.
async fn check(server: &Binary, expected: &Value) {
    let base = server.base();
    for expected in expected["tasks"].as_array().unwrap() {
        let (_, mut found) = get(&base, &format!("/api/tasks/{}", expected["taskId"].as_str().unwrap())).await;
        let mut expected = expected.clone();
        if expected["status"] == "processing" {
            // Nobody has reported since: it may have stalled meanwhile.
            for changing in ["cursor", "stalled", "rate", "eta", "updatedAt"] {
                found.as_object_mut().unwrap().remove(changing);
                expected.as_object_mut().unwrap().remove(changing);
            }
        }
        assert_eq!(found, expected);
    }
    let (status, problem) = get(&base, &format!("/api/tasks/{}", expected["deleted"].as_str().unwrap())).await;
    assert_eq!(status, 410, "{problem}");
    assert_eq!(get(&base, "/api/users").await.1, expected["users"]);

    let keyed = &expected["tasks"][2];
    let new = json!({ "title": "keyed", "kind": "parked", "input": { "n": 1 } });
    let again = Client::new().post(format!("{base}/api/tasks")).header("idempotency-key", "keyed").json(&new);
    assert_eq!(again.send().await.unwrap().json::<Value>().await.unwrap()["taskId"], keyed["taskId"]);

    // The first task's first event is the store's: its cursor resumes exactly, and each event has the cursor it had.
    let done = &expected["tasks"][0];
    let last = done["cursor"].as_str().unwrap();
    let first = format!("{}-1", last.split_once('-').unwrap().0);
    let url = format!("{base}/api/tasks/{}/progress", done["taskId"].as_str().unwrap());
    let stream = Client::new().get(&url).header("last-event-id", first).send().await.unwrap().text().await.unwrap();
    assert!(!stream.contains("event: reset") && stream.contains("\"message\":\"loading\""), "{stream}");
    assert!(stream.contains(&format!("\nid: {last}\n")), "{stream}");
    let ended = Client::new().get(&url).header("last-event-id", last).send().await.unwrap();
    assert_eq!(ended.status(), 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_an_earlier_version_is_opened_with_all_that_is_in_it() {
    for version in ["1"] {
        let (data, expected) = store(version);
        // What the fixture finished long ago is not to be removed.
        let arguments = ["--retention", "3650d"];
        for _ in 0..2 {
            let mut server = Binary::start(data.path(), &arguments);
            check(&server, &expected).await;
            server.terminate();
        }
    }
}
