//! What the real binary takes of memory for what tasks carry: about its text, however many values are in it.

use serde_json::{Value, json};

use crate::support::binary::Binary;

/// Tasks that carry much.
const TASKS: usize = 30;
/// `{"a":0}` so often, in the input and again in the metadata: 56 KB of text each.
const OBJECTS: usize = 7_000;
/// What these tasks may cost: their text, the bytes of a page of them, and what the store keeps of it in its caches.
const GROWTH_KIB_MAX: u64 = 50 * 1024;

#[tokio::test]
async fn what_a_task_carries_takes_its_text_in_memory() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Binary::start(data.path(), &[]);
    // What reading one such request takes is not counted.
    submit(&server, 1).await;
    let before_kib = server.resident_kib();
    submit(&server, TASKS).await;
    assert_growth("live", &server, before_kib);
    assert_eq!(list(&server).await, TASKS + 1);
    assert_growth("listed", &server, before_kib);
    server.kill();

    let server = Binary::start(data.path(), &[]);
    assert_growth("live after a restart", &server, before_kib);
    assert_eq!(list(&server).await, TASKS + 1);
    assert_growth("listed after a restart", &server, before_kib);
}

async fn submit(server: &Binary, count: usize) {
    let client = reqwest::Client::new();
    let objects = vec![json!({ "a": 0 }); OBJECTS];
    let new = json!({ "start": true, "input": objects, "metadata": objects });
    for _ in 0..count {
        let made = client.post(format!("{}/api/tasks", server.base())).json(&new).send().await.expect("it answers");
        assert_eq!(made.status(), 202);
    }
}

/// How many tasks are on the first page.
async fn list(server: &Binary) -> usize {
    let url = format!("{}/api/tasks?limit=500", server.base());
    let page: Value = reqwest::get(url).await.expect("it answers").json().await.expect("a page");
    let tasks = page["tasks"].as_array().expect("tasks");
    assert!(tasks.iter().all(|task| task["metadata"].as_array().is_some_and(|objects| objects.len() == OBJECTS)));
    tasks.len()
}

#[track_caller]
fn assert_growth(when: &str, server: &Binary, before_kib: u64) {
    let growth_kib = server.resident_kib().saturating_sub(before_kib);
    assert!(growth_kib < GROWTH_KIB_MAX, "{when}, {TASKS} tasks take {growth_kib} KiB");
}
