//! Stores of other times: of earlier versions, made by their own builds (`tests/fixtures/stores/make`), and older copies.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use progressd::testing::PostgresServer;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::binary::Binary;

fn fixture(version: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores").join(version).join(file)
}

/// What the process that made a store had told of it.
fn expected(version: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(version, "expected.json")).unwrap()).unwrap()
}

/// A copy of the store of a version, as its killed process left it.
fn store(version: &str) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    for file in ["journal.db", "journal.db-wal"] {
        fs::copy(fixture(version, file), data.path().join(file)).unwrap();
    }
    data
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
    for version in ["1", "2"] {
        let (data, expected) = (store(version), expected(version));
        // What the fixture finished long ago is not to be removed.
        let arguments = ["--retention", "3650d"];
        for _ in 0..2 {
            let mut server = Binary::start(data.path(), &arguments);
            check(&server, &expected).await;
            server.terminate();
        }
        // The copy that was kept is the store as it was.
        let kept = tempfile::tempdir().unwrap();
        let copy = data.path().join(format!("journal.db.v{version}"));
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        fs::copy(copy, kept.path().join("journal.db")).unwrap();
        check(&Binary::start(kept.path(), &arguments), &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_store_of_an_earlier_version_is_opened_with_all_that_is_in_it() {
    let database = PostgresServer::shared().database().await;
    database.execute(&fs::read_to_string(fixture("postgres-1", "store.sql")).unwrap()).await;
    let data = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut server = Binary::start(data.path(), &["--retention", "3650d", "--store", &database.url()]);
        check(&server, &expected("postgres-1")).await;
        server.terminate();
    }
}

/// Reports on a task, and gives the cursor that this got.
async fn report(base: &str, id: &str, report: Value) -> String {
    let answer = Client::new().patch(format!("{base}/api/tasks/{id}")).json(&report).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["cursor"].as_str().unwrap().to_owned()
}

async fn create(base: &str) -> String {
    let steps: Vec<Value> = (0..10).map(|number| json!({ "name": format!("{number}") })).collect();
    let new = json!({ "start": true, "steps": steps });
    let answer = Client::new().post(format!("{base}/api/tasks")).json(&new).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["taskId"].as_str().unwrap().to_owned()
}

/// Three changes.
async fn go_on(base: &str, id: &str, from: usize) -> Vec<String> {
    let mut cursors = Vec::new();
    for step in from..from + 3 {
        cursors.push(report(base, id, json!({ "step": step, "message": "a step" })).await);
    }
    cursors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_resets_those_who_saw_what_was_lost_and_nobody_else() {
    let (data, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (file, copied) = (data.path().join("journal.db"), copy.path().join("journal.db"));
    let mut server = Binary::start(data.path(), &[]);
    let (id, ended) = (create(&server.base()).await, create(&server.base()).await);
    let etag = report(&server.base(), &ended, json!({ "status": "completed" })).await;
    let mut kept = go_on(&server.base(), &id, 1).await;
    server.terminate();
    // A start that resets nobody, whether or not something is written in it.
    Binary::start(data.path(), &[]).terminate();
    let mut server = Binary::start(data.path(), &[]);
    kept.extend(go_on(&server.base(), &id, 4).await);
    server.terminate();
    fs::copy(&file, &copied).unwrap();
    let mut server = Binary::start(data.path(), &[]);
    let lost = go_on(&server.base(), &id, 7).await;
    server.terminate();
    fs::copy(&copied, &file).unwrap();

    let server = Binary::start(data.path(), &[]);
    kept.extend(go_on(&server.base(), &id, 7).await);
    report(&server.base(), &id, json!({ "status": "completed" })).await;
    let seq = |cursor: &String| cursor.split_once('-').unwrap().1.parse::<u64>().unwrap();
    assert!(lost.iter().all(|cursor| kept.iter().any(|kept| seq(kept) == seq(cursor))), "{lost:?} {kept:?}");
    let url = format!("{}/api/tasks/{id}/progress", server.base());
    for (cursor, is_reset) in kept.iter().map(|cursor| (cursor, false)).chain(lost.iter().map(|cursor| (cursor, true)))
    {
        let stream = Client::new().get(&url).header("last-event-id", cursor).send().await.unwrap();
        let stream = stream.text().await.unwrap();
        assert_eq!(stream.contains("event: reset"), is_reset, "{cursor}: {stream}");
        let messages = stream.matches("\"message\":").count();
        let after = kept.iter().filter(|kept| seq(kept) > seq(cursor)).count();
        assert_eq!(messages, if is_reset { 1 } else { after + 1 }, "{cursor}: {stream}");
    }
    let ended = Client::new().get(format!("{}/api/tasks/{ended}", server.base()));
    let unchanged = ended.header("if-none-match", format!("\"{etag}\"")).send().await.unwrap();
    assert_eq!(unchanged.status(), 304);
}
